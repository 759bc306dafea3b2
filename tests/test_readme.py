"""README, docs, CONTRIBUTING and SECURITY say what is there."""

import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer
from sqlalchemy import Engine

from coconut_attr.cli import app
from coconut_attr.datasets import DATASETS
from coconut_attr.settings import Settings
from db.schema import open_database
from db.sql import sql

ROOT = Path(__file__).parent.parent
DOCUMENTS = {
    path: path.read_text()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))
    if path.name != "CHANGELOG.md"
}
ALL = "\n".join(DOCUMENTS.values())


def test_every_setting_dataset_and_view_is_documented(tmp_path: Path) -> None:
    for name in Settings.model_fields:
        variable = f"COCONUT_ATTR_{name.upper()}"
        assert variable in ALL or f"..._{name.upper()}" in ALL, variable
    for name in DATASETS:
        assert f"`{name}`" in ALL
    views = sql(
        open_database(f"sqlite:///{tmp_path / 'x.db'}"),
        "SELECT name FROM sqlite_master WHERE type = 'view'",
    )
    assert views
    for view in views:
        assert f"`{view['name']}`" in ALL


def test_queries_are_taken_by_both_databases(store: Engine) -> None:
    found = re.findall(r"^> (SELECT.*?;)$", ALL, re.MULTILINE | re.DOTALL)
    assert len(found) >= 10
    for query in found:
        sql(store, query)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", DOCUMENTS[path]):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, heading = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
            assert heading in anchors, link


def test_commands_exist_with_their_options() -> None:
    """Parse each documented `coconut-attr` call without running it."""
    for entry in entry_points(group="coconut_attr.commands"):
        entry.load()(app)
    root = typer.main.get_command(app)
    lines = re.findall(r"(?:^\$ |`)(?:[A-Z_]+=\S+ )*coconut-attr ([^`#\n]+)", ALL, re.MULTILINE)
    assert len(lines) > 15
    for line in lines:
        words = shlex.split(line.split("  ")[0].replace("\\|", "|"))
        command = root
        while words and hasattr(command, "commands") and not words[0].startswith("-"):
            for name in words[0].split("|"):
                assert name in command.commands, line
            command = command.commands[words.pop(0).split("|")[0]]
        options = {opt for parameter in command.params for opt in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options | {"--help"}, line


def test_every_promise_of_security_names_tests_that_are_there() -> None:
    table = re.compile(r"^\| (?!---|promise \|)(.+?) \| (.+) \|$", re.MULTILINE)
    promises = table.findall((ROOT / "SECURITY.md").read_text())
    assert promises
    for promise, tested in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)`", tested)
        assert named, promise
        assert all((ROOT / name).is_file() for name in named), tested
