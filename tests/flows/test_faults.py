"""Faults of real processes at work: no stored row is lost, no label and no metric is doubled.

Each test reports the number of faults that it made, and of rows lost and doubled; pytest's summary
adds them up.
"""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.settings import PREFECT_API_URL
from prefect.states import Pending, State
from sqlalchemy import Engine

from coconut_attr.model.checkpoint_metadata import epoch_of
from coconut_attr.settings import Settings, settings, sqlalchemy_form
from db.engine import DatabaseUnavailable
from db.lease import fail_abandoned
from db.schema import open_for_reading
from db.sql import DatabaseError, sql
from flows import automations
from flows.automations import recover_runs
from flows.database import engine
from flows.deployments import POOLS, register
from flows.download import download
from flows.extract import extract
from flows.local import HOST, ROOT, healthy
from tests.conftest import forget_settings, own_settings
from tests.support.cluster import Cluster
from tests.support.downloads import WORKER, stocked
from tests.support.ports import free_port
from tests.support.prefect_server import SERVER
from tests.support.proxy import proxy
from tests.support.s3 import s3_server
from tests.support.team import contents, team, wait_until
from tests.support.tiny_mirror import write_mirror
from tests.support.web_server import serve

Report = Callable[..., None]
pytestmark = pytest.mark.server
EXTRACT = "from flows.extract import extract; print('imported', flush=True); extract('val5k')"
LABELLED = "SELECT COUNT(*) AS n FROM image WHERE rule_version IS NOT NULL"
IMAGES = 40
SCORED = "SELECT run_id, COUNT(*) AS n FROM prediction GROUP BY run_id"
TEST_IMAGES = "SELECT COUNT(*) AS n FROM image WHERE split = 'test'"


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mirror(tmp_path_factory.mktemp("faults") / "mirror", IMAGES, annotated=28)


@pytest.fixture(scope="module")
def undisturbed(
    mirror: Path, prefect_server: None, tmp_path_factory: pytest.TempPathFactory
) -> Counter[tuple[Any, ...]]:
    """Return the rows of a database when nothing goes wrong."""
    with own_settings(tmp_path_factory.mktemp("undisturbed")) as patch:
        patch.setenv("COCONUT_ATTR_MIRROR", str(mirror))
        download("val5k")
        extract("val5k")
        return contents(engine())


