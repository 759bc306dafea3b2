"""Databases checked, backed up, restored and copied, on SQLite files and a real PostgreSQL."""

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
from coconut_attr.files.atomic import clear_leftovers
from coconut_attr.judgements.records import Judgement, Origin
from db import annotations, bulk, downloads, judgements, progress, runs
from db.admin.backup import back_up, restore
from db.admin.copy import copy_database
from db.admin.integrity import database_problems
from db.commands.database import db_commands
from db.counts import refresh_counts
from db.engine import DatabaseUnavailable, connect
from db.labels import record_labels
from db.models import Base, Category, Dataset, now
from db.runs import get_run
from db.schema import downgrade, head_revision, open_database
from db.sql import sql
from tests.support.rows import fill, labels, outcome
from tests.support.runs import start_run


def fill_all(store: Engine) -> None:
    """Fill most tables: dates, JSON, text of every kind, booleans, NULLs and exact numbers."""
    fill(store)
    downloads.record_downloads(
        store, [outcome(key, verified_at=now()) for key in annotations.image_ids(store, "d")]
    )
    record_labels(store, "r", {1: labels(1, "present")}, [], [])
    annotations.add_captions(
        store, "d", [], [{"coco_id": 7, "caption_id": k, "text": t} for k, t in enumerate(TEXTS)]
    )
    with store.begin() as connection:
        for name in ("Zebra", "apple", "Äpfel", "苹果"):  # their order depends on the language
            row = {
                "name": name,
                "title": name,
                "is_coconut": False,
                "licence": "",
                "expected_images": None,
            }
            bulk.upsert(connection, Dataset, [{**row, "expected_segments": None}])
    run = start_run(store, dataset="d", config={"rate": 0.1, "names": ["ä", None]}).run_id
    rows = [
        {"image_id": 1, "attribute_id": k, "probability": p}
        for k, p in enumerate((0.1 + 0.2, 1e-300))
    ]
    runs.record_evaluation(store, run, "d", "train", [], [], rows)
    annotations.record_findings(
        store, "d", "check", [1], [{"image_id": 1, "kind": "k", "detail": "tab\tand \\ slash"}]
    )
    progress.record_progress(
        store, what="w", state="running", done=1, total=2, note="", started_at=now()
    )
    origin = Origin("ä, b", "human", "2", "random", now())
    judgements.add_judgements(store, "d", [Judgement(7, "person", "unsure", origin)])
    refresh_counts(store, "d")


TEXTS = ("", "two\nlines\r\n", "\\N", "tab\t'quoted' \"twice\"", "猫 \U0001f408 e\u0301", "NULL")


def content(store: Engine) -> dict[str, list[str]]:
    return {
        table: sorted(str(tuple(row.values())) for row in sql(store, f"SELECT * FROM {table}"))
        for table in Base.metadata.tables
    }


