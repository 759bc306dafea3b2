"""Charts of how many cells are known: by attribute and state, and by group and source."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from coconut_attr.attributes import GROUPS
from dashboard import formats
from dashboard.charts import common
from dashboard.i18n import _

STATE_COLORS = {"present": common.ACCENT, "absent": common.AMBER, "unknown": common.GREY}


def state_chart(table: pd.DataFrame, rows: Sequence[str], images: int) -> common.Chart:
    """Return stacked bars of the images in each state, one an attribute.

    Args:
        table: present, absent, unknown and coverage (the known share) by attribute.
        rows: of `common.grouped_rows`.
        images: the length of every bar.
    """
    table = common.translated(
        table.assign(known=table["coverage"].map(lambda share: formats.percent(share, 0)))
    )
    states = list(STATE_COLORS)
    cells = table.melt(["attribute", "group_name", "known"], states, "state", "cells")
    cells["shown"] = cells["state"].map(_)
    cells["place"] = cells["state"].map(states.index)
    cells["share"] = cells["cells"] / images
    end = images * common.RIGHT_EDGE
    scale = alt.Scale(domain=[0, end], nice=False)
    axis = alt.Axis(title=_("images"), format=",d", values=_ticks(images), domain=False)
    colors = alt.Scale(domain=states, range=list(STATE_COLORS.values()))
    share = _("share of {n}", n=formats.count(images))
    bars = (
        alt.Chart(cells)
        .mark_bar(height=common.ROW_HEIGHT - 6)
        .encode(
            x=alt.X("cells:Q", stack="zero", scale=scale, axis=axis),
            y=common.attribute_axis(rows),
            color=alt.Color("state:N", scale=colors, legend=None),
            opacity=alt.condition(
                "datum.state === 'unknown'", alt.value(common.PALE), alt.value(1)
            ),
            order="place:Q",
            tooltip=[
                alt.Tooltip("attribute:N", title=_("attribute")),
                alt.Tooltip("shown:N", title=_("state")),
                alt.Tooltip("cells:Q", title=_("images"), format=","),
                alt.Tooltip("share:Q", title=share, format=".1%"),
            ],
        )
    )
    return alt.layer(bars, common.number_column(table, "known", _("known"), rows, end))


def _ticks(images: int) -> list[int]:
    """Return round ticks, and the number of images itself."""
    step = next(s for k in range(9) for s in (10**k, 2 * 10**k, 5 * 10**k) if images <= 5 * s)
    return [*(tick for tick in range(0, images, step) if images - tick > step / 2), images]


def source_chart(table: pd.DataFrame, colors: dict[str, str]) -> common.Chart:
    """Return bars of the share of cells that each source knows, by attribute group.

    Args:
        table: group_name, source, known, cells and share.
        colors: by source.
    """
    table = table.assign(group=table["group_name"].map(_), name=table["source"].map(_))
    groups = [_(name) for name in GROUPS if name in set(table["group_name"])]
    names = [_(source) for source in colors]
    color_scale = alt.Scale(domain=names, range=list(colors.values()))
    y_axis = alt.Axis(title=_("share of cells known"), format=".0%", tickCount=5)
    bars = (
        alt.Chart(table)
        .mark_bar()
        .encode(
            x=alt.X("group:N", sort=groups, axis=alt.Axis(title=None, labelAngle=0, ticks=False)),
            xOffset=alt.XOffset("name:N", sort=names, scale=alt.Scale(domain=names)),
            y=alt.Y("share:Q", scale=alt.Scale(domain=[0, 1]), axis=y_axis),
            color=alt.Color("name:N", scale=color_scale, legend=None),
            tooltip=[
                alt.Tooltip("group:N", title=_("group")),
                alt.Tooltip("name:N", title=_("source")),
                alt.Tooltip("share:Q", title=_("known"), format=".1%"),
                alt.Tooltip("known:Q", title=_("labelled cells"), format=","),
                alt.Tooltip("cells:Q", title=_("cells"), format=","),
            ],
        )
    )
    return alt.layer(bars)
