"""The label model: its file, its estimates, and fitting it on judgements."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from coconut_attr.annotations.splits import split_of
from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.judgements.gold import load_gold
from coconut_attr.judgements.records import Judgement, Origin
from coconut_attr.labels.fit import MIN_IMAGES, fit_second_pass
from coconut_attr.labels.label_model import (
    LabelModelError,
    SecondPass,
    load_label_model,
    parse_label_model,
)
from coconut_attr.labels.signals import CELL_SIGNALS, IMAGE_SIGNALS, Signals
from db import annotations, downloads
from db.commands.labels import labels_commands
from db.engine import Engine
from db.judgements import add_gold, add_judgements
from db.schema import open_database
from db.sql import sql
from tests.support.rows import add_reference, image, outcome

SHIPPED = resources.files("coconut_attr.labels") / "label_model.json"


def random_signals(count: int, scale: float = 1.0) -> list[Signals]:
    rng = np.random.default_rng(0)
    return [
        Signals(
            scale * rng.normal(size=(len(ATTRIBUTES), len(CELL_SIGNALS))),
            scale * rng.normal(size=len(IMAGE_SIGNALS)),
        )
        for _ in range(count)
    ]


def test_the_shipped_model_has_its_hash_as_version_and_is_never_certain() -> None:
    model = load_label_model()
    assert model.version == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()[:8]
    estimates = model.probabilities(random_signals(20, scale=10))
    assert estimates.shape == (20, len(ATTRIBUTES))
    assert (estimates.min(), estimates.max()) == (0.01, 0.99)
    states = [model.state(p) for p in (model.absent, model.absent + 0.01, model.present)]
    assert states == ["absent", "unknown", "present"]


def test_a_model_that_is_written_and_read_estimates_the_same() -> None:
    rng = np.random.default_rng(1)
    model = load_label_model()
    noise = rng.normal(scale=0.1, size=model.cell_weights.shape)
    finer = replace(model, cell_weights=model.cell_weights + noise)
    read = parse_label_model(json.loads(finer.to_json()))
    signals = random_signals(30)
    difference = np.abs(read.probabilities(signals) - finer.probabilities(signals)).max()
    assert difference < 0.002
    assert np.abs(model.probabilities(signals) - finer.probabilities(signals)).max() > 0.01


def test_the_second_pass_is_written_and_read_and_joins_what_a_model_predicts() -> None:
    first = load_label_model()
    model = parse_label_model(
        json.loads(replace(first, second_pass=SecondPass(0, 1.0, 0.5, 0.7, 0.2)).to_json())
    )
    estimates, predictions = np.array([0.5, 0.8, 0.8]), np.array([0.9, 0.2, 0.8])
    joined = model.second_pass.join(estimates, predictions)
    np.testing.assert_allclose(joined, [0.75, 2 / 3, 8 / 9])  # odds 9^0.5, 4 / 4^0.5, 4 * 4^0.5
    assert model.label(0.5, 0.9) == (pytest.approx(0.75), "present")
    assert model.label(0.5, None) == (0.5, "unknown"), "there is no prediction"
    assert first.label(0.8, None) == (0.8, first.state(0.8))
    assert replace(first, second_pass=None).label(0.5, 0.9) == (0.5, "unknown")


@pytest.mark.parametrize("informed", [True, False])
def test_the_second_pass_weighs_what_a_model_predicts_by_how_right_it_is(informed: bool) -> None:
    rng = np.random.default_rng(0)
    states = rng.integers(-1, 2, size=(200, len(ATTRIBUTES))).astype(np.int8)
    truth = np.where(states < 0, rng.integers(0, 2, states.shape), states)

    def noisy(signal: float) -> np.ndarray:
        return 1 / (1 + np.exp(-(signal * (2 * truth - 1) + rng.normal(size=truth.shape))))

    estimates = noisy(1.0)
    second, joined = fit_second_pass(states, estimates, noisy(1.0 if informed else 0.0))
    assert abs(second.intercept) < 0.1
    known = states >= 0
    right = [((p >= 0.5) == states)[known].mean() for p in (estimates, joined)]
    if informed:
        assert second.model > 1.5
        assert right[1] > right[0] + 0.05
        assert 0 < second.absent < 0.5 < second.present < 1
    else:
        assert abs(second.model) < 0.1
        assert right[1] == pytest.approx(right[0], abs=0.01)


def rename_attribute(content: dict) -> None:
    content["attributes"]["purple"] = content["attributes"].pop("red")


def swap_thresholds(content: dict) -> None:
    content["thresholds"] = {"present": 0.1, "absent": 0.8}


def drop_intercept(content: dict) -> None:
    del content["attributes"]["red"]["intercept"]


def break_second_pass(content: dict) -> None:
    content["second_pass"] = {"intercept": 0, "evidence": 1}


def name_unknown_signal(content: dict) -> None:
    content["attributes"]["red"]["cell"]["smell"] = 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_attribute, "other attributes: purple, red"),
        (swap_thresholds, r"the threshold absent \(0.8\) is not below present \(0.1\)"),
        (drop_intercept, "no weight or threshold 'intercept'"),
        (name_unknown_signal, "unknown signals: smell"),
        (break_second_pass, "missing 3 required positional arguments: 'model', 'present'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, change: Callable[[dict], None], message: str
) -> None:
    content = json.loads(SHIPPED.read_text())
    change(content)
    file = tmp_path / "model.json"
    file.write_text(json.dumps(content))
    with pytest.raises(LabelModelError, match=message):
        load_label_model(file)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"attributes": 3}'])
def test_a_broken_or_missing_file_is_one_clear_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "model.json"
    with pytest.raises(LabelModelError, match="model.json is not a label model"):
        load_label_model(file)
    file.write_text(text)
    with pytest.raises(LabelModelError, match="make one: coconut-attr labels fit"):
        load_label_model(file)


def test_the_setting_names_the_file(tmp_path: Path, configure) -> None:
    content = json.loads(SHIPPED.read_text())
    content["thresholds"]["present"] = 0.9
    (tmp_path / "mine.json").write_text(json.dumps(content))
    configure(label_model_file=tmp_path / "mine.json")
    assert load_label_model().present == 0.9


@pytest.fixture
def gold_photos(real_mirror: Path, tmp_path: Path, configure) -> Engine:
    """A database of some of the mirror's judged photos, two of them of the test split."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    data_dir = configure(database_url=url).data_dir
    engine = open_database(url)
    add_reference(engine)
    judged = sorted({judgement.coco_id for judgement in load_gold()})
    dev = [coco_id for coco_id in judged if split_of(coco_id) != "test"][: MIN_IMAGES + 4]
    test = [coco_id for coco_id in judged if split_of(coco_id) == "test"][:2]
    rows = [image(key, dataset="val5k", split=split_of(key)) for key in (*dev, *test)]
    annotations.add_captions(engine, "val5k", rows, [])
    photos = {int(path.stem): path for path in real_mirror.rglob("*.jpg") if path.stem.isdigit()}
    data_dir.mkdir(parents=True, exist_ok=True)
    for key in (*dev, *test):
        shutil.copy(photos[key], data_dir / f"{key}.jpg")
    ids = image_ids(engine)
    done = [outcome(ids[key], path=f"{key}.jpg", sha256=str(key)) for key in ids]
    downloads.record_downloads(engine, done)
    return engine


