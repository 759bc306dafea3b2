"""SQL that people write themselves: read-only, one statement, within limits of rows and time.

Three walls, none of which looks at the words of the query. The connection is read-only. The query is run as a subquery,
where the grammar takes nothing but a query. And the drivers take one statement at a time (psycopg where the protocol
with parameters is used), so that a query cannot close the subquery and go on with another statement. A query may call
functions, so accounts of PostgreSQL for which these reach beyond the database are refused.
"""

import sqlite3
import time
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Engine

from coconut_attr.errors import UserError
from db.sql import DatabaseError

ROWS = 10_000
SECONDS = 20.0
MAX_VALUE = 10_000_000  # bytes of one value in SQLite
POWERFUL = "pg_has_role('pg_read_server_files', 'MEMBER') OR pg_has_role('pg_execute_server_program', 'MEMBER')"
MESSAGE = 1_000  # letters: some messages repeat the query
STEPS = 10_000  # of SQLite's machine between two looks at the clock


class QueryError(UserError):
    """A query is refused or fails; the message is the database's, or says which limit it ran into."""


@dataclass(frozen=True)
class Answer:
    """Rows of a query: as many as the limit lets through, and whether there are more."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    truncated: bool
    seconds: float


def ask(engine: Engine, query: str, *, rows: int = ROWS, seconds: float = SECONDS) -> Answer:
    """The answer to one query.

    Args:
        engine: a read-only one (`db.schema.open_for_reading`).

    Raises:
        QueryError: it is no single query, it would write, it is wrong or takes longer; or the account is a superuser's.
    """
    wrapped = f"SELECT * FROM (\n{query.strip().rstrip(';')}\n) AS query LIMIT {rows + 1}"  # noqa: S608
    run = _postgresql if engine.dialect.name == "postgresql" else _sqlite
    started = time.monotonic()
    try:
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            connection.detach()  # what the query does to its connection ends with it
            cursor = run(driver, wrapped, seconds)
            columns = [column[0] for column in cursor.description]
            found = [tuple(row) for row in cursor.fetchall()]
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
    return Answer(columns, found[:rows], len(found) > rows, time.monotonic() - started)


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
            "this account of PostgreSQL may reach the files and programs of the database's machine, as superusers may; "
            "give the dashboard one that may only SELECT"
        )
    # After a transaction's first query it cannot be made one that writes, nor here by the query itself.
    return driver.execute(query, prepare=True)
