"""The database on SQLite files and a real PostgreSQL: migrations, idempotent writes, views."""

import re
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from traceback import format_exception

import pytest
from alembic import command
from sqlalchemy import Engine, insert, inspect, text
from sqlalchemy.exc import DatabaseError

import db
from coconut_attr.labels.label_model import load_label_model
from db import annotations, browse, counts, downloads, runs
from db.adhoc import QueryError, ask
from db.counts import refresh_counts
from db.engine import LOG_BYTES, DatabaseUnavailable, connect
from db.labels import images_to_label, labelled_images, record_labels
from db.lease import ABANDONED, EXPIRY, RunLease, RunStillAlive, RunTakenOver, fail_abandoned
from db.models import Judgement, now
from db.runs import newest_run
from db.schema import (
    alembic_config,
    current_revision,
    downgrade,
    head_revision,
    open_database,
    open_for_reading,
    upgrade,
)
from db.sql import Rows, sql
from tests.support.rows import NO_ESTIMATE, fill, labels, outcome
from tests.support.runs import change_run, start_run

VIEWS_SQL = Path(db.__file__).parent / "views.sql"
VIEWS = set(re.findall(r"^CREATE VIEW (\w+)", VIEWS_SQL.read_text(), re.MULTILINE))


def rows(store: Engine, table: str) -> list[dict]:
    return sorted((dict(row) for row in sql(store, f"SELECT * FROM {table}")), key=str)


def test_migrations_go_up_and_down_and_match_the_models(store: Engine) -> None:
    assert current_revision(store) == head_revision()
    assert set(inspect(store).get_view_names()) == VIEWS
    command.check(alembic_config(store))
    fill(store)
    downgrade(store, "base")
    assert inspect(store).get_table_names() == ["alembic_version"]
    upgrade(store)
    assert set(inspect(store).get_view_names()) == VIEWS


def test_the_reported_run_has_the_reported_figures(store: Engine) -> None:
    curve = sql(store, "SELECT * FROM epoch_curve WHERE kind = 'reported' ORDER BY epoch")
    assert [row["epoch"] for row in curve] == list(range(1, 11))
    assert (curve[0]["loss"], curve[9]["loss"]) == (0.7049, 0.6939)
    assert (curve[0]["accuracy"], curve[7]["accuracy"], curve[9]["accuracy"]) == (
        0.2941,
        0.4529,
        0.4294,
    )
    for row in curve:  # every accuracy is a multiple of 1/170
        assert row["decisions"] == 170
        assert row["accuracy"] == pytest.approx(round(row["accuracy"] * 170) / 170, abs=5e-5)


def test_several_processes_may_migrate_an_empty_database_at_once(store_url: str) -> None:
    program = f"from db.schema import open_database; open_database({store_url!r})"
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert len(sql(connect(store_url), "SELECT * FROM run")) == 1


def test_repeated_writes_change_nothing(store: Engine) -> None:
    fill(store)
    before = {name: rows(store, name) for name in ("image", "segment", "caption", "dataset")}
    fill(store)
    assert {name: rows(store, name) for name in before} == before
    assert [
        (row["rows_done"], row["complete"])
        for row in annotations.annotation_files(store, "d").values()
    ] == [(2, False)]
    annotations.finish_file(store, "d", "f", 3)
    assert not annotations.annotation_files(store, "d")["f"]["complete"], (
        "its third row is not here"
    )
    annotations.finish_file(store, "d", "f", 2)
    assert annotations.annotation_files(store, "d")["f"]["complete"]


