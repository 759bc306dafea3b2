"""Judgements: stored once, the newest of an annotator counts, people come before AI models."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from coconut_attr.attributes import GROUP_OF, INDEX
from coconut_attr.errors import UserError
from coconut_attr.judgements.gold import load_gold
from coconut_attr.judgements.records import Judgement, Origin
from coconut_attr.labels.label_model import load_label_model
from db import annotations, bulk
from db.commands.judgements import judgements_commands
from db.judgements import add_gold, add_judgements, truth_of_part, truth_states
from db.labels import apply_truth, record_labels
from db.models import Judgement as JudgementRow
from db.sql import sql
from tests.support.rows import NO_ESTIMATE, add_reference, image

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
EYES = Origin("eva", "human", "2", "random", NOON)
MODEL = Origin("ai-1", "ai", "2", "random", NOON)
RED, DOG = INDEX["red"], INDEX["animal"]
SPLITS = {7: "train", 8: "val", 9: "test"}


@pytest.fixture
def judged(store: Engine, store_url: str, configure) -> Engine:
    """A database of three images of val5k in three splits, without judgements."""
    configure(database_url=store_url)
    add_reference(store)
    images = [image(key, dataset="val5k", split=split) for key, split in SPLITS.items()]
    annotations.add_captions(store, "val5k", images, [])
    return store


def call(*arguments: object):
    runner = CliRunner()
    return runner.invoke(judgements_commands, list(map(str, arguments)), env={"COLUMNS": "200"})


def red(state: str, origin: Origin, coco_id: int = 7) -> Judgement:
    return Judgement(coco_id, "red", state, origin)


def truth_of_7(engine: Engine) -> tuple[str, str, int]:
    (row,) = sql(engine, "SELECT * FROM truth WHERE coco_id = 7 AND attribute = 'red'")
    return row["state"], row["kind"], row["annotators"]


def true_states(engine: Engine) -> dict[tuple[int, str], str]:
    rows = sql(engine, "SELECT * FROM truth")
    return {(row["coco_id"], row["attribute"]): row["state"] for row in rows}


def count(engine: Engine) -> int:
    return sql(engine, "SELECT COUNT(*) AS n FROM judgement")[0]["n"]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_newest_judgement_of_an_annotator_counts_and_the_older_one_stays(judged) -> None:
    later = replace(EYES, judged_at=NOON + timedelta(microseconds=1))
    add_judgements(judged, "val5k", [red("absent", later)])
    add_judgements(judged, "val5k", [red("present", EYES)])  # an older file, imported later
    assert truth_of_7(judged) == ("absent", "human", 1)
    assert count(judged) == 2
    (latest,) = sql(judged, "SELECT * FROM judgement_latest")
    assert (latest["state"], latest["annotator"], latest["chosen"]) == ("absent", "eva", "random")


def test_people_come_before_ai_models_and_disagreement_is_unsure(judged) -> None:
    other_model = replace(MODEL, annotator="ai-2")
    add_judgements(judged, "val5k", [red("absent", MODEL), red("absent", other_model)])
    assert truth_of_7(judged) == ("absent", "ai", 2)
    add_judgements(
        judged, "val5k", [red("present", replace(other_model, judged_at=NOON + timedelta(1)))]
    )
    assert truth_of_7(judged) == ("unsure", "ai", 2)
    add_judgements(judged, "val5k", [red("present", EYES)])
    assert truth_of_7(judged) == ("present", "human", 1)
    add_judgements(judged, "val5k", [red("unsure", replace(EYES, annotator="eve"))])
    assert truth_of_7(judged) == ("unsure", "human", 2)


def test_a_judged_cell_takes_the_judgement_as_label_and_an_unsure_one_the_estimate(judged) -> None:
    model = load_label_model()
    between = (model.absent + model.present) / 2
    ids = {row["coco_id"]: row["id"] for row in sql(judged, "SELECT id, coco_id FROM image")}
    estimated = {"state": "unknown", "confidence": max(between, 1 - between), "conflict": False}
    estimated |= {**NO_ESTIMATE, "probability": between, "estimate": between}
    older = {**estimated, **NO_ESTIMATE}
    labels = {
        ids[7]: [{"image_id": ids[7], "attribute_id": k, **estimated} for k in (RED, DOG)],
        ids[8]: [{"image_id": ids[8], "attribute_id": RED, **older}],
    }
    record_labels(judged, "unit-test", labels, [], [])

    def apply() -> int:
        return apply_truth(judged, truth_states(judged, "val5k"), model)

    def label(attribute: str) -> tuple[str, float, float, bool]:
        (row,) = sql(
            judged, "SELECT * FROM label WHERE coco_id = 7 AND attribute = :name", name=attribute
        )
        return row["state"], row["probability"], row["confidence"], bool(row["judged"])

    unjudged = label("animal")
    assert unjudged == ("unknown", between, estimated["confidence"], False)
    add_judgements(judged, "val5k", [red("present", EYES), red("present", EYES, 8)])
    assert apply() == 1, "labels of an older version stay until they are made again"
    assert (label("red"), label("animal")) == (("present", 1.0, 1.0, True), unjudged)
    assert apply() == 0
    for days, state, expected in (
        (1, "absent", ("absent", 0.0, 1.0, True)),
        (2, "unsure", unjudged),
    ):
        later = replace(EYES, judged_at=NOON + timedelta(days))
        add_judgements(judged, "val5k", [red(state, later)])
        assert apply() == 1
        assert label("red") == expected


def test_truth_states_are_of_the_judged_images_of_a_split(judged) -> None:
    judgements = [red("present", EYES), red("absent", EYES, 8), red("unsure", EYES, 9)]
    add_judgements(judged, "val5k", judgements)
    ids = {row["coco_id"]: row["id"] for row in sql(judged, "SELECT id, coco_id FROM image")}
    states = truth_states(judged, "val5k")
    assert {image_id: cells[RED] for image_id, cells in states.items()} == {
        ids[7]: 1,
        ids[8]: 0,
        ids[9]: -1,
    }
    assert states[ids[7]][DOG] == -1 and len(states[ids[7]]) == 34
    assert truth_states(judged, "val5k", "val").keys() == {ids[8]}
    assert truth_of_part(judged, "val5k", "dev").keys() == {7, 8}
    assert truth_of_part(judged, "val5k", "test").keys() == {9}
    assert truth_states(judged, "sample") == {}


def test_the_same_judgements_are_stored_once_and_contradictions_are_named(judged) -> None:
    first = [red("present", EYES), red("present", MODEL), red("present", EYES, 1000)]
    added = add_judgements(judged, "val5k", first)
    assert (added.new, added.stored, added.missing) == (2, 0, [1000])
    added = add_judgements(judged, "val5k", [*first, red("absent", EYES)])
    assert (added.new, added.stored) == (0, 2)
    assert [judgement.state for judgement in added.contradicting] == ["absent"]
    assert truth_of_7(judged) == ("present", "human", 1)
    (row,) = sql(judged, "SELECT * FROM judgement WHERE kind = 'human'")
    stored = {**row, "judged_at": NOON, "state": "absent"}
    with pytest.raises(IntegrityError), judged.begin() as connection:
        connection.execute(bulk.table_of(JudgementRow).insert(), [stored])


def test_judgements_go_with_their_image(judged) -> None:
    add_judgements(judged, "val5k", [red("present", EYES), red("present", EYES, 8)])
    with judged.begin() as connection:
        connection.exec_driver_sql("DELETE FROM image WHERE coco_id = 7")
    assert count(judged) == 1


def test_an_export_can_be_imported_into_another_database_and_adds_nothing_here(
    judged, tmp_path: Path, configure
) -> None:
    later = replace(EYES, judged_at=NOON + timedelta(microseconds=1))
    comma = replace(MODEL, annotator='a, "b"\nc', chosen="queue")
    judgements = [red("absent", later), red("present", EYES), red("unsure", comma, 9)]
    add_judgements(judged, "val5k", judgements)
    file = tmp_path / "out" / "judgements.csv"
    result = call("export", file)
    assert result.exit_code == 0 and "3 judgements of val5k" in result.output
    again = call("import", file)
    assert again.exit_code == 0, again.output
    assert "0 judgements added, 3 were stored already" in again.output
    with judged.begin() as connection:
        connection.exec_driver_sql("DELETE FROM judgement")
    assert "3 judgements added" in call("import", file).output
    before = file.read_text()
    call("export", file)
    assert file.read_text() == before and before.count("eva") == 2


def test_an_import_takes_what_the_file_lacks_from_the_options(judged, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "coco_id,attribute,state", "7,red,present", "8,red,unsure")
    options = ("--annotator", "eva", "--kind", "human", "--chosen", "queue", "--guideline", "2")
    assert "2 judgements added" in call("import", file, *options).output
    assert "0 judgements added, 2 were stored" in call("import", file, *options).output
    rows = sql(judged, "SELECT DISTINCT annotator, kind, chosen, guideline FROM judgement")
    assert [tuple(row.values()) for row in rows] == [("eva", "human", "queue", "2")]
    at = ("--judged-at", "2026-11-28T01:02:03")
    assert "2 judgements added" in call("import", file, *options, *at).output


def test_odd_rows_are_named_and_skipped_and_the_others_added(judged, tmp_path: Path) -> None:
    head = "coco_id,attribute,state,annotator,kind,judged_at"
    odd = {
        "x,red,present,eva,human,": "image id 'x'",
        "-7,red,present,eva,human,": "image id '-7'",
        "99999999999999999999999,red,present,eva,human,": "image id '999",
        "7,rot,present,eva,human,": "unknown attribute 'rot'",
        "7,red,yes,eva,human,": "unknown state 'yes'",
        "7,red": "unknown state ''",
        "7,red,present,,human,": "no annotator",
        "7,red,present,eva,robot,": "unknown kind 'robot'",
        "7,red,present,eva,,": "no kind",
        "7,red,present,eva,human,noon": "judged_at 'noon'",
    }
    for number, (line, message) in enumerate(odd.items()):
        file = write(tmp_path / f"{number}.csv", head, "8,red,present,eva,human,2026-11-27", line)
        result = call("import", file)
        assert result.exit_code == 1, line
        assert f"1 rows skipped: {number}.csv line 3: {message}" in result.stderr, line
    assert count(judged) == 1
    file = write(tmp_path / "odd.csv", head, *odd)
    assert "10 rows skipped: odd.csv line 2" in call("import", file).stderr


def test_images_that_the_dataset_lacks_are_named(judged, tmp_path: Path) -> None:
    lines = [f"{k},red,present,eva,human" for k in (7, *range(100, 110))]
    file = write(tmp_path / "a.csv", "coco_id,attribute,state,annotator,kind", *lines)
    result = call("import", file)
    assert result.exit_code == 0
    assert "1 judgements added" in result.output
    assert "10 judged images are not in val5k: 100; 101; 102; 103; 104, ..." in result.stderr


OVAD = {
    "images": [{"id": 7}, {"id": 8}, {"id": 9}],
    "attributes": [
        {"id": 0, "name": "cleanliness:clean/neat"},
        {"id": 1, "name": "color:red"},
        {"id": 2, "name": "material:wood/wooden"},
        {"id": 3, "name": "clothes color:blue"},
    ],
    "annotations": [
        {"image_id": 7, "att_vec": [1, 0, 0, 1]},
        {"image_id": 7, "att_vec": [1, 1, 0, 1]},
        {"image_id": 8, "att_vec": [1, 0, -1, 1]},
        {"image_id": 9, "att_vec": [1, -1, 1, 1]},
    ],
}


def test_an_image_of_ovad_has_what_an_object_has_and_lacks_what_all_lack(
    judged, tmp_path: Path
) -> None:
    file = write(tmp_path / "ovad2000.json", json.dumps(OVAD))
    options = ("--format", "ovad", "--annotator", "ovad", "--kind", "human")
    result = call("import", file, *options)
    assert result.exit_code == 0, result.output
    states = {
        (row["coco_id"], row["attribute"]): row["state"]
        for row in sql(judged, "SELECT * FROM truth")
    }
    assert states == {
        (7, "red"): "present",
        (7, "wood"): "absent",
        (8, "red"): "absent",
        (9, "wood"): "present",
    }
    odd = [{"image_id": 7}, {"image_id": 7, "att_vec": [1, 2, 0, 0]}, 5]
    file = write(tmp_path / "odd.json", json.dumps({**OVAD, "annotations": odd}))
    assert "3 rows skipped: odd.json annotation 0: att_vec" in call("import", file, *options).stderr


COCO = {
    "images": [{"id": 7}, {"id": 8}, {"id": 9}],
    "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "oven"}, {"id": 3, "name": "x"}],
    "annotations": [
        {"image_id": 7, "category_id": 1, "iscrowd": 0},
        {"image_id": 8, "category_id": 1, "iscrowd": 1},
        {"image_id": 9, "category_id": 2},
        {"image_id": 9, "category_id": 3},
    ],
}


def test_boxes_make_objects_present_and_absent_only_if_all_have_one(judged, tmp_path: Path) -> None:
    file = write(tmp_path / "instances.json", json.dumps(COCO))
    options = ("--format", "coco", "--annotator", "coco", "--kind", "human")
    assert "1 judgements added" in call("import", file, *options).output
    assert "added" in call("import", file, *options, "--exhaustive").output
    states = {
        (row["coco_id"], row["attribute"]): row["state"]
        for row in sql(judged, "SELECT * FROM truth")
    }
    assert states[7, "person"] == "present" and states[7, "food"] == "absent"
    assert (8, "person") not in states, "a crowd's box decides nothing"
    assert states[9, "person"] == "absent"
    assert (9, "electronics") not in states, "an oven may have a display"
    assert {GROUP_OF[attribute] for _, attribute in states} == {"object"}


def test_files_that_cannot_be_used_are_refused_in_a_line(judged, tmp_path: Path) -> None:
    who = ("--annotator", "eva", "--kind", "human")
    ovad, coco = ("--format", "ovad", *who), ("--format", "coco", *who)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00\x00")
    header = write(tmp_path / "columns.csv", "coco_id,red,state", "7,red,present")
    good = write(tmp_path / "good.csv", "coco_id,attribute,state", "7,red,present")
    text = write(tmp_path / "text.json", "{")
    other = write(tmp_path / "list.json", "[]")
    strange = write(
        tmp_path / "strange.json",
        json.dumps({**COCO, "attributes": [{"id": 0, "name": "x:y"}], "categories": [{"id": 1}]}),
    )
    for arguments, message in (
        ((tmp_path / "none.csv", *who), "none.csv is not a file"),
        ((tmp_path / "bytes.csv", *who), "bytes.csv cannot be read as CSV"),
        ((header, *who), "columns.csv line 1: no column attribute;"),
        ((good,), "good.csv line 1: no column annotator, kind;"),
        ((good, "--annotator", "eva"), "good.csv line 1: no column kind;"),
        ((good, *who, "--dataset", "x"), "unknown dataset 'x'"),
        ((good, *who, "--dataset", "sample"), "the database has no image of sample"),
        ((good, *who, "--exhaustive"), "--exhaustive is for --format coco"),
        ((text, "--format", "ovad"), "does not say who judged: add --annotator, --kind"),
        ((text, *ovad), "text.json cannot be read as JSON"),
        ((other, *ovad), "list.json is not OVAD JSON: it has no list annotations, attributes"),
        ((other, *coco), "list.json is not COCO instance JSON"),
        ((strange, *ovad), "strange.json names no attribute that means the same"),
        ((strange, *coco), "strange.json names no category that the labelling rules have"),
    ):
        error = call("import", *arguments).exception
        assert isinstance(error, UserError), message
        assert message in str(error)
    assert count(judged) == 0
    assert "no image of val5k is judged" in str(call("export", tmp_path / "x.csv").exception)
    assert "no two annotators" in str(call("agreement").exception)


def test_agreement_is_cohens_kappa_of_each_pair_of_annotators(judged) -> None:
    other = replace(EYES, annotator="eve")
    for state, of_other, coco_id in (
        ("present", "present", 7),
        ("absent", "present", 8),
        ("absent", "absent", 9),
    ):
        add_judgements(judged, "val5k", [red(state, EYES, coco_id), red(of_other, other, coco_id)])
    add_judgements(judged, "val5k", [red("present", MODEL), red("unsure", MODEL, 9)])
    output = call("agreement").output
    assert "eva (human) and eve (human)" in output and "ai-1 (ai) and eva (human)" in output
    rows = [line.split("│")[1:-1] for line in output.splitlines() if "red " in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    # By the model and a person: alike 1/2, by chance 1/4. By both people: 2/3 and 4/9.
    assert cells[:2] == [["red", "2", "1", "50.0%", "0", "0.33"]] * 2
    assert cells[2] == ["red", "3", "2", "66.7%", "1", "0.40"]


def test_the_gold_set_is_201_photos_read_twice(store: Engine) -> None:
    gold = load_gold()
    readings = {(judgement.coco_id, judgement.origin.annotator) for judgement in gold}
    assert len({coco_id for coco_id, _ in readings}) == 201 and len(readings) == 402
    assert len(gold) == 402 * 34
    origins = {judgement.origin for judgement in gold}
    assert {(origin.kind, origin.guideline, origin.chosen) for origin in origins} == {
        ("ai", "1", "random")
    }
    older = {j.coco_id for j in gold if j.origin.judged_at < datetime(2026, 11, 27, tzinfo=UTC)}
    assert len(older) == 56
    states = {
        (j.coco_id, j.origin.annotator, j.attribute): j.state
        for j in gold
        if j.attribute in ("bright", "dark")
    }
    for coco_id, annotator in readings:
        pair = [states[coco_id, annotator, name] for name in ("bright", "dark")]
        assert pair != ["present", "present"]


def test_labelling_adds_the_gold_set_once_and_to_its_dataset_alone(judged) -> None:
    photos = [image(j, dataset="val5k") for j in (724, 776)]
    annotations.add_captions(judged, "val5k", photos, [])
    assert add_gold(judged, "sample") == 0
    assert add_gold(judged, "val5k") == 2 * 2 * 34
    assert add_gold(judged, "val5k") == 0
    assert truth_of_part(judged, "val5k", "dev").keys() == {724, 776}


def test_the_gold_set_is_the_test_split_and_153_photos_of_train_and_val(
    store: Engine, real_mirror: Path
) -> None:
    from coconut_attr.annotations.splits import split_of

    add_reference(store)
    photos = {int(path.stem) for path in real_mirror.rglob("*.jpg") if path.stem.isdigit()}
    images = [
        image(coco_id, dataset="val5k", split=split_of(coco_id)) for coco_id in sorted(photos)
    ]
    assert len(images) == 355
    annotations.add_captions(store, "val5k", images, [])
    add_gold(store, "val5k")
    dev, test = (truth_of_part(store, "val5k", part) for part in ("dev", "test"))
    assert (len(dev), len(test)) == (153, 48)
    of_test = {row["coco_id"] for row in images if row["split"] == "test"}
    assert of_test - test.keys() == {1532, 2592, 3156, 6614}, "rules were written from these"
    assert test.keys() < of_test
    cells = [state for states in (*dev.values(), *test.values()) for state in states]
    assert cells.count(1) > 2000 and cells.count(0) > 2000 and len(cells) == 201 * 34
