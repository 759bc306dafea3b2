"""Notices: what is not COCONut, where masks come from, what is missing and how to get it."""

import streamlit as st

from coconut_attr.errors import UserError
from dashboard import data
from dashboard.i18n import _, paragraph
from db import annotations
from db.sql import DatabaseError


def not_coconut(dataset: str, title: str = "") -> None:
    """Warn that a stand-in dataset's figures are not COCONut's."""
    message = _(
        "**THESE ARE NOT COCONut RESULTS:** all figures of the stand-in dataset *{what}*. They "
        "show that the pipeline works, and say nothing about COCONut.",
        what=f"{dataset}: {title}" if title else dataset,
    )
    st.warning(message, icon=":material/warning:")


def mask_origins(dataset: str) -> str:
    """Say where a dataset's masks were read: a mirror may hold others than COCONut's own."""
    files = data.read(annotations.annotation_progress, dataset)
    origins = sorted(files["origin"].unique()) if len(files) else []
    if not origins:
        return ""
    sentence = _(
        "Masks of {dataset} were read from: {origins}.", dataset=dataset, origins=", ".join(origins)
    )
    if any(origin.startswith("mirror") for origin in origins):
        return paragraph(sentence, _("They are COCONut's own only if the mirror's are."))
    return sentence


def empty(title: str, text: str, command: str | None = "make run") -> None:
    """Say that there is nothing to show yet, and the command that changes it."""
    with st.container(border=True):
        st.subheader(title, anchor=False)
        st.write(text)
        if command:
            st.code(command, language="bash")


def no_database(reason: str) -> None:
    """Say why the database cannot be read, until it can.

    Args:
        reason: the error's message; after "; run: " it may end in a command.
    """
    message, _separator, command = reason.partition("; run: ")
    if "://" not in message.split()[0]:  # a URL is shown as it is
        message = message[0].upper() + message[1:]
    if "make run" in reason:
        text = _("{message}. From the project's folder, run:", message=message)
        empty(_("Nothing to show yet"), text)
    else:
        empty(_("The attribute database cannot be read"), message, command or None)
    st.caption(_("This page checks again every 3 seconds."))

    @st.fragment(run_every=3)
    def rerun_if_readable() -> None:
        try:
            data.is_stale()
        except (UserError, DatabaseError):
            return
        st.rerun()

    rerun_if_readable()
