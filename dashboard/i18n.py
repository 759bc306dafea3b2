"""The language of the pages: messages are English in the code, and looked up in a gettext catalogue for others."""

from functools import cache
from pathlib import Path
from typing import Any, Final

import streamlit as st
from babel.messages.pofile import read_po

LANGUAGES: Final = {"en": "English", "zh": "中文"}
FOLDER: Final = Path(__file__).parent / "locale"
KEY: Final = "language"


def N_(message: str) -> str:  # gettext's name for it
    """Marks a message that is translated where it is shown."""
    return message


#: Words of the store that pages show; the attributes and their groups are others.
TERMS: Final = (
    N_("present"), N_("absent"), N_("unknown"), N_("combined"), N_("panoptic"), N_("pixels"), N_("caption"),
    N_("train"), N_("val"), N_("test"), N_("running"), N_("finished"), N_("failed"), N_("cancelled"),
    N_("trained"), N_("reported"),
)  # fmt: skip


@cache
def catalogue(language: str) -> dict[str, str]:
    """The translations of a language by their English messages; none for English itself."""
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
    """The language of this session."""
    return st.session_state.get(KEY, "en")


def _(message: str, /, **values: Any) -> str:
    """A message in the language of this session, with values in its braces."""
    found = catalogue(language()).get(message, message)
    return found.format(**values) if values else found


def switch() -> None:
    """The switch of the language, in the header bar; its first choice is the address's."""
    if KEY not in st.session_state:
        wanted = st.query_params.get("lang", "en")
        st.session_state[KEY] = wanted if wanted in LANGUAGES else "en"
    with st.container(key="language-switch", gap=None):
        st.segmented_control(
            "Language / 语言",
            list(LANGUAGES),
            key=KEY,
            format_func=LANGUAGES.__getitem__,
            required=True,
            label_visibility="collapsed",
        )
        # For screen readers, which choose their voice by it.
        st.html(
            f"<script>document.documentElement.lang = '{language()}'</script>",
            unsafe_allow_javascript=True,
        )
