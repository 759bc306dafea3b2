"""The processes of docker-compose.yml, with its environments and commands, without docker."""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
import yaml
from streamlit.testing.v1 import AppTest

from coconut_attr.settings import sqlalchemy_form
from db.engine import DatabaseUnavailable
from db.schema import open_database
from flows.local import ROOT, Stack
from tests.support.browser import WAIT
from tests.support.cluster import Cluster, program
from tests.support.ports import free_port
from tests.support.team import wait_until

pytestmark = pytest.mark.server
FILE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
APP = sorted(set(SERVICES) - {"postgres"})


def test_the_files_are_what_docker_takes() -> None:
    """Compose's own schema and hadolint decide."""
    for command in (
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"),
        ("hadolint", "Dockerfile"),
    ):
        name = str(Path(sys.executable).with_name(command[0]))
        result = subprocess.run(
            [name, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr


def assert_no_secret(environment: dict[str, str]) -> None:
    """Assert that passwords and keys come from variables, also in URLs."""
    for name, value in environment.items():
        secret = re.search("PASSWORD|SECRET|ACCESS_KEY|AUTH_STRING", name)
        for given in [value] if secret else re.findall(r"://[^:/@]*:([^@]*)@", value):
            assert re.fullmatch(r"\$\{\w+(:[-?][^}]*)?\}", given), f"{name} holds a secret"


@pytest.mark.parametrize(
    "environment",
    [
        {"POSTGRES_PASSWORD": "hunter2"},
        {"PREFECT_SERVER_API_AUTH_STRING": "team:hunter2"},
        {"COCONUT_ATTR_DATABASE_URL": "postgresql://owner:hunter2@postgres/x"},
    ],
)
def test_a_secret_in_the_file_would_be_found(environment: dict[str, str]) -> None:
    with pytest.raises(AssertionError, match="holds a secret"):
        assert_no_secret(environment)


def test_services_have_no_open_port_and_no_needless_right() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["restart"] == (
            "no" if name in {"migrate", "deployments"} else "unless-stopped"
        )
        assert "healthcheck" in service or service["restart"] == "no"
        assert re.search(r":\d+\.\d+", service["image"]), "a tag that names a release"
        assert_no_secret(service["environment"])
    assert all(SERVICES[name]["cap_drop"] == ["ALL"] for name in APP)
    last = (ROOT / "Dockerfile").read_text().split("FROM ")
    for target in ("cpu", "gpu"):
        (stage,) = [text for text in last if text.split("\n")[0].endswith(f" AS {target}")]
        assert "\nUSER 1000" in stage
    other = {name for name in APP if SERVICES[name].get("networks", ["default"]) != ["dashboard"]}
    assert other == set(APP) - {"dashboard"}, "the dashboard reaches PostgreSQL alone"
    mounted = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
    ]
    assert {name for name in mounted if not name.startswith(".")} == set(FILE["volumes"])
    assert all((ROOT / name).is_file() for name in mounted if name.startswith("."))


@pytest.fixture
def dot_env() -> dict[str, str]:
    """Return a value for each variable of .env.example."""
    names = re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert used == set(names)
    values = {name: secrets.token_hex(12) for name in names}
    own = {
        "COCONUT_ATTR_MIRROR": "",
        "COCONUT_ATTR_REVIEW": "true",
        "COCONUT_ATTR_IMAGE_STORE": "",
        "COCONUT_ATTR_DASK": "tcp://dask-scheduler:8786",
    }
    return values | own | {"PREFECT_AUTH_STRING": "team:" + secrets.token_hex(12)}


class ByHand:
    """Services of the file as processes of this machine, with other ports and folders."""

    def __init__(self, dot_env: dict[str, str], data: Path) -> None:
        self.ports = {
            port: str(free_port())
            for port in ("5432", "4200", "8501", "8080", "8786", "8787", "8788")
        }
        self.dot_env, self.data = dot_env, data

    def here(self, text: str) -> str:
        text = re.sub(r"\$\{(\w+)[^}]*\}", lambda found: self.dot_env[found[1]], text)
        text = re.sub(
            r"(?<=[@/])(postgres|prefect-server|dask-scheduler)(?=:)|^0\.0\.0\.0$",
            "127.0.0.1",
            text,
        )
        for port, other in self.ports.items():
            text = re.sub(rf"\b{port}\b", other, text)
        return str(self.data) if text == "/data" else text

    def environment(self, name: str) -> dict[str, str]:
        given = {key: self.here(str(value)) for key, value in SERVICES[name]["environment"].items()}
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        home = {"PREFECT_HOME": str(self.data.parent / "prefect-home"), "PATH": programs}
        return {**given, **home, "PREFECT_WORKER_WEBSERVER_PORT": self.ports["8080"]}

    def command(self, name: str) -> list[str]:
        return [self.here(word) for word in SERVICES[name]["command"]]

    def healthy(self, name: str) -> bool:
        kind, *command = (self.here(word) for word in SERVICES[name]["healthcheck"]["test"])
        assert kind == "CMD"
        command[0] = program(command[0]) or sys.executable
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def run(self, name: str, *command: str) -> str:
        """Run a service's command, or another with its environment; return the output."""
        result = subprocess.run(
            command or self.command(name),
            cwd=ROOT,
            env={**os.environ, **self.environment(name)},
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    def as_role(self, name: str, setting: str = "DATABASE_URL") -> psycopg.Connection:
        """Connect with a URL of a service."""
        return psycopg.connect(self.environment(name)[f"COCONUT_ATTR_{setting}"], autocommit=True)


@contextmanager
def postgres(by_hand: ByHand, folder: Path) -> Iterator[None]:
    """Start the service `postgres`: a new cluster with passwords, after its init script."""
    env = by_hand.environment("postgres")
    password = folder.with_name("password")
    password.write_text(env["POSTGRES_PASSWORD"])
    password.chmod(0o644)
    options = (f"--pwfile={password}", "--auth-local=trust", *env["POSTGRES_INITDB_ARGS"].split())
    cluster = Cluster(folder, int(by_hand.ports["5432"]), options, env["POSTGRES_USER"])
    cluster.start()
    try:
        (script,) = [
            volume.split(":")[0]
            for volume in SERVICES["postgres"]["volumes"]
            if "/docker-entry" in volume
        ]
        subprocess.run(
            [
                *(program("psql") or "psql", "-v", "ON_ERROR_STOP=1", "-h", str(folder)),
                *("-p", by_hand.ports["5432"], "-U", env["POSTGRES_USER"]),
                *("-d", env["POSTGRES_DB"], "-f", str(ROOT / script)),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **env},
        )
        yield
    finally:
        cluster.stop()


@pytest.mark.waits(180)
def test_the_processes_of_the_file_do_a_job_together(
    dot_env: dict[str, str], tmp_path: Path, configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = ByHand(dot_env, tmp_path / "data")
    stack = Stack(tmp_path / "logs")

    def start(name: str) -> None:
        stack.start(name, *by_hand.command(name), env=by_hand.environment(name))

    def wait(name: str) -> None:
        """Wait until a service's health check succeeds, which is a process for each attempt."""

        def healthy() -> bool:
            stack.check()
            return by_hand.healthy(name)

        wait_until(healthy, name, pause=2)

    with postgres(by_hand, tmp_path / "postgres"):
        try:
            assert by_hand.healthy("postgres")
            start("prefect-server")
            with pytest.raises(
                DatabaseUnavailable,
                match="this account may not change it; run with the account that owns",
            ):
                open_database(
                    sqlalchemy_form(by_hand.environment("worker-cpu")["COCONUT_ATTR_DATABASE_URL"])
                )
            by_hand.run("migrate")
            start("dashboard")
            wait("prefect-server")
            api = by_hand.environment("worker-cpu")["PREFECT_API_URL"]
            flows = {"url": f"{api}/flows/filter", "json": {}, "timeout": 10}
            user, password = dot_env["PREFECT_AUTH_STRING"].split(":")
            assert requests.post(**flows).status_code == 401
            assert requests.post(**flows, auth=(user, password + "x")).status_code == 401
            assert requests.post(**flows, auth=(user, password)).ok
            assert "download/sample" in by_hand.run("deployments")
            start("worker-cpu")
            by_hand.run("worker-cpu", "prefect", "deployment", "run", "download/sample", "--watch")
            wait("worker-cpu")
            wait("dashboard")
            for name in ("dask-scheduler", "dask-worker"):
                start(name)
                wait(name)
            by_hand.run("worker-cpu", "prefect", "deployment", "run", "extract/sample", "--watch")
        finally:
            stack.stop()

        with by_hand.as_role("dashboard") as reader:
            (done,) = reader.execute(
                "SELECT COUNT(*) FROM download WHERE state = 'done'"
            ).fetchone()
            assert done == 13
            assert reader.execute(
                "SELECT COUNT(*) FROM image WHERE rule_version IS NOT NULL"
            ).fetchone() == (13,)
            for words in (
                "INSERT INTO category VALUES (999, 'x', true)",
                "DELETE FROM run",
                "CREATE TABLE x ()",
                "CREATE TEMPORARY TABLE x ()",
                "TRUNCATE image CASCADE",
            ):
                for mode in ("on", "off"):  # without the role's read-only setting, rights are left
                    reader.execute(f"SET default_transaction_read_only = {mode}")
                    with pytest.raises(
                        (
                            psycopg.errors.InsufficientPrivilege,
                            psycopg.errors.ReadOnlySqlTransaction,
                        )
                    ):
                        reader.execute(words)
        with by_hand.as_role("worker-cpu") as writer:
            for words in (
                "DROP TABLE image CASCADE",
                "ALTER TABLE run ADD COLUMN x INTEGER",
                "CREATE TABLE x ()",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    writer.execute(words)
        with by_hand.as_role("dashboard", "REVIEW_DATABASE_URL") as reviewer:
            judgement = "SELECT 1, 0, 'x', now(), 'present', 'human', '2', 'random'"
            reviewer.execute(f"INSERT INTO judgement {judgement}")
            for words in (
                "SELECT * FROM judgement",
                "UPDATE judgement SET state = 'absent'",
                "DELETE FROM judgement",
                "INSERT INTO category VALUES (999, 'x', true)",
                "CREATE TABLE x ()",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    reviewer.execute(words)
        url = by_hand.environment("dashboard")["COCONUT_ATTR_DATABASE_URL"]
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(url.replace("/coconut_attr", "/prefect"))

        configure(database_url=url, data_dir=by_hand.data)
        monkeypatch.chdir(ROOT)
        page = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=WAIT).run()
        assert not page.exception and not page.error
        shown = str(page.main)
        assert "sample" in shown.lower() and "13" in shown
        by_hand.run("migrate", "coconut-attr", "db", "backup", str(tmp_path / "backup"))
        with by_hand.as_role("migrate") as owner:
            owner.execute("CREATE TABLE later (id SERIAL PRIMARY KEY)")  # as a future migration
        with by_hand.as_role("worker-cpu") as writer:
            writer.execute("INSERT INTO later DEFAULT VALUES")
        with by_hand.as_role("dashboard") as reader:
            assert reader.execute("SELECT id FROM later").fetchone() == (1,)
        with by_hand.as_role("migrate") as owner:
            owner.execute("DROP TABLE later")
        by_hand.run(
            "migrate", "coconut-attr", "db", "restore", str(tmp_path / "backup"), "--replace"
        )
        with by_hand.as_role(
            "dashboard"
        ) as reader:  # restored tables are new, with the same rights
            assert reader.execute(
                "SELECT COUNT(*) FROM download WHERE state = 'done'"
            ).fetchone() == (done,)
            assert reader.execute("SELECT COUNT(*) FROM dataset_summary").fetchone() != (0,)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                reader.execute("DELETE FROM run")
            reader.execute("SET default_transaction_read_only = off")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute("DELETE FROM run")
        with by_hand.as_role("worker-cpu") as writer:
            writer.execute("UPDATE download SET attempts = attempts")
        assert "integrity: nothing wrong" in by_hand.run("migrate", "coconut-attr", "db", "check")
