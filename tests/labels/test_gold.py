"""The gold set, and labels measured against it."""

import math

import pytest
from typer.testing import CliRunner

from coconut_attr.attributes import ATTRIBUTES, GROUP_OF, OURS
from coconut_attr.errors import UserError
from coconut_attr.labels.gold.agreement import agree, intervals, load_gold, overall
from db import annotations, reference
from db.commands.labels import labels_commands
from db.labels import record_labels
from db.schema import open_database

RED = ATTRIBUTES.index("red")


def test_the_gold_set_is_60_images_of_34_judgements() -> None:
    dev, test = load_gold("dev"), load_gold("test")
    assert (len(dev), len(test), len(dev.keys() & test.keys())) == (40, 20, 0)
    for states in (*dev.values(), *test.values()):
        assert len(states) == 34
        assert set(states) <= {1, 0, -1}
        assert (states[ATTRIBUTES.index("bright")], states[ATTRIBUTES.index("dark")]) != (1, 1)


def cell(state: int) -> list[int]:
    states = [-1] * 34
    states[RED] = state
    return states


def test_agreement_counts_right_labels_and_bounds_them() -> None:
    gold = {1: cell(1), 2: cell(0), 3: cell(1), 4: cell(-1), 5: cell(1)}
    # Image 5 has no label; the gold state of image 4 is unknown.
    labels = {1: cell(1), 2: cell(1), 3: cell(0), 4: cell(1)}
    row = agree(labels, gold)[RED]
    assert (row.present, row.present_right, row.absent, row.absent_right) == (2, 1, 1, 0)
    assert row.known == pytest.approx(4 / 5)
    assert (row.present_precision, row.absent_precision) == (0.5, 0.0)
    assert row.recall == pytest.approx(1 / 3)
    whole = overall(agree(labels, gold))
    assert (whole.present_macro, whole.absent_macro, whole.present) == (0.5, 0.0, 2)
    assert whole.coverage == pytest.approx(4 / 5 / 34)
    assert math.isnan(agree(labels, gold)[0].recall)
    assert whole.right == pytest.approx(1 / 3)
    found = intervals(labels, gold)
    for name in ("coverage", "present_macro", "present_micro", "recall_macro", "right"):
        low, high = found[name]
        assert 0 <= low < getattr(whole, name) < high <= 1, name
    assert found["absent_micro"] == pytest.approx((0, 0.7935), abs=1e-3), "Wilson's of 0 of 1"
    assert intervals(gold, gold)["right"] == pytest.approx((0.5101, 1), abs=1e-3), (
        "Wilson's of 4 of 4"
    )
    assert math.isnan(intervals(gold, gold)["present_macro"][0]), "all resamples agree"
    assert all(math.isnan(end) for end in intervals({}, gold)["right"])


@pytest.fixture
def gold_labels(configure) -> dict[int, list[int]]:
    """Label one gold image: `red` by pixels, as in gold. Returns its true states."""
    engine = open_database(configure().sqlalchemy_url)
    coco_id, truth = next(
        (image, states) for image, states in load_gold("dev").items() if states[RED] == 1
    )
    dataset = {
        "name": "val5k",
        "title": "",
        "is_coconut": True,
        "licence": "",
        "expected_images": None,
        "expected_segments": None,
    }
    attributes = [
        {"id": k, "name": name, "group_name": GROUP_OF[name], "ours": name in OURS}
        for k, name in enumerate(ATTRIBUTES)
    ]
    reference.sync_reference(engine, datasets=[dataset], attributes=attributes, categories=[])
    image = {
        "dataset": "val5k",
        "coco_id": coco_id,
        "file_name": "x.jpg",
        "url": "",
        "licence": "",
        "width": 1,
        "height": 1,
        "split": "train",
    }
    annotations.add_captions(engine, "val5k", [image], [])
    label = {"image_id": 1, "confidence": 0.7, "conflict": False}
    labels = [
        {**label, "attribute_id": k, "state": "present" if k == RED else "unknown"}
        for k in range(34)
    ]
    evidence = {
        "image_id": 1,
        "attribute_id": RED,
        "source": "pixels",
        "state": "present",
        "confidence": 0.7,
        "detail": "",
        "segment_id": None,
        "caption_id": None,
    }
    record_labels(engine, "1", {1: labels}, [evidence], [])
    return {coco_id: truth}


def call(*arguments: str):
    return CliRunner().invoke(labels_commands, ["report", *arguments], env={"COLUMNS": "220"})


def test_the_report_measures_the_stored_labels(gold_labels) -> None:
    (truth,) = gold_labels.values()
    result = call()
    assert result.exit_code == 0, result.output
    assert "1 images of the gold set's dev part, 34 cells" in result.output
    lines = {
        line.split("│")[1].strip(): line
        for line in result.output.splitlines()
        if line.startswith("│")
    }
    assert "100.0% (20.7% to 100.0%) of 1" in lines["pixels"]
    assert "100.0% (20.7% to 100.0%) of 1" in lines["combined"]
    assert "caption" not in lines, "it has no evidence"
    assert "1 of 1" in lines["red"]
    known = sum(state >= 0 for state in truth)
    assert f"{truth.count(1) / known:.1%} of {known}" in lines["one state for all"]
    by_caption = {
        line.split("│")[1].strip(): line
        for line in call("--source", "caption").output.splitlines()
        if "│" in line
    }
    assert "0 of 0" in by_caption["red"]


def test_wrong_arguments_of_the_report_are_refused_with_the_choices(gold_labels) -> None:
    for arguments, message in (
        (("--part", "test"), "no labelled image of val5k is in the gold set"),
        (("--part", "x"), "unknown part 'x'"),
        (("--source", "x"), "unknown source 'x'"),
        (("coco",), "unknown dataset 'coco'"),
    ):
        error = call(*arguments).exception
        assert isinstance(error, UserError)
        assert message in str(error)
