"""Who judges, and adding what they say to the database."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Final, get_args

import streamlit as st

from coconut_attr.errors import UserError
from coconut_attr.judgements.records import Kind, State
from dashboard import data
from dashboard.i18n import N_, _
from dashboard.parts import photos
from db.review import kinds_of, record_answers
from db.sql import DatabaseError

REVIEWER: Final = "reviewer"  # keys of the session
FAILURE: Final = "review failure"
SKIPPED: Final = "skipped photos"
KINDS: Final[dict[Kind, str]] = {"human": N_("a person"), "ai": N_("an AI model")}
SIZE = 900  # pixels of the longer side of a photo that is judged by itself


@dataclass(frozen=True)
class Reviewer:
    """Who judges, as every judgement says."""

    name: str
    kind: Kind


def ask_reviewer() -> Reviewer | None:
    """Return who judges; ask for the name once a session, None until it is given."""
    reviewer: Reviewer | None = st.session_state.get(REVIEWER)
    if reviewer:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(_("Judged by **{name}**, {kind}", name=reviewer.name, kind=_kind(reviewer)))
            st.button(_("Change"), type="tertiary", on_click=_forget_reviewer)
        return reviewer
    with st.form("reviewer form", width=480):
        name = st.text_input(_("Your name, as each judgement will say it"), max_chars=60).strip()
        kind = st.segmented_control(
            _("You are"),
            list(get_args(Kind)),
            default="human",
            required=True,
            format_func=lambda value: _(KINDS[value]),
        )
        if st.form_submit_button(_("Start"), type="primary") and name:
            if kinds_of(data.engine(), name) - {kind}:
                st.warning(_("Another kind of annotator has judged by this name: take another."))
            else:
                st.session_state[REVIEWER] = Reviewer(name, kind)
                st.rerun()
    return None


def _kind(reviewer: Reviewer) -> str:
    return _(KINDS[reviewer.kind])


def _forget_reviewer() -> None:
    del st.session_state[REVIEWER]


def record(reviewer: Reviewer, chosen: str, states: Mapping[tuple[int, str], State]) -> bool:
    """Add judgements by image id and attribute; return False, and keep the reason, if it fails."""
    st.session_state.pop(FAILURE, None)
    try:
        record_answers(data.judgement_engine(), reviewer.name, reviewer.kind, chosen, states)
    except (UserError, DatabaseError) as error:
        st.session_state[FAILURE] = str(getattr(error, "orig", None) or error)
        return False
    return True


def show_failure() -> None:
    """Say why the last judgement was not stored, if it was not."""
    if reason := st.session_state.get(FAILURE):
        st.error(
            _(
                "Not stored: {reason}. The account of COCONUT_ATTR_REVIEW_DATABASE_URL must be "
                "able to INSERT into the table judgement.",
                reason=reason,
            )
        )


def skip(image_id: int) -> None:
    """Leave a photo out of this session's queues."""
    st.session_state.setdefault(SKIPPED, set()).add(image_id)


def skipped() -> set[int]:
    """Return the photos that this session leaves out."""
    return st.session_state.get(SKIPPED, set())


@st.cache_data(max_entries=256, show_spinner=False)
def picture(path: str, mask_path: str | None, size: int = SIZE) -> bytes | None:
    """Return a photo as JPEG, with its segments' boundaries if `mask_path` is given.

    None: it cannot be read, so nobody can judge it.
    """
    try:
        image = (
            photos.draw_segments(path, mask_path, size=size)
            if mask_path is not None
            else photos.photo(path, size)
        )
    except (UserError, OSError):
        return None
    file = BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
