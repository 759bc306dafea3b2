"""Hostile texts wherever people type: addresses and boxes of the dashboard, flows, commands."""

import hashlib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer
from prefect.exceptions import ParameterTypeError
from sqlalchemy import Engine, select
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from coconut_attr import cli
from coconut_attr.errors import UserError
from db.adhoc import QueryError, ask
from db.models import Base
from db.schema import open_for_reading
from flows.check import check
from flows.database import write_reference
from flows.download import download
from flows.evaluate import evaluate
from flows.extract import extract
from flows.train import train
from tests.support import tiny_mirror as tiny
from tests.support.browser import WAIT
from tests.support.dashboard_rows import add_run, fill_gold, fill_images, fill_reference, score

TEXTS = [
    "' OR 1=1 --",
    '"; DROP TABLE run; --',
    "%' UNION SELECT sql, 1 FROM sqlite_master --",
    "\u2019 OR \u02bc1\u02bc=\u02bc1",
    "val5k\x00' OR 1",
    "\u00b2",  # a digit that is no number
    "9" * 5_000,  # a number that Python does not convert
    "x'" * 50_000,
]


def digest(engine: Engine) -> str:
    """Return the SHA-256 of all rows of all tables."""
    content = hashlib.sha256()
    with engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            content.update(
                f"{table.name} {sorted(map(str, connection.execute(select(table))))}".encode()
            )
    return content.hexdigest()


@pytest.fixture
def filled(store: Engine, store_url: str, configure) -> Iterator[Engine]:
    """A database with images, labels, gold and a scored run; fails if the test changes a row."""
    configure(database_url=store_url)
    fill_reference(store)
    fill_images(store, "val5k")
    fill_gold(store)
    score(store, add_run(store, "val5k", epochs=2, status="finished"), "val5k")
    write_reference(store)
    before = digest(store)
    yield store
    assert digest(store) == before


SCRIPT = """
from dashboard import data
from dashboard.views import {page}
data.refresh()
{page}.page()
"""
#: Pages with the parameters that their addresses take.
ADDRESSES: list[tuple[str, dict[str, str], list[str]]] = [
    ("coverage", {}, ["dataset", "split", "of", "groups"]),
    ("labels", {}, ["dataset", "part", "source", "attribute"]),
    ("attributes", {}, ["run", "on", "from", "sort", "groups", "attribute"]),
    ("runs", {}, ["runs"]),
    ("explore", {}, ["dataset", "by", "present", "absent", "split", "page", "image"]),
    ("explore", {"by": "predictions"}, ["run", "attribute", "kind", "page"]),
    ("explore", {"by": "set", "set": "vehicle,red"}, ["run", "set", "page"]),
    ("query", {"sql": "SELECT attribute, accuracy FROM attribute_accuracy"}, ["x", "y", "color"]),
    ("query", {}, ["sql"]),
]


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)  # each database takes a minute
def test_pages_treat_a_text_in_their_address_as_nothing_but_text(filled: Engine) -> None:
    for text in TEXTS[2:]:
        for page, given, names in ADDRESSES:
            test = AppTest.from_string(SCRIPT.format(page=page), default_timeout=WAIT)
            for name in names:
                test.query_params[name] = text
                # A browser may send a value that is no option.
                test.session_state[f"choice of {name}"] = text
            for name, value in given.items():
                test.query_params[name] = value
            test.run()
            assert not test.exception, (page, text[:50], test.exception[0].message)
            refused = [error.value for error in test.error]
            assert bool(refused) == (names == ["sql"]), (page, text[:50], refused)
            assert all(
                "The database refused" in message and len(message) < 2_000 for message in refused
            )


HOSTILE_SQL = [
    "SELECT 1; DROP TABLE run",
    "SELECT 1) AS q; DELETE FROM run; SELECT * FROM (SELECT 1",
    "SELECT 1) AS q LIMIT 1; COMMIT; DELETE FROM run; --",
    "INSERT INTO category VALUES (999, 'x', true)",
    "UPDATE run SET note = 'x'",
    "DELETE FROM run",
    "WITH gone AS (DELETE FROM run RETURNING *) SELECT * FROM gone",
    "CREATE TABLE x (y INTEGER)",
    "CREATE TEMPORARY TABLE x (y INTEGER)",
    "SELECT 1 AS y INTO x",
    "PRAGMA writable_schema = 1",
    "PRAGMA journal_mode = DELETE",
    "ATTACH 'x.db' AS x",
    "VACUUM INTO 'x.db'",
    "SELECT load_extension('x')",
    "SELECT writefile('x', 'y')",
    "COPY run TO PROGRAM 'touch x'",
    "COPY run FROM PROGRAM 'echo 1'",
    "SET default_transaction_read_only = off",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "DO $$ BEGIN DELETE FROM run; END $$",
    "CALL x()",
    "BEGIN",
    "COMMIT",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/x')",
    "SELECT nextval('run_id_seq')",
    "SELECT setval('run_id_seq', 1)",
    "SELECT * FROM run FOR UPDATE",
    "SELECT pg_sleep(30)",
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n",
    "SELECT '\x00'",
    "SELECT '\ud800'",
    "",
    "--",
    "/*",
    "SELECT %s, %(x)s, :y, ?",
]


