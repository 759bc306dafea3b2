"""TODO."""

from collections.abc import Callable, Sequence
from typing import Final

import streamlit as st

from coconut_attr.attributes import GROUPS
from dashboard import i18n
from dashboard.i18n import _

ADDRESS: Final = "address"


def asked(parameter: str) -> str | None:
    """What the address, or else the page when it was left, says of a picker."""
    return st.query_params.get(parameter, st.session_state.get(f"kept {parameter}"))


def remember(parameter: str, value: str) -> None:
    """Put a choice into the page's address (nothing chosen: leave it out), and keep it when the page is left."""
    st.session_state[f"kept {parameter}"] = value
    if value:
        st.session_state[ADDRESS][parameter] = value


def choose(
    label: str, options: Sequence[str], parameter: str, describe: Callable[[str], str] = str
) -> str:
    """A select box that starts from the page's address, and whose choice stays when the page is left."""
    key = f"choice of {parameter}"
    if st.session_state.get(key) not in options:
        wanted = asked(parameter)
        st.session_state[key] = wanted if wanted in options else options[0]
    choice = st.selectbox(label, options, format_func=describe, key=key)
    remember(parameter, choice)
    return choice


def choose_many(
    label: str,
    options: Sequence[str],
    parameter: str,
    describe: Callable[[str], str] = str,
    placeholder: str = "",
) -> list[str]:
    """A box for any number of choices, which starts from the page's address."""
    key = f"choices of {parameter}"
    if key not in st.session_state:
        st.session_state[key] = [
            part for part in (asked(parameter) or "").split(",") if part in options
        ]
    else:  # an option may be gone meanwhile
        st.session_state[key] = [part for part in st.session_state[key] if part in options]
    chosen = st.multiselect(label, options, format_func=describe, key=key, placeholder=placeholder)
    remember(parameter, ",".join(chosen))
    return chosen


def choose_groups() -> list[str]:
    """A filter by attribute group; none chosen means all."""
    names = list(GROUPS)
    if "groups" not in st.session_state:
        st.session_state["groups"] = [
            part for part in (asked("groups") or "").split(",") if part in names
        ]
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