def test_downloads_are_retried_and_labels_replaced(store: Engine) -> None:
    fill(store)
    first, second, _third = (row["id"] for row in rows(store, "image"))
    failure = {
        "state": "failed",
        "path": "",
        "sha256": "",
        "bytes": 0,
        "error_class": "HTTP 503",
        "error": "x",
    }
    downloads.record_downloads(store, [outcome(first), outcome(second, **failure)])
    assert rows(store, "dataset_summary")[0]["failed"] == 1

    assert images_to_label(store, "d", "1") == [first]
    proof = {
        "image_id": first,
        "attribute_id": 0,
        "source": "caption",
        "state": "present",
        "confidence": 0.9,
        "detail": "why",
        "segment_id": None,
        "caption_id": None,
    }
    measured = {
        "image_id": first,
        "segment_id": 300,
        "area": 5,
        "bbox_x": 0,
        "bbox_y": 0,
        "bbox_width": 1,
        "bbox_height": 5,
        "mean_l": 1.0,
        "mean_a": 2.0,
        "mean_b": 3.0,
        "color": "red",
        "rle": "x",
    }
    changes = [
        record_labels(store, "1", {first: labels(first, state)}, [proof], [measured])
        for state in ("absent", "present", "present")
    ]
    assert changes == [1, 1, 0]  # what has not changed is left alone
    assert [row["area"] for row in rows(store, "segment") if row["segment_id"] == 300] == [5]
    assert images_to_label(store, "d", "1") == []
    assert images_to_label(store, "d", "2") == [first]
    assert {(row["coco_id"], row["attribute"]): row["state"] for row in rows(store, "label")} == {
        (7, "red"): "present",
        (7, "blue"): "unknown",
    }
    assert rows(store, "evidence")[0]["detail"] == "why"
    coverage = {
        row["attribute"]: (row["present"], row["unknown"], row["coverage"])
        for row in rows(store, "dataset_coverage")
    }
    assert coverage == {"red": (1, 0, 1.0), "blue": (0, 1, 0.0)}
    (found,) = labelled_images(store, "d", "train", load_label_model())
    assert (found.id, found.path, found.states) == (first, f"p{first}", [1, -1])

    (by_source,) = rows(store, "dataset_coverage_by_source")
    assert (
        by_source["attribute"],
        by_source["source"],
        by_source["present"],
        by_source["coverage"],
    ) == (
        "red",
        "caption",
        1,
        1.0,
    )
    assert rows(store, "attribute_cooccurrence") == []  # of the other attribute nothing is known
    known = [
        {**row, "state": "absent"} if row["attribute_id"] else row
        for row in labels(first, "present")
    ]
    record_labels(store, "1", {first: known}, [proof], [])
    (pair,) = rows(store, "attribute_cooccurrence")
    assert (pair["attribute"], pair["other"], pair["both_present"], pair["n"]) == (
        "red",
        "blue",
        0,
        1,
    )

    annotations.add_captions(store, "d", [], [{"coco_id": 7, "caption_id": 70, "text": "new"}])
    assert images_to_label(store, "d", "1") == [first]  # a new caption makes labels out of date


def test_a_stage_replaces_its_own_findings_and_no_others(store: Engine) -> None:
    fill(store)
    first, second = (
        {"image_id": 1, "kind": "k", "detail": "a"},
        {"image_id": 2, "kind": "k", "detail": "b"},
    )
    annotations.record_findings(store, "d", "extract", [1, 2], [first, second])
    annotations.record_findings(store, "d", "check", [1], [first])
    annotations.record_findings(store, "d", "extract", [1], [])
    assert {(row["stage"], row["image_id"]) for row in rows(store, "finding")} == {
        ("check", 1),
        ("extract", 2),
    }
    annotations.record_findings(store, "d", "extract", [1], [first])
    of_dataset = {"image_id": None, "kind": "w", "detail": "c"}
    for _ in range(2):
        annotations.record_findings(store, "d", "check", None, [of_dataset])
    assert [tuple(row.values()) for row in annotations.findings(store, "d")] == [
        ("extract", "k", 2, 2, "image 7: a"),
        ("check", "k", 1, 1, "image 7: a"),
        ("check", "w", 1, 0, "c"),
    ]
    assert [row["kind"] for row in annotations.findings(store, "d", ["extract"])] == ["k"]


