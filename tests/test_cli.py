"""The command line in real processes, with a real Prefect server, worker and dashboard."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from prefect.settings import get_current_settings
from typer.testing import CliRunner, Result

from coconut_attr import terminal
from coconut_attr.cli import all_commands
from coconut_attr.datasets import DATASETS
from coconut_attr.model.backbones.names import BACKBONES
from coconut_attr.settings import SETTLED
from db.engine import DatabaseUnavailable
from db.schema import open_for_reading
from db.sql import sql
from tests.conftest import forget_settings
from tests.support.ports import free_port
from tests.support.prefect_server import SERVER
from tests.support.tiny_mirror import jpeg, write_mirror

pytestmark = pytest.mark.server  # each test starts the program, some of them servers

ROOT = Path(__file__).parent.parent
PROGRAM = Path(sys.executable).parent / "coconut-attr"
#: Runs the program with a default address of Prefect's API, the first argument, in place of ours.
WITH_DEFAULT_API = """
import sys
from flows import local
local.DEFAULT_API = sys.argv.pop(1)
from coconut_attr.cli import main
main()
"""
VERSION = version("coconut-attributes")
PREFECT = [sys.executable, "-m", "prefect"]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Return an environment with a data folder, a Prefect home and ports of its own."""
    return {
        **os.environ,
        "COCONUT_ATTR_DATA_DIR": str(tmp_path / "data"),
        "COCONUT_ATTR_DASHBOARD_PORT": str(free_port()),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "COLUMNS": "200",
    }


def call(
    env: dict[str, str], *arguments: str, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments], env=env, cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture
def with_server(env: dict[str, str], prefect_server: None) -> dict[str, str]:
    """Return an environment in which a Prefect server runs: starting one takes 15 seconds."""
    return {**env, "PREFECT_API_URL": get_current_settings().api.url}