def image_ids(engine: Engine) -> dict[int, int]:
    return {row["coco_id"]: row["id"] for row in sql(engine, "SELECT id, coco_id FROM image")}


def fit(to: Path) -> str:
    result = CliRunner().invoke(labels_commands, ["fit", "--to", str(to)], env={"COLUMNS": "200"})
    if result.exception:
        raise result.exception
    return result.output


def test_fitting_needs_enough_images_and_looks_at_no_photo_of_the_test_split(
    gold_photos: Engine, tmp_path: Path
) -> None:
    with pytest.raises(LabelModelError, match="0 judged images of train and val are too few"):
        fit(tmp_path / "none.json")
    assert not (tmp_path / "none.json").exists()
    add_gold(gold_photos, "val5k")
    output = fit(tmp_path / "first.json")
    assert "by eyes" in output and "this fit, cross-validated" in output
    assert f"fitted on {MIN_IMAGES + 4} images" in output
    first = (tmp_path / "first.json").read_bytes()
    assert load_label_model(tmp_path / "first.json").facts["images"] == MIN_IMAGES + 4

    judge_all_present(gold_photos, "test")
    fit(tmp_path / "second.json")
    assert (tmp_path / "second.json").read_bytes() == first
    judge_all_present(gold_photos, "train")
    fit(tmp_path / "third.json")
    assert (tmp_path / "third.json").read_bytes() != first


def judge_all_present(engine: Engine, split: str) -> None:
    """Add a person's judgement that one photo of a split has every attribute."""
    coco_id = next(key for key in image_ids(engine) if split_of(key) == split)
    origin = Origin("eva", "human", "2", "random", datetime(2026, 11, 27, tzinfo=UTC))
    judgements = [Judgement(coco_id, name, "present", origin) for name in ATTRIBUTES]
    assert add_judgements(engine, "val5k", judgements).new == len(ATTRIBUTES)
