"""What the pages read: rows of the store as data frames, through the queries of `db` alone."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
from pydantic import ValidationError

from coconut_attr.errors import UserError
from coconut_attr.settings import settings
from db import runs, sql
from db.counts import table_counts
from db.engine import Engine
from db.progress import list_progress
from db.schema import open_for_reading

Row = dict[str, Any]

VERSION, LABEL_VERSION = "store version", "label version"
TIMES = ("started_at", "finished_at", "updated_at", "counted_at")
Query = Callable[..., sql.Rows]


def _url() -> str:
    try:
        return settings().sqlalchemy_url
    except ValidationError as error:
        raise UserError(f"a COCONUT_ATTR_* setting is wrong: {error}") from error


def _file_identity(url: str) -> int:
    """Tells a SQLite file from one that was put in its place, to which an open connection would not move."""
    path = Path(url.removeprefix("sqlite:///"))
    return path.stat().st_ino if path.is_file() else 0


@st.cache_resource(show_spinner=False, max_entries=2)
def _open(url: str, identity: int) -> Engine:
    return open_for_reading(url)


def engine() -> Engine:
    """The read-only engine of this server.

    Raises:
        coconut_attr.errors.UserError: the store is missing or empty; the message says what to run.
    """
    url = _url()
    return _open(url, _file_identity(url))


def refresh() -> None:
    """Look how new the store is: what is read after this is no older."""
    counts = _counts()
    st.session_state[VERSION] = repr(counts)
    st.session_state[LABEL_VERSION] = repr([counts[name] for name in ("file", "counted")])


def is_stale() -> bool:
    """Whether the store holds something that the page does not show yet.

    Raises:
        coconut_attr.errors.UserError: as `engine` does.
        db.sql.DatabaseError: the store cannot be read.
    """
    return repr(_counts()) != st.session_state.get(VERSION)


def _counts() -> Row:
    return {"file": _file_identity(_url()), **table_counts(engine())}


# The version is part of the key, so that a page that was rerun because there is something new does read it.
@st.cache_data(ttl=5, max_entries=256, show_spinner=False)
def _read(
    url: str, version: str, name: str, arguments: tuple[Any, ...], _query: Query
) -> pd.DataFrame:
    return frame(_query(engine(), *arguments))


@st.cache_data(ttl=3600, max_entries=64, show_spinner=False)
def _read_counts(
    url: str, version: str, name: str, arguments: tuple[Any, ...], _query: Query
) -> pd.DataFrame:
    return frame(_query(engine(), *arguments))


def read(query: Query, *arguments: Any) -> pd.DataFrame:
    """The rows of a query of `db`."""
    return _read(_url(), st.session_state[VERSION], query.__name__, arguments, query)


def read_counts(query: Query, *arguments: Any) -> pd.DataFrame:
    """The rows of a query of kept counts: it is not repeated at every epoch."""
    return _read_counts(_url(), st.session_state[LABEL_VERSION], query.__name__, arguments, query)


def progress() -> pd.DataFrame:
    """The table `progress` as it is now."""
    return frame(list_progress(engine()))


def run(run_id: int) -> dict[str, Any]:
    """All that is stored about a run."""
    return dict(runs.run(engine(), run_id) or {})


def by(table: pd.DataFrame, column: str) -> dict[Any, Row]:
    """The rows of a frame by the values of a column; of equal ones, the first."""
    records = [
        {str(name): value for name, value in record.items()} for record in table.to_dict("records")
    ]
    found: dict[Any, Row] = {}
    for record in records:
        found.setdefault(record[column], record)
    return found


def frame(rows: sql.Rows) -> pd.DataFrame:
    """Rows as a frame in which SQLite's and PostgreSQL's types have become the same."""
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
