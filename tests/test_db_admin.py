"""Stores checked, backed up, brought back and copied, on real SQLite files and a real PostgreSQL."""

import os
import shutil
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text
from typer.testing import CliRunner

from coconut_attr.errors import UserError
from coconut_attr.files import clear_leftovers
from db import queries, runs
from db import store as writes
from db.admin import db_commands
from db.backup import back_up, restore
from db.copy import copy_store
from db.counts import refresh_counts
from db.engine import StoreError, connect
from db.integrity import store_problems
from db.models import Base
from db.schema import downgrade, head_revision, open_store
from tests.test_store import fill, labels, outcome


def fill_all(store: Engine) -> None:
    """Rows in most tables: dates, JSON, text of every kind, booleans, NULLs and numbers that must stay exact."""
    fill(store)
    writes.record_downloads(store, [outcome(key, verified_at=writes.now()) for key in queries.image_ids(store, "d")])
    writes.record_labels(store, "r", {1: labels(1, "present")}, [], [])
    writes.add_captions(store, "d", [], [{"coco_id": 7, "caption_id": k, "text": t} for k, t in enumerate(TEXTS)])
    with store.begin() as connection:
        for name in ("Zebra", "apple", "Äpfel", "苹果"):  # their order differs from language to language
            row = {"name": name, "title": name, "is_coconut": False, "licence": "", "expected_images": None}
            writes.upsert(connection, writes.Dataset, [{**row, "expected_segments": None}])
    run = runs.start(store, dataset="d", backbone="b", total_parameters=2, trainable_parameters=1,
                           config={"rate": 0.1, "names": ["ä", None]}, environment={})  # fmt: skip
    rows = [{"image_id": 1, "attribute_id": k, "probability": p} for k, p in enumerate((0.1 + 0.2, 1e-300))]
    runs.record_evaluation(store, run, "d", "train", [], [], rows)
    writes.record_findings(store, "d", "check", [1], [{"image_id": 1, "kind": "k", "detail": "tab\tand \\ slash"}])
    writes.record_progress(store, what="w", state="running", done=1, total=2, note="", started_at=writes.now())
    refresh_counts(store, "d")


TEXTS = ("", "two\nlines\r\n", "\\N", "tab\t'quoted' \"twice\"", "猫 \U0001f408 e\u0301", "NULL")


def content(store: Engine) -> dict[str, list[str]]:
    return {
        table: sorted(str(tuple(row.values())) for row in queries.sql(store, f"SELECT * FROM {table}"))
        for table in Base.metadata.tables
    }