@pytest.fixture(scope="module")
def deployments(prefect_server: None) -> None:
    """Register the deployments on the tests' server."""
    register()


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Return a function that compares rows, asserts that none differ, and reports to pytest."""

    def compare(
        injected: int, rows: Counter[tuple[Any, ...]], expected: Counter[tuple[Any, ...]]
    ) -> None:
        lost, doubled = expected - rows, rows - expected
        record_property("faults", (injected, lost.total(), doubled.total()))
        assert (lost, doubled) == (Counter(), Counter())

    return compare


def number(engine: Engine, query: str) -> int:
    """Return a count; 0 while the database does not answer."""
    try:
        return sql(engine, query)[0]["n"]
    except DatabaseError:
        return 0


def readable(url: str) -> Engine | None:
    """Return a database as soon as it has its tables."""
    try:
        return open_for_reading(sqlalchemy_form(url))
    except DatabaseUnavailable:
        return None


@pytest.mark.waits(250)
@pytest.mark.timeout(3600)  # four minutes, and many times that beside other programs
def test_a_run_survives_the_death_of_every_process(
    mirror: Path, tmp_path: Path, undisturbed, report: Report
) -> None:
    """Kill the process that downloads; then the worker that trains, with its processes, so that a
    worker with another data folder and another copy of the program, as on another machine, resumes
    the run; then the dashboard, PostgreSQL and Prefect's server, which are started again.
    """
    epochs = 12
    # Without the profile's views, whose features both machines would compute first: half a minute.
    training = {"profile": "report", "backbone": "efficientnet_lite0"}
    done = "SELECT COUNT(*) AS n FROM epoch_metric WHERE run_id = 2"
    with (
        serve(mirror) as site,
        s3_server() as s3,
        team(
            tmp_path,
            s3.place | s3.writer,
            mirror=site.url,
            image_store=s3.bucket("team"),
            download_threads=4,
            shard_size=10,
        ) as t,
    ):
        site.delay = 0.3
        t.start_worker("one", "gpu")
        run = t.run("train/val5k", **training, epochs=epochs)
        engine = wait_until(lambda: readable(t.url), "the database", pause=1)
        wait_until(lambda: number(engine, "SELECT COUNT(*) AS n FROM download") > 10, "downloads")
        t.kill_flow_run("one")
        site.delay = 0

        wait_until(lambda: number(engine, done) >= 3, "3 epochs")
        t.kill("one")
        killed_at = number(engine, done)
        assert killed_at < epochs / 2, "it was killed in the middle"
        shutil.move(tmp_path / "data", tmp_path / "the dead machine's")
        t.start_worker("another", "gpu", COCONUT_ATTR_DATA_DIR="data")  # beside its program
        # The pool runs one at a time, so this run waits for the other.
        queued = t.run("train/val5k", **training, epochs=1)
        port = str(free_port())
        address = ("--server.address", HOST, "--server.port", port, "--server.headless", "true")
        for attempt in range(2):
            t.start("dashboard", "streamlit", "run", "dashboard/app.py", *address)
            wait_until(lambda: healthy(f"http://{HOST}:{port}/_stcore/health"), "the dashboard")
            if not attempt:
                t.kill("dashboard")

        wait_until(lambda: number(engine, done) > killed_at, "another worker's epochs")
        t.cluster.crash()
        time.sleep(2)
        t.cluster.start()
        reached = wait_until(lambda: number(engine, done), "the database is back")
        wait_until(lambda: number(engine, done) > reached + 1, "epochs after PostgreSQL's crash")
        t.kill("server")
        reached = number(engine, done)
        wait_until(lambda: number(engine, done) > reached + 1, "epochs without Prefect's server")
        t.start_server()
        assert t.finished(run) == "COMPLETED"
        assert t.finished(queued) == "COMPLETED"
        nights = {
            "deployments": {"name": {"any_": ["nightly"]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        }
        assert SERVER.post(f"{t.api}/flow_runs/count", json=nights, timeout=30).json() > 0

        assert (tmp_path / "another" / "data" / "runs" / "2").is_dir()
        assert not (tmp_path / "data").exists()
        assert not [name for name in s3.objects("team") if "state" in name]
        report(5, contents(engine), undisturbed)
        runs = sql(
            engine, "SELECT id, flow_run_id, status FROM run WHERE kind = 'trained' ORDER BY id"
        )
        mine, other = sorted(
            (tuple(row.values()) for row in runs), key=lambda row: row[1] != str(run)
        )
        assert (mine, other[1:]) == ((2, str(run), "finished"), (str(queued), "finished"))
        curve = [
            row["epoch"]
            for row in sql(engine, "SELECT epoch FROM epoch_metric WHERE run_id = 2 ORDER BY epoch")
        ]
        assert curve == list(range(1, epochs + 1))
        scored = {row["run_id"]: row["n"] for row in sql(engine, SCORED)}
        assert scored == dict.fromkeys((2, other[0]), 34 * number(engine, TEST_IMAGES))


def process(settings: Settings, *code: str, wrapper: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a process that runs some code with these settings, on the tests' Prefect server."""
    values = {
        name: value for name, value in settings.model_dump(exclude_none=True).items() if value != ""
    }
    env = {f"COCONUT_ATTR_{name.upper()}": str(value) for name, value in values.items()}
    return subprocess.Popen(
        [*wrapper, sys.executable, "-c", "\n".join(code)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **env, "PREFECT_API_URL": PREFECT_API_URL.value()},
    )


def wait_for_import(extraction: subprocess.Popen[str]) -> None:
    """Wait until a process begins to extract; asking the database meanwhile takes its CPU."""
    assert extraction.stdout
    assert any(line == "imported\n" for line in extraction.stdout), "it ended before"


def ended(*processes: subprocess.Popen[str]) -> None:
    """Wait for processes, which must succeed."""
    for p in processes:
        output, _ = p.communicate(timeout=600)
        assert p.returncode == 0, output


