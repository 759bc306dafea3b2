"""The state of a store: its schema, the database's own checks, and how much it holds."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, Engine, func, inspect, select, text
from sqlalchemy.exc import DatabaseError

from db.models import Base
from db.schema import current_revision, head_revision, known_revisions

#: What PostgreSQL was told to leave unchecked, or could not finish.
_POSTGRESQL_FAULTS = {
    "constraint {} has not been validated": "SELECT conrelid::regclass || '.' || conname FROM pg_constraint"
    " WHERE NOT convalidated AND connamespace = current_schema()::regnamespace",
    "index {} is not valid; run REINDEX": "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class"
    " ON pg_class.oid = indexrelid WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace",
}


def database_problems(engine: Engine) -> list[str]:
    """What is wrong with a store, each with what to do where that is known; nothing: an empty list.

    SQLite's file is read whole; PostgreSQL is asked for the constraints and indexes that it does not vouch for.

    Raises:
        db.engine.DatabaseUnavailable: it cannot be opened at all.
    """
    revision = current_revision(engine)
    problems = []
    if revision is None:
        problems.append("the store is empty; run: make run, or: coconut-attr db upgrade")
    elif revision not in known_revisions():
        problems.append(
            f"the schema is {revision}, newer than this program ({head_revision()}): upgrade the program"
        )
    elif revision != head_revision():
        problems.append(
            f"the schema is {revision}, not {head_revision()}; run: coconut-attr db upgrade"
        )
    try:
        with engine.connect() as connection:
            faults = _sqlite_faults if engine.dialect.name == "sqlite" else _postgresql_faults
            problems += faults(connection)
            if revision == head_revision():
                problems += _drift(connection)
    except DatabaseError as error:
        problems.append(
            f"the database cannot be read: {error.orig}; bring a backup back: coconut-attr db restore FILE"
        )
    return problems


def _sqlite_faults(connection: Connection) -> list[str]:
    remedy = "bring a backup back: coconut-attr db restore FILE"
    told = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    problems = [f"the file is damaged ({line}); {remedy}" for line in told if line != "ok"]
    if not problems:
        for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            problems.append(f"row {row} of {table} names a row of {parent} that is not there")
    return problems


def _postgresql_faults(connection: Connection) -> list[str]:
    return [
        words.format(name)
        for words, query in _POSTGRESQL_FAULTS.items()
        for name in connection.scalars(text(query))
    ]


def _drift(connection: Connection) -> list[str]:
    """Differences between the tables that are there and those of db.models, and views that do not work."""
    problems = [
        f"the schema differs from this program's: {_named(difference)}"
        for difference in compare_metadata(MigrationContext.configure(connection), Base.metadata)
    ]
    inspector = inspect(connection)
    found = {
        check["name"]
        for checks in inspector.get_multi_check_constraints().values()
        for check in checks
    }
    for table in Base.metadata.sorted_tables:  # which Alembic does not compare
        wanted = {
            str(check.name) for check in table.constraints if isinstance(check, CheckConstraint)
        }
        problems += [f"the constraint {name} is not there" for name in sorted(wanted - found)]
    for view in inspector.get_view_names():
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f'SELECT * FROM "{view}" LIMIT 0')  # noqa: S608
        except DatabaseError as error:
            problems.append(f"the view {view} does not work: {error.orig}")
    return problems


def _named(difference: tuple | list) -> str:
    """Alembic's description of a difference, without the objects' long forms."""
    parts = difference[0] if isinstance(difference, list) else difference
    return " ".join(str(getattr(part, "name", part)) for part in parts if part is not None)


def row_counts(connection: Connection) -> dict[str, int]:
    """How many rows each table holds, parents before children."""
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in Base.metadata.sorted_tables
    }


def is_empty(connection: Connection) -> bool:
    """Whether a store holds nothing that could be lost: no image, no run but the reported one, no table of others."""
    tables = inspect(connection).get_table_names()
    if not set(tables) - {"alembic_version"}:
        return True
    if not {"image", "run"} <= set(tables):
        return False
    return not connection.execute(
        text(
            "SELECT EXISTS (SELECT 1 FROM image) OR EXISTS (SELECT 1 FROM run WHERE kind <> 'reported')"
        )
    ).scalar_one()
