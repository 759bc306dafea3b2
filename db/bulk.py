"""Bulk writes: COPY on PostgreSQL, the driver's executemany on SQLite."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import JSON, Connection, DateTime, Table, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from db.models import Base, now

Row = Mapping[str, Any]
BATCH = (
    500  # rows a statement: SQLite takes 32,766 variables, the widest table has about 30 columns
)


def insert_rows(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows that all have the same columns."""
    if rows:
        names = list(rows[0])
        rows = _as_stored(connection, table, rows)
        if connection.dialect.name == "postgresql":
            _copy(connection, table.name, names, rows)
        else:
            columns, marks = ", ".join(names), ", ".join("?" * len(names))
            statement = f"INSERT INTO {table.name} ({columns}) VALUES ({marks})"  # noqa: S608
            connection.exec_driver_sql(statement, _values(names, rows))


def update_rows(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Update the rows that the given primary keys name.

    Args:
        rows: the primary key and the columns to set, which may hold no dates and no JSON.
    """
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    values = [name for name in rows[0] if name not in keys]
    if connection.dialect.name == "postgresql":
        names = ", ".join([*keys, *values])
        rows_like = f"SELECT {names} FROM {table.name}"  # noqa: S608
        connection.exec_driver_sql(
            f"CREATE TEMP TABLE changed ON COMMIT DROP AS {rows_like} WITH NO DATA"
        )
        _copy(connection, "changed", [*keys, *values], rows)
        assignments = ", ".join(f"{name} = changed.{name}" for name in values)
        same = " AND ".join(f"{table.name}.{name} = changed.{name}" for name in keys)
        connection.exec_driver_sql(
            f"UPDATE {table.name} SET {assignments} FROM changed WHERE {same}"  # noqa: S608
        )
        connection.exec_driver_sql("DROP TABLE changed")
    else:
        assignments = ", ".join(f"{name} = ?" for name in values)
        same = " AND ".join(f"{name} = ?" for name in keys)
        statement = f"UPDATE {table.name} SET {assignments} WHERE {same}"  # noqa: S608
        connection.exec_driver_sql(statement, _values([*values, *keys], rows))


def _as_stored(connection: Connection, table: Table, rows: Sequence[Row]) -> Sequence[Row]:
    """Convert dates and JSON to what the driver takes; other values need no conversion."""
    converters = {
        column.name: convert
        for column in table.columns
        if isinstance(column.type, DateTime | JSON) and column.name in rows[0]
        if (
            convert := column.type.dialect_impl(connection.dialect).bind_processor(
                connection.dialect
            )
        )
    }
    if not converters:
        return rows
    return [
        {**row, **{name: convert(row[name]) for name, convert in converters.items()}}
        for row in rows
    ]


def _values(names: Sequence[str], rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    pick = itemgetter(*names)
    return [pick(row) for row in rows]


def _copy(connection: Connection, table: str, names: Sequence[str], rows: Sequence[Row]) -> None:
    driver: Any = connection.connection.driver_connection
    with (
        driver.cursor() as cursor,
        cursor.copy(f"COPY {table} ({', '.join(names)}) FROM STDIN") as copy,
    ):
        for row in _values(names, rows):
            copy.write_row(row)


def table_of(model: type[Base]) -> Table:
    """Return the table of a model, typed as a table."""
    return model.__table__  # type: ignore[return-value]


def insert_for(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return the dialect's own INSERT, which has ON CONFLICT clauses."""
    return (
        postgresql.insert(table)
        if connection.dialect.name == "postgresql"
        else sqlite.insert(table)
    )


def upsert(
    connection: Connection,
    model: type[Base],
    rows: Iterable[Row],
    keys: Sequence[str] | None = None,
) -> None:
    """Insert rows, or update those whose key exists; columns that the rows lack keep their values.

    Args:
        rows: dicts that all have the same columns.
        keys: columns of a unique constraint; by default the primary key.
    """
    table = table_of(model)
    keys = keys or [column.name for column in table.primary_key]
    rows = [dict(row) for row in rows]
    if not rows:
        return
    statement = insert_for(connection, table)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    if changed:
        statement = statement.on_conflict_do_update(index_elements=keys, set_=changed)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    connection.execute(statement, rows)


def replace_rows(
    connection: Connection, model: type[Base], image_ids: Sequence[int], rows: Sequence[Row]
) -> None:
    """Replace all rows that a table holds for some images."""
    table = table_of(model)
    for start in range(0, len(image_ids), BATCH):
        connection.execute(
            delete(table).where(table.c.image_id.in_(image_ids[start : start + BATCH]))
        )
    insert_rows(connection, table, rows)


def clock(connection: Connection) -> datetime:
    """Return the time by the database server's clock; the clocks of workers may differ."""
    return (
        connection.execute(select(func.now())).scalar_one()
        if connection.dialect.name == "postgresql"
        else now()
    )
