"""Copies of a database into another one, on SQLite or PostgreSQL, verified row by row."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from sqlalchemy import Connection, DateTime, Engine, String, Table, delete, func, select
from sqlalchemy.exc import DatabaseError

from db.admin.integrity import is_empty, row_counts
from db.bulk import insert_rows
from db.engine import DatabaseUnavailable, display_url
from db.models import Base

ROWS = 5_000  # in memory at a time


@dataclass(frozen=True)
class Copied:
    """The rows of a table in both databases, and their SHA-256 in the order of their keys."""

    rows: int
    sha256: str


def copy_database(
    source: Engine,
    target: Engine,
    *,
    replace: bool = False,
    advance: Callable[[int], object] = lambda rows: None,
) -> dict[str, Copied]:
    """Copy every row into another database, in one transaction of each.

    Both have this code's schema. Rows that others write to the source meanwhile are not copied.

    Args:
        replace: delete the rows of the target.
        advance: called with the number of rows of each batch that was copied, then verified: in
            sum twice the number of rows.

    Raises:
        DatabaseUnavailable: the target is not empty, refuses a row, or returns other rows than
            were written. It is unchanged then.
    """
    tables = Base.metadata.sorted_tables
    copied = {}
    try:
        with source.connect() as reader, target.begin() as writer:
            if source.dialect.name == "postgresql":
                reader.execution_options(isolation_level="REPEATABLE READ")
            if target.dialect.name == "postgresql":  # SQLite has only one writer
                names = ", ".join(table.name for table in tables)
                writer.exec_driver_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")
            if not replace and not is_empty(writer):
                raise DatabaseUnavailable(
                    f"{display_url(target)} is not empty; --replace deletes its rows"
                )
            for table in reversed(tables):
                writer.execute(delete(table))
            for table in tables:

                def insert(batch: list[dict[str, Any]], table: Table = table) -> None:
                    insert_rows(writer, table, batch)
                    advance(len(batch))

                copied[table.name] = _read(reader, table, insert)
                _set_sequence(writer, table)
            for table in tables:
                if _read(writer, table, lambda batch: advance(len(batch))) != copied[table.name]:
                    raise DatabaseUnavailable(
                        f"table {table.name} of {display_url(target)} did not come out equal; "
                        "nothing is copied"
                    )
    except (DatabaseError, psycopg.Error) as error:
        raise DatabaseUnavailable(
            f"cannot copy {display_url(source)} to {display_url(target)}: {error}"
        ) from error
    return copied


def count_rows(engine: Engine) -> int:
    """Return the number of rows of all tables."""
    with engine.connect() as connection:
        return sum(row_counts(connection).values())


def _read(
    connection: Connection, table: Table, use: Callable[[list[dict[str, Any]]], object]
) -> Copied:
    """Read a table, and call `use` with each batch."""
    digest, rows = hashlib.sha256(), 0
    for batch in _batches(connection, table):
        for row in batch:
            digest.update(json.dumps(list(row.values()), sort_keys=True, default=str).encode())
        use(batch)
        rows += len(batch)
    return Copied(rows, digest.hexdigest())


def _set_sequence(connection: Connection, table: Table) -> None:
    """Let PostgreSQL's next id follow the highest one; SQLite does so by itself."""
    key = table.autoincrement_column
    if key is not None and connection.dialect.name == "postgresql":
        following = select(func.coalesce(func.max(key), 0) + 1).scalar_subquery()
        connection.execute(
            select(func.setval(func.pg_get_serial_sequence(table.name, key.name), following, False))
        )


def _batches(connection: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a table in the order of its key (by bytes), with times in UTC."""
    times = [column.name for column in table.columns if isinstance(column.type, DateTime)]
    postgresql = connection.dialect.name == "postgresql"
    order = [  # SQLite compares text by bytes, PostgreSQL by the rules of a language
        column.collate("C") if postgresql and isinstance(column.type, String) else column
        for column in table.primary_key
    ]
    query = select(table).order_by(*order).execution_options(yield_per=ROWS)
    for part in connection.execute(query).mappings().partitions():
        yield (
            [{**row, **{name: _utc(row[name]) for name in times}} for row in part]
            if times
            else [*map(dict, part)]
        )


def _utc(value: datetime | None) -> datetime | None:
    """Convert a time to UTC: SQLite returns UTC without a zone, PostgreSQL the session's zone."""
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
