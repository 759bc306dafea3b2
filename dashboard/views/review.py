"""Review: people look at photos and say which attributes they have. It only adds judgements."""

from typing import Final

import streamlit as st

from coconut_attr.attributes import ATTRIBUTES
from dashboard.data import Row, engine, offered, read, read_counts, rows_by
from dashboard.i18n import N_, _
from dashboard.parts import after_review, judging, layout, notices, pickers
from dashboard.parts.judging import WORK, Work, cells_of_photo
from dashboard.parts.label_issues import label_issues
from dashboard.parts.photo_grid import GRID, LAST, SIZE, grid, last_grid
from dashboard.parts.reviewing import REVIEWER, Reviewer, ask_reviewer, skip, skipped
from db import browse, review
from db.counts import dataset_summaries

DONE: Final = "review version"  # keys of the session: how many photos have been done with,
SCOPE: Final = "review scope"  # and what the work and the grid are of
MODES: Final = {
    "photo": N_("all attributes of a photo"),
    "attribute": N_("one attribute of many photos"),
    "issues": N_("label issues"),
}
QUEUES: Final[dict[review.Queue, str]] = {
    "random": N_("random: for an unbiased estimate"),
    "uncertain": N_("most uncertain labels"),
    "model": N_("label against model"),
    "conflict": N_("sources in conflict"),
    "rare": N_("rarer states first"),
    "disagreement": N_("my disagreements with others"),
}


def page() -> None:
    """Show what the reviewer is to judge next, how far they are, and what follows from it."""
    dataset_picker, mode_picker = layout.header(_("Review"), 2, 2)
    summaries = rows_by(read_counts(dataset_summaries), "dataset")
    filled = {name: row for name, row in summaries.items() if row["labelled"]}
    if not filled:
        notices.empty(
            _("No images yet"),
            _("The database has no labelled image of any dataset. To download and label one:"),
        )
        layout.watch(5)
        return
    with dataset_picker:
        dataset = pickers.choose(
            _("Dataset"), list(filled), "dataset", layout.dataset_namer(filled)
        )
    with mode_picker:
        mode = pickers.choose(_("Review"), list(MODES), "mode", lambda name: _(MODES[name]))
    if not filled[dataset]["is_coconut"]:
        notices.not_coconut(dataset, filled[dataset]["title"])
    queue_box, attribute_box, name_box = st.columns([2, 2, 2], vertical_alignment="bottom")
    run = _run(dataset)
    queue: review.Queue | None = None
    attribute = None
    if mode != "issues":
        queues = [name for name in QUEUES if name != "model" or run is not None]
        with queue_box:
            queue = pickers.choose(_("Queue"), queues, "queue", lambda name: _(QUEUES[name]))  # type: ignore[index,assignment]
    if mode == "attribute":
        with attribute_box:
            attribute = pickers.choose(_("Attribute"), ATTRIBUTES, "attribute", _)
    with name_box if st.session_state.get(REVIEWER) else st.container():
        reviewer = ask_reviewer()
    if reviewer:
        _begin(dataset, queue, attribute, reviewer)
        if queue is None:
            _issues(dataset, reviewer, run)
        elif attribute is None:
            _photo(dataset, queue, reviewer, run)
        else:
            _grid(dataset, queue, attribute, reviewer, run)
        after_review.progress(dataset, reviewer, (reviewer, st.session_state.get(DONE, 0)))
        after_review.after_review(dataset)
        pickers.write_address()  # not earlier: the pickers of label issues come after the name


def _run(dataset: str) -> int | None:
    """Return the run whose predictions are compared: that to show, if it has some."""
    runs = offered(read(browse.predicting_runs), dataset)
    runs = runs[runs["dataset"] == dataset] if len(runs) else runs
    return int(runs["run_id"].iloc[0]) if len(runs) else None


def _begin(*scope: object) -> None:
    """Drop the work that is not of this scope."""
    if st.session_state.get(SCOPE) != scope:
        st.session_state[SCOPE] = scope
        st.session_state.pop(LAST, None)
        _finish()


def _finish() -> None:
    """Drop the work that is shown, and have the figures computed again."""
    for name in (WORK, GRID):
        st.session_state.pop(name, None)
    st.session_state[DONE] = st.session_state.get(DONE, 0) + 1


def _photo(dataset: str, queue: review.Queue, reviewer: Reviewer, run: int | None) -> None:
    if WORK not in st.session_state:
        images = review.next_photos(
            engine(), dataset, queue, reviewer.name, run=run, skipped=skipped()
        )
        if not images:
            st.success(_("Nothing is left in this queue."))
            return
        judged = review.judged_attributes(engine(), images[0]["id"], reviewer.name, queue)
        left = [name for name in ATTRIBUTES if name not in judged]
        st.session_state[WORK] = Work(dataset, queue, run, cells_of_photo(images[0], left))
    _judge(reviewer, _("Next photo"))


@st.fragment
def _judge(reviewer: Reviewer, next_label: str) -> None:
    """Show the work by itself: a key press must not compute the figures again."""
    if judging.judge(reviewer, next_label):
        work: Work = st.session_state[WORK]
        if work.chosen != review.ISSUES and len(work.answers) < len(work.cells):
            skip(work.cells[0].image_id)
        _finish()
        st.rerun()


def _grid(
    dataset: str, queue: review.Queue, attribute: str, reviewer: Reviewer, run: int | None
) -> None:
    last_grid()
    if GRID not in st.session_state:
        st.session_state[GRID] = review.next_photos(
            engine(),
            dataset,
            queue,
            reviewer.name,
            attribute=attribute,
            run=run,
            skipped=skipped(),
            size=SIZE,
        )
    photos: list[Row] = st.session_state[GRID]
    if not photos:
        st.success(_("Nothing is left in this queue."))
    elif grid(dataset, queue, attribute, photos, reviewer, run):
        _finish()
        st.rerun()


def _issues(dataset: str, reviewer: Reviewer, run: int | None) -> None:
    if run is None:
        notices.empty(
            _("No predictions yet"),
            _("No run of this project has been evaluated on this dataset. To train one:"),
            f"prefect deployment run train/{dataset}",
        )
    elif WORK in st.session_state:
        _judge(reviewer, _("Back to the table"))
    else:
        label_issues(dataset, run, reviewer)
