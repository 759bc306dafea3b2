"""The heat map of attributes that occur together."""

from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES
from dashboard import formats
from dashboard.charts import common
from dashboard.i18n import _

CELL = 19  # pixels
FEW = 10  # images below which a share says little
FAINT, FULL = "rgba(47, 134, 166, 0.04)", "rgba(47, 134, 166, 1)"
AXIS: dict[str, Any] = {
    "title": None,
    "ticks": False,
    "domain": False,
    "labelLimit": 110,
    "labelOverlap": False,
    "grid": False,
}


def says_little(table: pd.DataFrame) -> pd.Series:
    """Return which shares say little: of few images, or of an attribute that is never absent.

    Args:
        table: rows of `db.counts.cooccurrence`.
    """
    absent = (table["n"] - table["both_present"]).groupby(table["other"]).transform("sum")
    return (table["n"] < FEW) | (absent == 0)


def show_cooccurrence(table: pd.DataFrame) -> None:
    """Show the heat map below its heading.

    Args:
        table: rows of `db.counts.cooccurrence`.
    """
    st.subheader(_("Attributes that occur together"), anchor=False)
    if not len(table):
        st.write(_("No image has a present attribute yet."))
        return
    table = table.assign(says_little=says_little(table))
    names = [_(name) for name in ATTRIBUTES]
    scale = alt.Scale(domain=names)
    # One colour, more or less opaque, reads on light and on dark.
    color = alt.Color(
        "share:Q",
        scale=alt.Scale(domain=[0, 1], range=[FAINT, FULL]),
        legend=alt.Legend(title=_("share"), format=".0%", orient="right", gradientLength=200),
    )
    chart = (
        alt.Chart(table.assign(attribute=table["attribute"].map(_), other=table["other"].map(_)))
        .mark_rect()
        .encode(
            x=alt.X("other:N", scale=scale, axis=alt.Axis(labelAngle=-60, **AXIS)),
            y=alt.Y("attribute:N", scale=scale, axis=alt.Axis(**AXIS)),
            color=alt.condition("datum.says_little", alt.value("rgba(139, 149, 161, 0.3)"), color),
            tooltip=[
                alt.Tooltip("attribute:N", title=_("of images with")),
                alt.Tooltip("other:N", title=_("these have")),
                alt.Tooltip("share:Q", title=_("share"), format=".1%"),
                alt.Tooltip("both_present:Q", title=_("both present"), format=","),
                alt.Tooltip("n:Q", title=_("n (other is known)"), format=","),
            ],
        )
    )
    common.show(
        alt.layer(chart),
        CELL * len(names) + 90,
        _("Share of images with one attribute that have another"),
        "co-occurrence chart",
    )
    st.caption(
        _(
            "Of the images in which the row's attribute is present and the column's is known: the "
            "share in which the column's is present too. n is {low} to {high} images (the tooltip "
            "shows each); grey: n under {few}, or the column's attribute has no absent label among "
            "these images.",
            few=FEW,
            low=formats.count(table["n"].min()),
            high=formats.count(table["n"].max()),
        )
    )
