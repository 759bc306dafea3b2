"""The heat map of attributes that occur together."""

import altair as alt
import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES, GROUPS
from dashboard import formats
from dashboard.charts import common
from dashboard.i18n import _

GROUP_ORDER = tuple(GROUPS)
CELL = 19  # pixels
FEW = 10  # images below which a share says little


def cooccurrence(table: pd.DataFrame) -> None:
    """The map, under its heading.

    Args:
        table: rows of `db.counts.cooccurrence`.
    """
    st.subheader(_("Attributes that occur together"), anchor=False)
    if not len(table):
        st.write(_("No image has a present attribute yet."))
        return
    names = [_(name) for name in ATTRIBUTES]
    drawn = table.assign(attribute=table["attribute"].map(_), other=table["other"].map(_))
    axis = {
        "title": None,
        "ticks": False,
        "domain": False,
        "labelLimit": 110,
        "labelOverlap": False,
        "grid": False,
    }
    chart = (
        alt.Chart(drawn)
        .mark_rect()
        .encode(
            x=alt.X(
                "other:N", scale=alt.Scale(domain=names), axis=alt.Axis(labelAngle=-60, **axis)
            ),
            y=alt.Y("attribute:N", scale=alt.Scale(domain=names), axis=alt.Axis(**axis)),
            color=alt.condition(
                f"datum.n < {FEW}",
                alt.value("rgba(139, 149, 161, 0.3)"),
                alt.Color(
                    "share:Q",
                    # Of one colour, more and less of it: reads on light ground and on dark.
                    scale=alt.Scale(
                        domain=[0, 1], range=["rgba(47, 134, 166, 0.04)", "rgba(47, 134, 166, 1)"]
                    ),
                    legend=alt.Legend(
                        title=_("share"), format=".0%", orient="right", gradientLength=200
                    ),
                ),
            ),
            tooltip=[
                alt.Tooltip("attribute:N", title=_("of images with")),
                alt.Tooltip("other:N", title=_("these have")),
                alt.Tooltip("share:Q", title=_("share"), format=".1%"),
                alt.Tooltip("both_present:Q", title=_("both present"), format=","),
                alt.Tooltip("n:Q", title=_("n (other is known)"), format=","),
            ],
        )
    )
    common.show(alt.layer(chart), CELL * len(names) + 90, _("Share of images with one attribute that have another"),
                "co-occurrence chart")  # fmt: skip
    st.caption(
        _(
            "Row: of the images in which this attribute is present; column: the share that has this one too, of those "
            "that know it. n is {low} to {high} images a cell (the tooltip has each); grey: n under {few}.",
            few=FEW,
            low=formats.count(table["n"].min()),
            high=formats.count(table["n"].max()),
        )
    )
