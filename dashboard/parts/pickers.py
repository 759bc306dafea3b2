"""Pickers whose choices the page's address holds, so that a copied address shows the same."""

from collections.abc import Callable, Sequence
from typing import Final, cast

import streamlit as st

from coconut_attr.attributes import GROUPS
from dashboard import i18n
from dashboard.i18n import _

ADDRESS: Final = "address"  # the session's parameters of the page that is being drawn


def requested(parameter: str) -> str | None:
    """Return a picker's value from the address, else the one it had when its page was left."""
    return st.query_params.get(parameter, st.session_state.get(f"last {parameter}"))


def remember(parameter: str, value: str) -> None:
    """Put a value into the page's address unless it is empty, and store it in the session."""
    st.session_state[f"last {parameter}"] = value
    if value:
        st.session_state[ADDRESS][parameter] = value


def choose(
    label: str,
    options: Sequence[str],
    parameter: str,
    describe: Callable[[str], str] = str,
    unset: str | None = None,
) -> str:
    """Show a select box; return its choice, at first the address's or else the first option.

    Args:
        unset: the choice that the address need not have.
    """
    key = f"choice of {parameter}"
    if st.session_state.get(key) not in options:
        value = requested(parameter)
        st.session_state[key] = value if value in options else options[0]
    choice = st.selectbox(label, options, format_func=describe, key=key)
    remember(parameter, "" if choice == unset else choice)
    return choice


def choose_many(
    label: str,
    options: Sequence[str],
    parameter: str,
    describe: Callable[[str], str] = str,
    placeholder: str = "",
) -> list[str]:
    """Show a box for any number of choices; return them, at first the address's."""
    key = f"choices of {parameter}"
    values = st.session_state.get(key, (requested(parameter) or "").split(","))
    # An option may have disappeared since it was chosen.
    st.session_state[key] = [value for value in values if value in options]
    choices = st.multiselect(label, options, format_func=describe, key=key, placeholder=placeholder)
    remember(parameter, ",".join(choices))
    return choices


def enter(label: str, parameter: str, placeholder: str = "") -> str:
    """Show a text box; return its text without outer spaces, at first the address's."""
    key = f"text of {parameter}"
    if key not in st.session_state:
        st.session_state[key] = requested(parameter) or ""
    text = st.text_input(label, key=key, placeholder=placeholder, max_chars=100).strip()
    remember(parameter, text)
    return text


def choose_range(label: str, parameter: str) -> tuple[float, float]:
    """Show a slider of two bounds between 0 and 1; return them, at first the address's."""
    key = f"range of {parameter}"
    if key not in st.session_state:
        try:
            low, high = (float(bound) for bound in (requested(parameter) or "").split("-"))
        except ValueError:
            low, high = 0.0, 1.0
        st.session_state[key] = (min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0))
    bounds = st.slider(label, 0.0, 1.0, step=0.01, key=key)
    low, high = cast(tuple[float, float], bounds)  # as the session's value has two
    remember(parameter, "" if (low, high) == (0, 1) else f"{low:.2f}-{high:.2f}")
    return low, high


def choose_groups() -> list[str]:
    """Show a filter by attribute group; return the chosen groups, or all if none is chosen."""
    names = list(GROUPS)
    if "groups" not in st.session_state:
        values = (requested("groups") or "").split(",")
        st.session_state["groups"] = [value for value in values if value in names]
    choices = st.pills(
        _("Attribute groups"),
        names,
        selection_mode="multi",
        key="groups",
        format_func=lambda name: _(name).capitalize(),
    )
    chosen = [name for name in names if name in choices]
    remember("groups", ",".join(chosen))
    return chosen or names


def write_address() -> None:
    """Write the address that leads back to what the page shows, in its language."""
    language = {} if i18n.language() == "en" else {"lang": i18n.language()}
    address = {**st.session_state.get(ADDRESS, {}), **language}
    # Each write adds a step to the browser's history.
    if st.query_params.to_dict() != address:
        st.query_params.from_dict(address)
