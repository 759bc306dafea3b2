"""Prefect's server for the flows of a test process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from flows.local import HOST, healthy
from tests.support.ports import free_port
from tests.support.team import wait_until

#: Loops that no test needs; each asks the database every few seconds.
IDLE_SERVICES = ("SCHEDULER", "LATE_RUNS", "CANCELLATION_CLEANUP", "PAUSE_EXPIRATIONS", "FOREMAN")


def _server() -> requests.Session:
    session = requests.Session()
    # On SQLite the server answers 500 or 503 while another of its writers has the database.
    retry = Retry(20, backoff_factor=0.2, status_forcelist=(500, 503), allowed_methods=None)
    session.mount("http://", HTTPAdapter(max_retries=retry))
    return session


#: For requests to Prefect's API, repeated while the server is busy.
SERVER = _server()


def migrate(database: Path) -> None:
    """Create a SQLite database for a Prefect server."""
    command = ("prefect", "server", "database", "upgrade", "--yes")
    subprocess.run([sys.executable, "-m", *command], env=_environment(database), check=True)


@contextmanager
def prefect_server(database: Path) -> Iterator[str]:
    """Run a server on a migrated SQLite database; yield the API's address."""
    port = free_port()
    command = ("prefect", "server", "start", "--host", HOST, "--port", str(port))
    with database.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=_environment(database),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        address = f"http://{HOST}:{port}/api"
        wait_until(lambda: healthy(f"{address}/health"), "the tests' Prefect server")
        yield address
    finally:
        process.terminate()
        process.wait()


def _environment(database: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PREFECT_HOME": str(database.parent),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
        "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        # Telemetry would wait for a host that cannot be reached, and write to the database.
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in IDLE_SERVICES},
    }