def test_a_run_is_stored_epoch_by_epoch_and_scored(store: Engine) -> None:
    fill(store)
    lease = start_run(store, dataset="d", config={"epochs": 2})
    run_id = lease.run_id
    assert newest_run(store, "d") is None
    epoch = {
        "epoch": 1,
        "loss": 0.5,
        "val_loss": 0.6,
        "accuracy": 0.7,
        "map": None,
        "decisions": 9,
        "learning_rate": 0.1,
        "images_per_second": 3.0,
        "seconds": 1.0,
    }
    lease.record_epoch(epoch)
    lease.record_epoch({**epoch, "loss": 0.4}, checkpoint="runs/2/best.safetensors")
    lease.finish("finished")
    run = newest_run(store, "d")
    assert (run["config"], run["checkpoint"], run["best_epoch"]) == (
        {"epochs": 2},
        "runs/2/best.safetensors",
        1,
    )
    score = {"low": 0.1, "high": 0.9, "n": 4, "images": 2}
    attribute = {"attribute_id": 0, "n": 4, "positives": 1, "accuracy": 0.5, "precision": None}
    for _ in range(2):
        runs.record_evaluation(
            store,
            run_id,
            "d",
            "test",
            "labels",
            overall=[
                {"name": "map", "value": 0.5, **score},
                {"name": "accuracy", "value": 0.6, **score},
            ],
            attributes=[attribute],
        )
        prediction = {"image_id": 1, "attribute_id": 0, "probability": 0.3}
        runs.record_predictions(store, run_id, [prediction])
    (summary,) = sql(store, "SELECT * FROM run_summary WHERE run_id = :run", run=run_id)
    assert (summary["map"], summary["accuracy"], summary["decisions"]) == (0.5, 0.6, 4)
    (accuracy,) = rows(store, "attribute_accuracy")
    assert (accuracy["attribute"], accuracy["accuracy"], accuracy["precision"]) == (
        "red",
        0.5,
        None,
    )
    assert (summary["against"], accuracy["against"]) == ("labels", "labels")
    by_eyes = [{"name": "map", "value": 0.4, **score}, {"name": "accuracy", "value": 0.7, **score}]
    seen = {**attribute, "accuracy": 0.25, "recall": 1.0, "specificity": 0.1}
    runs.record_evaluation(store, run_id, "d", "test", "eyes", by_eyes, [seen], judged_by="human")
    (summary,) = sql(store, "SELECT * FROM run_summary WHERE run_id = :run", run=run_id)
    assert (summary["map"], summary["accuracy"]) == (0.4, 0.7), "scores by eyes lead"
    assert (summary["against"], summary["judged_by"]) == ("eyes", "human")
    (accuracy,) = rows(store, "attribute_accuracy")
    assert (accuracy["accuracy"], accuracy["degenerate"]) == (0.25, 1)
    against_labels = runs.run_scores(store, run_id, "d", "test", "labels")
    assert {row["name"]: row["value"] for row in against_labels} == {"map": 0.5, "accuracy": 0.6}
    assert {row["value"] for row in runs.run_scores(store, run_id, "d", "test")} == {0.4, 0.7}
    curve = sql(store, "SELECT loss FROM epoch_curve WHERE run_id = :run", run=run_id)
    assert [row["loss"] for row in curve] == [0.4]


def test_a_run_without_heartbeats_is_recorded_as_failed(store: Engine) -> None:
    long_ago = now() - 2 * ABANDONED
    leases = [start_run(store, started_at=at) for at in (long_ago, long_ago, long_ago, now())]
    killed, before_heartbeats, alive, new = (lease.run_id for lease in leases)
    for run, at in ((killed, long_ago), (before_heartbeats, None), (alive, long_ago)):
        change_run(store, run, heartbeat_at=at)
    leases[2].renew()
    assert sorted(fail_abandoned(store)) == [killed, before_heartbeats]
    assert fail_abandoned(store) == []
    found = [runs.get_run(store, run) for run in (killed, before_heartbeats, alive, new)]
    assert [row["status"] for row in found] == ["failed", "failed", "running", "running"]
    note = f"its process ended without a word; resume with: coconut-attr train --resume {killed}"
    assert found[0]["note"] == note
    assert found[0]["finished_at"] == found[0]["heartbeat_at"]


