"""What the pages share: pickers that the address remembers, notices, number formats, refreshing."""

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES, GROUPS, INDEX
from coconut_attr.errors import UserError
from dashboard import data
from db.queries import DatabaseError

DASH = "–"


def choose(label: str, options: Sequence[str], parameter: str, describe: Callable[[str], str] = str) -> str:
    """A select box that starts from the page's address, and whose choice stays when the page is left."""
    key, kept = f"choice of {parameter}", f"kept {parameter}"
    if st.session_state.get(key) not in options:
        wanted = st.query_params.get(parameter, st.session_state.get(kept))
        st.session_state[key] = wanted if wanted in options else options[0]
    choice = st.selectbox(label, options, format_func=describe, key=key)
    st.session_state[kept] = choice
    return choice


def write_address(**parameters: str) -> None:
    """Make the page's address one that leads back to what is shown."""
    # Each change is a step of the browser's history, so that there is one at most.
    if st.query_params.to_dict() != parameters:
        st.query_params.from_dict(parameters)


def choose_groups() -> list[str]:
    """A filter by attribute group; none chosen means all."""
    names = list(GROUPS)
    chosen = st.pills("Attribute groups", names, selection_mode="multi", key="groups", format_func=str.capitalize)
    return [name for name in names if name in chosen] or names


def in_label_order(table: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """The rows of some groups, in the order of the label vector."""
    wanted = table[table["group_name"].isin(list(groups)) & table["attribute"].isin(ATTRIBUTES)]
    return wanted.sort_values("attribute", key=lambda names: names.map(INDEX)).reset_index(drop=True)


def not_coconut(dataset: str, title: str = "") -> None:
    """The notice that a stand-in dataset carries wherever it is shown."""
    what = f"{dataset}: {title}" if title else dataset
    st.warning(
        f"**THESE ARE NOT COCONut RESULTS:** all figures of the stand-in dataset *{what}*. They show that the pipeline "
        "works, and say nothing about COCONut.",
        icon=":material/warning:",
    )


def card(label: str, value: str, *notes: str) -> None:
    """A figure in a frame, and below it what it is to be read with."""
    with st.container(border=True, gap=None):
        st.metric(label, value)
        st.caption("  \n".join(notes))


def masks_from(dataset: str) -> str:
    """A sentence on where the masks of a dataset were read, for a mirror may hold others than COCONut's own."""
    files = data.read("annotation_progress", dataset)
    origins = sorted(files["origin"].unique()) if len(files) else []
    if not origins:
        return ""
    doubt = " They are COCONut's own only if the mirror's are." if any(o.startswith("mirror") for o in origins) else ""
    return f"Masks of {dataset} were read from: {', '.join(origins)}.{doubt}"


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
        empty("Nothing to show yet", f"{message.split('; run:')[0]}. From the project's folder, run:")
    else:
        empty("The attribute database cannot be read", message, why.partition("; run: ")[2] or None)
    st.caption("This page looks again every 3 seconds.")

    @st.fragment(run_every=3)
    def look_again() -> None:
        try:
            data.is_stale()
        except (UserError, DatabaseError):
            return
        st.rerun()

    look_again()


def watch(seconds: float) -> None:
    """Show the page anew as soon as there is something new in the store; looks every so many seconds."""

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
    return f"Run {run['run_id']} · {run['backbone']} · {run['trained_on']}"


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
