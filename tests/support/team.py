"""The processes of a team, which tests start and kill: PostgreSQL, Prefect's server, workers."""

import os
import shutil
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

#: The results of the pipeline, by keys that mean the same in every database.
CONTENTS = {
    "image": "SELECT dataset, coco_id, split, path, sha256, mask_path, rule_version FROM image",
    "caption": "SELECT coco_id, caption_id, text FROM caption JOIN image ON image.id = image_id",
    "segment": "SELECT coco_id, segment_id, category_id, area, color"
    " FROM segment JOIN image ON image.id = image_id",
    "label": "SELECT dataset, coco_id, attribute, state, confidence FROM label",
    "evidence": "SELECT dataset, coco_id, attribute, source, state, confidence, detail"
    " FROM evidence",
    "download": "SELECT coco_id, state FROM download JOIN image ON image.id = image_id",
}


#: Appended to the workers' copy of the program: 5 s between heartbeats, where Prefect's minimum is
#: 30 s, and a run is free for another process after 30 s of silence.
SHORT_HEARTBEATS = """
from datetime import timedelta

from prefect import flow_engine

from db import lease

flow_engine.MINIMUM_HEARTBEAT_INTERVAL = flow_engine.BaseFlowRunEngine.heartbeat_seconds = 5
lease.HEARTBEAT_SECONDS, lease.EXPIRY = 5.0, timedelta(seconds=30)
"""


def copy_program(folder: Path) -> None:
    """Copy the program to a folder, with short heartbeats."""
    for package in ("coconut_attr", "db", "flows"):
        shutil.copytree(ROOT / package, folder / package)
    with (folder / "flows" / "database.py").open("a") as file:  # which every flow imports
        file.write(SHORT_HEARTBEATS)


def contents(engine: Engine) -> Counter[tuple[Any, ...]]:
    """Count the rows of a database."""
    rows: Counter[tuple[Any, ...]] = Counter()
    for name, query in CONTENTS.items():
        rows.update((name, *row.values()) for row in sql(engine, query))
    return rows


def wait_until(
    ready: Callable[[], Any], what: str, seconds: float = 600, pause: float = 0.1
) -> Any:
    """Return what `ready` returns as soon as it is true.

    The limit is generous: other processes may take the CPU.
    """
    deadline = time.monotonic() + seconds
    while not (result := ready()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(pause)
    return result


def descendants(pid: int) -> list[int]:
    """List the processes that a process has started, and those that they have started."""
    processes: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (thread / "children").read_text().split()):
            processes += [child, *descendants(child)]
    return processes


class Team:
    """PostgreSQL with the attribute database and Prefect's, Prefect's server, and workers."""

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
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.cluster.url("prefect").replace(
                "://", "+asyncpg://"
            ),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        self.folder = folder
        self.stack = Stack(folder / "logs")

    def start(self, name: str, *command: str, **variables: str) -> None:
        self.stack.start(name, sys.executable, "-m", *command, env={**self.env, **variables})

    def start_server(self) -> None:
        self.start("server", "prefect", *self.server)
        wait_for(self.stack, lambda: healthy(f"{self.api}/health"), 600, "Prefect")

    def start_worker(self, name: str, pool: str, **variables: str) -> None:
        """Start a worker with its own copy of the program, in a folder of the worker's name."""
        program = self.folder / name
        copy_program(program)
        variables["PYTHONPATH"] = str(program)
        self.start(name, "prefect", "worker", "start", "--pool", pool, **variables)

    def kill(self, name: str) -> None:
        """Kill a process and all its descendants, as a power cut does."""
        process = self.stack.processes.pop(name)
        for pid in [process.pid, *descendants(process.pid)]:
            os.kill(pid, signal.SIGKILL)
        process.wait()

    def kill_flow_run(self, worker: str) -> None:
        """Kill the process of the flow run that a worker has started, and not the worker."""
        for pid in descendants(self.stack.processes[worker].pid):
            os.kill(pid, signal.SIGKILL)

    def python(self, *code: str, **variables: str) -> subprocess.Popen[str]:
        """Start a process that runs some code with the team's settings."""
        return subprocess.Popen(
            [sys.executable, "-c", "\n".join(code)],
            cwd=ROOT,
            env={**self.env, **variables},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, deployment: str, **parameters: object) -> UUID:
        """Queue a run of a deployment; return the flow run's id."""
        found = requests.get(f"{self.api}/deployments/name/{deployment}", timeout=30).json()
        address = f"{self.api}/deployments/{found['id']}/create_flow_run"
        answer = requests.post(address, json={"parameters": parameters}, timeout=30)
        answer.raise_for_status()
        return UUID(answer.json()["id"])

    def state(self, flow_run: UUID) -> str:
        """Return the type of a flow run's state."""
        return requests.get(f"{self.api}/flow_runs/{flow_run}", timeout=30).json()["state"]["type"]

    def finished(self, flow_run: UUID) -> str:
        """Wait for the end of a flow run, and return the type of its state."""
        final = {"COMPLETED", "FAILED", "CANCELLED"}
        try:
            return wait_until(
                lambda: final & {self.state(flow_run)}, f"flow run {flow_run}", pause=1
            ).pop()
        except AssertionError:
            states = requests.get(
                f"{self.api}/flow_run_states/", params={"flow_run_id": str(flow_run)}, timeout=30
            )
            for state in states.json():
                print(state["timestamp"], state["name"], state["message"])
            raise


@contextmanager
def team(folder: Path, variables: Mapping[str, str], **settings: object) -> Iterator[Team]:
    """Start a team's server and register the deployments; stop everything at the end.

    Dead runs are noticed after 30 s and started again after 20 s. On a busy machine a living run
    may then seem dead for a while: more attempts than usual keep it from being given up.
    """
    members = Team(folder, variables, **settings)
    try:
        members.start_server()
        registered = members.python(
            "from datetime import timedelta",
            "from flows import automations, deployments",
            "automations.SILENCE = timedelta(seconds=30)",
            "automations.RESTART_DELAY = timedelta(seconds=20)",
            "automations.ATTEMPTS = 10",
            "deployments.register()",
        )
        output, _ = registered.communicate(timeout=600)
        assert registered.returncode == 0, output
        yield members
    finally:
        members.stack.stop()
        members.cluster.stop()