def test_one_process_has_a_run(store: Engine) -> None:
    first = start_run(store, "first", flow_run_id="a flow run")
    run = first.run_id

    def take(process: str) -> RunLease | None:
        try:
            return RunLease.take(store, run, process)
        except RunStillAlive:
            return None

    assert take("another") is None, "the first process is alive"
    assert take("first") == first, "it asks again, as the answer was lost"
    change_run(store, run, heartbeat_at=now() - 2 * EXPIRY)
    with ThreadPoolExecutor(4) as pool:
        (winner,) = filter(None, pool.map(take, "abcd"))
    epoch = {"epoch": 1, "loss": 0.5, "accuracy": 0.7, "decisions": 9}
    for write in (
        first.renew,
        lambda: first.record_epoch(epoch, checkpoint="lost"),
        lambda: first.finish("failed", "its connection is back"),
    ):
        with pytest.raises(RunTakenOver, match=f"run {run} has been taken over"):
            write()
    with first.heartbeats():
        pass  # its thread ends quietly
    row = runs.get_run(store, run)
    assert (row["status"], row["process"]) == ("running", winner.process)
    assert (row["flow_run_id"], row["checkpoint"]) == ("a flow run", None)
    assert sql(store, "SELECT * FROM epoch_metric WHERE run_id = :run", run=run) == []
    change_run(store, run, heartbeat_at=now() - 2 * ABANDONED)
    assert fail_abandoned(store) == [run]
    winner.renew()  # it was only asleep
    row = runs.get_run(store, run)
    assert (row["status"], row["finished_at"], row["note"]) == ("running", None, None)
    winner.finish("finished")
    assert take("another") is None, "it is finished"


def test_a_reading_connection_cannot_write(store: Engine, store_url: str) -> None:
    reader = open_for_reading(store_url)
    with pytest.raises(DatabaseError, match="read.?only"), reader.begin() as connection:
        connection.execute(text("DELETE FROM run"))
    assert rows(reader, "run")


def test_a_reader_is_not_blocked_by_a_writer(store: Engine, store_url: str) -> None:
    reader = open_for_reading(store_url)
    with store.begin() as connection:
        connection.execute(text("UPDATE run SET note = 'x'"))
        assert rows(reader, "run")[0]["note"] != "x"


def test_sqlite_cuts_its_log_after_a_long_reader(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    writer, log = open_database(url), tmp_path / "store.db-wal"
    with writer.begin() as connection:
        connection.execute(text("CREATE TABLE more (content BLOB)"))

    def write(times: int) -> int:
        for _ in range(times):
            with writer.begin() as connection:
                connection.execute(text(f"INSERT INTO more VALUES (zeroblob({LOG_BYTES // 4}))"))
        return log.stat().st_size

    with open_for_reading(url).connect() as reader:
        reader.execute(text("SELECT COUNT(*) FROM image"))
        assert write(6) > LOG_BYTES
    write(1)
    assert write(1) == LOG_BYTES
    writer.dispose()


def test_a_missing_or_foreign_database_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="there is no database at .*; run: make run"):
        open_for_reading(f"sqlite:///{tmp_path / 'none.db'}")
    sqlite3.connect(tmp_path / "empty.db").execute("CREATE TABLE x (y)").connection.close()
    with pytest.raises(DatabaseUnavailable, match="is empty; run: make run"):
        open_for_reading(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(DatabaseUnavailable, match="is not a database URL"):
        connect("nonsense")
    with pytest.raises(
        DatabaseUnavailable,
        match=r"mysql:// is not supported; give sqlite:///FILE or postgresql",
    ):
        connect("mysql://user@host/x")
    with pytest.raises(DatabaseUnavailable, match="cannot open postgresql"):
        open_database("postgresql+psycopg://user:secret@127.0.0.1:9/x")
    newer = tmp_path / "newer.db"
    open_database(f"sqlite:///{newer}").dispose()
    with sqlite3.connect(newer) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseUnavailable, match="newer than this program"):
        open_database(f"sqlite:///{newer}")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://user:secret@127.0.0.1:9/x",
        "postgresql+psycopg://user:secret@127.0.0.1:port/x",
        "postgresql+psycopg:/user:secret@127.0.0.1/x",
        "postgresql+psycopg://user@127.0.0.1:9/x?password=secret",
        "postgresql+psycopg://user:secret@127.0.0.1:9/x?password=secret",
        "postgresql+psycopg://user:p@secret@127.0.0.1:9/x",
    ],
)
def test_a_password_is_not_shown(url: str) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        open_database(url)
    assert "secret" not in "".join(format_exception(caught.value))


