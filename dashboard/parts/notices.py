"""TODO."""

import streamlit as st

from coconut_attr.errors import UserError
from dashboard import data
from dashboard.i18n import _
from db import annotations
from db.sql import DatabaseError


def not_coconut(dataset: str, title: str = "") -> None:
    """The notice that a stand-in dataset carries wherever it is shown."""
    message = _(
        "**THESE ARE NOT COCONut RESULTS:** all figures of the stand-in dataset *{what}*. They show that the pipeline "
        "works, and say nothing about COCONut.",
        what=f"{dataset}: {title}" if title else dataset,
    )
    st.warning(message, icon=":material/warning:")


def masks_from(dataset: str) -> str:
    """A sentence on where the masks of a dataset were read, for a mirror may hold others than COCONut's own."""
    files = data.read(annotations.annotation_progress, dataset)
    origins = sorted(files["origin"].unique()) if len(files) else []
    if not origins:
        return ""
    told = _(
        "Masks of {dataset} were read from: {origins}.", dataset=dataset, origins=", ".join(origins)
    )
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
        empty(
            _("The attribute database cannot be read"), message, why.partition("; run: ")[2] or None
        )
    st.caption(_("This page looks again every 3 seconds."))

    @st.fragment(run_every=3)
    def look_again() -> None:
        try:
            data.is_stale()
        except (UserError, DatabaseError):
            return
        st.rerun()

    look_again()
