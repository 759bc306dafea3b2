"""A store copied into another one, on SQLite or PostgreSQL, and verified row by row."""

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
    """Rows of a table in both stores, and the SHA-256 of all of them in the order of their keys."""

    rows: int
    sha256: str


def copy_database(
    source: Engine,
    target: Engine,
    *,
    replace: bool = False,
    advance: Callable[[int], object] = lambda rows: None,
) -> dict[str, Copied]:
    """Copy every row of one store into another, in one transaction of each; both have this code's schema.

    What others write to the source meanwhile is not in the copy.

    Args:
        replace: delete what the target holds.
        advance: told how many more rows have been copied, and again how many verified: twice the rows in all.

    Raises:
        DatabaseUnavailable: the target holds something, refuses a row, or does not give back what was written; it is then as
            it was before.
    """
    tables = Base.metadata.sorted_tables
    copied = {}
    try:
        with source.connect() as reader, target.begin() as writer:
            if source.dialect.name == "postgresql":
                reader.execution_options(isolation_level="REPEATABLE READ")
            if target.dialect.name == "postgresql":  # SQLite has one writer anyhow
                writer.exec_driver_sql(
                    f"LOCK TABLE {', '.join(table.name for table in tables)} IN EXCLUSIVE MODE"
                )
            if not replace and not is_empty(writer):
                raise DatabaseUnavailable(
                    f"{display_url(target)} holds something already; --replace deletes it"
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
                        f"table {table.name} of {display_url(target)} did not come out equal; nothing is copied"
                    )
    except (DatabaseError, psycopg.Error) as error:
        raise DatabaseUnavailable(
            f"cannot copy {display_url(source)} to {display_url(target)}: {error}"
        ) from error
    return copied


def count_rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return sum(row_counts(connection).values())


def _read(
    connection: Connection, table: Table, use: Callable[[list[dict[str, Any]]], object]
) -> Copied:
    """Read a table, and give it to `use` batch by batch."""
    digest, rows = hashlib.sha256(), 0
    for batch in _batches(connection, table):
        for row in batch:
            digest.update(json.dumps(list(row.values()), sort_keys=True, default=str).encode())
        use(batch)
        rows += len(batch)
    return Copied(rows, digest.hexdigest())


def _set_sequence(connection: Connection, table: Table) -> None:
    """Have PostgreSQL count on after the highest id; SQLite does so by itself."""
    key = table.autoincrement_column
    if key is not None and connection.dialect.name == "postgresql":
        following = select(func.coalesce(func.max(key), 0) + 1).scalar_subquery()
        connection.execute(
            select(func.setval(func.pg_get_serial_sequence(table.name, key.name), following, False))
        )


def _batches(connection: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    """The rows of a table in the order of its key, the same on each kind of database, with times in UTC."""
    times = [column.name for column in table.columns if isinstance(column.type, DateTime)]
    postgresql = connection.dialect.name == "postgresql"
    order = [  # SQLite compares text by its bytes; PostgreSQL by the rules of a language, unless it is told
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
    """SQLite keeps times in UTC without saying so; PostgreSQL gives them in the zone of the session."""
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
