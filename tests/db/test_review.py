"""The page Review's queries: what each queue shows first, and what judging changes."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import ProgrammingError
from typer.testing import CliRunner

from coconut_attr.attributes import ATTRIBUTES, INDEX
from coconut_attr.errors import UserError
from coconut_attr.labels.label_model import load_label_model
from db import review
from db.commands.database import db_commands
from db.engine import connect
from db.sql import sql
from tests.support.dashboard_rows import add_run, fill_images, fill_reference, image_ids, score

PERSON = INDEX["person"]


@pytest.fixture
def filled(store: Engine) -> Engine:
    """20 photos of val5k, all labels absent with the estimate 0.1; run 2 predicts the test split.

    The last photo was not downloaded.
    """
    fill_reference(store)
    fill_images(store, "val5k")
    score(store, add_run(store, "val5k", epochs=1, status="finished"), "val5k")
    change(store, "UPDATE image_attribute SET estimate = 0.1, state = 'absent'")
    change(store, "UPDATE prediction SET probability = 0.1")
    return store


def change(engine: Engine, statement: str, **parameters: object) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement), parameters)


def of_photo(engine: Engine, coco_id: int) -> int:
    return image_ids(engine, "coco_id = :id", id=coco_id)[0]


def label(engine: Engine, coco_id: int, **values: object) -> None:
    """Change the label of `person` in a photo."""
    sets = ", ".join(f"{name} = :{name}" for name in values)
    change(
        engine,
        f"UPDATE image_attribute SET {sets} WHERE image_id = :image AND attribute_id = :attribute",
        image=of_photo(engine, coco_id),
        attribute=PERSON,
        **values,
    )


def run_id(engine: Engine) -> int:
    return sql(engine, "SELECT MAX(run_id) AS id FROM prediction")[0]["id"]


def queue(engine: Engine, name: review.Queue, annotator: str = "eva", **more) -> list[int]:
    more = {"attribute": "person", "run": run_id(engine), "size": 50} | more
    rows = review.next_photos(engine, "val5k", name, annotator, **more)
    return [row["coco_id"] for row in rows]


def answer(engine: Engine, coco_id: int, state: str, annotator="eva", chosen="random") -> None:
    cells = {(of_photo(engine, coco_id), "person"): state}
    review.record_answers(engine, annotator, "human", chosen, cells)


def test_each_queue_shows_its_kind_of_cell_first(filled: Engine) -> None:
    label(filled, 3, estimate=0.5, state="unknown")
    label(filled, 4, conflict=True)
    label(filled, 5, estimate=0.9, state="present")
    assert queue(filled, "uncertain")[0] == 3
    assert queue(filled, "conflict") == [4]
    assert queue(filled, "rare")[:2] == [5, 3]
    assert queue(filled, "rare", attribute=None)[0] == 5  # a photo counts by all of its cells
    change(filled, "UPDATE image_attribute SET estimate = 1 - estimate")
    assert queue(filled, "rare")[:2] == [5, 3]  # now absent is rare
    assert sorted(queue(filled, "random")) == list(range(19))  # 19 was not downloaded


def test_photos_come_in_random_order(filled: Engine) -> None:
    orders = {tuple(queue(filled, "random", attribute=name)) for name in (None, *ATTRIBUTES[:5])}
    assert len(orders) > 1
    assert queue(filled, "random", skipped={of_photo(filled, k) for k in range(18)}) == [18]


def test_labels_are_held_against_the_model_only_where_it_did_not_train(filled: Engine) -> None:
    change(filled, "UPDATE prediction SET probability = 0.95")
    test = sql(filled, "SELECT coco_id FROM image WHERE split = 'test' AND path IS NOT NULL")
    likely, *others = (row["coco_id"] for row in test)
    label(filled, likely, estimate=0.3)
    assert queue(filled, "model")[0] == likely
    assert sorted(queue(filled, "model")) == sorted([likely, *others])
    issues = review.label_issues(filled, "val5k", run_id(filled), "person", 50, False)
    assert issues[0]["coco_id"] == likely
    assert issues[0]["doubt"] == pytest.approx((0.3 + 0.95) / 2)
    label(filled, likely, judged=True)
    assert likely not in queue(filled, "model")
    issues = review.label_issues(filled, "val5k", run_id(filled), None, 50, False)
    assert ("person", likely) not in {(row["attribute"], row["coco_id"]) for row in issues}
    judged = review.label_issues(filled, "val5k", run_id(filled), None, 1, True)
    assert [(row["attribute"], row["coco_id"]) for row in judged] == [("person", likely)]
    change(filled, "UPDATE image SET split = 'train'")
    assert queue(filled, "model") == []
    assert review.label_issues(filled, "val5k", run_id(filled), "person", 50, True) == []


def test_a_judged_cell_leaves_the_queues_but_not_the_random_sample(filled: Engine) -> None:
    answer(filled, 3, "absent", chosen="uncertain")
    assert 3 not in queue(filled, "uncertain")
    assert 3 in queue(filled, "uncertain", annotator="ann")
    assert 3 in queue(filled, "random")
    answer(filled, 3, "absent")
    assert 3 not in queue(filled, "random")
    photo = of_photo(filled, 3)
    assert review.judged_attributes(filled, photo, "eva", "random") == {"person"}
    assert review.judged_attributes(filled, photo, "ann", "random") == set()


def test_disagreements_with_others_are_shown_until_they_are_judged_again(filled: Engine) -> None:
    for coco_id, others in ((1, "absent"), (2, "unsure"), (3, "present")):
        answer(filled, coco_id, "present")
        answer(filled, coco_id, others, annotator="ann")
    assert queue(filled, "disagreement") == [1, 2]
    answer(filled, 1, "present", chosen="disagreement")
    assert queue(filled, "disagreement") == [2]
    assert queue(filled, "disagreement", annotator="ann") == [1, 2]


def test_answers_say_who_when_how_and_by_which_guideline(filled: Engine) -> None:
    review.record_answers(filled, "bot", "ai", "rare", {(of_photo(filled, 3), "red"): "unsure"})
    (row,) = sql(filled, "SELECT * FROM judgement_latest")
    assert (row["coco_id"], row["attribute"], row["state"]) == (3, "red", "unsure")
    assert (row["annotator"], row["kind"]) == ("bot", "ai")
    assert (row["chosen"], row["guideline"]) == ("rare", "2")
    assert review.kinds_of(filled, "bot") == {"ai"}
    assert review.kinds_of(filled, "eva") == set()


def test_changes_of_labels_and_scores_are_counted(filled: Engine) -> None:
    answer(filled, 3, "present")
    label(filled, 4, state="present", judged=True)
    answer(filled, 4, "present")
    answer(filled, 5, "unsure")
    model = replace(load_label_model(), present=0.8, absent=0.2)
    rows = review.label_changes(filled, "val5k", model)
    rows.sort(key=lambda row: row["label"])
    common = {"truth": "present", "estimated": "absent", "cells": 1}
    assert rows == [
        {**common, "label": "absent", "judged": False},
        {**common, "label": "present", "judged": True},
    ]
    score(filled, run_id(filled), "val5k", by_eyes=True)
    (scores,) = review.scores_by_judgements(filled, "val5k")
    assert (scores["value"], scores["judgements"]) == (pytest.approx(0.5), 0)


def test_an_account_that_may_only_insert_judgements_is_enough(
    filled: Engine, store_url: str, configure, request: pytest.FixtureRequest
) -> None:
    configure(database_url=store_url)
    upgrade = ["upgrade", "--reviewer", "Only Inserts"]
    if filled.dialect.name == "sqlite":
        error = CliRunner().invoke(db_commands, upgrade).exception
        assert isinstance(error, UserError) and "for PostgreSQL" in str(error)
        return
    error = CliRunner().invoke(db_commands, upgrade).exception
    assert isinstance(error, UserError) and "CREATE ROLE" in str(error)
    server = request.getfixturevalue("postgres_server")
    admin = connect(make_url(store_url).set(username="tests").render_as_string())
    change(admin, 'CREATE ROLE "Only Inserts" LOGIN')
    try:
        assert CliRunner().invoke(db_commands, upgrade).exit_code == 0
        url = server.url(make_url(store_url).database, "Only%20Inserts")
        inserter = connect(url.replace("postgresql://", "postgresql+psycopg://"))
        photo = of_photo(filled, 3)
        review.record_answers(inserter, "eva", "human", "random", {(photo, "person"): "present"})
        assert len(sql(filled, "SELECT * FROM judgement")) == 1
        for statement in (
            "SELECT * FROM judgement",
            "UPDATE judgement SET state = 'absent'",
            "DELETE FROM judgement",
            "INSERT INTO category VALUES (999, 'x', true)",
        ):
            with pytest.raises(ProgrammingError, match="permission denied"):
                change(inserter, statement)
        inserter.dispose()
    finally:
        change(admin, 'DROP OWNED BY "Only Inserts"')
        change(admin, 'DROP ROLE "Only Inserts"')
        admin.dispose()
