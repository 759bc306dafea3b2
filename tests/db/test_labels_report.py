"""Labels measured against judgements."""

import math

import pytest
from typer.testing import CliRunner

from coconut_attr.attributes import ATTRIBUTES, GROUP_OF, OURS
from coconut_attr.errors import UserError
from coconut_attr.judgements.gold import load_gold
from coconut_attr.judgements.label_agreement import agree, intervals, overall
from db import annotations, reference
from db.commands.labels import labels_commands
from db.judgements import add_judgements, truth_of_part
from db.labels import record_labels
from db.schema import open_database
from tests.support.rows import NO_ESTIMATE

RED = ATTRIBUTES.index("red")


def cell(state: int) -> list[int]:
    states = [-1] * 34
    states[RED] = state
    return states


def test_agreement_counts_right_labels_and_bounds_them() -> None:
    truth = {1: cell(1), 2: cell(0), 3: cell(1), 4: cell(-1), 5: cell(1)}
    # Image 5 has no label; the true state of image 4 is not decided.
    labels = {1: cell(1), 2: cell(1), 3: cell(0), 4: cell(1)}
    row = agree(labels, truth)[RED]
    assert (row.present, row.present_right, row.absent, row.absent_right) == (2, 1, 1, 0)
    assert row.known == pytest.approx(4 / 5)
    assert (row.present_precision, row.absent_precision) == (0.5, 0.0)
    assert row.recall == pytest.approx(1 / 3)
    whole = overall(agree(labels, truth))
    assert (whole.present_macro, whole.absent_macro, whole.present) == (0.5, 0.0, 2)
    assert whole.coverage == pytest.approx(4 / 5 / 34)
    assert math.isnan(agree(labels, truth)[0].recall)
    assert whole.right == pytest.approx(1 / 3)
    found = intervals(labels, truth)
    for name in ("coverage", "present_macro", "present_micro", "recall_macro", "right"):
        low, high = found[name]
        assert 0 <= low < getattr(whole, name) < high <= 1, name
    assert found["absent_micro"] == pytest.approx((0, 0.7935), abs=1e-3), "Wilson's of 0 of 1"
    assert intervals(truth, truth)["right"] == pytest.approx((0.5101, 1), abs=1e-3), (
        "Wilson's of 4 of 4"
    )
    assert math.isnan(intervals(truth, truth)["present_macro"][0]), "all resamples agree"
    assert all(math.isnan(end) for end in intervals({}, truth)["right"])


@pytest.fixture
def gold_labels(configure) -> dict[int, list[int]]:
    """Label one gold image: `red` by pixels, as judged. Returns its true states."""
    engine = open_database(configure().sqlalchemy_url)
    coco_id = 724
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
    add_judgements(engine, "val5k", load_gold())
    truth = truth_of_part(engine, "val5k", "dev")
    assert truth[coco_id][RED] == 1
    label = {"image_id": 1, "confidence": 0.7, "conflict": False, **NO_ESTIMATE}
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
    return truth


def call(*arguments: str):
    return CliRunner().invoke(labels_commands, ["report", *arguments], env={"COLUMNS": "220"})


def test_the_report_measures_the_stored_labels(gold_labels) -> None:
    (truth,) = gold_labels.values()
    result = call()
    assert result.exit_code == 0, result.output
    assert "1 images of the dev part, judged by an AI model, 34 cells" in result.output
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
        (("--part", "test"), "no image of the test part of val5k is judged"),
        (("--part", "x"), "unknown part 'x'"),
        (("--source", "x"), "unknown source 'x'"),
        (("coco",), "unknown dataset 'coco'"),
    ):
        error = call(*arguments).exception
        assert isinstance(error, UserError)
        assert message in str(error)
