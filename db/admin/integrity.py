"""The state of a database: its schema, its own integrity checks, and its row counts."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, Engine, func, inspect, select, text
from sqlalchemy.exc import DatabaseError

from db.models import Base
from db.schema import current_revision, head_revision, known_revisions

#: Constraints that PostgreSQL does not enforce on old rows, and indexes whose build failed.
_POSTGRESQL_FAULTS = {
    "constraint {} has not been validated": """
        SELECT conrelid::regclass || '.' || conname FROM pg_constraint
        WHERE NOT convalidated AND connamespace = current_schema()::regnamespace""",
    "index {} is not valid; run REINDEX": """
        SELECT indexrelid::regclass::text
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace""",
}
_REMEDY = "restore a backup: coconut-attr db restore FILE --replace"


def database_problems(engine: Engine) -> list[str]:
    """Return what is wrong with a database, and where known what to do; empty if it is intact.

    SQLite reads its whole file. PostgreSQL is asked for constraints and indexes that are not valid.

    Raises:
        db.engine.DatabaseUnavailable: the database cannot be opened at all.
    """
    revision = current_revision(engine)
    problems = []
    if revision is None:
        problems.append("the database is empty; run: make run, or: coconut-attr db upgrade")
    elif revision not in known_revisions():
        problems.append(
            f"the schema is {revision}, newer than this program ({head_revision()}): "
            "upgrade the program"
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
        problems.append(f"the database cannot be read: {error.orig}; {_REMEDY}")
    return problems


def _sqlite_faults(connection: Connection) -> list[str]:
    lines = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    problems = [f"the file is damaged ({line}); {_REMEDY}" for line in lines if line != "ok"]
    if not problems:
        for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            problems.append(f"row {row} of {table} refers to a row of {parent} that does not exist")
    return problems


def _postgresql_faults(connection: Connection) -> list[str]:
    return [
        message.format(name)
        for message, query in _POSTGRESQL_FAULTS.items()
        for name in connection.scalars(text(query))
    ]


def _drift(connection: Connection) -> list[str]:
    """Return differences from the tables of db.models, and views that fail."""
    problems = [
        f"the schema differs from this program's: {_summary(difference)}"
        for difference in compare_metadata(MigrationContext.configure(connection), Base.metadata)
    ]
    inspector = inspect(connection)
    present = {
        check["name"]
        for checks in inspector.get_multi_check_constraints().values()
        for check in checks
    }
    for table in Base.metadata.sorted_tables:  # Alembic does not compare CHECK constraints
        required = {
            str(check.name) for check in table.constraints if isinstance(check, CheckConstraint)
        }
        problems += [f"the constraint {name} is missing" for name in sorted(required - present)]
    for view in inspector.get_view_names():
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f'SELECT * FROM "{view}" LIMIT 0')  # noqa: S608
        except DatabaseError as error:
            problems.append(f"the view {view} fails: {error.orig}")
    return problems


def _summary(difference: tuple | list) -> str:
    """Shorten Alembic's description of a difference to the names of its objects."""
    parts = difference[0] if isinstance(difference, list) else difference
    return " ".join(str(getattr(part, "name", part)) for part in parts if part is not None)


def row_counts(connection: Connection) -> dict[str, int]:
    """Return the number of rows of each table, parents before children."""
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in Base.metadata.sorted_tables
    }


def is_empty(connection: Connection) -> bool:
    """Return whether nothing can be lost: no image, no run of ours, no table of other programs."""
    tables = inspect(connection).get_table_names()
    if not set(tables) - {"alembic_version"}:
        return True
    if not {"image", "run"} <= set(tables):
        return False
    return not connection.execute(
        text(
            "SELECT EXISTS (SELECT 1 FROM image)"
            " OR EXISTS (SELECT 1 FROM run WHERE kind <> 'reported')"
        )
    ).scalar_one()
