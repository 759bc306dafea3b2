"""What the flows are doing, as they last reported it to the database."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import streamlit as st

from coconut_attr.errors import UserError
from dashboard import data, formats
from dashboard.i18n import N_, _
from db.sql import DatabaseError

REFRESH = 3  # seconds
STALE = timedelta(seconds=60)  # flows report every 5 seconds, but one image or step may take longer
RECENT = timedelta(hours=24)  # ended work is shown for so long


def show_progress() -> None:
    """Show running and recently ended work, read again every few seconds."""

    @st.fragment(run_every=REFRESH)
    def show() -> None:
        try:
            rows = data.progress()
        except (UserError, DatabaseError):
            return
        now = pd.Timestamp(datetime.now(UTC))
        if len(rows):
            rows = rows[(rows["state"] == "running") | (now - rows["updated_at"] < RECENT)]
        if not len(rows):
            st.caption(_("Nothing is running, and nothing has run in the last 24 hours."))
            return
        running = rows[rows["state"] == "running"]
        for row in running.to_dict("records"):
            _running(row, now)
        if not len(running):
            st.caption(_("Nothing is running."))
        ended = rows[rows["state"] != "running"]
        if len(ended):
            st.caption("  \n".join(_ended(row) for row in ended.to_dict("records")))

    show()


#: Pieces of work, as the flows name them after the dataset.
WORK = (
    N_("images"),
    N_("train photos"),
    N_("val photos"),
    N_("test photos"),
    N_("weights (MB)"),
    N_("labels"),
    N_("hashes"),
    N_("features"),
    N_("training"),
    N_("second pass"),
    N_("scores"),
    N_("check"),
)


def _work(what: str) -> str:
    """Name a piece of work in the language of the page."""
    dataset, _space, work = what.partition(" ")
    return f"{dataset} {_(work)}" if work in WORK else what


def _running(row: dict, now: pd.Timestamp) -> None:
    share = min(1.0, row["done"] / row["total"])
    text = _(
        "**{what}** · {done} of {total} ({share}) {note}",
        what=_work(row["what"]),
        done=formats.count(row["done"]),
        total=formats.count(row["total"]),
        share=formats.percent(share, 0),
        note=row["note"],
    )
    if now - row["updated_at"] > STALE:
        text += " · " + _(
            "**stale**: no report since {time}; it was interrupted, or is waiting",
            time=formats.time(row["updated_at"]),
        )
    elif row["done"]:
        left = (row["updated_at"] - row["started_at"]) * (row["total"] - row["done"]) / row["done"]
        text += " · " + _("about {time} left", time=formats.duration(left.total_seconds()))
    st.progress(share, text=text)


def _ended(row: dict) -> str:
    text = _(
        "{what}: {state} at {time}",
        what=f"**{_work(row['what'])}**",
        state=_(row["state"]),
        time=formats.time(row["updated_at"]),
    )
    return f"{text} ({row['note']})" if row["note"] else text
