"""What an image model predicts joins the labels, and never teaches or scores an image model."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from coconut_attr.attributes import ATTRIBUTES, INDEX
from coconut_attr.judgements.records import Judgement, Origin
from coconut_attr.labels.label_model import LabelModel, SecondPass, load_label_model
from db import annotations, downloads
from db.judgements import add_judgements, truth_states
from db.labels import (
    apply_truth,
    labelled_images,
    model_probabilities,
    record_labels,
    record_model_probabilities,
    unjudged_labels,
)
from db.sql import sql
from tests.support.rows import NO_ESTIMATE, add_reference, image, outcome

EYES = Origin("eva", "human", "2", "random", datetime(2026, 11, 28, tzinfo=UTC))
RED = INDEX["red"]
ESTIMATE = 0.5


@pytest.fixture
def model() -> LabelModel:
    """The shipped label model, with a second pass of round numbers."""
    return replace(load_label_model(), second_pass=SecondPass(0, 1, 1, present=0.8, absent=0.2))


@pytest.fixture
def image_id(store: Engine) -> int:
    """The only image of val5k: an estimate of 0.5 of every attribute, and `red` judged absent."""
    add_reference(store)
    annotations.add_captions(store, "val5k", [image(7, dataset="val5k")], [])
    (row,) = sql(store, "SELECT id FROM image")
    downloads.record_downloads(store, [outcome(row["id"])])
    label = {"image_id": row["id"], "state": "unknown", "confidence": 0.5, "conflict": False}
    label |= {**NO_ESTIMATE, "probability": ESTIMATE, "estimate": ESTIMATE}
    labels = [{**label, "attribute_id": k} for k in range(len(ATTRIBUTES))]
    record_labels(store, "unit-test", {row["id"]: labels}, [], [])
    add_judgements(store, "val5k", [Judgement(7, "red", "absent", EYES)])
    return row["id"]


def label(store: Engine, attribute: str) -> tuple[str, float, float]:
    query = "SELECT * FROM label WHERE attribute = :attribute"
    (row,) = sql(store, query, attribute=attribute)
    return row["state"], row["probability"], row["confidence"]


def test_predictions_join_the_labels_that_nobody_judged(
    store: Engine, image_id: int, model: LabelModel
) -> None:
    apply_truth(store, truth_states(store, "val5k"), model)
    assert model_probabilities(store, [image_id]) == {}
    before = labelled_images(store, "val5k", "train", model)
    predictions = {image_id: [0.9] * len(ATTRIBUTES)}
    changed = record_model_probabilities(store, 3, predictions, model)
    assert changed == len(ATTRIBUTES) - 1
    assert label(store, "dark") == ("present", pytest.approx(0.9), pytest.approx(0.9))
    assert label(store, "red") == ("absent", 0, 1), "what somebody saw stays"
    assert model_probabilities(store, [image_id]) == predictions
    (evidence,) = sql(store, "SELECT * FROM evidence WHERE attribute = 'dark'")
    assert (evidence["source"], evidence["state"], evidence["confidence"]) == (
        "model",
        "present",
        0.9,
    )
    assert evidence["detail"] == "trained without this image, taught by run 3"
    assert labelled_images(store, "val5k", "train", model) == before, (
        "no model trains on predictions, or is scored against them"
    )
    labels = unjudged_labels(store, "val5k", [7], model)[7]
    assert labels[RED] == (pytest.approx(0.9), "present"), "the label without the judgement"

    again = record_model_probabilities(store, 4, {image_id: [0.4] * len(ATTRIBUTES)}, model)
    assert again == len(ATTRIBUTES) - 1
    assert label(store, "dark") == ("unknown", pytest.approx(0.4), pytest.approx(0.6))
    (evidence,) = sql(store, "SELECT * FROM evidence WHERE attribute = 'dark'")
    assert (evidence["state"], evidence["detail"][-1]) == ("absent", "4")


def test_a_withdrawn_judgement_leaves_what_estimate_and_prediction_say(
    store: Engine, image_id: int, model: LabelModel
) -> None:
    apply_truth(store, truth_states(store, "val5k"), model)
    record_model_probabilities(store, 3, {image_id: [0.9] * len(ATTRIBUTES)}, model)
    later = replace(EYES, judged_at=datetime(2026, 11, 29, tzinfo=UTC))
    add_judgements(store, "val5k", [Judgement(7, "red", "unsure", later)])
    assert apply_truth(store, truth_states(store, "val5k"), model) == 1
    assert label(store, "red")[:2] == ("present", pytest.approx(0.9))
    assert apply_truth(store, truth_states(store, "val5k"), model) == 0


def test_without_a_second_pass_predictions_are_stored_and_change_no_label(
    store: Engine, image_id: int, model: LabelModel
) -> None:
    first_alone = replace(model, second_pass=None)
    predictions = {image_id: [0.9] * len(ATTRIBUTES)}
    assert record_model_probabilities(store, 3, predictions, first_alone) == 0
    assert label(store, "dark") == ("unknown", 0.5, 0.5)
    assert model_probabilities(store, [image_id]) == predictions, "for `labels fit`"


def test_another_photo_of_an_image_has_no_predictions(
    store: Engine, image_id: int, model: LabelModel
) -> None:
    record_model_probabilities(store, 3, {image_id: [0.9] * len(ATTRIBUTES)}, model)
    downloads.record_downloads(store, [outcome(image_id, sha256="f" * 64)])
    assert model_probabilities(store, [image_id]) == {}
    assert sql(store, "SELECT * FROM evidence") == []