def test_the_query_box_refuses_all_but_one_query_that_reads(
    filled: Engine, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reader = open_for_reading(filled.url.render_as_string(hide_password=False))
    for query in HOSTILE_SQL:
        with pytest.raises(QueryError):
            ask(reader, query, seconds=0.3)
        # The connection is still usable.
        assert ask(reader, "SELECT COUNT(*) FROM run").rows == [(2,)]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("x")]
    reader.dispose()
    if filled.dialect.name == "postgresql":
        # PostgreSQL 15 lets readers create large objects: the transaction's end must undo it.
        ask(reader, "SELECT lo_creat(-1)")
        count = "SELECT COUNT(*) FROM pg_largeobject_metadata"
        with filled.connect() as connection:
            assert connection.exec_driver_sql(count).scalar_one() == 0


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)  # SQLite has no accounts
def test_the_query_box_is_not_for_superusers(filled: Engine) -> None:
    reader = open_for_reading(
        filled.url.set(username="tests").render_as_string(hide_password=False)
    )
    with pytest.raises(QueryError, match="give the dashboard one that may only SELECT"):
        ask(reader, "SELECT pg_read_file('/etc/passwd')")
    reader.dispose()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)  # no query is made
def test_flows_refuse_unknown_names_and_store_nothing(filled: Engine) -> None:
    for text in TEXTS:
        for flow in (
            download,
            check,
            extract,
            evaluate,
            train,
        ):  # `pipeline` begins with `download`
            with pytest.raises(UserError, match="^unknown dataset .*; choose one of: val5k"):
                flow.fn(text)  # the function that Prefect calls
        for name in ("profile", "backbone"):
            with pytest.raises(UserError, match=f"^unknown {name} "):
                train.fn("val5k", prepare=False, **{name: text})
        with pytest.raises(ParameterTypeError):
            evaluate.validate_parameters({"split": text})


#: Commands with TEXT where they take a text; all of them refuse unknown ones.
COMMANDS = [
    "model-info --backbone TEXT",
    "predict TEXT",
    "predict . --checkpoint TEXT",
    "predict . --run TEXT",
    "runs --dataset TEXT",
    "runs pin TEXT",
    "check TEXT",
    "run --dataset TEXT",
    "download TEXT",
    "train TEXT --profile TEXT --backbone TEXT",
    "labels report TEXT",
    "labels report gold --part TEXT",
    "labels report gold --source TEXT",
    "labels export TEXT --format coco --to out.json",
    "labels export val5k --format TEXT --to out.json",
    "labels export val5k --format coco --to out.json --split TEXT",
    "labels export val5k --format coco --to out.json --states TEXT",
    "judgements import TEXT --annotator a --kind ai",
    "judgements import photo.jpg --dataset TEXT",
    "judgements import photo.jpg --annotator TEXT --kind ai",
    "judgements import photo.jpg --kind TEXT",
    "judgements import photo.jpg --format TEXT",
    "judgements export out.csv --dataset TEXT",
    "judgements agreement --dataset TEXT",
    "mirror export out --dataset TEXT",
    "mirror serve TEXT",
    "db restore TEXT --replace",
    "db copy --to TEXT",
    "status --runs TEXT",
]


def test_commands_say_what_is_wrong_with_a_text(
    filled: Engine, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("photo.jpg").write_bytes(tiny.jpeg(1))
    app = typer.Typer()
    app.registered_commands = [*cli.app.registered_commands]
    app.registered_groups = [*cli.app.registered_groups]
    for entry in entry_points(group="coconut_attr.commands"):
        entry.load()(app)
    wrong = []
    for command in COMMANDS:
        for text in (*TEXTS[:4], *TEXTS[5:7]):  # arguments cannot hold a NUL or 100,000 letters
            words = [word.replace("TEXT", text) for word in command.split()]
            result = CliRunner().invoke(app, words)
            error = result.exception
            exited = isinstance(error, SystemExit) and error.code in (1, 2)
            refused = exited or isinstance(error, UserError)
            if not (refused and (str(error) or result.output)):
                wrong.append((command, text[:30], repr(error)[:200]))
    assert not wrong
    assert [path.name for path in Path().iterdir()] == ["photo.jpg"]
