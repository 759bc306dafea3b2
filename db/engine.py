"""Connections to the database: SQLite or PostgreSQL."""

import threading
from pathlib import Path

from psycopg import OperationalError
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from coconut_attr.errors import UserError

BUSY_MS = 60_000
LOG_BYTES = 2**25
AWAY_SECONDS = 120.0  # what a database server may take to come back


class DatabaseUnavailable(UserError):
    """The store cannot be opened; the message says why and what to do."""


def connect(url: str, *, read_only: bool = False, patient: bool = False) -> Engine:
    """An engine for a store URL.

    SQLite gets write-ahead logging, a busy timeout, foreign keys, and transactions that take the write lock when they
    begin (a reader that turns writer half-way cannot wait for the lock).

    Args:
        read_only: refuse every write, whatever the account may do.
        patient: wait for a server that is away at the first connection, too, be it that the address is wrong.

    Raises:
        DatabaseUnavailable: the URL is no database URL, or of another kind of database, or (read-only) the SQLite file does not
            exist.
    """
    try:
        parsed = make_url(url)
    except Exception:  # neither it nor the URL is told: where the password stands cannot be known
        raise DatabaseUnavailable(
            "COCONUT_ATTR_DATABASE_URL (or --to) is not a database URL, such as postgresql://user@host/coconut_attr"
        ) from None
    if "@" in (parsed.host or ""):  # else what follows the first one would be shown
        raise DatabaseUnavailable(
            "the user name or password in the database URL has an @: write %40 in its place"
        )
    if (
        "password" in parsed.query
    ):  # which the driver takes too; in its own place it is hidden where the URL is shown
        password = parsed.normalized_query["password"][-1]
        parsed = parsed.set(password=password).difference_update_query(["password"])
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise DatabaseUnavailable(
            f"{parsed.drivername}:// is no store of this program; give sqlite:///FILE or postgresql://..."
        )
    if parsed.get_backend_name() != "sqlite":
        options = {"options": "-c default_transaction_read_only=on"} if read_only else {}
        engine = create_engine(parsed, pool_pre_ping=True, connect_args=options)
        if not read_only:  # a reader is told at once
            _wait_while_away(engine, patient)
        return engine

    path = Path(parsed.database or "")
    if read_only:
        if not path.is_file():
            raise DatabaseUnavailable(f"there is no database at {path} yet; run: make run")
        parsed = parsed.set(database=f"file:{path.absolute()}").update_query_dict(
            {"mode": "ro", "uri": "true"}
        )
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": BUSY_MS / 1000})

    @event.listens_for(engine, "connect")
    def _pragmas(connection, _record):
        connection.isolation_level = None  # SQLAlchemy, not the driver, begins transactions
        connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        connection.execute("PRAGMA foreign_keys=ON")
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            # While readers never pause the log grows; this gives the disk back when they do.
            connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")

    @event.listens_for(engine, "begin")
    def _begin(connection):
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _wait_while_away(engine: Engine, patient: bool) -> None:
    """Have an engine wait for a server that is away, be it restarting or crashed; if it is not patient, only once it
    has been connected."""
    attempts = Retrying(
        retry=retry_if_exception_type(OperationalError), wait=wait_exponential_jitter(initial=0.2, max=5),
        stop=stop_after_delay(AWAY_SECONDS), reraise=True,
    )  # fmt: skip
    known = threading.Event()
    if patient:
        known.set()

    @event.listens_for(engine, "do_connect")
    def _connect(dialect, _record, arguments, options):
        if not known.is_set():  # a wrong address or password is told at once
            connection = dialect.connect(*arguments, **options)
            known.set()
            return connection
        return attempts(dialect.connect, *arguments, **options)


def display_url(engine: Engine) -> str:
    """The URL of a store without its password."""
    if engine.dialect.name == "sqlite":
        return f"sqlite:///{sqlite_file(engine)}"
    return engine.url.render_as_string(hide_password=True)


def sqlite_file(engine: Engine) -> Path:
    """The file of a SQLite engine."""
    return Path((engine.url.database or "").removeprefix("file:"))  # a read-only engine has a URI