def test_a_password_among_the_parameters_of_a_url_is_used() -> None:
    url = connect("postgresql+psycopg://user@127.0.0.1:9/x?password=a%40b&connect_timeout=5").url
    assert (url.password, dict(url.query)) == ("a@b", {"connect_timeout": "5"})


def test_stored_counts_are_those_of_the_views_and_images_are_found_by_label_and_prediction(
    store: Engine,
) -> None:
    fill(store)
    ids = sorted(annotations.image_ids(store, "d"))
    downloads.record_downloads(store, [outcome(key) for key in ids])
    states = {
        ids[0]: ("present", "present"),
        ids[1]: ("present", "absent"),
        ids[2]: ("absent", "unknown"),
    }
    rows_of = {
        key: [
            {
                "image_id": key,
                "attribute_id": k,
                "state": state,
                "confidence": 1.0,
                "conflict": k == 1,
                **NO_ESTIMATE,
            }
            for k, state in enumerate(pair)
        ]
        for key, pair in states.items()
    }
    proof = {
        "segment_id": None,
        "caption_id": None,
        "confidence": 0.9,
        "detail": "x",
        "state": "present",
    }
    evidence = [
        {"image_id": ids[0], "attribute_id": k, "source": "caption", **proof} for k in (0, 1)
    ]
    record_labels(store, "r", rows_of, evidence, [])
    refresh_counts(store, "d")
    refresh_counts(store, "d")
    (summary,) = [row for row in counts.dataset_summaries(store) if row["dataset"] == "d"]
    (view,) = [row for row in rows(store, "dataset_summary") if row["dataset"] == "d"]
    assert {name: summary[name] for name in view} == view
    assert summary["known"] == 5

    def counted(source: str) -> dict:
        found = [row for row in counts.coverage(store, "d") if row["source"] == source]
        return {row["attribute"]: (row["present"], row["absent"]) for row in found}

    for table, source in (
        ("dataset_coverage", "combined"),
        ("dataset_coverage_by_source", "caption"),
    ):
        assert counted(source) == {
            row["attribute"]: (row["present"], row["absent"]) for row in rows(store, table)
        }
    together = [
        {k: v for k, v in row.items() if k != "dataset"}
        for row in rows(store, "attribute_cooccurrence")
    ]
    assert sorted((dict(row) for row in counts.cooccurrence(store, "d")), key=str) == together

    run = start_run(store, dataset="d").run_id
    chances = {ids[0]: (0.9, 0.2), ids[1]: (0.4, 0.8), ids[2]: (0.7, 0.7)}
    runs.record_predictions(
        store,
        run,
        [
            {"image_id": key, "attribute_id": k, "probability": pair[k]}
            for key, pair in chances.items()
            for k in (0, 1)
        ],
    )

    def of(found: Rows) -> list[int]:
        return [ids.index(row["id"]) for row in found]

    with store.begin() as connection:
        connection.execute(text("UPDATE segment SET color = 'red' WHERE segment_id = 301"))
    wanted = browse.ImageFilter
    for found, expected in (
        (wanted(), [0, 1, 2]),
        (wanted(split="train", states=((0, "present"), (1, "absent"))), [1]),
        (wanted(split="val"), []),
        (wanted(caption="A DOG"), [2]),
        (wanted(caption="a_d"), []),
        (wanted(category=1), [0, 1]),
        (wanted(category=1, color="red"), [1]),
        (wanted(judged=True), []),
        (wanted(judged=False), [0, 1, 2]),
        (wanted(states=((0, "present"),), lowest=0.9), []),
    ):
        assert of(browse.find_images(store, "d", found, 9)) == expected
        assert browse.count_images(store, "d", found)[0]["n"] == len(expected)
        listed = browse.list_images(store, "d", found)
        assert [row["coco_id"] for row in listed] == [7 + k for k in expected]
    assert of(browse.find_images(store, "d", wanted(), 2, start=1)) == [1, 2]
    chips = [(row["image_id"], row["attribute"]) for row in browse.present_labels(store, ids)]
    assert chips == [(ids[0], "red"), (ids[0], "blue"), (ids[1], "red")]
    for kind, expected in (
        ("present", [0, 2]),
        ("absent", [1]),
        ("false present", [2]),
        ("false absent", [1]),
    ):
        predicted = browse.Predicted(run, "d", "train", 0, kind, 0.5)
        assert of(browse.images_by_prediction(store, predicted, 9)) == expected
        assert browse.count_by_prediction(store, predicted)[0]["n"] == len(expected)
    assert of(browse.images_with_all(store, run, "d", "train", [0, 1], 2)) == [2, 1]
    assert of(browse.images_near(store, run, "d", "train", [0.4, 0.8], 1)) == [1]
    cells = browse.scored_cells(store, run, "d", "train", 1, "labels")
    assert sorted((row["present"], row["probability"]) for row in cells) == [(0, 0.8), (1, 0.2)]
    seen = [
        (row["attribute"], row["state"], row["probability"])
        for row in browse.cells_of(store, ids[2], run)
    ]
    assert seen == [("red", "absent", 0.7), ("blue", "unknown", 0.7)]
    assert browse.scored_cells(store, run, "d", "train", 1, "eyes") == []
    with store.begin() as connection:
        row = {"annotator": "eva", "kind": "human", "state": "absent", "judged_at": now()}
        row |= {"image_id": ids[0], "attribute_id": 1, "guideline": "2", "chosen": "random"}
        connection.execute(insert(Judgement), [row])
    cells = browse.scored_cells(store, run, "d", "train", 1, "eyes")
    assert [(row["present"], row["probability"]) for row in cells] == [(0, 0.2)]


def test_the_query_box_answers_one_query_and_writes_nothing(store_url: str) -> None:
    store = open_database(store_url)
    fill(store)
    before = rows(store, "attribute")
    reader = open_for_reading(store_url)
    answer = ask(reader, "SELECT name, '%' AS sign FROM attribute ORDER BY id; ", rows=1)
    assert (answer.columns, answer.rows, answer.truncated) == (
        ["name", "sign"],
        [("red", "%")],
        True,
    )
    for query in (
        "DELETE FROM attribute",
        "SELECT 1) AS q; DELETE FROM attribute; SELECT * FROM (SELECT 1",
        "SELECT 1; DROP TABLE attribute",
        "WITH gone AS (DELETE FROM attribute RETURNING *) SELECT * FROM gone",
        "COMMIT",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT nothing FROM attribute",
    ):
        with pytest.raises(QueryError):
            ask(reader, query)
    endless = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n"
    )
    with pytest.raises(QueryError, match="stopped after 0 seconds"):
        ask(reader, endless, seconds=0.2)
    assert rows(store, "attribute") == before
    assert ask(reader, "SELECT 1 AS one").rows == [(1,)]  # no limit stays with the connection
    store.dispose()
    reader.dispose()
