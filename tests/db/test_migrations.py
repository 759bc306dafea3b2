"""Migrations: from every released version, with rows in every table, and back; and their views."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    Float,
    Integer,
    MetaData,
    Table,
    inspect,
)

import db
from db.admin.integrity import database_problems
from db.engine import connect
from db.schema import downgrade, head_revision, migration_scripts, upgrade
from db.sql import sql

VIEWS = Path(db.__file__).parent / "views.sql"
REVISIONS = sorted(script.revision for script in migration_scripts().walk_revisions())
ROWS = 2


def fill_every_table(store: Engine) -> None:
    """Fill every table with rows made from the schema; row k refers to row k of other tables."""
    metadata = MetaData()
    metadata.reflect(store)
    with store.begin() as connection:
        for table in metadata.sorted_tables:
            if table.name != "alembic_version":
                allowed = allowed_values(connection, table.name)
                rows = [
                    {column.name: value(column, number, allowed) for column in table.columns}
                    for number in range(ROWS)
                ]
                connection.execute(table.insert(), rows)


def allowed_values(connection: Connection, table: str) -> dict[str, str]:
    """Return the first word that each CHECK (column IN ('word', ...)) allows, by column."""
    checks = [check["sqltext"] for check in inspect(connection).get_check_constraints(table)]
    return {re.search(r"\w+", check)[0]: re.search(r"'(\w+)'", check)[1] for check in checks}


def value(column: Column, number: int, allowed: dict[str, str]) -> Any:
    if column.foreign_keys:
        (key,) = column.foreign_keys
        return value(key.column, number, {})
    if column.name in allowed:
        return allowed[column.name]
    for kind, made in (
        (Boolean, number == 0),
        (DateTime, datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)),
        (JSON, {"number": number}),
        (Float, number + 0.1),
        (Integer, 100 + number),  # above the ids of rows that migrations write
    ):
        if isinstance(column.type, kind):
            return made
    return f"{column} {number}"


def content(store: Engine, tables: list[Table]) -> dict[str, set[str]]:
    """Return the rows of some tables, as these describe them."""
    with store.connect() as connection:
        return {
            table.name: {str(row) for row in connection.execute(table.select())} for table in tables
        }


def view_definitions(engine: Engine, schema: str) -> dict[str, str]:
    """Return the definition of each view, without differences of white space."""
    query = (
        "SELECT name, sql FROM sqlite_master WHERE type = 'view'"
        if engine.dialect.name == "sqlite"
        else "SELECT viewname AS name,"
        " pg_get_viewdef((CAST(:schema AS text) || '.' || viewname)::regclass) AS sql"
        " FROM pg_views WHERE schemaname = :schema"
    )
    rows = sql(engine, query, schema=schema)
    # PostgreSQL names the schema of a view that another view reads.
    named = re.compile(rf"\b{schema}\.")
    return {r["name"]: " ".join(named.sub("", r["sql"]).split()) for r in rows}


def test_the_views_of_views_sql_are_those_of_the_migrations(store: Engine) -> None:
    migrated = view_definitions(store, "public")
    with store.begin() as connection:
        if store.dialect.name == "sqlite":
            for name in migrated:
                connection.exec_driver_sql(f"DROP VIEW {name}")
        else:
            connection.exec_driver_sql("CREATE SCHEMA written")
            connection.exec_driver_sql("SET LOCAL search_path = written, public")
        text = re.sub("^--.*", "", VIEWS.read_text(), flags=re.MULTILINE)
        for statement in text.split(";")[:-1]:
            connection.exec_driver_sql(statement)
    written = view_definitions(store, "written")
    assert migrated and written == migrated


def test_no_row_is_lost_between_any_version_and_this_one(store_url: str) -> None:
    store = connect(store_url)
    for revision in REVISIONS:
        upgrade(store, revision)
        fill_every_table(store)
        metadata = MetaData()
        metadata.reflect(store)
        before = content(store, metadata.sorted_tables)
        version = before.pop("alembic_version")
        assert all(len(rows) >= ROWS for rows in before.values())
        upgrade(store)
        assert database_problems(store) == [], revision
        after = content(store, metadata.sorted_tables)
        lost = {
            name: rows - after[name] for name, rows in before.items() if not rows <= after[name]
        }
        assert not lost, revision
        downgrade(store, revision)
        assert content(store, metadata.sorted_tables) == {**before, "alembic_version": version}, (
            revision
        )
        downgrade(store, "base")
        assert inspect(store).get_table_names() == ["alembic_version"]
    assert REVISIONS[-1] == head_revision()
    store.dispose()