def in_process(env: dict[str, str], *arguments: str) -> Result:
    """Call a command of the library in this process, which has imported torch."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        forget_settings()
        return CliRunner().invoke(all_commands(), arguments)


def test_attributes_are_listed(env) -> None:
    rows = json.loads(call(env, "attributes", "--json").stdout)
    assert [row["id"] for row in rows] == list(range(34))
    assert rows[0] == {"id": 0, "name": "person", "group": "object", "ours": False}
    assert "furniture*" in call(env, "attributes").stdout


def test_help_is_short_too_and_a_shell_completes_names(env) -> None:
    for arguments in (["-h"], ["train", "-h"], ["db", "backup", "-h"]):
        assert "Usage: " in in_process(env, *arguments).stdout
    assert in_process(env, "--version").stdout == f"coconut-attributes {VERSION}\n"
    words = {"COMP_WORDS": "coconut-attr evaluate coconut-", "COMP_CWORD": "2"}
    completed = call({**env, **words, "_COCONUT_ATTR_COMPLETE": "complete_bash"})
    assert set(completed.stdout.split()) == {n for n in DATASETS if n.startswith("coconut-")}


def test_a_table_is_cut_neither_in_a_pipe_nor_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "efficientnet_lite0_of_a_very_long_name" * 4
    for columns in ("", "30"):
        monkeypatch.setenv("COLUMNS", columns) if columns else monkeypatch.delenv("COLUMNS", False)
        table = terminal.slim_table("model", "images")
        table.add_row(long, "1,234")
        terminal.console().print(table)
        printed = capsys.readouterr().out
        assert "…" not in printed
        assert long in printed.replace("\n", "").replace(" ", "").replace("1,234", "")


def test_model_info_prints_the_reported_counts(env) -> None:
    info = json.loads(call(env, "model-info", "--backbone", "resnet50", "--json").stdout)
    assert (info["total"], info["trainable"], info["frozen"]) == (
        27_078_498,
        12_495_650,
        14_582_848,
    )
    every = in_process(env, "model-info").stdout
    assert "14,582,848" in every
    assert all(name in every for name in BACKBONES)


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["predict", "none.jpg"], {}, "none.jpg is not a file, a folder or an http(s) URL"),
        (
            ["run", "--dataset", "val5k"],
            {"PREFECT_API_URL": "http://192.0.2.1:4200/api"},
            "no Prefect server answers",
        ),
    ],
)
def test_a_mistake_is_told_in_a_line(
    env, arguments: list[str], variables: dict[str, str], message: str
) -> None:
    result = call({**env, **variables}, *arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


def test_a_env_file_counts_only_where_the_environment_does_not_say_all(env, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("COCONUT_ATTR_RETRIES=many")
    assert "COCONUT_ATTR_RETRIES: " in call(env, "status", cwd=tmp_path).stderr
    assert "there is no database at" in call({**env, SETTLED: "1"}, "status", cwd=tmp_path).stderr
    (tmp_path / ".env").write_bytes(b"COCONUT_ATTR_MIRROR=\xff")
    assert ".env is not UTF-8 text" in call(env, "status", cwd=tmp_path).stderr


def test_a_mistake_that_shows_while_a_flow_runs_has_no_traceback(
    with_server, tmp_path: Path
) -> None:
    result = call({**with_server, "COCONUT_ATTR_MIRROR": str(tmp_path)}, "run")
    assert result.returncode == 1
    assert "annotations_trainval2017.zip: is the mirror right?" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


@pytest.mark.waits(120)
def test_the_main_job_runs_once_and_is_reused(env, with_server, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    quick = ("run", "--dataset", "sample", "--backbone", "efficientnet_lite0", "--epochs", "1")
    # In a folder without prefect.toml, by a user who has set nothing.
    newcomer = {name: value for name, value in env.items() if name != "PREFECT_API_URL"}
    command = [sys.executable, "-c", WITH_DEFAULT_API, env["PREFECT_API_URL"], *quick]
    first = subprocess.run(
        command, env=newcomer, cwd=elsewhere, capture_output=True, text=True, check=False
    )
    assert first.returncode == 0, first.stderr
    with closing(sqlite3.connect(tmp_path / "data" / "prefect.db")) as of_server:
        ran = of_server.execute("SELECT name FROM flow_run").fetchall()
    assert ("pipeline sample",) in ran, "it ran on the server that it started"
    for words in (
        "Scores on the test split",
        "all absent",
        "prior",
        "NOT COCONut",
        "best.safetensors",
        "coconut_attr.db",
    ):
        assert words in first.stdout
    assert "Error logging to API" not in first.stderr
    second = call(with_server, *quick, cwd=elsewhere)
    assert second.returncode == 0, second.stderr
    assert "not training again" in second.stderr
    engine = open_for_reading(f"sqlite:///{tmp_path / 'data' / 'coconut_attr.db'}")
    assert len(sql(engine, "SELECT * FROM run WHERE kind = 'trained'")) == 1
    extracted = call(with_server, "extract", "sample", cwd=elsewhere)
    assert "sample: 0 images labelled" in extracted.stdout, extracted.stderr
    scored = call(with_server, "evaluate", "sample", "--split", "val", cwd=elsewhere)
    assert "Scores on the val split" in scored.stdout, scored.stderr
    newest = {"sort": "START_TIME_DESC", "limit": 20}
    api = with_server["PREFECT_API_URL"]
    flow_runs = SERVER.post(f"{api}/flow_runs/filter", json=newest, timeout=30).json()
    names = {run["name"] for run in flow_runs}
    assert {"pipeline sample", "extract sample", "evaluate sample"} <= names

    status = call(env, "status").stdout
    assert "sample (not COCONut)" in status
    assert "sample test" in status
    assert "reported" in status
    photo = tmp_path / "photos" / "photo.jpg"
    photo.parent.mkdir()
    photo.write_bytes(jpeg(1, 200, 100))
    (photo.parent / "broken.PNG").write_bytes(b"no image")
    mixed = in_process(env, "predict", str(photo.parent), "http://127.0.0.1:9/x.jpg")
    assert mixed.exit_code == 1
    assert "environment" in mixed.stdout
    assert "(run 2 on sample)" in " ".join(mixed.stdout.split())  # a long path breaks the title
    assert "broken.PNG: not a JPEG, PNG, WEBP, AVIF or HEIF image" in mixed.stderr
    assert "cannot fetch http://127.0.0.1:9/x.jpg" in mixed.stderr
    # Neither names nor metadata nor the terminal's encoding end a batch, and no photo is skipped.
    odd = tmp_path / "odd"
    odd.mkdir()
    names = ("[bold]\n[red].jpg", "\x1b[31mé.JPG", os.fsdecode(b"caf\xe9.jpg"))
    exif = b"\xff\xe1\x00\x10Exif\x00\x00MM\x00*\xff\xff\xff\xff"
    for name in names:
        (odd / name).write_bytes(jpeg(1)[:2] + exif + jpeg(1)[2:])
    (odd / "._x.jpg").write_bytes(b"\x00\x05\x16\x07")
    (odd / "dead.jpg").symlink_to(tmp_path / "nothing")
    in_ascii = call(env | {"PYTHONIOENCODING": "ascii"}, "predict", ".", cwd=odd)
    assert in_ascii.returncode == 1
    assert in_ascii.stdout.count("(run 2 on sample)") == 3
    for shown in (r"[bold]\n[red].jpg", r"\x1b[31m\xe9.JPG", r"caf\udce9.jpg"):
        assert shown in in_ascii.stdout
    assert "dead.jpg: a link to nothing" in in_ascii.stderr
    assert "._x.jpg: a macOS resource file" in in_ascii.stderr
    assert "Traceback" not in in_ascii.stderr
    listed = json.loads(in_process(env, "predict", str(odd), "--json").stdout)
    assert {Path(row["image"]).name for row in listed} == set(names)
    assert {(row["dataset"], len(row["probabilities"])) for row in listed} == {("sample", 34)}
    port = re.search(r":(\d+)/api", env["PREFECT_API_URL"]).group(1)
    with socket.socket() as probe:
        assert (
            probe.connect_ex(("127.0.0.1", int(port))) != 0
        )  # the server that it started is stopped


def wait_for_file(path: Path, seconds: float = 600) -> str:
    """Wait until a SQLite file exists with its schema, and return its URL."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            open_for_reading(f"sqlite:///{path}").dispose()
            return f"sqlite:///{path}"
        except DatabaseUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.5)


