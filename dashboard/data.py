"""What the pages read: rows of the database as data frames, through the queries of `db` alone."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from coconut_attr.settings import settings
from db import runs, sql
from db.counts import table_counts
from db.engine import Engine, connect
from db.progress import list_progress
from db.schema import open_for_reading

Row = dict[str, Any]
Query = Callable[..., sql.Rows]

VERSION, LABEL_VERSION = "database version", "label version"  # keys of the session
TIMES = ("heartbeat_at", "started_at", "finished_at", "updated_at", "counted_at")


def _file_identity(url: str) -> int:
    """Return the inode of a SQLite file, else 0.

    An open connection would keep reading the old file after another took its place.
    """
    path = Path(url.removeprefix("sqlite:///"))
    return path.stat().st_ino if path.is_file() else 0


@st.cache_resource(show_spinner=False, max_entries=2)
def _open(url: str, identity: int) -> Engine:
    return open_for_reading(url)


def engine() -> Engine:
    """Return this server's read-only engine.

    Raises:
        coconut_attr.errors.UserError: the database is missing or empty; the message says what to
            run.
    """
    url = settings().sqlalchemy_url
    return _open(url, _file_identity(url))


@st.cache_resource(show_spinner=False, max_entries=2)
def _open_for_judgements(url: str, identity: int) -> Engine:
    return connect(url)


def judgement_engine() -> Engine:
    """Return the engine by which the page Review adds judgements.

    Raises:
        coconut_attr.errors.UserError: as `engine` does; a missing SQLite file is not created.
    """
    engine()
    url = settings().review_url
    return _open_for_judgements(url, _file_identity(url))


def refresh() -> None:
    """Note the database's version: rows that are read after this are no older."""
    counts = _counts()
    st.session_state[VERSION] = repr(counts)
    st.session_state[LABEL_VERSION] = repr([counts[name] for name in ("file", "counted")])


def is_stale() -> bool:
    """Check whether the database has changed since the page was drawn.

    Raises:
        coconut_attr.errors.UserError: as `engine` does.
        db.sql.DatabaseError: the database cannot be read.
    """
    return repr(_counts()) != st.session_state.get(VERSION)


def _counts() -> Row:
    return {"file": _file_identity(settings().sqlalchemy_url), **table_counts(engine())}


# The version is part of the cache's key: a page that is rerun because of a change reads the change.
@st.cache_data(ttl=5, max_entries=256, show_spinner=False)
def _read(
    url: str, version: str, name: str, arguments: tuple[Any, ...], _query: Query
) -> pd.DataFrame:
    return to_frame(_query(engine(), *arguments))


@st.cache_data(ttl=3600, max_entries=64, show_spinner=False)
def _read_counts(
    url: str, version: str, name: str, arguments: tuple[Any, ...], _query: Query
) -> pd.DataFrame:
    return to_frame(_query(engine(), *arguments))


def read(query: Query, *arguments: Any) -> pd.DataFrame:
    """Return the rows of a query of `db`, cached until the database changes."""
    return _read(
        settings().sqlalchemy_url, st.session_state[VERSION], query.__name__, arguments, query
    )


def read_counts(query: Query, *arguments: Any) -> pd.DataFrame:
    """Return the rows of a query of stored counts, cached until the labels change.

    Runs change the database at every epoch without changing these counts.
    """
    return _read_counts(
        settings().sqlalchemy_url, st.session_state[LABEL_VERSION], query.__name__, arguments, query
    )


def progress() -> pd.DataFrame:
    """Return the table `progress` as it is now."""
    return to_frame(list_progress(engine()))


def run(run_id: int) -> dict[str, Any]:
    """Return all that is stored about a run."""
    return dict(runs.get_run(engine(), run_id) or {})


def threshold_of(scores: Row) -> float:
    """Return the threshold of a row of `attribute_accuracy`; 0.5 where none is stored."""
    threshold = scores.get("threshold")
    return 0.5 if threshold is None or pd.isna(threshold) else float(threshold)


def run_to_show(dataset: str | None = None) -> int | None:
    """Return the run to show of a dataset, by default of the first one; None if there is none."""
    shown = read(runs.runs_to_show)
    if len(shown) and dataset is not None:
        shown = shown[shown["dataset"] == dataset]
    return int(shown["run_id"].iloc[0]) if len(shown) else None


def offered(table: pd.DataFrame, dataset: str | None = None) -> pd.DataFrame:
    """Return the rows of runs that are not archived, those of `run_to_show` first.

    Args:
        table: with the columns `run_id` and `archived`.
    """
    if not len(table):
        return table
    table = table[~table["archived"].astype(bool)]
    others = table["run_id"] != run_to_show(dataset)
    return table.loc[others.sort_values(kind="stable").index]


def rows_by(table: pd.DataFrame, column: str) -> dict[Any, Row]:
    """Return the rows of a frame by their value in a column; of equal values, the first row."""
    rows: dict[Any, Row] = {}
    for record in table.to_dict("records"):
        rows.setdefault(record[column], {str(name): value for name, value in record.items()})
    return rows


def to_frame(rows: sql.Rows) -> pd.DataFrame:
    """Return rows as a frame with the same types from SQLite and from PostgreSQL."""
    table = pd.DataFrame([dict(row) for row in rows])
    for name in table.columns:
        column = table[name]
        if name in TIMES:
            table[name] = pd.to_datetime(column, utc=True, format="ISO8601")
        elif (
            column.dtype == object
            and column.map(lambda v: v is None or isinstance(v, int | float | Decimal)).all()
        ):
            table[name] = column.astype(float)
    return table
