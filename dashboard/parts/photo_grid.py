"""Judging one attribute over many photos: tick those that have it, all others lack it."""

from collections.abc import Sequence
from typing import Any, Final

import streamlit as st

from coconut_attr.judgements.guideline import definitions
from coconut_attr.judgements.records import State
from dashboard.i18n import _
from dashboard.parts.judging import Cell, comparison
from dashboard.parts.reviewing import Reviewer, picture, record, show_failure, skip

SIZE: Final = 24  # photos at once
GRID: Final = "review grid"  # keys of the session: the photos shown, and the last answers
LAST: Final = "review grid answers"
PHOTO = 320  # pixels of the longer side
#: The label of a box covers its photo: a click on the photo ticks it, without a rerun.
STYLE: Final = """<style>
.st-key-review-grid img {aspect-ratio: 4 / 3; object-fit: contain}
[class*="st-key-photo-"] {position: relative}
[class*="st-key-has-"], [class*="st-key-has-"] :is(div, label) {position: static}
[class*="st-key-has-"] label::after {
  content: ""; position: absolute; inset: 0 0 3rem 0; z-index: 1; border-radius: 6px}
[class*="st-key-has-"] label:has(input:checked)::after {outline: 4px solid #1f8b4c}
[class*="st-key-has-"] label:has(input:focus-visible)::after {outline: 4px dashed #d9822b}
</style>"""


def grid(
    dataset: str,
    queue: str,
    attribute: str,
    photos: Sequence[Any],
    reviewer: Reviewer,
    run: int | None,
) -> bool:
    """Show photos to tick; return whether they are done with.

    Args:
        photos: rows of `db.review.next_photos`.
    """
    show_failure()
    st.markdown(f"**{_(attribute)}**: " + definitions()[attribute].replace("~", "\\~"))
    pictures = {row["id"]: picture(row["path"], None, PHOTO) for row in photos}
    with st.form("grid", border=False):
        st.html(STYLE)
        with st.container(key="review-grid", horizontal=True):
            for row in photos:
                _photo(row, attribute, pictures[row["id"]])
        with st.container(horizontal=True):
            # With a modifier: a box that was clicked has the focus, and takes single letters.
            confirmed = st.form_submit_button(
                _("Confirm: all others are absent"), type="primary", shortcut="Ctrl+Enter"
            )
            left = st.form_submit_button(_("Skip these photos"), type="tertiary", shortcut="S")
    if left:
        for row in photos:
            skip(row["id"])
    if not confirmed:
        return left
    cells = {
        Cell(row["id"], row["coco_id"], row["path"], None, attribute): _state(row, attribute)
        for row in photos
        if pictures[row["id"]]
    }
    for row in photos:
        if not pictures[row["id"]]:  # nobody saw it
            skip(row["id"])
    states = {(cell.image_id, attribute): state for cell, state in cells.items()}
    if states and not record(reviewer, queue, states):
        st.rerun()  # shows why
    st.session_state[LAST] = (dataset, attribute, photos, run, cells)
    return True


def _photo(row: Any, attribute: str, shown: bytes | None) -> None:
    name = _("Image {id}", id=row["coco_id"])
    with st.container(width=168, gap=None, key=f"photo-{row['id']}"):
        if shown is None:
            st.caption(_("The photo cannot be read: {path}", path=row["path"]))
            return
        st.image(shown, width="stretch", alt=name)
        st.checkbox(name, key=f"has-{row['id']}-{attribute}")
        st.checkbox(_("unsure"), key=f"unsure-{row['id']}-{attribute}")


def _state(row: Any, attribute: str) -> State:
    if st.session_state.get(f"unsure-{row['id']}-{attribute}"):
        return "unsure"
    return "present" if st.session_state.get(f"has-{row['id']}-{attribute}") else "absent"


def last_grid() -> None:
    """Show what was confirmed last, beside labels and predictions, and a way back to it."""
    if LAST not in st.session_state:
        return
    dataset, attribute, _photos, run, cells = st.session_state[LAST]
    counts = {state: list(cells.values()).count(state) for state in ("present", "unsure")}
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            _(
                "Judged: {n} photos, {present} of them present, {unsure} unsure ({attribute}).",
                n=len(cells),
                attribute=_(attribute),
                **counts,
            )
        )
        st.button(
            _("Undo"),
            key="undo grid",
            shortcut="Z",
            icon=":material/undo:",
            on_click=_undo,
            help=_("Show these photos again: confirming them replaces the answers."),
        )
    if cells:
        with st.expander(_("Label, model and evidence")):
            comparison(dataset, run, cells)


def _undo() -> None:
    _dataset, attribute, photos, _run, cells = st.session_state.pop(LAST)
    st.session_state[GRID] = photos
    for cell, state in cells.items():
        st.session_state[f"has-{cell.image_id}-{attribute}"] = state == "present"
        st.session_state[f"unsure-{cell.image_id}-{attribute}"] = state == "unsure"
