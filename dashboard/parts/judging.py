"""Judging cell by cell: one photo, one attribute, three keys.

An answer is stored at once, so that nothing is lost when a browser is closed. Judgements are only
ever added: Undo leads back to the cell, and the next answer replaces the earlier one, because the
newest judgement of an annotator counts. Whoever goes on without another answer keeps the first.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import pandas as pd
import streamlit as st

from coconut_attr.judgements.guideline import definitions
from coconut_attr.judgements.records import State
from dashboard import data, formats
from dashboard.i18n import N_, _
from dashboard.parts import photos
from dashboard.parts.reviewing import Reviewer, picture, record, show_failure
from db import browse
from db.labels import evidence_of

WORK: Final = "review work"  # keys of the session
MASK: Final = "review mask"
REPEAT: Final = 0.05  # seconds; presses that follow faster are of a key that is held down
#: Each state's button and key.
ANSWERS: Final[dict[State, tuple[str, str]]] = {
    "present": (N_("Present"), "P"),
    "absent": (N_("Absent"), "A"),
    "unsure": (N_("Unsure"), "U"),
}


STYLE: Final = """<style>
.st-key-review-photo img {max-height: 66vh; object-fit: contain; object-position: left top}
</style>"""


class Cell(NamedTuple):
    """One attribute of one photo."""

    image_id: int
    coco_id: int
    path: str
    mask_path: str | None
    attribute: str


@dataclass
class Work:
    """Cells that are judged one after the other.

    Attributes:
        chosen: how their photos were chosen, as each judgement says.
        run: whose predictions are shown after an answer; None: no run's.
        place: of the next cell; `len(cells)`: all have been shown.
        answers: by place.
        pressed_at: when a state's button was last pressed, by the monotonic clock.
    """

    dataset: str
    chosen: str
    run: int | None
    cells: list[Cell]
    place: int = 0
    answers: dict[int, State] = field(default_factory=dict)
    pressed_at: float = 0.0


def cells_of_photo(image: Any, attributes: Sequence[str]) -> list[Cell]:
    """Return cells of a photo, a row of `db.review.next_photos`."""
    path, mask_path = str(image["path"]), image["mask_path"]
    return [Cell(image["id"], image["coco_id"], path, mask_path, name) for name in attributes]


def judge(reviewer: Reviewer, next_label: str) -> bool:
    """Show the cell of the session's work that is next; return whether to go on to other work.

    Args:
        next_label: of the button that leaves this work.
    """
    work: Work = st.session_state[WORK]
    show_failure()
    if work.place == len(work.cells):
        st.success(_("Judged: {n} cells.", n=len(work.answers)))
        if work.answers:
            answers = {work.cells[k]: state for k, state in sorted(work.answers.items())}
            comparison(work.dataset, work.run, answers)
        return _controls(work, next_label)
    cell = work.cells[work.place]
    left, right = st.columns([3, 2], gap="medium")
    with left:
        readable = _photo(cell)
    with right:
        _question(work, cell, reviewer, readable)
        leave = _controls(work, next_label)
        _last_answer(work)
    return leave


def _photo(cell: Cell) -> bool:
    """Show the photo of a cell; return False if it cannot be read."""
    with_mask = bool(cell.mask_path) and st.session_state.get(MASK, False)
    shown = picture(cell.path, cell.mask_path if with_mask else None)
    if shown is None:
        st.warning(_("The photo cannot be read: {path}", path=cell.path))
        return False
    with st.container(key="review-photo"):
        st.html(STYLE)
        st.image(shown, width="stretch", alt=_("Image {id}", id=cell.coco_id))
    if cell.mask_path:
        label = _("Hide the segments") if with_mask else _("Show the segments")
        st.button(label, key="mask", shortcut="M", type="tertiary", on_click=_toggle_mask)
    return True


def _question(work: Work, cell: Cell, reviewer: Reviewer, readable: bool) -> None:
    st.progress(
        work.place / len(work.cells),
        _(
            "Image {id} · {place} of {n}",
            id=cell.coco_id,
            place=work.place + 1,
            n=len(work.cells),
        ),
    )
    st.subheader(_(cell.attribute), anchor=False)
    st.markdown(definitions()[cell.attribute].replace("~", "\\~"))
    if before := work.answers.get(work.place):
        st.info(_("Your answer was: {state}. Another one replaces it.", state=_(before)))
    with st.container(horizontal=True):
        for state, (label, letter) in ANSWERS.items():
            st.button(
                _(label),
                # Not a key of the cell's own: for a moment the page has the buttons of two cells
                # then, and one press answered both.
                key=f"answer {state}",
                shortcut=letter,
                on_click=_answer,
                args=(work, state, reviewer),
                disabled=not readable,
            )


def _controls(work: Work, next_label: str) -> bool:
    """Show the buttons that move between cells; return whether to leave this work."""
    done = work.place == len(work.cells)
    with st.container(horizontal=True):
        st.button(
            _("Undo"),
            key="undo",
            shortcut="Z",
            type="tertiary",
            on_click=_move,
            args=(work, -1),
            disabled=work.place == 0,
            help=_("Back to the cell before; another answer replaces the one that was given."),
        )
        if not done:
            st.button(
                _("Skip"), key="skip", shortcut="S", on_click=_move, args=(work, 1), type="tertiary"
            )
        return st.button(
            next_label, key="next", shortcut="N", type="primary" if done else "tertiary"
        )


def _answer(work: Work, state: State, reviewer: Reviewer) -> None:
    before, work.pressed_at = work.pressed_at, time.monotonic()
    if work.place == len(work.cells) or work.pressed_at - before < REPEAT:
        return
    cell = work.cells[work.place]
    if record(reviewer, work.chosen, {(cell.image_id, cell.attribute): state}):
        work.answers[work.place] = state
        work.place += 1


def _move(work: Work, places: int) -> None:
    # A press may arrive when the button is already gone.
    work.place = min(max(work.place + places, 0), len(work.cells))


def _toggle_mask() -> None:
    st.session_state[MASK] = not st.session_state.get(MASK, False)


def _last_answer(work: Work) -> None:
    """Show what label and model say of the cell that was answered last, folded away."""
    place = max((k for k in work.answers if k < work.place), default=None)
    if place is None or place >= len(work.cells):
        return
    cell = work.cells[place]
    title = _(
        "{attribute}: you say {state}. Label, model and evidence",
        attribute=_(cell.attribute),
        state=_(work.answers[place]),
    )
    with st.expander(title):
        comparison(work.dataset, work.run, {cell: work.answers[place]})
        evidence = data.read(evidence_of, work.dataset, (cell.coco_id,))
        if len(evidence):
            evidence = evidence[evidence["attribute"] == cell.attribute]
        photos.evidence_table(evidence)


def comparison(dataset: str, run: int | None, states: dict[Cell, State]) -> None:
    """Show a table of answers beside labels and predictions."""
    by_image: dict[int, list[Cell]] = defaultdict(list)
    for cell in states:
        by_image[cell.image_id].append(cell)
    rows = []
    for image_id, cells in by_image.items():
        stored = {row["attribute"]: row for row in browse.cells_of(data.engine(), image_id, run)}
        for cell in cells:
            row = stored[cell.attribute]
            rows.append(
                {
                    "image": cell.coco_id,
                    "attribute": _(cell.attribute),
                    "you": _(states[cell]),
                    "label": row["state"] and _(row["state"]),
                    "differs": {row["state"], states[cell]} == {"present", "absent"},
                    "label_probability": row["label_probability"],
                    "model": row["probability"],
                }
            )
    probability: dict[str, Any] = {"format": "%.2f", "width": 95}
    number = st.column_config.NumberColumn
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height=min(35 * len(rows) + 38, 420),
        placeholder=formats.DASH,
        alt=_("Your answers beside labels and predictions"),
        column_config={
            "image": number(_("image"), format="%d", width=90),
            "attribute": _("attribute"),
            "you": _("you"),
            "label": _("label"),
            "differs": st.column_config.CheckboxColumn(
                _("differs"), help=_("you and the label say the opposite")
            ),
            "label_probability": number(_("probability"), **probability),
            "model": number(_("model"), **probability),
        },
    )
