"""Connections to the database: SQLite or PostgreSQL."""

import re
import sqlite3
import threading
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine, event, make_url
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from coconut_attr.errors import UserError

BUSY_MS = 60_000  # how long SQLite waits for the write lock of another connection
LOG_BYTES = 2**25  # size to which SQLite cuts its write-ahead log
AWAY_SECONDS = 120.0  # how long to wait for a database server that restarts
#: sqlite3's parameters: in a URL they would become part of the file's name.
_PARAMETERS = re.compile(r"\?(cache|check_same_thread|immutable|mode|nolock|timeout|uri)=[^/]*$")


class DatabaseUnavailable(UserError):
    """The database cannot be opened; the message says why and what to do."""


def connect(url: str, *, read_only: bool = False, patient: bool = False) -> Engine:
    """Create an engine for a database URL.

    Args:
        url: `sqlite:///FILE`, where FILE is a path as the file system has it, without escapes or
            parameters; or `postgresql+psycopg://...`.
        read_only: refuse every write, whatever the account may do.
        patient: wait for a server that does not answer, even at the first connection (by default
            that one fails at once, as the address may be wrong).

    Raises:
        DatabaseUnavailable: this is no URL of a supported database, or (read-only) the SQLite
            file does not exist.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed, read_only)
    options = {"options": "-c default_transaction_read_only=on"} if read_only else {}
    engine = create_engine(parsed, pool_pre_ping=True, connect_args=options)
    if not read_only:  # who reads gets the error at once
        _wait_while_away(engine, patient)
    return engine


def _parse(url: str) -> URL:
    driver, _, file = url.partition(":///")
    if driver in {"sqlite", "sqlite+pysqlite"} and file:
        if file == ":memory:" or _PARAMETERS.search(file):
            raise DatabaseUnavailable(
                f"{url} names no file: give sqlite:///FILE, without parameters"
            )
        # Not by make_url, which takes a ? in a path for the start of parameters.
        return URL.create("sqlite", database=file)
    try:
        parsed = make_url(url)
    except Exception:  # neither is shown: the password could stand anywhere in them
        raise DatabaseUnavailable(
            "COCONUT_ATTR_DATABASE_URL (or --to) is not a database URL, "
            "such as postgresql://user@host/coconut_attr"
        ) from None
    if "@" in (parsed.host or ""):  # the URL was cut at its first @: the rest would be shown
        raise DatabaseUnavailable(
            "the user name or password in the database URL has an @: write %40 in its place"
        )
    if parsed.drivername != "postgresql+psycopg":
        raise DatabaseUnavailable(
            f"{parsed.drivername}:// is not supported; give sqlite:///FILE or postgresql://..."
        )
    if "password" in parsed.query:  # only in its own field is it hidden when the URL is shown
        password = parsed.normalized_query["password"][-1]
        parsed = parsed.set(password=password).difference_update_query(["password"])
    return parsed


def _sqlite_engine(url: URL, read_only: bool) -> Engine:
    """Create an engine with write-ahead logging, a busy timeout and foreign keys.

    Its transactions take the write lock when they begin: one that reads first and then writes
    could not wait for the lock.
    """
    path = Path(url.database or "").absolute()
    if not read_only:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.is_file():
        raise DatabaseUnavailable(f"there is no database at {path} yet; run: make run")
    # as_uri escapes ?, # and %, which SQLite would otherwise read as a part of its URI syntax.
    uri = f"{path.as_uri()}?mode={'ro' if read_only else 'rwc'}"

    def open_file() -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=BUSY_MS / 1000,
            check_same_thread=False,  # SQLAlchemy's pool gives a connection to one thread at a time
            isolation_level=None,  # SQLAlchemy, not the driver, begins transactions
        )
        connection.execute("PRAGMA foreign_keys=ON")
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            # Without a pause of all readers the log grows; this returns the disk space afterwards.
            connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
        return connection

    engine = create_engine(url, creator=open_file)

    @event.listens_for(engine, "begin")
    def _begin(connection):
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _wait_while_away(engine: Engine, patient: bool) -> None:
    """Make an engine wait for a server that restarts: unless `patient`, one that has answered."""
    from psycopg import OperationalError

    attempts = Retrying(
        retry=retry_if_exception_type(OperationalError),
        wait=wait_exponential_jitter(initial=0.2, max=5),
        stop=stop_after_delay(AWAY_SECONDS),
        reraise=True,
    )
    has_answered = threading.Event()
    if patient:
        has_answered.set()

    @event.listens_for(engine, "do_connect")
    def _connect(dialect, _record, arguments, options):
        if not has_answered.is_set():  # report a wrong address or password at once
            connection = dialect.connect(*arguments, **options)
            has_answered.set()
            return connection
        return attempts(dialect.connect, *arguments, **options)


def display_url(engine: Engine) -> str:
    """Return the URL of a database without its password."""
    return engine.url.render_as_string(hide_password=True)


def sqlite_file(engine: Engine) -> Path:
    """Return the file of a SQLite engine."""
    return Path(engine.url.database or "")
