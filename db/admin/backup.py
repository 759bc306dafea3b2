"""Backups of a store: a SQLite file made by its online backup, or PostgreSQL's pg_dump in its custom format."""

import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from coconut_attr.files.atomic import part_of
from db.admin.integrity import is_empty
from db.engine import DatabaseUnavailable, display_url, sqlite_file
from db.models import Base
from db.schema import current_revision, known_revisions

PAGES = 1000  # of SQLite's file between two looks at the progress
MAGIC = {b"SQLite format 3\0": "sqlite", b"PGDMP": "postgresql"}
Advance = Callable[
    [int, int], object
]  #: told how many pages of SQLite's file are done, and of how many


def back_up(engine: Engine, path: Path, advance: Advance = lambda done, total: None) -> None:
    """Write a whole store, as it is at one moment, to a new file; others may write to the store meanwhile.

    Raises:
        DatabaseUnavailable: the store is empty, the file is there already, or pg_dump is missing or fails; no file is left.
        OSError: the file cannot be written.
    """
    if path.exists():
        raise DatabaseUnavailable(f"{path} is there already; give the backup another name")
    if current_revision(engine) is None:
        raise DatabaseUnavailable(f"{display_url(engine)} is empty: there is nothing to back up")
    with part_of(path) as temporary:
        if engine.dialect.name == "sqlite":
            _copy_sqlite(sqlite_file(engine), temporary, advance)
            with closing(sqlite3.connect(temporary)) as connection:
                connection.execute(
                    "PRAGMA journal_mode=DELETE"
                )  # one file that needs no other beside it
        else:
            # The owner and the rights are those of the server that it is brought back to.
            _run(
                engine,
                "pg_dump",
                "--format=custom",
                "--no-owner",
                "--no-privileges",
                "--file",
                str(temporary),
            )


def restore(
    engine: Engine,
    path: Path,
    *,
    replace: bool = False,
    advance: Advance = lambda done, total: None,
) -> None:
    """Bring a backup back, in one transaction: whatever goes wrong, the store is as it was.

    The schema is then the backup's, which may be an earlier one.

    Args:
        replace: delete what the store holds.

    Raises:
        DatabaseUnavailable: the file is no whole backup of this kind of database or is of a newer program, the store holds
            something, or PostgreSQL's programs are missing or fail.
    """
    kind = _kind(path)
    if kind != engine.dialect.name:
        raise DatabaseUnavailable(
            f"{path} is a backup of {kind} and the store is {engine.dialect.name}; restore it to a store of its own "
            "kind, and copy that: coconut-attr db copy --to URL"
        )
    try:
        with engine.connect() as connection:
            empty = is_empty(connection)
    except DatabaseError as error:
        raise DatabaseUnavailable(
            f"{display_url(engine)} cannot be read ({error.orig}); if its file is damaged, move it away, and with it those "
            "beside it whose names end in -wal and -shm"
        ) from error
    if not empty and not replace:
        raise DatabaseUnavailable(
            f"{display_url(engine)} holds something already; --replace deletes it"
        )
    if kind == "sqlite":
        _check_sqlite(path)
        engine.dispose()
        # Not by renaming: programs that have the old file open, and its write-ahead log, would be left behind.
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
    raise DatabaseUnavailable(f"{path} is not a backup that coconut-attr db backup makes")


def _check_revision(path: Path, revision: str | None) -> None:
    if revision not in known_revisions():
        what = (
            f"has schema {revision}, newer than this program"
            if revision
            else "holds no attribute store"
        )
        raise DatabaseUnavailable(f"{path} {what}; nothing is restored")


def _copy_sqlite(source: Path, target: Path, advance: Advance) -> None:
    try:
        with (
            closing(_open_sqlite(source)) as reader,
            closing(sqlite3.connect(target, timeout=60)) as writer,
        ):
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM sqlite_master")  # from here on the reader sees one moment
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
            told = connection.execute("PRAGMA integrity_check").fetchone()[0]
            pages, size = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "page_size")
            )
            if pages * size != path.stat().st_size:
                told = "its end is missing"
            found = connection.execute(
                "SELECT name FROM sqlite_master WHERE name = 'alembic_version'"
            ).fetchone()
            revision = (
                connection.execute("SELECT version_num FROM alembic_version").fetchone()
                if found
                else None
            )
    except sqlite3.Error as error:
        told, revision = str(error), None
    if told != "ok":
        raise DatabaseUnavailable(f"{path} is damaged ({told}); nothing is restored")
    _check_revision(path, revision[0] if revision else None)


def _restore_postgresql(engine: Engine, path: Path) -> None:
    tables = ", ".join([*Base.metadata.tables, "alembic_version"])
    drop = f"SET client_min_messages = warning; DROP TABLE IF EXISTS {tables} CASCADE"
    with tempfile.TemporaryDirectory() as folder:
        # First as SQL: a file that is cut off or damaged shows before the store is touched.
        script = Path(folder) / "backup.sql"
        _run(None, "pg_restore", "--no-owner", "--no-privileges", "--file", str(script), str(path))
        _check_revision(path, _revision_in(script))
        _run(
            engine, "psql", "--quiet", "--no-psqlrc", "--output=/dev/null", "--set=ON_ERROR_STOP=1",
            "--single-transaction", "--command", drop, "--file", str(script),
        )  # fmt: skip


def _revision_in(script: Path) -> str | None:
    with script.open(encoding="utf-8") as lines:
        for line in lines:
            if re.match(r"COPY (\w+\.)?alembic_version ", line):
                return next(lines).strip()
    return None


def _run(engine: Engine | None, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs; on a store, if one is given.

    Raises:
        DatabaseUnavailable: it is not installed, or fails; the message is its own.
    """
    found = shutil.which(program)
    if found is None:
        raise DatabaseUnavailable(
            f"{program} is not installed; it comes with PostgreSQL's client programs"
        )
    environment = dict(os.environ)
    target = []
    if engine is not None:  # other users see the arguments of a program: no password among them
        if engine.url.password:
            environment["PGPASSWORD"] = engine.url.password
        url = engine.url._replace(
            drivername="postgresql", password=None
        )  # URL.set leaves what is given as None
        target = [f"--dbname={url.render_as_string(hide_password=False)}"]
    result = subprocess.run(
        [found, *target, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise DatabaseUnavailable(f"{program} failed: {result.stderr.strip()}")