def test_download_tells_what_failed_and_what_to_do(with_server, tmp_path: Path) -> None:
    mirror = write_mirror(tmp_path / "mirror")
    photo = mirror / "images.cocodataset.org/val2017/000000000003.jpg"
    content = photo.read_bytes()
    photo.unlink()
    env = {**with_server, "COCONUT_ATTR_MIRROR": str(mirror)}
    result = call(env, "download", "val5k")
    assert result.returncode == 1, result.stderr
    assert "Prefect found at" in result.stdout
    assert "23 of 24 images are there, 1 failed" in result.stdout
    assert "not in mirror" in result.stdout and "add the image to the mirror" in result.stdout
    photo.write_bytes(content)
    retried = call(env, "download", "--retry-failed")
    assert retried.returncode == 0
    assert "24 of 24 images are there, 0 failed" in retried.stdout


@pytest.mark.waits(130)
def test_up_serves_deployments_to_another_terminal_until_it_is_stopped(
    env, prefect_database: Path, tmp_path: Path
) -> None:
    """It is started in a folder whose .env must reach the workers and the dashboard too."""
    log = tmp_path / "up.log"
    (tmp_path / ".env").write_text(
        "COCONUT_ATTR_DATA_DIR=data\nCOCONUT_ATTR_DATABASE_URL=sqlite+pysqlite:///mine.db\n"
    )
    del env["COCONUT_ATTR_DATA_DIR"]
    (tmp_path / "data").mkdir()
    shutil.copy(prefect_database, tmp_path / "data" / "prefect.db")
    with log.open("w") as output:
        up = subprocess.Popen(
            [PROGRAM, "up"], env=env, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 600
        while "Ctrl-C stops everything" not in log.read_text():
            assert up.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.5)
        dashboard = f"http://127.0.0.1:{env['COCONUT_ATTR_DASHBOARD_PORT']}"
        assert requests.get(dashboard, timeout=60).ok
        assert requests.get(env["PREFECT_API_URL"].removesuffix("/api"), timeout=60).ok
        for address in (dashboard, env["PREFECT_API_URL"]):
            with (
                socket.socket() as probe
            ):  # another address of this machine: nobody but itself is answered
                assert probe.connect_ex(("127.0.0.2", urlsplit(address).port)) != 0
        for flow in ("download", "extract", "train", "evaluate", "pipeline"):
            for dataset in ("val5k", "coconut-s", "coconut-b", "sample"):
                deployment = f"{env['PREFECT_API_URL']}/deployments/name/{flow}/{dataset}"
                assert requests.get(deployment, timeout=30).ok

        api = env["PREFECT_API_URL"]
        deployment = SERVER.get(f"{api}/deployments/name/train/sample", timeout=30).json()["id"]
        parameters = {"backbone": "efficientnet_lite0", "epochs": 500}
        long = SERVER.post(
            f"{api}/deployments/{deployment}/create_flow_run",
            json={"parameters": parameters},
            timeout=30,
        ).json()["id"]
        engine = open_for_reading(wait_for_file(tmp_path / "mine.db"))
        epochs = "SELECT COUNT(*) AS n, MAX(run_id) AS run FROM epoch_curve WHERE kind = 'trained'"
        while not (done := sql(engine, epochs)[0])["n"]:
            assert time.monotonic() < deadline + 600
            time.sleep(0.5)
        order = ("deployment", "run", "train/sample", "-p", "backbone=efficientnet_lite0")
        queued = subprocess.Popen(
            [*PREFECT, *order, "-p", "epochs=1", "--watch"],
            env=env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(5)  # long enough for a worker that did not keep to the pool's limit to begin it
        assert len(sql(engine, "SELECT id FROM run WHERE kind = 'trained'")) == 1
        cancelling = {"state": {"type": "CANCELLING"}}
        assert SERVER.post(f"{api}/flow_runs/{long}/set_state", json=cancelling, timeout=30).ok
        logs = tmp_path / "data" / "logs"
        output, _ = queued.communicate(timeout=600)
        assert queued.returncode == 0, output + (logs / "worker-gpu.log").read_text()
        (cancelled,) = sql(engine, "SELECT * FROM run WHERE id = :run", run=done["run"])
        assert (cancelled["status"], cancelled["finished_at"] is None) == ("cancelled", False)
        assert cancelled["note"] == f"resume with: coconut-attr train --resume {done['run']}"
        assert (tmp_path / "data" / cancelled["checkpoint"]).is_file()
        run = sql(engine, "SELECT * FROM run_summary WHERE kind = 'trained' ORDER BY run_id DESC")[
            0
        ]
        assert (run["status"], run["trained_on"]) == ("finished", "sample")
        assert run["accuracy"] is not None
        # Prefect's server on SQLite sometimes answers that its database is locked; its clients
        # retry, so only the final states count.
        begun = {"parent_task_run_id": {"is_null_": True}, "start_time": {"is_null_": False}}
        runs = SERVER.post(f"{api}/flow_runs/filter", json={"flow_runs": begun}, timeout=30).json()
        assert sorted(run["state_type"] for run in runs) == ["CANCELLED", "COMPLETED"]

        taken = call(env, "up", cwd=tmp_path)
        assert taken.returncode == 1
        assert "is taken by another program" in taken.stderr
        interrupted = SERVER.post(
            f"{api}/deployments/{deployment}/create_flow_run",
            json={"parameters": parameters},
            timeout=30,
        ).json()["id"]
        while SERVER.get(f"{api}/flow_runs/{interrupted}", timeout=30).json()["state_type"] != (
            "RUNNING"
        ):
            assert time.monotonic() < deadline + 1200
            time.sleep(0.5)
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(600) == 0
    assert "goes on with the next `up`: train sample" in log.read_text()
    with closing(sqlite3.connect(tmp_path / "data" / "prefect.db")) as of_server:
        query = "SELECT state_type FROM flow_run WHERE id = ?"
        assert of_server.execute(query, (interrupted,)).fetchone() == ("SCHEDULED",)
    for url in (dashboard, env["PREFECT_API_URL"] + "/health"):
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=2)
