"""SQL that people write themselves: read-only, one statement, within limits of rows and time.

Three barriers, none of which parses the query:

- The connection is read-only.
- The query runs as a subquery, where the grammar allows only a SELECT.
- The drivers take one statement at a time (psycopg in the extended protocol), so that a query
  cannot close the subquery and append another statement.

Functions of PostgreSQL can reach files and programs of the server for some accounts; those accounts
are refused.
"""

import sqlite3
import time
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Engine, inspect

from coconut_attr.errors import UserError
from db.models import Base
from db.sql import DatabaseError

ROWS = 10_000
SECONDS = 20.0
MAX_VALUE = 10_000_000  # bytes of one value in SQLite
POWERFUL = (
    "pg_has_role('pg_read_server_files', 'MEMBER')"
    " OR pg_has_role('pg_execute_server_program', 'MEMBER')"
)
MESSAGE = 1_000  # characters: some messages repeat the query
STEPS = 10_000  # instructions of SQLite's virtual machine between two looks at the clock


class QueryError(UserError):
    """A query is refused or fails; the message is the database's, or names the limit."""


@dataclass(frozen=True)
class Answer:
    """The rows of a query up to the limit, and whether there are more."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    truncated: bool
    seconds: float


def columns_of(engine: Engine, name: str) -> list[tuple[str, str, str]]:
    """Return name, type and meaning of each column of a table or view; empty where not stated."""
    if name in Base.metadata.tables:
        columns = Base.metadata.tables[name].columns
        return [(column.name, str(column.type), column.comment or "") for column in columns]
    found = inspect(engine).get_columns(name)
    return [(c["name"], str(c["type"]).replace("NULL", ""), "") for c in found]


def ask(engine: Engine, query: str, *, rows: int = ROWS, seconds: float = SECONDS) -> Answer:
    """Run one query and return its rows.

    Args:
        engine: a read-only engine (`db.schema.open_for_reading`).
        rows, seconds: limits.

    Raises:
        QueryError: this is not a single query, it would write, it is wrong, or it takes too long;
            or the account is a superuser's.
    """
    wrapped = f"SELECT * FROM (\n{query.strip().rstrip(';')}\n) AS query LIMIT {rows + 1}"  # noqa: S608
    run = _postgresql if engine.dialect.name == "postgresql" else _sqlite
    started = time.monotonic()
    try:
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            connection.detach()  # settings that the query changes must not reach the next one
            cursor = run(driver, wrapped, seconds)
            columns = [column[0] for column in cursor.description]
            fetched = [tuple(row) for row in cursor.fetchall()]
    except (
        DatabaseError,
        sqlite3.Error,
        sqlite3.Warning,
        psycopg.Error,
        UnicodeEncodeError,
    ) as error:
        if time.monotonic() - started >= seconds:
            raise QueryError(f"stopped after {seconds:.0f} seconds: ask for less") from error
        raise QueryError(str(error)[:MESSAGE]) from error
    return Answer(columns, fetched[:rows], len(fetched) > rows, time.monotonic() - started)


def _sqlite(driver: Any, query: str, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    driver.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
    driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
    return driver.execute(query)


def _postgresql(driver: Any, query: str, seconds: float) -> Any:
    timeout = f"{int(1000 * seconds)}ms"
    _, powerful = driver.execute(
        f"SELECT set_config('statement_timeout', %s, true), {POWERFUL}", [timeout]
    ).fetchone()
    if powerful:
        raise QueryError(
            "this account of PostgreSQL can reach files and programs of the database server, "
            "as superusers can; give the dashboard one that may only SELECT"
        )
    # A transaction cannot become a writing one after its first query: not even by this query.
    return driver.execute(query, prepare=True)