#: Makes a process die at the commit of so many labels.
DIE = """
import os, signal
from sqlalchemy import Engine, event

@event.listens_for(Engine, "commit")
def die(connection):
    if connection.exec_driver_sql("{query}").scalar_one() >= {labels}:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_extraction_resumes_after_it_was_killed_while_it_wrote(
    database: str, mirror: Path, undisturbed, configure, tmp_path: Path, report: Report, request
) -> None:
    url = request.getfixturevalue("postgres_url") if database == "postgresql" else ""
    settings = configure(mirror=mirror, database_url=url, shard_size=2)
    download("val5k")
    for labels in (4, 12, 30):
        victim = process(settings, DIE.format(query=LABELLED, labels=labels), EXTRACT)
        output, _ = victim.communicate(timeout=600)
        assert victim.returncode == -signal.SIGKILL, output
        assert number(engine(), LABELLED) < labels
    extract("val5k")
    report(3, contents(engine()), undisturbed)


@pytest.mark.waits(50)
def test_two_trainings_at_once_fill_an_empty_database_once(
    mirror: Path, undisturbed, configure, tmp_path: Path, report: Report, postgres_url: str
) -> None:
    settings = configure(
        mirror=mirror, database_url=postgres_url, data_dir=tmp_path / "two", shard_size=10
    )
    code = (
        "from flows.train import train\n"
        "train('val5k', backbone='efficientnet_lite0', epochs=1, profile='report')"
    )
    ended(process(settings, code), process(settings, code))
    report(1, contents(engine()), undisturbed)
    epochs = sql(
        engine(),
        "SELECT run_id, epoch FROM epoch_curve WHERE kind = 'trained' ORDER BY run_id, epoch",
    )
    assert [tuple(row.values()) for row in epochs] == [(2, 1), (3, 1)]
    assert (
        number(
            engine(), "SELECT COUNT(*) AS n FROM run WHERE status = 'finished' AND kind = 'trained'"
        )
        == 2
    )
    assert number(engine(), "SELECT COUNT(*) AS n FROM prediction") == 2 * 34 * number(
        engine(), TEST_IMAGES
    )


@pytest.mark.waits(90)
def test_a_process_that_froze_leaves_its_run_to_the_process_that_took_it(
    mirror: Path, undisturbed, deployments, configure, report: Report, postgres_url: str
) -> None:
    """Prefect takes it for dead, and another process resumes the flow run and sets its state."""
    settings = configure(mirror=mirror, database_url=postgres_url)
    epochs = "SELECT COUNT(*) AS n FROM epoch_metric WHERE run_id = 2"

    def started(flow_run: UUID) -> subprocess.Popen[str]:
        """Start a flow run as a worker does, with a shorter lease."""
        return process(
            settings,
            "import runpy, sys",
            "from datetime import timedelta",
            "from db import lease",
            "lease.EXPIRY, lease.HEARTBEAT_SECONDS = timedelta(seconds=3), 0.5",
            f"sys.argv[1:] = ['{flow_run}']",
            "runpy.run_module('prefect.engine', run_name='__main__')",
        )

    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("train/val5k").id
        # Without the profile's views, whose features take longer than all epochs.
        parameters = {"profile": "report", "backbone": "efficientnet_lite0", "epochs": 8}
        flow_run = client.create_flow_run_from_deployment(
            deployment, parameters=parameters, state=Pending()
        ).id
        frozen = started(flow_run)
        wait_until(lambda: number(engine(), epochs) >= 2, "2 epochs")
        frozen.send_signal(signal.SIGSTOP)
        while number(
            engine(),
            "SELECT COUNT(*) AS n FROM pg_stat_activity WHERE state = 'idle in transaction'",
        ):
            frozen.send_signal(signal.SIGCONT)  # frozen here, it would hold a lock for ever
            time.sleep(0.02)
            frozen.send_signal(signal.SIGSTOP)
        reached = number(engine(), epochs)
        for state in (StateType.CRASHED, StateType.SCHEDULED, StateType.PENDING):
            client.set_flow_run_state(flow_run, State(type=state))
        other = started(flow_run)
        wait_until(lambda: number(engine(), epochs) > reached, "another process's epochs")
        frozen.send_signal(signal.SIGCONT)
        output, _ = frozen.communicate(timeout=600)
        taken_over = "has been taken over by another process" in output
        assert (frozen.returncode, taken_over) == (0, True), output
        assert client.read_flow_run(flow_run).state_type is StateType.RUNNING
        ended(other)
        assert client.read_flow_run(flow_run).state_type is StateType.COMPLETED
    report(1, contents(engine()), undisturbed)
    (run,) = sql(engine(), "SELECT * FROM run WHERE kind = 'trained'")
    assert (run["status"], run["note"], run["flow_run_id"]) == ("finished", None, str(flow_run))
    assert epoch_of((settings.data_dir / run["checkpoint"]).read_bytes()) == run["best_epoch"], (
        "of the one that has it"
    )
    curve = [
        row["epoch"]
        for row in sql(engine(), "SELECT epoch FROM epoch_metric WHERE run_id = 2 ORDER BY epoch")
    ]
    assert curve == list(range(1, 9))


def test_downloads_and_labels_survive_connections_that_drop(
    mirror: Path, undisturbed, configure, tmp_path: Path, report: Report
) -> None:
    cluster = Cluster(tmp_path / "postgres", free_port())
    cluster.start()
    with proxy(cluster.port) as line, serve(mirror) as site:
        site.delay = 0.05
        settings = configure(
            mirror=site.url,
            database_url=f"postgresql://tests@{HOST}:{line.port}/postgres",
            shard_size=2,
            download_threads=2,
        )
        engine()
        engine().dispose()
        cluster.stop()  # the worker starts without a database server
        worker = process(
            settings, "from flows.download import download; download('val5k')", EXTRACT
        )
        wait_until(lambda: line.refused > 1, "attempts to connect")
        cluster.start()
        wait_until(lambda: number(engine(), "SELECT COUNT(*) AS n FROM download"), "downloads")
        engine().dispose()
        cuts = 0
        while worker.poll() is None and cuts < 40:
            cuts += line.cut()
            time.sleep(0.25)
        ended(worker)
        report(cuts, contents(engine()), undisturbed)
        engine().dispose()
    cluster.stop()


def test_clocks_that_differ_by_hours_do_no_harm(
    mirror: Path, tmp_path: Path, configure, postgres_url: str, report: Report
) -> None:
    if not shutil.which("faketime"):
        pytest.skip("faketime is not installed: the test of clocks that differ is skipped")
    engine = stocked(postgres_url, mirror)
    with serve(mirror) as site:
        site.delay = 0.02
        settings = configure(
            mirror=site.url, database_url=postgres_url, download_threads=2, shard_size=5, lease=20
        )
        expected = Counter(range(1, IMAGES + 1))
        ended(
            *(
                process(settings, WORKER, wrapper=("faketime", "-f", skew))
                for skew in ("-3h", "+0h", "+5h")
            )
        )
        assert site.requests.total() == IMAGES, "no image was fetched twice"
        found = Counter(
            row["image_id"]
            for row in sql(engine, "SELECT image_id FROM download WHERE state = 'done'")
        )
    begin = """
