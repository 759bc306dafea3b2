"""What the pages share: pickers that the address remembers, notices, number formats, refreshing."""

import gc
from collections.abc import Callable, Sequence
from typing import Any, Final

import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES, GROUPS, INDEX
from coconut_attr.errors import UserError
from dashboard import data, i18n
from dashboard.i18n import _
from db import queries
from db.queries import DatabaseError

DASH = "–"
ADDRESS: Final = "address"
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


def asked(parameter: str) -> str | None:
    """What the address, or else the page when it was left, says of a picker."""
    return st.query_params.get(parameter, st.session_state.get(f"kept {parameter}"))


def remember(parameter: str, value: str) -> None:
    """Put a choice into the page's address (nothing chosen: leave it out), and keep it when the page is left."""
    st.session_state[f"kept {parameter}"] = value
    if value:
        st.session_state[ADDRESS][parameter] = value


def choose(label: str, options: Sequence[str], parameter: str, describe: Callable[[str], str] = str) -> str:
    """A select box that starts from the page's address, and whose choice stays when the page is left."""
    key = f"choice of {parameter}"
    if st.session_state.get(key) not in options:
        wanted = asked(parameter)
        st.session_state[key] = wanted if wanted in options else options[0]
    choice = st.selectbox(label, options, format_func=describe, key=key)
    remember(parameter, choice)
    return choice


def choose_many(
    label: str, options: Sequence[str], parameter: str, describe: Callable[[str], str] = str, placeholder: str = ""
) -> list[str]:
    """A box for any number of choices, which starts from the page's address."""
    key = f"choices of {parameter}"
    if key not in st.session_state:
        st.session_state[key] = [part for part in (asked(parameter) or "").split(",") if part in options]
    else:  # an option may be gone meanwhile
        st.session_state[key] = [part for part in st.session_state[key] if part in options]
    chosen = st.multiselect(label, options, format_func=describe, key=key, placeholder=placeholder)
    remember(parameter, ",".join(chosen))
    return chosen


def choose_groups() -> list[str]:
    """A filter by attribute group; none chosen means all."""
    names = list(GROUPS)
    if "groups" not in st.session_state:
        st.session_state["groups"] = [part for part in (asked("groups") or "").split(",") if part in names]
    chosen = st.pills(
        _("Attribute groups"),
        names,
        selection_mode="multi",
        key="groups",
        format_func=lambda name: _(name).capitalize(),
    )
    remember("groups", ",".join(name for name in names if name in chosen))
    return [name for name in names if name in chosen] or names


def write_address() -> None:
    """Make the page's address one that leads back to what is shown, in its language."""
    language = {} if i18n.language() == "en" else {"lang": i18n.language()}
    address = {**st.session_state.get(ADDRESS, {}), **language}
    # Each change is a step of the browser's history, so that there is one at most.
    if st.query_params.to_dict() != address:
        st.query_params.from_dict(address)


def in_label_order(table: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """The rows of some groups, in the order of the label vector."""
    wanted = table[table["group_name"].isin(list(groups)) & table["attribute"].isin(ATTRIBUTES)]
    return wanted.sort_values("attribute", key=lambda names: names.map(INDEX)).reset_index(drop=True)


def not_coconut(dataset: str, title: str = "") -> None:
    """The notice that a stand-in dataset carries wherever it is shown."""
    message = _(
        "**THESE ARE NOT COCONut RESULTS:** all figures of the stand-in dataset *{what}*. They show that the pipeline "
        "works, and say nothing about COCONut.",
        what=f"{dataset}: {title}" if title else dataset,
    )
    st.warning(message, icon=":material/warning:")


def card(label: str, value: str, *notes: str) -> None:
    """A figure in a frame, and below it what it is to be read with."""
    with st.container(border=True, gap=None, height="stretch"):
        st.metric(label, value)
        st.caption("  \n".join(notes))


def masks_from(dataset: str) -> str:
    """A sentence on where the masks of a dataset were read, for a mirror may hold others than COCONut's own."""
    files = data.read(queries.annotation_progress, dataset)
    origins = sorted(files["origin"].unique()) if len(files) else []
    if not origins:
        return ""
    told = _("Masks of {dataset} were read from: {origins}.", dataset=dataset, origins=", ".join(origins))
    if any(origin.startswith("mirror") for origin in origins):
        told += " " + _("They are COCONut's own only if the mirror's are.")
    return told


def empty(title: str, text: str, command: str | None = "make run") -> None:
    """What a page shows that has nothing to show yet."""
    with st.container(border=True):
        st.subheader(title, anchor=False)
        st.write(text)
        if command:
            st.code(command, language="bash")


def no_store(why: str) -> None:
    """In place of a page, while there is no store to read; goes away by itself when there is one."""
    message = why[0].upper() + why[1:]
    if "make run" in why:
        empty(
            _("Nothing to show yet"),
            _("{message}. From the project's folder, run:", message=message.split("; run:")[0]),
        )
    else:
        empty(_("The attribute database cannot be read"), message, why.partition("; run: ")[2] or None)
    st.caption(_("This page looks again every 3 seconds."))

    @st.fragment(run_every=3)
    def look_again() -> None:
        try:
            data.is_stale()
        except (UserError, DatabaseError):
            return
        st.rerun()

    look_again()


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


def number(value: float | None, digits: int = 3) -> str:
    return DASH if value is None or pd.isna(value) else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    return DASH if value is None or pd.isna(value) else f"{100 * value:.{digits}f} %"


def count(value: float | None) -> str:
    return DASH if value is None or pd.isna(value) else f"{int(value):,}"


def interval(low: float | None, high: float | None, show: Callable[..., str] = number) -> str:
    """An interval, in the format of its value."""
    if low is None or high is None or pd.isna(low) or pd.isna(high):
        return DASH
    return f"{show(low).removesuffix(' %')}–{show(high)}"


def intervals(table: pd.DataFrame, name: str, show: Callable[..., str]) -> pd.Series:
    """The intervals of a score, None where it is not defined."""
    pairs = zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
    return pd.Series([None if pd.isna(low) else interval(low, high, show) for low, high in pairs], table.index)


def size(in_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if in_bytes < 1000 or unit == "GB":
            break
        in_bytes /= 1000
    return f"{in_bytes:.0f} {unit}" if unit == "B" else f"{in_bytes:.1f} {unit}"


def time_of(moment: pd.Timestamp) -> str:
    return DASH if pd.isna(moment) else f"{moment:%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    if pd.isna(seconds):
        return DASH
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return _("{hours} h {minutes} min", hours=hours, minutes=f"{minutes:02}")
    return _("{minutes} min {seconds} s", minutes=minutes, seconds=f"{seconds:02}")


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
