"""The schema of a database: its migrations, and opening it at the version that this code needs."""

import threading
from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError, ProgrammingError

from db.engine import DatabaseUnavailable, connect, display_url
from db.sql import persistent

#: Alembic keeps its context in module globals. (Other processes wait for the lock in env.py.)
_one_thread = threading.Lock()


def alembic_config(engine: Engine | None = None) -> Config:
    """Return Alembic's configuration for the migrations of this package, on an engine."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["engine"] = engine
    return config


def migration_scripts() -> ScriptDirectory:
    """Return the migrations of this package."""
    return ScriptDirectory.from_config(alembic_config())


def head_revision() -> str:
    """Return the schema version that this code needs."""
    return migration_scripts().get_current_head() or ""


def known_revisions() -> set[str]:
    """Return the schema versions that this code can upgrade."""
    return {script.revision for script in migration_scripts().walk_revisions()}


def current_revision(engine: Engine) -> str | None:
    """Return the schema version of a database; None if it is empty.

    Raises:
        DatabaseUnavailable: the server does not answer or refuses the account, or the file is not
            a SQLite database.
    """
    try:
        return _revision(engine)
    except DatabaseError as error:
        raise DatabaseUnavailable(f"cannot open {display_url(engine)}: {error.orig}") from error


@persistent
def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Upgrade the schema to a revision; several processes may do so at once."""
    with _one_thread:
        if current_revision(engine) != head_revision() or revision != "head":
            from alembic import command

            command.upgrade(alembic_config(engine), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Downgrade the schema to a revision (`base`: drop everything)."""
    from alembic import command

    with _one_thread:
        command.downgrade(alembic_config(engine), revision)


def open_database(url: str, *, patient: bool = False) -> Engine:
    """Create an engine for a database, and upgrade its schema to this code's.

    Args:
        url, patient: as for `connect`.

    Raises:
        DatabaseUnavailable: it cannot be opened, its schema is newer than this program's, or it is
            older and the account may not change it.
    """
    engine = connect(url, patient=patient)
    current = current_revision(engine)
    if current is not None and current not in known_revisions():
        raise DatabaseUnavailable(
            f"{display_url(engine)} has schema {current}, newer than this program: "
            "upgrade the program"
        )
    try:
        upgrade(engine)
    except ProgrammingError as error:
        from psycopg.errors import InsufficientPrivilege

        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        raise DatabaseUnavailable(
            f"{display_url(engine)} has schema {current}, not {head_revision()}, and this account "
            "may not change it; run with the account that owns the tables: coconut-attr db upgrade"
        ) from error
    if current is not None and current != head_revision():
        from db.counts import refresh_all

        refresh_all(engine)
    return engine


def open_for_reading(url: str) -> Engine:
    """Create a read-only engine for a database that has this code's schema.

    Raises:
        DatabaseUnavailable: it is missing, empty, or has another schema; the message says what to
            run.
    """
    engine = connect(url, read_only=True)
    current = current_revision(engine)
    if current is None:
        raise DatabaseUnavailable(f"{display_url(engine)} is empty; run: make run")
    if current != head_revision():
        raise DatabaseUnavailable(
            f"{display_url(engine)} has schema {current}, not {head_revision()}; "
            "run: coconut-attr db upgrade"
        )
    return engine


def open_existing(url: str) -> Engine:
    """Create an engine for writing to a database that has this code's schema.

    Raises:
        DatabaseUnavailable: as for `open_for_reading`; a missing database is not created.
    """
    open_for_reading(url).dispose()
    return connect(url)
