"""Mistakes are answered at once: no server starts, and no import is waited for."""

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
        (
            ["predict", "dashboard"],
            {},
            "AVIF or HEIC file in dashboard",
        ),
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
        (["download", "x"], {}, "unknown dataset 'x'; choose one of"),
        (["download", "--retry-failed", "--verify"], {}, "exclude each other"),
        (["download", "--retry-failed"], {}, "no image of val5k has failed"),
        (["download", "--verify"], {}, "no image of val5k has been downloaded"),
        (["extract"], {}, "the database has no image of val5k; run: coconut-attr download val5k"),
        (["evaluate"], {}, "the database has no image of val5k; run: coconut-attr download val5k"),
        (["evaluate", "--split", "x"], {}, "unknown split 'x'; choose one of: train, val, test"),
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
