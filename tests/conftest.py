"""Fixtures: a tiny mirror made here, the real one where there is one, and stores on SQLite and PostgreSQL."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from prefect.testing.utilities import prefect_test_harness
from sqlalchemy import Engine

from coconut_attr import settings as settings_module
from db.schema import open_database
from flows import database as flow_database
from tests.support.cluster import Cluster
from tests.support.tiny_mirror import write_mirror


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has settings and a data folder of its own, whatever the caller's environment says."""
    for name in [name for name in os.environ if name.startswith("COCONUT_ATTR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setitem(settings_module.Settings.model_config, "env_file", None)
    monkeypatch.setenv("COCONUT_ATTR_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COCONUT_ATTR_DEVICE", "cpu")
    forget_settings()
    yield
    forget_settings()


def forget_settings() -> None:
    """Read the settings and open the store anew at their next use."""
    settings_module.settings.cache_clear()
    flow_database.engine.cache_clear()


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch):
    """Sets COCONUT_ATTR_* variables by their lower-case names."""

    def set_variables(**values: object) -> settings_module.Settings:
        for name, value in values.items():
            monkeypatch.setenv(f"COCONUT_ATTR_{name.upper()}", str(value))
        forget_settings()
        return settings_module.settings()

    return set_variables


@pytest.fixture
def tiny_mirror(tmp_path: Path) -> Path:
    """A mirror folder of 24 generated images in the upstream layout (unit-test input only)."""
    return write_mirror(tmp_path / "mirror")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server for flows that run in the tests' own process."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


REAL_MIRROR = os.environ.get("COCONUT_ATTR_MIRROR", "")


@pytest.fixture
def real_mirror() -> Path:
    """The mirror of real COCO images that COCONUT_ATTR_MIRROR names."""
    if not REAL_MIRROR or not Path(REAL_MIRROR).is_dir():
        pytest.skip(
            "COCONUT_ATTR_MIRROR names no folder: the tests on real COCO images are skipped"
        )
    return Path(REAL_MIRROR).absolute()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real PostgreSQL that is started for the tests."""
    cluster = Cluster(tmp_path_factory.mktemp("postgres"))
    cluster.start()
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(
            "CREATE ROLE owner LOGIN"
        )  # no superuser, as a store's owner should be none
    yield cluster
    cluster.stop()


@pytest.fixture
def postgres_url(postgres_server: Cluster, request: pytest.FixtureRequest) -> str:
    """The URL of a new, empty database."""
    name = f"t{abs(hash(request.node.nodeid)):x}"
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name} OWNER owner")
    return postgres_server.url(name, "owner").replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, on each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def store(store_url: str) -> Iterator[Engine]:
    """An open, migrated store on each kind of database."""
    engine = open_database(store_url)
    yield engine
    engine.dispose()


#: Fixtures that start a server, a browser or a database server, directly or through others.
SERVERS = {"prefect_server", "postgres_server", "browser", "server"}


@pytest.hookimpl(tryfirst=True)  # before pytest applies -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)
    for item in items:
        parameters = getattr(item, "callspec", None)
        on_postgres = parameters is not None and "postgresql" in parameters.params.values()
        if on_postgres or SERVERS & set(item.fixturenames):  # type: ignore[attr-defined]
            item.add_marker("server")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests/flows/test_faults.py injected, and what became of it."""
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
