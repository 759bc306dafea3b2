"""Label issues: labels that the image model contradicts, the most doubtful ones first."""

from typing import Final

import streamlit as st

from coconut_attr.attributes import ATTRIBUTES
from dashboard import data, formats
from dashboard.i18n import _
from dashboard.parts import pickers
from dashboard.parts.judging import WORK, Cell, Work
from dashboard.parts.reviewing import Reviewer
from db import review

SIZE: Final = 200  # rows
ALL: Final = "all"


def label_issues(dataset: str, run: int, reviewer: Reviewer) -> None:
    """Show the table, and a button that starts judging its rows."""
    which, more = st.columns([1, 2], vertical_alignment="bottom")
    with which:
        attribute = pickers.choose(
            _("Attribute"),
            (ALL, *ATTRIBUTES),
            "issues",
            lambda name: _("all attributes") if name == ALL else _(name),
        )
    judged = more.toggle(_("Also labels that are judgements"))
    only = None if attribute == ALL else attribute
    table = data.read_counts(review.label_issues, dataset, run, only, SIZE, judged)
    st.caption(
        _(
            "Labels of val and test, on which run {run} did not train, and which it contradicts. "
            "Doubt: the mean of the probabilities by label model and by run {run} that the label "
            "is wrong; the highest first, at most {n}.",
            run=run,
            n=SIZE,
        )
    )
    if not len(table):
        st.write(_("No such label: the model contradicts none."))
        return
    own = {
        (row["image_id"], row["attribute"])
        for row in review.own_judgements(data.engine(), dataset, reviewer.name)
    }
    cells = [
        Cell(
            row["id"],
            row["coco_id"],
            row["path"],
            row["mask_path"] if isinstance(row["mask_path"], str) else None,
            row["attribute"],
        )
        for row in table.to_dict("records")
        if isinstance(row["path"], str) and (row["id"], row["attribute"]) not in own
    ]
    if st.button(
        _("Judge these one by one"),
        type="primary",
        icon=":material/rate_review:",
        disabled=not cells,
        help=_("Those {n} that you have not judged.", n=len(cells)),
    ):
        st.session_state[WORK] = Work(dataset, review.ISSUES, run, cells)
        st.rerun()
    number = st.column_config.NumberColumn
    st.dataframe(
        table.assign(
            attribute=table["attribute"].map(_),
            state=table["state"].map(_),
            split=table["split"].map(_),
            judged=table["judged"].astype(bool),
        ),
        hide_index=True,
        height=min(35 * len(table) + 38, 560),
        placeholder=formats.DASH,
        alt=_("Label issues"),
        column_order=[
            *("coco_id", "split", "attribute", "state", "judged"),
            *("estimate", "probability", "doubt"),
        ],
        column_config={
            "coco_id": number(_("image"), format="%d"),
            "split": _("split"),
            "attribute": _("attribute"),
            "state": _("label"),
            "judged": st.column_config.CheckboxColumn(_("judged")),
            "estimate": number(
                _("label model"), format="%.2f", help=_("probability of present, by label model")
            ),
            "probability": number(
                _("model"), format="%.2f", help=_("probability that the model predicts")
            ),
            "doubt": st.column_config.ProgressColumn(
                _("doubt"), format="%.2f", min_value=0, max_value=1
            ),
        },
    )