from coconut_attr.settings import settings
from db.engine import connect
from tests.support.runs import start_run
start_run(connect(settings().sqlalchemy_url))
"""
    ended(process(settings, begin, wrapper=("faketime", "-f", "-3h")))
    assert fail_abandoned(engine) == [], (
        "a run that has just begun is alive, whatever its machine's clock says"
    )
    report(3, found, expected)


def test_a_locked_database_is_waited_for_and_then_reported(
    mirror: Path, undisturbed, configure, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(mirror=mirror, shard_size=2)
    download("val5k")
    with closing(sqlite3.connect(engine().url.database or "", isolation_level=None)) as other:
        worker = process(settings(), EXTRACT)
        wait_for_import(worker)
        wait_until(lambda: number(engine(), LABELLED), "labels", pause=0.01)
        for _ in range(3):  # for less than the busy timeout
            other.execute("BEGIN IMMEDIATE")
            time.sleep(0.5)
            other.execute("ROLLBACK")
        ended(worker)
        monkeypatch.setattr("db.engine.BUSY_MS", 200)
        forget_settings()
        with engine().begin() as connection:
            connection.exec_driver_sql("UPDATE image SET rule_version = NULL WHERE id > 20")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseError, match="database is locked"):
            extract("val5k")
        other.execute("ROLLBACK")
    extract("val5k")
    report(4, contents(engine()), undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 150 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=150m,mode=755", "tmpfs", str(folder)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip(
            "no small disk can be mounted here without root: the tests of a full disk are skipped"
        )
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Write a file that leaves this many bytes of a disk free."""
    ballast = disk / "ballast"
    status = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - leave)
    return ballast


