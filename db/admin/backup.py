"""Backups: a SQLite file by its online backup, or PostgreSQL's pg_dump in the custom format."""

import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from psycopg.conninfo import make_conninfo
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from coconut_attr.files.atomic import part_of
from db.admin.integrity import is_empty
from db.engine import DatabaseUnavailable, display_url, sqlite_file
from db.models import Base
from db.schema import current_revision, known_revisions

PAGES = 1000  # of SQLite's file between two calls of `advance`
MAGIC = {b"SQLite format 3\0": "sqlite", b"PGDMP": "postgresql"}
Advance = Callable[[int, int], object]  #: called with the pages of SQLite's file: done, total


def back_up(engine: Engine, path: Path, advance: Advance = lambda done, total: None) -> None:
    """Write a consistent snapshot of a database to a new file; others may write meanwhile.

    Raises:
        DatabaseUnavailable: the database is empty, the file exists, or pg_dump is missing or fails.
            No file is left then.
        OSError: the file cannot be written.
    """
    if path.exists():
        raise DatabaseUnavailable(f"{path} exists; give the backup another name")
    if current_revision(engine) is None:
        raise DatabaseUnavailable(f"{display_url(engine)} is empty: there is nothing to back up")
    with part_of(path) as temporary:
        if engine.dialect.name == "sqlite":
            _copy_sqlite(sqlite_file(engine), temporary, advance)
            with closing(sqlite3.connect(temporary)) as connection:
                # Without this the backup would need a -wal file beside it.
                connection.execute("PRAGMA journal_mode=DELETE")
        else:
            # Roles of this server may not exist where the backup is restored.
            options = ("--format=custom", "--no-owner", "--no-privileges")
            _run(engine, "pg_dump", *options, "--file", str(temporary))


def restore(
    engine: Engine,
    path: Path,
    *,
    replace: bool = False,
    advance: Advance = lambda done, total: None,
) -> None:
    """Restore a backup in one transaction: if anything fails, the database is unchanged.

    The schema is then the backup's, which may be an earlier one.

    Args:
        replace: delete the rows of the database.

    Raises:
        DatabaseUnavailable: the file is not a complete backup of this kind of database or comes
            from a newer program, the database is not empty, or PostgreSQL's programs are missing
            or fail.
    """
    kind = _kind(path)
    if kind != engine.dialect.name:
        raise DatabaseUnavailable(
            f"{path} is a backup of {kind} and the database is {engine.dialect.name}; restore it "
            "to a database of its own kind, and copy that: coconut-attr db copy --to URL"
        )
    try:
        with engine.connect() as connection:
            empty = is_empty(connection)
    except DatabaseError as error:
        raise DatabaseUnavailable(
            f"{display_url(engine)} cannot be read ({error.orig}); if its file is damaged, move "
            "it away, together with those beside it whose names end in -wal and -shm"
        ) from error
    if not empty and not replace:
        raise DatabaseUnavailable(f"{display_url(engine)} is not empty; --replace deletes its rows")
    if kind == "sqlite":
        _check_sqlite(path)
        engine.dispose()
        # Not by renaming: programs that have the old file open would keep reading it.
        _copy_sqlite(path, sqlite_file(engine), advance)
    else:
        _restore_postgresql(engine, path)


def _kind(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise DatabaseUnavailable(f"cannot read {path}: {error.strerror}") from error
    for magic, kind in MAGIC.items():
        if start.startswith(magic):
            return kind
    raise DatabaseUnavailable(f"{path} is not a backup made by coconut-attr db backup")


def _check_revision(path: Path, revision: str | None) -> None:
    if revision not in known_revisions():
        problem = (
            f"has schema {revision}, newer than this program"
            if revision
            else "holds no attribute database"
        )
        raise DatabaseUnavailable(f"{path} {problem}; nothing is restored")


def _copy_sqlite(source: Path, target: Path, advance: Advance) -> None:
    try:
        with (
            closing(_open_sqlite(source)) as reader,
            closing(sqlite3.connect(target, timeout=60)) as writer,
        ):
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM sqlite_master")  # this read fixes the snapshot
            reader.backup(
                writer, pages=PAGES, progress=lambda _, left, total: advance(total - left, total)
            )
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"cannot copy {source} to {target}: {error}") from error


def _open_sqlite(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60, isolation_level=None
    )


def _check_sqlite(path: Path) -> None:
    try:
        with closing(_open_sqlite(path)) as connection:
            verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
            pages, size = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "page_size")
            )
            if pages * size != path.stat().st_size:
                verdict = "its end is missing"
            has_revision = connection.execute(
                "SELECT name FROM sqlite_master WHERE name = 'alembic_version'"
            ).fetchone()
            revision = (
                connection.execute("SELECT version_num FROM alembic_version").fetchone()
                if has_revision
                else None
            )
    except sqlite3.Error as error:
        verdict, revision = str(error), None
    if verdict != "ok":
        raise DatabaseUnavailable(f"{path} is damaged ({verdict}); nothing is restored")
    _check_revision(path, revision[0] if revision else None)


def _restore_postgresql(engine: Engine, path: Path) -> None:
    tables = ", ".join([*Base.metadata.tables, "alembic_version"])
    drop = f"SET client_min_messages = warning; DROP TABLE IF EXISTS {tables} CASCADE"
    with tempfile.TemporaryDirectory() as folder:
        # Convert it to SQL first: a truncated or damaged file fails before the database is changed.
        script = Path(folder) / "backup.sql"
        _run(None, "pg_restore", "--no-owner", "--no-privileges", "--file", str(script), str(path))
        _check_revision(path, _revision_in(script))
        options = ("--quiet", "--no-psqlrc", "--output=/dev/null", "--set=ON_ERROR_STOP=1")
        commands = ("--single-transaction", "--command", drop, "--file", str(script))
        _run(engine, "psql", *options, *commands)


def _revision_in(script: Path) -> str | None:
    with script.open(encoding="utf-8") as lines:
        for line in lines:
            if re.match(r"COPY (\w+\.)?alembic_version ", line):
                return next(lines).strip()
    return None


def _run(engine: Engine | None, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs, on the database of an engine if one is given.

    Raises:
        DatabaseUnavailable: the program is not installed or fails; the message is its own.
    """
    path = shutil.which(program)
    if path is None:
        raise DatabaseUnavailable(
            f"{program} is not installed; it comes with PostgreSQL's client programs"
        )
    environment = dict(os.environ)
    target = []
    if engine is not None:
        _, options = engine.dialect.create_connect_args(engine.url)
        options.pop("context", None)  # an option of psycopg's, not libpq's
        # Other users of the machine see a program's arguments, but not its environment.
        if password := options.pop("password", None):
            environment["PGPASSWORD"] = password
        # Not the URL: in its parameters SQLAlchemy writes a space as +, which libpq keeps as +.
        target = [f"--dbname={make_conninfo(**options)}"]
    result = subprocess.run(
        [path, *target, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise DatabaseUnavailable(f"{program} failed: {result.stderr.strip()}")
