"""Help and mistakes are answered at once: nothing heavy is imported, and no server starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coconut_attr.cli import main
from db.schema import open_database
from flows import local
from tests.conftest import forget_settings
from tests.support.runs import start_run

ROOT = Path(__file__).parent.parent


class ServerStarted(BaseException):
    """A command starts a Prefect server."""


@pytest.fixture
def mistake(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Return a function that calls the program with a mistake; gives its lines on stderr."""

    def launch(*_arguments: object) -> bool:
        raise ServerStarted

    monkeypatch.setattr(local, "launch_server", launch)
    monkeypatch.chdir(ROOT)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")  # with which the program does not change them

    def call(*arguments: str, **variables: str) -> list[str]:
        for name, value in variables.items():
            monkeypatch.setenv(f"COCONUT_ATTR_{name.upper()}", value)
        forget_settings()
        monkeypatch.setattr(sys, "argv", ["coconut-attr", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 1
        output, errors = capsys.readouterr()
        assert "Traceback" not in output + errors
        return errors.splitlines()

    return call


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["predict", "none.jpg"], {}, "none.jpg is not a file, a folder or an http(s) URL"),
        (["predict", "dashboard"], {}, "there is no JPEG or PNG file in dashboard"),
        (["predict", "README.md"], {}, "train first"),
        (["model-info", "--backbone", "x"], {}, "unknown backbone 'x'; choose one of"),
        (["status"], {}, "there is no database at"),
        (["status"], {"database_url": "nonsense"}, "is not a database URL"),
        (["status"], {"retries": "many"}, "COCONUT_ATTR_RETRIES: "),
        (["status"], {"mirror": "http://me:secret@host"}, "COCONUT_ATTR_MIRROR: "),
        (["db", "upgrade"], {"data_dir": "/dev/null/x"}, "/dev/null"),
        (
            ["db", "backup", "/dev/null/x"],
            {"database_url": "sqlite:////dev/null/x"},
            "/dev/null",
        ),
        (["run", "--dataset", "x"], {}, "unknown dataset 'x'; choose one of"),
        (["run", "--backbone", "x"], {}, "unknown backbone 'x'; choose one of"),
        (["run"], {"mirror": "/none"}, "COCONUT_ATTR_MIRROR=/none is not a folder"),
        (["train", "x"], {}, "unknown dataset 'x'; choose one of"),
        (["train", "--backbone", "x"], {}, "unknown backbone 'x'; choose one of"),
        (["train", "--profile", "x"], {}, "unknown profile 'x'; choose one of"),
        (["train", "--resume", "99"], {}, "run 99 cannot be resumed: there is no such run"),
        (["train", "--resume", "99", "--seed", "1"], {}, "its own settings; leave out: seed"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    mistake, arguments: list[str], variables: dict[str, str], message: str
) -> None:
    errors = mistake(*arguments, **variables)
    (line,) = (line for line in errors if line.startswith("coconut-attr: "))
    assert message in line
    assert "secret" not in "".join(errors)


def test_every_wrong_setting_has_a_line(mistake) -> None:
    lease, retries = mistake("status", retries="many", lease="0")
    assert lease.startswith("coconut-attr: COCONUT_ATTR_LEASE: ")
    assert retries.startswith("coconut-attr: COCONUT_ATTR_RETRIES: ")


def test_a_run_that_cannot_be_resumed_is_told_before_a_server_starts(mistake, configure) -> None:
    engine = open_database(configure().sqlalchemy_url)
    lease = start_run(engine, dataset="val5k")
    resume = ("train", "--resume", str(lease.run_id))
    (line,) = mistake(*resume, "sample")
    assert line.endswith("cannot be resumed: it trains on val5k, not on sample")
    with pytest.raises(ServerStarted):
        mistake(*resume)
    lease.finish("finished")
    engine.dispose()
    (line,) = mistake(*resume)
    assert line.endswith(f"run {lease.run_id} cannot be resumed: it is finished")


#: Runs commands in one interpreter, and prints which modules they have imported.
PROGRAM = """
import contextlib, io, json, os, sys
from coconut_attr.cli import all_commands, main
import typer

def call(code, *arguments):
    sys.argv = ["coconut-attr", *arguments]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            main()
            left = 0
        except SystemExit as error:
            left = error.code or 0
    assert left == code, (arguments, left, output.getvalue())
    return output.getvalue()

def help_of(command, *path):
    call(0, *path, "--help")
    for name, below in getattr(command, "commands", {}).items():
        help_of(below, *path, name)

help_of(typer.main.get_command(all_commands()))
call(0, "attributes")
os.environ |= {
    "_COCONUT_ATTR_COMPLETE": "complete_bash", "COMP_WORDS": "coconut-attr att", "COMP_CWORD": "1"
}
assert "attributes" in call(0)
del os.environ["_COCONUT_ATTR_COMPLETE"]
call(2, "train", "--unknown")
call(2, "unknown")
for arguments in (
    ("predict", "none.jpg"), ("model-info", "--backbone", "x"), ("run", "--dataset", "x"),
    ("run", "--backbone", "x"), ("train", "x"), ("train", "--backbone", "x"),
    ("download", "x"), ("labels", "report", "--source", "x"), ("labels", "report", "--part", "x"),
    ("labels", "report", "x"), ("mirror", "export", "folder", "--dataset", "x"),
    ("judgements", "import", "x"), ("judgements", "import", "x", "--dataset", "x"),
    ("judgements", "export", "x", "--dataset", "x"), ("judgements", "agreement", "--dataset", "x"),
):
    assert "coconut-attr: " in call(1, *arguments)
call(2, "check", "x")
light = list(sys.modules)
call(0, "db", "upgrade")
call(0, "status")
call(0, "db", "check")
print(json.dumps([light, list(sys.modules)]))
"""
HEAVY = {
    *("torch", "torchvision", "prefect", "streamlit", "pandas", "pyarrow", "sklearn", "scipy"),
    *("skimage", "PIL", "numpy", "simplemma", "huggingface_hub", "fsspec", "requests", "httpx"),
    *("psycopg", "sqlalchemy", "alembic", "pydantic_settings"),
}


def test_help_mistakes_and_status_import_little(tmp_path: Path) -> None:
    """Such imports took seconds, and 150 MB, in a command that prints a constant."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "COCONUT_ATTR_DATA_DIR": str(tmp_path), "COLUMNS": "200"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    light, after_status = (set(modules) for modules in json.loads(result.stdout))
    assert not HEAVY & light
    needed = {"sqlalchemy", "alembic", "pydantic_settings"}
    assert HEAVY & after_status == needed
    assert not [name for name in after_status if name.startswith(("db.labels", "db.work."))]
