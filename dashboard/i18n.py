"""The language of the pages: English in the code, other languages from gettext catalogues."""

from functools import cache
from pathlib import Path
from typing import Any, Final

import streamlit as st
from babel.messages.pofile import read_po

LANGUAGES: Final = {"en": "English", "zh": "中文"}
FOLDER: Final = Path(__file__).parent / "locale"
KEY: Final = "language"


def N_(message: str) -> str:  # gettext's name for it
    """Mark a message that is translated where it is shown."""
    return message


#: Words in the database that pages show. Attributes and their groups are translated too.
TERMS: Final = (
    N_("present"),
    N_("absent"),
    N_("unsure"),
    N_("unknown"),
    N_("combined"),
    N_("panoptic"),
    N_("pixels"),
    N_("caption"),
    N_("pancap"),
    N_("train"),
    N_("val"),
    N_("test"),
    N_("running"),
    N_("finished"),
    N_("failed"),
    N_("cancelled"),
    N_("trained"),
    N_("reported"),
)


@cache
def catalogue(language: str) -> dict[str, str]:
    """Return a language's translations by English message; empty for English itself."""
    path = FOLDER / f"{language}.po"
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        return {
            str(message.id): str(message.string)
            for message in read_po(file)
            if message.id and message.string
        }


def language() -> str:
    """Return the language of this session."""
    return st.session_state.get(KEY, "en")


def _(message: str, /, **values: Any) -> str:
    """Translate a message into the language of this session, and fill in its values."""
    translation = catalogue(language()).get(message, message)
    return translation.format(**values) if values else translation


def paragraph(*sentences: str) -> str:
    """Join translated sentences, skipping empty ones; Chinese has no spaces between them."""
    return ("" if language() == "zh" else " ").join(filter(None, sentences))


def language_switch() -> None:
    """Show the language switch in the header bar; the address sets its first value."""
    if KEY not in st.session_state:
        requested = st.query_params.get("lang", "en")
        st.session_state[KEY] = requested if requested in LANGUAGES else "en"
    with st.container(key="language-switch", gap=None):
        st.segmented_control(
            "Language / 语言",
            list(LANGUAGES),
            key=KEY,
            format_func=LANGUAGES.__getitem__,
            required=True,
            label_visibility="collapsed",
        )
        # Screen readers choose their voice by this attribute.
        st.html(
            f"<script>document.documentElement.lang = '{language()}'</script>",
            unsafe_allow_javascript=True,
        )
