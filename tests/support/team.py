"""The processes of a team: PostgreSQL, Prefect's server, workers; started, killed and started again by tests."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import requests
from sqlalchemy import Engine

from db.sql import sql
from flows.local import ROOT, Stack, healthy, wait_for
from tests.support.cluster import Cluster
from tests.support.ports import free_port

#: What the pipeline makes of a dataset, by keys that mean the same in every store.
CONTENTS = {
    "image": "SELECT dataset, coco_id, split, path, sha256, mask_path, rule_version FROM image",
    "caption": "SELECT coco_id, caption_id, text FROM caption JOIN image ON image.id = image_id",
    "segment": "SELECT coco_id, segment_id, category_id, area, color FROM segment JOIN image ON image.id = image_id",
    "label": "SELECT dataset, coco_id, attribute, state, confidence FROM label",
    "evidence": "SELECT dataset, coco_id, attribute, source, state, confidence, detail FROM evidence",
    "download": "SELECT coco_id, state FROM download JOIN image ON image.id = image_id",
}


def contents(engine: Engine) -> Counter[tuple[Any, ...]]:
    """The rows of a store, each as often as it is there."""
    found: Counter[tuple[Any, ...]] = Counter()
    for name, query in CONTENTS.items():
        found.update((name, *row.values()) for row in sql(engine, query))
    return found


def wait_until(
    ready: Callable[[], Any], what: str, seconds: float = 240, pause: float = 0.1
) -> Any:
    """What `ready` gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(pause)
    return found


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (thread / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


class Team:
    """PostgreSQL with the store and Prefect's database, as docker-compose.yml has them, a server, and workers."""

    def __init__(self, folder: Path, variables: Mapping[str, str], **settings: object) -> None:
        self.cluster = Cluster(folder / "postgres", free_port())
        self.cluster.start()
        with psycopg.connect(self.cluster.url("postgres"), autocommit=True) as connection:
            for name in ("coconut_attr", "prefect"):
                connection.execute(f"CREATE DATABASE {name}")
        port = free_port()
        self.api = f"http://127.0.0.1:{port}/api"
        self.server = ("server", "start", "--host", "127.0.0.1", "--port", str(port))
        self.url = self.cluster.url("coconut_attr")
        values = {"data_dir": folder / "data", "database_url": self.url, **settings}
        self.env = {
            **os.environ,
            **variables,
            **{f"COCONUT_ATTR_{name.upper()}": str(value) for name, value in values.items()},
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.cluster.url("prefect").replace("://", "+asyncpg://"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }  # fmt: skip
        self.stack = Stack(folder / "logs")

    def start(self, name: str, *command: str, **variables: str) -> None:
        self.stack.start(name, sys.executable, "-m", *command, env={**self.env, **variables})

    def start_server(self) -> None:
        self.start("server", "prefect", *self.server)
        wait_for(self.stack, lambda: healthy(f"{self.api}/health"), 120, "Prefect")

    def start_worker(self, pool: str, name: str = "", **variables: str) -> None:
        self.start(
            name or f"worker-{pool}", "prefect", "worker", "start", "--pool", pool, **variables
        )

    def kill(self, name: str) -> None:
        """SIGKILL a process and all that it has started, at once, as a machine that loses its power does."""
        process = self.stack.processes.pop(name)
        for pid in [process.pid, *descendants(process.pid)]:
            os.kill(pid, signal.SIGKILL)
        process.wait()

    def kill_flow_run(self, worker: str) -> None:
        """SIGKILL the process of the flow run that a worker has started; the worker lives."""
        for pid in descendants(self.stack.processes[worker].pid):
            os.kill(pid, signal.SIGKILL)

    def python(self, *code: str, **variables: str) -> subprocess.Popen[str]:
        """A process that runs some code with the team's settings."""
        return subprocess.Popen(
            [sys.executable, "-c", "\n".join(code)], cwd=ROOT, env={**self.env, **variables}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, deployment: str, **parameters: object) -> UUID:
        """Queue a run of a deployment; returns the flow run's id."""
        found = requests.get(f"{self.api}/deployments/name/{deployment}", timeout=30).json()
        address = f"{self.api}/deployments/{found['id']}/create_flow_run"
        answer = requests.post(address, json={"parameters": parameters}, timeout=30)
        answer.raise_for_status()
        return UUID(answer.json()["id"])

    def state(self, flow_run: UUID) -> str:
        """The type of a flow run's state."""
        return requests.get(f"{self.api}/flow_runs/{flow_run}", timeout=30).json()["state"]["type"]

    def finished(self, flow_run: UUID, seconds: float = 180) -> str:
        """The type of a flow run's last state, which is waited for."""
        final = {"COMPLETED", "FAILED", "CANCELLED"}
        try:
            return wait_until(
                lambda: final & {self.state(flow_run)}, f"flow run {flow_run}", seconds
            ).pop()
        except AssertionError:
            found = requests.get(
                f"{self.api}/flow_run_states/", params={"flow_run_id": str(flow_run)}, timeout=30
            )
            for state in found.json():
                print(state["timestamp"], state["name"], state["message"])
            raise


@contextmanager
def team(folder: Path, variables: Mapping[str, str], **settings: object) -> Iterator[Team]:
    """A team whose server is up and whose deployments are registered, with further environment variables."""
    made = Team(folder, variables, **settings)
    try:
        made.start_server()
        registered = made.python(
            "from datetime import timedelta",
            "from flows import automations, deployments",
            "automations.RESTART_DELAY = timedelta(seconds=30)",  # half of it: the test's time is short
            "deployments.register()",
        )
        output, _ = registered.communicate(timeout=120)
        assert registered.returncode == 0, output
        yield made
    finally:
        made.stack.stop()
        made.cluster.stop()