def test_a_store_is_backed_up_while_it_is_written_to_and_brought_back(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_all(store)
    monkeypatch.setattr("db.backup.PAGES", 1)
    file = tmp_path / "backups" / "store.backup"
    stop = threading.Event()

    def write() -> None:
        """Two rows a transaction: a backup that holds an odd number has torn one apart."""
        number = 0
        while not stop.is_set():
            with store.begin() as connection:
                for half in range(2):
                    row = {"id": 1000 + 2 * number + half, "name": "x" * 500, "isthing": False}
                    writes.upsert(connection, writes.Category, [row])
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    back_up(store, file)
    stop.set()
    writer.join()
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    with pytest.raises(StoreError, match="is there already"):
        back_up(store, file)

    after = content(store)
    for damaged, words in (
        (file.read_bytes()[:-3000], "is damaged|pg_restore failed"),
        (b"SQLite", "not a backup"),
        (b"", "not a backup"),
    ):
        broken = tmp_path / "broken"
        broken.write_bytes(damaged)
        with pytest.raises(StoreError, match=words):
            restore(store, broken, replace=True)
    with pytest.raises(StoreError, match="--replace deletes it"):
        restore(store, file)
    assert content(store) == after
    restore(store, file, replace=True)
    back = content(store)
    assert len([row for row in back.pop("category") if "xxx" in row]) % 2 == 0
    after.pop("category")
    assert back == after
    assert runs.start(store, dataset="d", backbone="b", total_parameters=2, trainable_parameters=1, config={},
                            environment={}) == 3  # fmt: skip
    assert store_problems(store) == []


def test_a_backup_in_a_data_folder_outlasts_a_download_and_shows_no_password(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "arguments"
    program = tmp_path / "bin" / "pg_dump"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" > {told}\nsleep 1\nexec {shutil.which("pg_dump")} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("db.backup.PAGES", 1)
    postgresql = store.dialect.name == "postgresql"
    url = store.url._replace(password="hunter2") if postgresql else store.url
    engine = connect(url.render_as_string(hide_password=False))
    ended = threading.Event()

    def download() -> None:
        while not ended.wait(0.001):
            clear_leftovers(tmp_path)

    thread = threading.Thread(target=download)
    thread.start()
    try:
        back_up(engine, tmp_path / "backups" / "monday")
    finally:
        ended.set()
        thread.join()
    restore(store, tmp_path / "backups" / "monday", replace=True)
    assert store_problems(store) == []
    engine.dispose()
    if postgresql:
        assert "--format=custom" in told.read_text() and "hunter2" not in told.read_text()


def test_an_older_backup_is_brought_to_this_schema_and_a_newer_or_foreign_one_refused(
    store: Engine, store_url: str, tmp_path: Path
) -> None:
    fill(store)
    before = content(store)
    downgrade(store, "0008")
    back_up(store, tmp_path / "old")
    assert "the schema is 0008" in store_problems(store)[0]
    open_store(store_url).dispose()
    restore(store, tmp_path / "old", replace=True)
    open_store(store_url).dispose()
    restored = content(store)
    assert {name: restored[name] for name in ("image", "segment", "run", "epoch_metric")} == {
        name: before[name] for name in ("image", "segment", "run", "epoch_metric")
    }
    with store.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    back_up(store, tmp_path / "new")
    with pytest.raises(StoreError, match="newer than this program"):
        restore(store, tmp_path / "new", replace=True)
    downgraded = queries.sql(store, "SELECT version_num FROM alembic_version")
    assert downgraded[0]["version_num"] == "9999"
    assert "newer than this program" in store_problems(store)[0]


@pytest.mark.parametrize("to_postgresql", [True, False])
def test_a_copy_on_the_other_kind_of_database_is_equal_row_by_row(
    tmp_path: Path, postgres_url: str, to_postgresql: bool
) -> None:
    urls = [f"sqlite:///{tmp_path / 'a.db'}", postgres_url]
    source, target = (open_store(url) for url in (urls if to_postgresql else urls[::-1]))
    fill_all(source)
    told: list[int] = []
    copied = copy_store(source, target, advance=told.append)
    assert sum(told) == 2 * sum(result.rows for result in copied.values())
    assert copied["caption"].rows == len(TEXTS) + 1
    assert copied["dataset"].rows == 5
    texts = "SELECT text FROM caption WHERE image_id = 1 ORDER BY caption_id"
    assert [row["text"] for row in queries.sql(target, texts)] == list(TEXTS)
    assert queries.run(target, 2)["config"] == {"rate": 0.1, "names": ["ä", None]}
    with pytest.raises(StoreError, match="--replace deletes it"):
        copy_store(source, target)
    assert copy_store(source, target, replace=True) == copied
    assert copy_store(target, open_store(f"sqlite:///{tmp_path / 'b.db'}")) == copied
    run = runs.start(target, dataset="d", backbone="b", total_parameters=2, trainable_parameters=1, config={},
                           environment={})  # fmt: skip
    assert run == 3  # ids go on

    class Stopped(Exception):
        pass

    def stop(rows: int) -> None:
        raise Stopped

    before = content(target)
    with pytest.raises(Stopped):
        copy_store(source, target, replace=True, advance=stop)
    if not to_postgresql:
        with target.begin() as connection:
            connection.execute(
                text("CREATE TRIGGER t AFTER INSERT ON caption BEGIN UPDATE caption SET text = '?'; END")
            )
        with pytest.raises(StoreError, match="table caption of .* did not come out equal"):
            copy_store(source, target, replace=True)
    assert content(target) == before


def test_a_copy_does_not_delete_what_another_is_just_writing(store: Engine, tmp_path: Path) -> None:
    source = open_store(f"sqlite:///{tmp_path / 'source.db'}")
    fill_all(source)
    with ThreadPoolExecutor() as pool:
        with store.begin() as connection:
            connection.execute(
                text("INSERT INTO dataset (name, title, is_coconut, licence) VALUES ('d', '', false, '')")
            )
            image = "dataset, coco_id, file_name, url, licence, width, height, split"
            connection.execute(text(f"INSERT INTO image ({image}) VALUES ('d', 1, '', '', 1, 1, 1, 'test')"))
            copying = pool.submit(copy_store, source, store)
            time.sleep(0.5)  # it has begun, and sees an empty store still
            assert not copying.done()
        with pytest.raises(StoreError, match="--replace deletes it"):
            copying.result(60)
    assert len(queries.image_ids(store, "d")) == 1


def test_what_is_wrong_with_a_store_is_told(store: Engine) -> None:
    assert store_problems(store) == []
    with store.begin() as connection:
        connection.execute(text("ALTER TABLE caption RENAME COLUMN text TO words"))
        connection.execute(text("CREATE TABLE more (id INTEGER)"))
    problems = " ".join(store_problems(store))
    assert "more" in problems and "caption" in problems and "words" in problems
    with store.begin() as connection:
        connection.execute(text("ALTER TABLE caption RENAME COLUMN words TO text"))
        connection.execute(text("DROP TABLE more"))
        if store.dialect.name == "postgresql":
            connection.execute(text("ALTER TABLE caption ADD CONSTRAINT long CHECK (text <> '') NOT VALID"))
    if store.dialect.name == "postgresql":
        assert store_problems(store) == ["constraint caption.long has not been validated"]
        return
    path = Path(store.url.database)
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO caption VALUES (99, 1, 'of no image')")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'caption'").fetchone()
    connection.close()
    assert store_problems(store) == ["row 1 of caption names a row of image that is not there"]
    store.dispose()
    damaged = bytearray(path.read_bytes())
    damaged[(page - 1) * 4096 : page * 4096] = b"x" * 4096
    path.write_bytes(damaged)
    assert "bring a backup back" in " ".join(store_problems(connect(f"sqlite:///{path}")))


def test_the_commands(tmp_path: Path, configure, postgres_url: str) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(db_commands, arguments)
        if isinstance(result.exception, UserError):
            return 1, str(result.exception)
        return result.exit_code, result.output

    url = configure().sqlalchemy_url
    file = str(tmp_path / "file")
    assert "there is no database" in run("check")[1]
    assert "there is no database" in run("backup", file)[1]
    store = open_store(url)
    fill(store)
    code, shown = run("check")
    assert code == 0 and f"schema {head_revision()}; integrity: nothing wrong" in shown
    assert run("backup", file)[0] == 0
    assert "--replace" in run("restore", file)[1]
    with store.begin() as connection:
        connection.execute(text("DROP VIEW label"))
        connection.execute(text("DELETE FROM image"))
        connection.execute(text("DROP TABLE epoch_metric"))
    code, shown = run("check")
    assert code == 1 and "wrong: the schema differs" in shown and "does not work" in shown
    assert run("restore", file, "--replace")[0] == 0
    assert len(queries.image_ids(store, "d")) == 3
    plain = postgres_url.replace("postgresql+psycopg://", "postgresql://")
    code, shown = run("copy", "--to", plain)
    assert code == 0 and "equal in both" in shown
    assert len(queries.image_ids(connect(postgres_url), "d")) == 3
    configure(database_url=plain)
    assert run("check")[0] == 0
    assert "is a backup of sqlite and the store is postgresql" in run("restore", file, "--replace")[1]
    assert "label" in inspect(store).get_view_names()
