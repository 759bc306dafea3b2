"""What the pages share: pickers that the address remembers, notices, number formats, refreshing."""

import gc
from collections.abc import Callable, Sequence
from typing import Any, Final

import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES, INDEX
from coconut_attr.errors import UserError
from dashboard import data
from dashboard.formats import time_of
from dashboard.i18n import _
from dashboard.parts.pickers import ADDRESS, write_address
from db.sql import DatabaseError

PAGES: Final = "pages"  # of this session, by their path
STYLE: Final = """<style>
.st-key-language-switch {position: fixed; top: .7rem; right: 3.5rem; width: auto; z-index: 1000000}
.st-key-language-switch button {padding: .1rem .6rem; min-height: 1.9rem}
@media (max-width: 1150px) {.st-key-language-switch {position: static}}
[data-testid=stCaptionContainer] {color: inherit; opacity: .8}
[data-testid=stCaptionContainer] a {color: inherit}
[data-testid=stMultiSelect] [data-tag] {background: transparent; color: inherit; outline: 1px solid}
</style>"""


def style() -> None:
    """What the theme cannot say: where the language switch stands, and colours of enough contrast to read."""
    st.html(STYLE)


def keep_modules() -> None:
    """Have no garbage sought in what is loaded now.

    Streamlit seeks it after each run of a page; among the modules alone that took longer than most pages.
    """
    gc.collect()
    gc.freeze()


def header(title: str, *widths: float) -> list[Any]:
    """The heading of a page; returns the columns for its pickers, of these widths beside the heading's 4."""
    st.session_state[ADDRESS] = {}
    heading, *pickers = st.columns([4, *widths], vertical_alignment="bottom")
    heading.title(title, anchor=False)
    return pickers


def in_label_order(table: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """The rows of some groups, in the order of the label vector."""
    wanted = table[table["group_name"].isin(list(groups)) & table["attribute"].isin(ATTRIBUTES)]
    return wanted.sort_values("attribute", key=lambda names: names.map(INDEX)).reset_index(
        drop=True
    )


def card(label: str, value: str, *notes: str) -> None:
    """A figure in a frame, and below it what it is to be read with."""
    with st.container(border=True, gap=None, height="stretch"):
        st.metric(label, value)
        st.caption("  \n".join(notes))


def watch(seconds: float) -> None:
    """End of a page: writes its address; shows it anew as soon as there is something new, looking every so often."""
    write_address()

    @st.fragment(run_every=seconds)
    def look() -> None:
        try:
            changed = data.is_stale()
        except (UserError, DatabaseError):
            changed = True
        if changed:
            st.rerun()

    look()


def run_name(run: data.Row) -> str:
    """A run, for people."""
    return _("Run {run}", run=run["run_id"]) + f" · {run['backbone']} · {run['trained_on']}"


def cards(*entries: tuple[str, ...]) -> None:
    """Cards in a row: each a label, a value and notes."""
    for column, (label, value, *notes) in zip(st.columns(len(entries)), entries, strict=True):
        with column:
            card(label, value, *notes)


def describe_dataset(summaries: dict[str, data.Row]) -> Callable[[str], str]:
    return lambda name: f"{name} · {summaries[name]['title']}"


def counted(summary: data.Row) -> str:
    """As of when the counts of a dataset are."""
    return _("as of {time}", time=time_of(summary["counted_at"]))


def link(label: str, page: str, **parameters: str) -> None:
    """A link to one of our pages."""
    known = st.session_state.get(PAGES, {})
    if page in known:
        st.page_link(known[page], label=label, query_params=parameters)
    else:  # a page that is run alone
        st.caption(label)