def test_a_database_is_backed_up_while_it_is_written_to_and_restored(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_all(store)
    monkeypatch.setattr("db.admin.backup.PAGES", 1)
    file = tmp_path / "backups" / "store.backup"
    stop = threading.Event()

    def write() -> None:
        """Insert two rows a transaction: an odd number in the backup shows a torn transaction."""
        number = 0
        while not stop.is_set():
            with store.begin() as connection:
                for half in range(2):
                    row = {"id": 1000 + 2 * number + half, "name": "x" * 500, "isthing": False}
                    bulk.upsert(connection, Category, [row])
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    back_up(store, file)
    stop.set()
    writer.join()
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    with pytest.raises(DatabaseUnavailable, match="exists; give the backup another name"):
        back_up(store, file)

    after = content(store)
    for damaged, words in (
        (file.read_bytes()[:-3000], "is damaged|pg_restore failed"),
        (b"SQLite", "not a backup"),
        (b"", "not a backup"),
    ):
        broken = tmp_path / "broken"
        broken.write_bytes(damaged)
        with pytest.raises(DatabaseUnavailable, match=words):
            restore(store, broken, replace=True)
    with pytest.raises(DatabaseUnavailable, match="--replace deletes its rows"):
        restore(store, file)
    assert content(store) == after
    restore(store, file, replace=True)
    back = content(store)
    assert len([row for row in back.pop("category") if "xxx" in row]) % 2 == 0
    after.pop("category")
    assert back == after
    assert start_run(store, dataset="d").run_id == 3
    assert database_problems(store) == []


def test_a_download_deletes_no_backup_in_its_data_folder_and_a_backup_shows_no_password(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = tmp_path / "arguments"
    program = tmp_path / "bin" / "pg_dump"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" > {arguments}\nsleep 1\nexec {shutil.which("pg_dump")} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("db.admin.backup.PAGES", 1)
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
    assert database_problems(store) == []
    engine.dispose()
    if postgresql:
        assert "--format=custom" in arguments.read_text()
        assert "hunter2" not in arguments.read_text()


def test_an_older_backup_is_upgraded_and_a_newer_one_refused(
    store: Engine, store_url: str, tmp_path: Path
) -> None:
    fill(store)
    before = content(store)
    downgrade(store, "0008")
    back_up(store, tmp_path / "old")
    assert "the schema is 0008" in database_problems(store)[0]
    open_database(store_url).dispose()
    restore(store, tmp_path / "old", replace=True)
    open_database(store_url).dispose()
    restored = content(store)
    assert {name: restored[name] for name in ("image", "segment", "run", "epoch_metric")} == {
        name: before[name] for name in ("image", "segment", "run", "epoch_metric")
    }
    with store.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    back_up(store, tmp_path / "new")
    with pytest.raises(DatabaseUnavailable, match="newer than this program"):
        restore(store, tmp_path / "new", replace=True)
    downgraded = sql(store, "SELECT version_num FROM alembic_version")
    assert downgraded[0]["version_num"] == "9999"
    assert "newer than this program" in database_problems(store)[0]


@pytest.mark.parametrize("to_postgresql", [True, False])
def test_a_copy_to_the_other_kind_of_database_is_equal_row_by_row(
    tmp_path: Path, postgres_url: str, to_postgresql: bool
) -> None:
    urls = [f"sqlite:///{tmp_path / 'a.db'}", postgres_url]
    source, target = (open_database(url) for url in (urls if to_postgresql else urls[::-1]))
    fill_all(source)
    batches: list[int] = []
    copied = copy_database(source, target, advance=batches.append)
    assert sum(batches) == 2 * sum(result.rows for result in copied.values())
    assert copied["caption"].rows == len(TEXTS) + 1
    assert copied["dataset"].rows == 5
    texts = "SELECT text FROM caption WHERE image_id = 1 ORDER BY caption_id"
    assert [row["text"] for row in sql(target, texts)] == list(TEXTS)
    assert get_run(target, 2)["config"] == {"rate": 0.1, "names": ["ä", None]}
    with pytest.raises(DatabaseUnavailable, match="--replace deletes its rows"):
        copy_database(source, target)
    assert copy_database(source, target, replace=True) == copied
    assert copy_database(target, open_database(f"sqlite:///{tmp_path / 'b.db'}")) == copied
    run = start_run(target, dataset="d").run_id
    assert run == 3  # ids go on

    class Stopped(Exception):
        pass

    def stop(rows: int) -> None:
        raise Stopped

    before = content(target)
    with pytest.raises(Stopped):
        copy_database(source, target, replace=True, advance=stop)
    if not to_postgresql:
        with target.begin() as connection:
            connection.execute(
                text(
                    "CREATE TRIGGER t AFTER INSERT ON caption"
                    " BEGIN UPDATE caption SET text = '?'; END"
                )
            )
        with pytest.raises(DatabaseUnavailable, match="table caption of .* did not come out equal"):
            copy_database(source, target, replace=True)
    assert content(target) == before


def test_a_copy_does_not_delete_what_another_process_is_writing(
    store: Engine, tmp_path: Path
) -> None:
    source = open_database(f"sqlite:///{tmp_path / 'source.db'}")
    fill_all(source)
    with ThreadPoolExecutor() as pool:
        with store.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO dataset (name, title, is_coconut, licence)"
                    " VALUES ('d', '', false, '')"
                )
            )
            image = "dataset, coco_id, file_name, url, licence, width, height, split"
            connection.execute(
                text(f"INSERT INTO image ({image}) VALUES ('d', 1, '', '', 1, 1, 1, 'test')")
            )
            copying = pool.submit(copy_database, source, store)
            time.sleep(0.5)  # the copy has begun, and still sees an empty database
            assert not copying.done()
        with pytest.raises(DatabaseUnavailable, match="--replace deletes its rows"):
            copying.result(60)
    assert len(annotations.image_ids(store, "d")) == 1


def test_faults_of_a_database_are_reported(store: Engine) -> None:
    assert database_problems(store) == []
    with store.begin() as connection:
        connection.execute(text("ALTER TABLE caption RENAME COLUMN text TO words"))
        connection.execute(text("CREATE TABLE more (id INTEGER)"))
    problems = " ".join(database_problems(store))
    assert "more" in problems and "caption" in problems and "words" in problems
    with store.begin() as connection:
        connection.execute(text("ALTER TABLE caption RENAME COLUMN words TO text"))
        connection.execute(text("DROP TABLE more"))
        if store.dialect.name == "postgresql":
            connection.execute(
                text("ALTER TABLE caption ADD CONSTRAINT long CHECK (text <> '') NOT VALID")
            )
    if store.dialect.name == "postgresql":
        assert database_problems(store) == ["constraint caption.long has not been validated"]
        return
    path = Path(store.url.database)
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO caption VALUES (99, 1, 'of no image')")
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'caption'"
        ).fetchone()
    connection.close()
    assert database_problems(store) == [
        "row 1 of caption refers to a row of image that does not exist"
    ]
    store.dispose()
    damaged = bytearray(path.read_bytes())
    damaged[(page - 1) * 4096 : page * 4096] = b"x" * 4096
    path.write_bytes(damaged)
    assert "restore a backup" in " ".join(database_problems(connect(f"sqlite:///{path}")))


def test_the_commands_check_back_up_restore_and_copy_a_database(
    tmp_path: Path, configure, postgres_url: str
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(db_commands, arguments)
        if isinstance(result.exception, UserError):
            return 1, str(result.exception)
        return result.exit_code, result.output

    url = configure().sqlalchemy_url
    file = str(tmp_path / "file")
    assert "there is no database" in run("check")[1]
    assert "there is no database" in run("backup", file)[1]
    store = open_database(url)
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
    assert code == 1 and "wrong: the schema differs" in shown and "fails" in shown
    assert run("restore", file, "--replace")[0] == 0
    assert len(annotations.image_ids(store, "d")) == 3
    plain = postgres_url.replace("postgresql+psycopg://", "postgresql://")
    code, shown = run("copy", "--to", plain)
    assert code == 0 and "equal in both" in shown
    assert len(annotations.image_ids(connect(postgres_url), "d")) == 3
    configure(database_url=plain)
    assert run("check")[0] == 0
    assert (
        "is a backup of sqlite and the database is postgresql"
        in run("restore", file, "--replace")[1]
    )
    assert "label" in inspect(store).get_view_names()