@pytest.mark.parametrize("what", ["images", "sqlite", "postgresql"])
def test_a_disk_that_is_full_for_a_while_costs_nothing(
    what: str,
    small_disk: Path,
    mirror: Path,
    undisturbed,
    configure,
    report: Report,
    caplog,
    request,
) -> None:
    """An image that cannot be written has failed; a shard's rows are written again later."""
    if what == "postgresql":
        cluster = Cluster(small_disk / "postgres", free_port())
        request.addfinalizer(cluster.stop)
        cluster.start("-c max_wal_size=32MB", "-c min_wal_size=32MB")
        configure(mirror=mirror, database_url=cluster.url("postgres"))
    elif what == "sqlite":
        configure(mirror=mirror, database_url=f"sqlite:///{small_disk / 'store.db'}")
    else:
        (small_disk / "images").mkdir()
        settings = configure(mirror=mirror)
        settings.data_dir.mkdir()
        (settings.data_dir / "images.cocodataset.org").symlink_to(small_disk / "images")
    request.addfinalizer(engine().dispose)
    ballast = fill(small_disk, leave=50_000)

    def was_full() -> bool:
        if what == "images":
            return number(engine(), "SELECT COUNT(*) AS n FROM download WHERE state = 'failed'") > 0
        return bool(re.search("No space left on device|database or disk is full", caplog.text))

    def free() -> None:
        wait_until(was_full, "a full disk")
        ballast.unlink()

    freed = threading.Thread(target=free)
    freed.start()
    found = download("val5k")
    freed.join()
    assert not ballast.exists(), "the disk was full"
    if what == "images":
        assert found["failed"] > 0
        (failure,) = sql(
            engine(), "SELECT DISTINCT error_class FROM download WHERE state = 'failed'"
        )
        assert failure["error_class"] == "disk"
        assert download("val5k")["downloaded"] == IMAGES
    else:
        assert found["downloaded"] == IMAGES
    extract("val5k")
    report(1, contents(engine()), undisturbed)


def test_the_server_refuses_parameters_that_no_flow_takes(
    deployments, configure, mirror: Path
) -> None:
    configure(mirror=mirror)
    api = PREFECT_API_URL.value()

    def made() -> int:
        of_dataset = {"deployments": {"name": {"any_": ["val5k"]}}}
        return SERVER.post(f"{api}/flow_runs/count", json=of_dataset, timeout=30).json()

    before = made()
    wrong = {
        "train/val5k": [
            {"epochs": 0},
            {"epochs": "many"},
            {"dataset": "coco"},
            {"profile": "fast"},
            {"backbone": "'; DROP TABLE run; --"},
            {"learning_rate": -1},
            {"nothing": 1},
            {"seed": [1]},
            {"seed": -1},
        ],
        "download/val5k": [
            {"limit": "x"},
            {"limit": 0},
            {"dataset": 5},
            {"dataset": "coco"},
            {"verify": "perhaps"},
        ],
        "extract/val5k": [{"dataset": "coco"}],
        "evaluate/val5k": [{"split": "all"}, {"run_id": "1; DELETE FROM run"}],
    }
    reasons = {"epochs": "less than the minimum", "profile": "'fast' is not one of"}
    for name, cases in wrong.items():
        deployment = SERVER.get(f"{api}/deployments/name/{name}", timeout=30).json()
        address = f"{api}/deployments/{deployment['id']}/create_flow_run"
        for parameters in cases:
            answer = SERVER.post(address, json={"parameters": parameters}, timeout=30)
            assert answer.status_code in {409, 422}, (name, parameters, answer.text)
            if parameters in ({"epochs": 0}, {"profile": "fast"}):
                assert reasons[next(iter(parameters))] in answer.text
    assert made() == before


