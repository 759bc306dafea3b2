"""The schema of a database: its migrations, and opening it at the version that this code needs."""

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError, ProgrammingError

from db.counts import refresh_all
from db.engine import DatabaseUnavailable, connect, display_url
from db.sql import persistent

_one_thread = (
    threading.Lock()
)  # Alembic keeps its context in module globals; other processes wait in env.py


def alembic_config(engine: Engine | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["engine"] = engine
    return config


def migration_scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config())


def head_revision() -> str:
    """The schema version that this code needs."""
    return migration_scripts().get_current_head() or ""


def known_revisions() -> set[str]:
    """The schema versions that this code can bring to its own."""
    return {script.revision for script in migration_scripts().walk_revisions()}


def current_revision(engine: Engine) -> str | None:
    """The schema version of a store; None where it is empty.

    Raises:
        DatabaseUnavailable: the server does not answer or refuses the account, or the file is no SQLite database.
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
    """Bring a store's schema to a revision; safe when several processes do it at once."""
    with _one_thread:
        if current_revision(engine) != head_revision() or revision != "head":
            command.upgrade(alembic_config(engine), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take a store's schema back to a revision (`base`: drop everything)."""
    with _one_thread:
        command.downgrade(alembic_config(engine), revision)


def open_database(url: str, *, patient: bool = False) -> Engine:
    """An engine for a store whose schema is this code's; `patient` as in `connect`.

    Raises:
        DatabaseUnavailable: it cannot be opened, was made by a newer version of this program, or by an older one, and the
            account may not change the schema.
    """
    engine = connect(url, patient=patient)
    current = current_revision(engine)
    if current is not None and current not in known_revisions():
        raise DatabaseUnavailable(
            f"{display_url(engine)} has schema {current}, newer than this program: upgrade the program"
        )
    try:
        upgrade(engine)
    except ProgrammingError as error:
        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        raise DatabaseUnavailable(
            f"{display_url(engine)} has schema {current}, not {head_revision()}, and this account may not change it; run "
            "with the account that owns the tables: coconut-attr db upgrade"
        ) from error
    if current is not None and current != head_revision():
        refresh_all(engine)
    return engine


def open_for_reading(url: str) -> Engine:
    """A read-only engine for a store whose schema is this code's.

    Raises:
        DatabaseUnavailable: it is missing, empty or of another schema; the message says what to run.
    """
    engine = connect(url, read_only=True)
    current = current_revision(engine)
    if current is None:
        raise DatabaseUnavailable(f"{display_url(engine)} is empty; run: make run")
    if current != head_revision():
        raise DatabaseUnavailable(
            f"{display_url(engine)} has schema {current}, not {head_revision()}; run: coconut-attr db upgrade"
        )
    return engine
