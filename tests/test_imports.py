"""Processes import large packages only when they use them: most commands and runs never do."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
#: What labels, models and scores are computed with.
COMPUTING = {
    *("torch", "torchvision", "timm"),
    *("sklearn", "skimage", "scipy", "simplemma"),
}
HEAVY = COMPUTING | {
    *("prefect", "streamlit", "pandas", "pyarrow", "PIL", "numpy"),
    *("huggingface_hub", "fsspec", "requests", "httpx"),
    *("psycopg", "sqlalchemy", "alembic", "pydantic_settings"),
}

#: Prefect imports a flow's module for each of its runs, and all of them to register deployments.
#: The dashboard imports the views before it shows its first page.
MODULES = (
    "flows.check",
    "flows.download",
    "flows.extract",
    "flows.pancap",
    "flows.upkeep",
    "flows.train",
    "flows.deployments",
    "dashboard.views.attributes",
    "dashboard.views.explore",
    "dashboard.views.predict",
)
IMPORT_MODULES = """
import importlib, json, sys
imported = {}
for name in sys.argv[1:]:
    importlib.import_module(name)
    imported[name] = list(sys.modules)
print(json.dumps(imported))
"""

#: Runs commands in one interpreter, and prints which modules they have imported.
RUN_COMMANDS = """
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
    ("download", "x"), ("extract", "x"), ("evaluate", "x"), ("evaluate", "--split", "x"),
    ("labels", "report", "--source", "x"), ("labels", "report", "--part", "x"),
    ("labels", "report", "x"), ("mirror", "export", "folder", "--dataset", "x"),
    ("judgements", "import", "x"), ("judgements", "import", "x", "--dataset", "x"),
    ("judgements", "export", "x", "--dataset", "x"), ("judgements", "agreement", "--dataset", "x"),
    ("labels", "fit", "--to", "x", "--dataset", "x"),
):
    assert "coconut-attr: " in call(1, *arguments)
call(2, "check", "x")
light = list(sys.modules)
call(0, "db", "upgrade")
call(0, "status")
call(0, "db", "check")
print(json.dumps([light, list(sys.modules)]))
"""


def test_flows_and_pages_are_imported_without_what_their_functions_compute_with() -> None:
    imported = run(IMPORT_MODULES, *MODULES)
    assert not {name: found for name in MODULES if (found := COMPUTING & set(imported[name]))}


def test_help_mistakes_and_status_import_little(tmp_path: Path) -> None:
    """Such imports took seconds, and 150 MB, in a command that prints a constant."""
    light, after_status = map(set, run(RUN_COMMANDS, COCONUT_ATTR_DATA_DIR=str(tmp_path)))
    assert not HEAVY & light
    needed = {"sqlalchemy", "alembic", "pydantic_settings"}
    assert HEAVY & after_status == needed
    assert not [name for name in after_status if name.startswith(("db.labels", "db.work."))]


def run(program: str, *arguments: str, **variables: str) -> Any:
    """Run a Python program in a process of its own; return the JSON that it prints."""
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "COLUMNS": "200", **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)