def test_registering_again_keeps_pool_limits_and_watches_running_flow_runs(
    deployments,
) -> None:
    """A server that was restarted has forgotten the events that it waits for."""
    api = PREFECT_API_URL.value()
    pool = f"{api}/work_pools/gpu"
    assert SERVER.get(pool, timeout=30).json()["concurrency_limit"] == POOLS["gpu"] == 1
    SERVER.patch(pool, json={"concurrency_limit": 3}, timeout=30).raise_for_status()
    deployment = SERVER.get(f"{api}/deployments/name/train/sample", timeout=30).json()
    address = f"{api}/deployments/{deployment['id']}/create_flow_run"
    run = SERVER.post(address, json={"state": {"type": "RUNNING"}}, timeout=30).json()
    automations = SERVER.post(f"{api}/automations/filter", json={}, timeout=30).json()
    assert len(automations) == 3
    register()
    assert SERVER.get(pool, timeout=30).json()["concurrency_limit"] == 3
    SERVER.patch(pool, json={"concurrency_limit": 1}, timeout=30).raise_for_status()
    assert SERVER.post(f"{api}/automations/filter", json={}, timeout=30).json() == automations
    wanted = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run['id']}"]},
    }

    def heartbeats() -> list[dict[str, Any]]:
        return SERVER.post(f"{api}/events/filter", json={"filter": wanted}, timeout=30).json()[
            "events"
        ]

    (event,) = wait_until(heartbeats, "the expectation of a heartbeat")
    assert "prefect.tag.coconut-attr" in {
        related["prefect.resource.id"] for related in event["related"]
    }
    SERVER.delete(f"{api}/flow_runs/{run['id']}", timeout=30).raise_for_status()


def test_a_flow_run_that_a_worker_took_and_never_started_is_queued_again(
    deployments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a power cut while the flow is imported."""
    with monkeypatch.context() as context, get_client(sync_client=True) as client:
        context.setattr("flows.automations.START_LIMIT", timedelta(seconds=10))
        automations.register(client)
        deployment = client.read_deployment_by_name("train/sample")
        assert deployment.job_variables["env"] == {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
        run = client.create_flow_run_from_deployment(deployment.id, state=Pending()).id
        wait_until(
            lambda: client.read_flow_run(run).state_type is StateType.SCHEDULED,
            "its place in the queue",
        )
        client.delete_flow_run(run)
        context.undo()
        automations.register(client)


def test_dead_runs_that_the_server_forgot_are_queued_by_recover_runs(
    deployments, monkeypatch: pytest.MonkeyPatch
) -> None:
    with get_client(sync_client=True) as client:
        for automation in client.read_automations():  # on a slow machine they would be first
            client.delete_automation(automation.id)
        deployment = client.read_deployment_by_name("train/sample").id

        def run(*states: StateType) -> UUID:
            made = client.create_flow_run_from_deployment(deployment, state=Pending()).id
            for state in states:
                assert (
                    client.set_flow_run_state(made, State(type=state)).status
                    is SetStateStatus.ACCEPT
                )
            return made

        once = (StateType.RUNNING, StateType.CRASHED)
        again = (StateType.SCHEDULED, StateType.PENDING, *once)
        runs = [run(*once), run(), run(StateType.CRASHED), run(*once, *again, *again)]
        try:
            early, late = (
                (StateType.CRASHED, StateType.PENDING),
                (StateType.SCHEDULED, StateType.SCHEDULED),
            )
            for expected in (early, late):
                if expected is late:
                    monkeypatch.setattr("flows.automations.FORGOTTEN", timedelta(0))
                    monkeypatch.setattr("flows.automations.START_LIMIT", timedelta(0))
                recover_runs(client)
                # The third never started, and the fourth has used its attempts.
                found = [client.read_flow_run(name).state_type for name in runs]
                assert found == [*expected, StateType.CRASHED, StateType.CRASHED]
        finally:
            for name in runs:
                client.delete_flow_run(name)
            monkeypatch.undo()
            automations.register(client)
