"""The frame of every page: style, heading, cards, links, and reruns on a changed database."""

import gc
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES, INDEX
from coconut_attr.errors import UserError
from dashboard import data, formats
from dashboard.i18n import _
from dashboard.parts.pickers import ADDRESS, write_address
from db.runs import run_scores
from db.sql import DatabaseError

CONSTANT: Final = 0.2  # recall or specificity below which the view calls an attribute degenerate
SILENCE: Final = pd.Timedelta(minutes=3)  # a run sends a heartbeat every half minute
PAGES: Final = "pages"  # the session's pages by their path
STYLE: Final = """<style>
.st-key-language-switch {position: fixed; top: .7rem; right: 3.5rem; width: auto; z-index: 1000000}
.st-key-language-switch button {padding: .1rem .6rem; min-height: 1.9rem}
@media (max-width: 1150px) {.st-key-language-switch {position: static}}
[data-testid=stCaptionContainer] {color: inherit; opacity: .8}
[data-testid=stCaptionContainer] a {color: inherit}
[data-testid=stMultiSelect] [data-tag] {background: transparent; color: inherit; outline: 1px solid}
</style>"""


def add_style() -> None:
    """Place the language switch and raise contrasts, which the theme's settings cannot do."""
    st.html(STYLE)


def freeze_imports() -> None:
    """Exclude loaded modules from garbage collection.

    Streamlit collects after every page run; walking the modules alone took longer than most pages.
    """
    gc.collect()
    gc.freeze()


def header(title: str, *widths: float) -> list[Any]:
    """Show a page's heading; return columns for its pickers, of these widths beside its 4."""
    st.session_state[ADDRESS] = {}
    heading, *pickers = st.columns([4, *widths], vertical_alignment="bottom")
    heading.title(title, anchor=False)
    return pickers


def watch(seconds: float) -> None:
    """End a page: write its address, and rerun it when the database changes.

    Args:
        seconds: between two checks.
    """
    write_address()

    @st.fragment(run_every=seconds)
    def rerun_if_stale() -> None:
        try:
            changed = data.is_stale()
        except (UserError, DatabaseError):
            changed = True
        if changed:
            st.rerun()

    rerun_if_stale()


def cards(*entries: tuple[str, ...]) -> None:
    """Show cards in a row, each from a label, a value and notes."""
    for column, (label, value, *notes) in zip(st.columns(len(entries)), entries, strict=True):
        with column, st.container(border=True, gap=None, height="stretch"):
            st.metric(label, value)
            st.caption("  \n".join(notes))


def link(label: str, page: str, **parameters: str) -> None:
    """Link to one of our pages."""
    pages = st.session_state.get(PAGES, {})
    if page in pages:
        st.page_link(pages[page], label=label, query_params=parameters)
    else:  # a page that a test runs alone
        st.caption(label)


def image_address(coco_id: object, dataset: str = "") -> str:
    """Return the address, from another page, at which Explore shows an image."""
    return "explore?" + urlencode({"image": coco_id} | ({"dataset": dataset} if dataset else {}))


def in_label_order(table: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """Return the rows of some attribute groups, in the order of the label vector."""
    chosen = table[table["group_name"].isin(list(groups)) & table["attribute"].isin(ATTRIBUTES)]
    return chosen.sort_values("attribute", key=lambda names: names.map(INDEX)).reset_index(
        drop=True
    )


def run_name(run: data.Row) -> str:
    """Return a run's name for people."""
    given = [run["name"]] if isinstance(run["name"], str) else []
    number = _("Run {run}", run=run["run_id"])
    return " · ".join([number, *given, run["backbone"], run["trained_on"]])


def against(run_id: int, dataset: str, split: str) -> str:
    """Say what a run's scores on a split are against; empty if it has none."""
    scores = data.read(run_scores, run_id, dataset, split)
    if not len(scores):
        return ""
    return formats.against(scores["against"].iloc[0], scores["judged_by"].iloc[0]) or ""


def only_labels(run: data.Row) -> str:
    """Say that scores are against labels only; empty if they are by eyes."""
    if run["against"] == "eyes":
        return ""
    return _(
        "**Against our labels only**: no photo of this split has been judged by eye. The scores "
        "say how far the model agrees with the labels, not how right it is."
    )


def dataset_namer(summaries: dict[str, data.Row]) -> Callable[[str], str]:
    """Return a function that gives a dataset's name for people."""
    return lambda name: f"{name} · {summaries[name]['title']}"


def is_interrupted(run: data.Row) -> bool:
    """Check whether a run that is recorded as running has been silent for too long."""
    silent = pd.Timestamp.now("UTC") - run["heartbeat_at"]
    return run["status"] == "running" and bool(silent > SILENCE)


def counted(attributes: float | None) -> str:
    """Say over how many attributes a score is the mean."""
    if attributes is None or pd.isna(attributes):
        return _("by an older version: every attribute with both states counts")
    return _(
        "mean of {n} of {all} attributes",
        n=formats.count(attributes),
        all=len(ATTRIBUTES),
    )


def cannot_say(scores: pd.DataFrame) -> list[str]:
    """Say to which attributes a model hardly ever says no, and to which yes.

    Args:
        scores: rows of `attribute_accuracy` or `trust`.
    """
    sentences = []
    for column, message in (
        ("specificity", _("**This model cannot say no to:** {names}.")),
        ("recall", _("**This model cannot say yes to:** {names}.")),
    ):
        names = scores.loc[scores[column] < CONSTANT, "attribute"]
        if len(names):
            sentences.append(message.format(names=", ".join(_(name) for name in names)))
    return sentences


def as_of(summary: data.Row) -> str:
    """Say when a dataset was counted."""
    return _("as of {time}", time=formats.time(summary["counted_at"]))
