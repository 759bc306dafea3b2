"""A run beside another on the same split: what it gained and lost, and by which settings."""

from typing import Final

import pandas as pd
import streamlit as st

from coconut_attr.evaluation.results import Score
from dashboard import data, formats
from dashboard.data import Row
from dashboard.figures.comparison import Comparison, compare, settings_that_differ
from dashboard.i18n import _
from dashboard.parts import layout

FLIPPED: Final = 200  # cells that are listed


def comparison(run: Row, other: Row) -> None:
    """Show what a run gained over another on the cells that both were scored on."""
    name = layout.run_name(other)
    st.subheader(_("Compared with {other}", other=name), anchor=False)
    version = st.session_state[data.VERSION]
    on = run["evaluated_on"], run["split"], run["against"]
    found: Comparison | None = compare(run["run_id"], other["run_id"], *on, version)
    if found is None:
        st.caption(_("The two have no scored cell in common."))
    else:
        _gains(found)
        _attributes(found.gains)
    _settings(data.run(run["run_id"]), data.run(other["run_id"]))
    if found is not None and len(found.flipped):
        _flipped(found.flipped, run["evaluated_on"])


def _gains(found: Comparison) -> None:
    sentences = [
        _("{figure}: {gain}.", figure=figure, gain=_gain(score))
        for figure, score in ((_("mAP"), found.map), (_("Accuracy"), found.accuracy))
        if score is not None
    ]
    sentences.append(
        _(
            "Gains over the other run with their 95 % intervals, by a bootstrap over images in "
            "which both have the same ones; n = {cells} cells, {images} images.",
            cells=formats.count(found.cells),
            images=formats.count(found.images),
        )
    )
    st.write("  \n".join(sentences))


def _gain(score: Score) -> str:
    told = _("told apart") if score.low > 0 or score.high < 0 else _("not told apart")
    return f"{score.value:+.3f} ({score.low:+.3f} – {score.high:+.3f}), {told}"


def _attributes(gains: pd.DataFrame) -> None:
    """Name the attributes whose interval leaves out no gain."""
    for message, chosen in (
        (_("Gained: {names}."), gains[gains["low"] > 0].sort_values("gain", ascending=False)),
        (_("Lost: {names}."), gains[gains["high"] < 0].sort_values("gain")),
    ):
        if len(chosen):
            names = (
                f"{_(row['attribute'])} {row['gain']:+.2f}" for row in chosen.to_dict("records")
            )
            st.write(message.format(names=", ".join(names)))
    clear = int(((gains["low"] > 0) | (gains["high"] < 0)).sum())
    st.caption(
        _(
            "Average precision of {n} attributes; the other {rest} are not told apart.",
            n=formats.count(len(gains)),
            rest=formats.count(len(gains) - clear),
        )
    )


def _settings(run: Row, other: Row) -> None:
    table = settings_that_differ(run, other)
    if not len(table):
        st.caption(_("Their settings and data are the same."))
        return
    st.dataframe(
        table,
        hide_index=True,
        placeholder=formats.DASH,
        alt=_("Settings that differ"),
        column_config={
            "setting": _("setting"),
            "run": _("this run"),
            "other": _("the other run"),
        },
    )


def _flipped(flipped: pd.DataFrame, dataset: str) -> None:
    gained = int(flipped["gained"].sum())
    box = st.expander(
        _(
            "Cells that only one of them decides rightly: {gained} gained, {lost} lost",
            gained=formats.count(gained),
            lost=formats.count(len(flipped) - gained),
        )
    )
    apart = (flipped["probability"] - flipped["other_probability"]).abs()
    listed = flipped.assign(apart=apart).sort_values("apart", ascending=False).head(FLIPPED)
    listed = listed.assign(
        attribute=listed["attribute"].map(_),
        state=listed["state"].map(_),
        photo=[layout.image_address(coco_id, dataset) for coco_id in listed["coco_id"]],
    )
    score = st.column_config.NumberColumn
    box.dataframe(
        listed,
        hide_index=True,
        alt=_("Cells that only one of them decides rightly"),
        column_order=[
            "photo",
            "coco_id",
            "attribute",
            "state",
            "gained",
            "probability",
            "other_probability",
        ],
        column_config={
            "photo": st.column_config.LinkColumn(_("photo"), display_text=_("view photo")),
            "coco_id": score(_("image"), format="%d"),
            "attribute": _("attribute"),
            "state": _("state"),
            "gained": st.column_config.CheckboxColumn(_("this run is right")),
            "probability": score(_("this run"), format="%.2f"),
            "other_probability": score(_("the other run"), format="%.2f"),
        },
    )
