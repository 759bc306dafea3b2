"""Fixtures: settings, mirrors, a Prefect server, and databases on SQLite and PostgreSQL."""

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import psycopg
import pytest
from filelock import FileLock
from prefect.settings import PREFECT_API_URL, temporary_settings
from sqlalchemy import Engine, make_url

from coconut_attr import settings as settings_module
from db.schema import open_database
from flows import database as flow_database
from tests.support.cluster import Cluster
from tests.support.prefect_server import migrate
from tests.support.prefect_server import prefect_server as start_prefect_server
from tests.support.tiny_mirror import write_mirror

# The modules of all tests stay: looking for garbage among them took a fifth of the imports' time.
gc.disable()

# A shell that starts the suite in the background has it ignore Ctrl-C, and so every program that a
# test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def own_settings(data_dir: Path) -> Iterator[pytest.MonkeyPatch]:
    """Give a block settings and a data folder of its own, whatever the environment says."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("COCONUT_ATTR_")]:
            patch.delenv(name)
        patch.setitem(settings_module.Settings.model_config, "env_file", None)
        patch.setenv("COCONUT_ATTR_DATA_DIR", str(data_dir))
        patch.setenv("COCONUT_ATTR_DEVICE", "cpu")
        forget_settings()
        yield patch
    forget_settings()


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path) -> Iterator[None]:
    with own_settings(tmp_path / "data"):
        yield


def forget_settings() -> None:
    """Read the settings and open the database again at their next use."""
    settings_module.settings.cache_clear()
    flow_database.engine.cache_clear()


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch):
    """Return a function that sets COCONUT_ATTR_* variables by their lower-case names."""

    def set_variables(**values: object) -> settings_module.Settings:
        for name, value in values.items():
            monkeypatch.setenv(f"COCONUT_ATTR_{name.upper()}", str(value))
        forget_settings()
        return settings_module.settings()

    return set_variables


@pytest.fixture
def tiny_mirror(tmp_path: Path) -> Path:
    """Write a mirror folder of 24 generated images in the upstream layout."""
    return write_mirror(tmp_path / "mirror")


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a database for Prefect's server: migrating takes two thirds of a server's start.

    All workers of xdist share the file, and copy it.
    """
    own = tmp_path_factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    path = folder / "prefect.db"
    with FileLock(folder / "prefect.lock"):
        if not path.exists():
            migrate(folder / "unfinished.db")
            (folder / "unfinished.db").rename(path)
    return path


@pytest.fixture(scope="session")
def prefect_server(
    prefect_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Start a Prefect server for flows that run in the tests' own process."""
    database = tmp_path_factory.mktemp("prefect") / "prefect.db"
    shutil.copy(prefect_database, database)
    with (
        start_prefect_server(database) as address,
        temporary_settings({PREFECT_API_URL: address}),
    ):
        yield


REAL_MIRROR = os.environ.get("COCONUT_ATTR_MIRROR", "")


@pytest.fixture
def real_mirror() -> Path:
    """Return the mirror of real COCO images that COCONUT_ATTR_MIRROR names."""
    if not REAL_MIRROR or not Path(REAL_MIRROR).is_dir():
        pytest.skip(
            "COCONUT_ATTR_MIRROR names no folder: the tests on real COCO images are skipped"
        )
    return Path(REAL_MIRROR).absolute()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start a PostgreSQL for the tests."""
    cluster = Cluster(tmp_path_factory.mktemp("postgres"))
    cluster.start()
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute("CREATE ROLE owner LOGIN")  # as in use, the owner is no superuser
    yield cluster
    cluster.stop()


@pytest.fixture
def postgres_url(postgres_server: Cluster, request: pytest.FixtureRequest) -> str:
    """Return the URL of a new, empty database."""
    return create_database(postgres_server, f"t{abs(hash(request.node.nodeid)):x}")


def create_database(cluster: Cluster, name: str, template: str = "template1") -> str:
    """Create a database as a copy of another, in place of one of that name; return its URL."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name} OWNER owner TEMPLATE {template}")
    return cluster.url(name, "owner").replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a SQLite database at this code's schema; copying it is faster than migrating."""
    path = tmp_path_factory.mktemp("migrated") / "store.db"
    open_database(f"sqlite:///{path}").dispose()
    return path


@pytest.fixture(scope="session")
def migrated_database(postgres_server: Cluster) -> str:
    """Create a PostgreSQL database at this code's schema; return its name."""
    open_database(create_database(postgres_server, "migrated")).dispose()
    return "migrated"


@pytest.fixture
def store(store_url: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Open a database at this code's schema, of each kind."""
    url = make_url(store_url)
    if url.get_backend_name() == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_file"), url.database)
    else:
        template = request.getfixturevalue("migrated_database")
        create_database(request.getfixturevalue("postgres_server"), url.database, template)
    engine = open_database(store_url)
    yield engine
    engine.dispose()


#: Fixtures that start a server, a browser or a database server, directly or through others.
SERVERS = {"prefect_server", "postgres_server", "browser", "server"}


@pytest.hookimpl(tryfirst=True)  # before pytest applies -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = long_ones_first(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    for item in items:
        parameters = getattr(item, "callspec", None)
        on_postgres = parameters is not None and "postgresql" in parameters.params.values()
        if on_postgres or SERVERS & set(item.fixturenames):  # type: ignore[attr-defined]
            item.add_marker("server")
    gc.enable()
    gc.freeze()


def long_ones_first(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Return the tests so that each worker starts with its share of the long ones.

    `--dist worksteal` gives each worker a slice of the list, which the worker runs in order.
    """
    seconds = {item: mark.args[0] for item in items if (mark := item.get_closest_marker("waits"))}
    shares: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for item in sorted(seconds, key=seconds.__getitem__, reverse=True):
        min(shares, key=lambda share: sum(map(seconds.__getitem__, share))).append(item)
    others = iter([item for item in items if item not in seconds])
    ordered: list[pytest.Item] = []
    for worker, share in enumerate(shares):
        size = (len(items) - len(ordered)) // (workers - worker)  # as xdist divides
        ordered += [*share, *islice(others, size - len(share))]
    return ordered


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the faults that tests/flows/test_faults.py injected, and their effect."""
    reports = [
        r
        for kind in ("passed", "failed")
        for r in terminalreporter.stats.get(kind, [])
        if r.when == "call"
    ]
    faults = [(r, value) for r in reports for name, value in r.user_properties if name == "faults"]
    if faults:
        terminalreporter.section("faults")
        for r, (injected, lost, doubled) in faults:
            terminalreporter.line(
                f"{injected:3} injected, {lost} rows lost, {doubled} doubled: {r.location[2]}"
            )
        injected, lost, doubled = (sum(value[k] for _, value in faults) for k in range(3))
        survived = sum(value[0] for r, value in faults if r.passed)
        terminalreporter.line(
            f"{injected} faults, {survived} survived, {lost} rows lost, {doubled} rows doubled"
        )
