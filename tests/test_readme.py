"""The README and SECURITY.md say what is there."""

import re
from pathlib import Path

from sqlalchemy import Engine

from coconut_attr.datasets import DATASETS
from coconut_attr.settings import Settings
from db.schema import open_database
from db.sql import sql

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_setting_dataset_and_view_is_documented(tmp_path: Path) -> None:
    for name in Settings.model_fields:
        variable = f"COCONUT_ATTR_{name.upper()}"
        assert variable in README or f"..._{name.upper()}" in README, variable
    for name in DATASETS:
        assert f"`{name}`" in README
    views = sql(
        open_database(f"sqlite:///{tmp_path / 'x.db'}"),
        "SELECT name FROM sqlite_master WHERE type = 'view'",
    )
    assert views
    for view in views:
        assert f"`{view['name']}`" in README


def test_its_queries_are_taken_by_both_databases(store: Engine) -> None:
    found = re.findall(r"^> (SELECT.*?;)$", README, re.MULTILINE | re.DOTALL)
    assert len(found) == 5
    for query in found:
        sql(store, query)


def test_every_promise_of_security_names_tests_that_are_there() -> None:
    table = re.compile(r"^\| (?!---|what is promised)(.+?) \| (.+) \|$", re.MULTILINE)
    promises = table.findall((ROOT / "SECURITY.md").read_text())
    assert promises
    for promise, tested in promises:
        named = re.findall(r"`(tests/\w+\.py)`", tested)
        assert named, promise
        assert all((ROOT / name).is_file() for name in named), tested
