"""What the flows are at, as they last told the store."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import streamlit as st

from coconut_attr.errors import UserError
from dashboard import data, formats
from dashboard.i18n import _
from db.sql import DatabaseError

EVERY = 3  # seconds
STALE = timedelta(seconds=60)  # rows are written every 5 seconds; one image or step may take longer
SHOWN = timedelta(hours=24)  # for so long, what has ended is told too


def live() -> None:
    """Running and lately ended work; looks again every few seconds."""

    @st.fragment(run_every=EVERY)
    def look() -> None:
        try:
            rows = data.progress()
        except (UserError, DatabaseError):
            return
        now = pd.Timestamp(datetime.now(UTC))
        if len(rows):
            rows = rows[(rows["state"] == "running") | (now - rows["updated_at"] < SHOWN)]
        if not len(rows):
            st.caption(_("Nothing is running, and nothing has run in the last 24 hours."))
            return
        running = rows[rows["state"] == "running"]
        for row in running.to_dict("records"):
            _running(row, now)
        ended = rows[rows["state"] != "running"]
        if not len(running):
            st.caption(_("Nothing is running."))
        if len(ended):
            told = [
                _(
                    "{what}: {state} at {time}",
                    what=f"**{row['what']}**",
                    state=_(row["state"]),
                    time=formats.time_of(row["updated_at"]),
                )
                + (f" ({row['note']})" if row["note"] else "")
                for row in ended.to_dict("records")
            ]
            st.caption("  \n".join(told))

    look()


def _running(row: dict, now: pd.Timestamp) -> None:
    silent = now - row["updated_at"]
    share = min(1.0, row["done"] / row["total"])
    told = _(
        "**{what}** · {done} of {total} ({share}) {note}",
        what=row["what"],
        done=formats.count(row["done"]),
        total=formats.count(row["total"]),
        share=formats.percent(share, 0),
        note=row["note"],
    )
    if silent > STALE:
        told += " · " + _(
            "**stale**: nothing was heard of it since {time}; it was interrupted, or waits",
            time=formats.time_of(row["updated_at"]),
        )
    elif row["done"]:
        left = (row["updated_at"] - row["started_at"]) * (row["total"] - row["done"]) / row["done"]
        told += " · " + _("about {time} left", time=formats.duration(left.total_seconds()))
    st.progress(share, text=told)
