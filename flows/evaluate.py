"""The flow `evaluate`: scores of a trained run on any split of any dataset."""

import math
from dataclasses import asdict, fields
from typing import Any, Literal

import numpy as np
import torch
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from coconut_attr import retrieval
from coconut_attr.attributes import ATTRIBUTES, INDEX
from coconut_attr.backbones import BackboneError, backbone
from coconut_attr.checkpoint import epoch_of, load_checkpoint
from coconut_attr.data import Samples, ViewBatches, loader, plain_views
from coconut_attr.evaluate import AttributeScore, Evaluation, Score
from coconut_attr.evaluate import evaluate as score
from coconut_attr.features import FeatureStore
from coconut_attr.intervals import wilson
from coconut_attr.model import AttributeModel
from coconut_attr.predict import Predictions, choose_device, predict_batches
from coconut_attr.probe import fit_probe, pooled_features
from coconut_attr.registry import dataset as registered
from coconut_attr.run_files import settle
from coconut_attr.settings import settings
from coconut_attr.train import TrainingError
from db import queries, runs
from flows.parameters import DatasetName
from flows.retries import RETRY
from flows.samples import load_samples
from flows.store import store

PROBE_IMAGES = 10_000
QUERIES = 2_000  # at most so many images are sought: ranks of all by all would not fit into memory


@flow
def evaluate(
    dataset: DatasetName = "val5k", run_id: int | None = None, split: Literal["train", "val", "test"] = "test"
) -> int:
    """Score a run's checkpoint on a split, beside the trivial baselines; returns the run's id.

    Args:
        run_id: by default the newest finished run on the dataset.
        split: test is what to report; val has chosen epoch and thresholds, train has been learnt by heart.
    """
    name = registered(dataset).name
    run = queries.run(store(), run_id) if run_id is not None else queries.newest_run(store(), name)
    if run is None or not run["checkpoint"]:
        wanted = f"run {run_id}" if run_id is not None else f"finished run on {name}"
        raise TrainingError(f"there is no {wanted} with a checkpoint; train first: coconut-attr train {name}")
    overall = score_run(run["id"], run["dataset"], run["checkpoint"], name, split)
    create_table_artifact(overall, key=f"scores-{name}", description=f"Run {run['id']} on the {split} split of {name}")
    return run["id"]


@task(task_run_name="score run {run_id} on {dataset} {split}", **RETRY)
def score_run(run_id: int, trained_on: str, checkpoint: str, dataset: str, split: str) -> list[dict[str, Any]]:
    """Predict a split, score the predictions, and store both; returns the overall scores."""
    device = choose_device(settings().device)
    path = settings().data_dir / checkpoint
    settle(settings(), path, epoch_of)
    loaded = load_checkpoint(path, device)
    image_ids, samples = load_samples(dataset, split)
    if not len(samples):
        raise TrainingError(f"the {split} split of {dataset} has no labelled image; nothing to evaluate")
    _, train = load_samples(trained_on, "train")
    _, val = load_samples(trained_on, "val")
    entry = backbone(loaded.model.backbone_name)
    batches = loader(samples, entry, ViewBatches(plain_views(len(samples)), 32))
    predicted = predict_batches(loaded.model, batches, device)
    probabilities = predicted.logits.sigmoid().numpy()
    probe = probe_scores(loaded.model.backbone_name, train, val, samples, device)
    result = score(samples.labels, probabilities, train.labels, thresholds=loaded.thresholds, probe=probe)
    overall = [
        {"name": key, "images": result.images, **_finite(asdict(value))} for key, value in result.overall.items()
    ]
    overall += retrieval_rows(samples.labels, probabilities, predicted)
    runs.record_evaluation(
        store(), run_id, dataset, split,
        overall=overall,
        attributes=[_attribute_row(item) for item in result.attributes],
        predictions=_prediction_rows(image_ids, probabilities),
    )  # fmt: skip
    get_run_logger().info("%s", _sentence(result, split))
    return overall


def probe_scores(
    backbone_name: str, train: Samples, val: Samples, samples: Samples, device: torch.device
) -> np.ndarray | None:
    """The linear probe's probabilities, fitted on train (at most PROBE_IMAGES of it, so that it takes minutes), with C
    chosen on val; None where the encoder has no weights."""
    try:
        model = AttributeModel(backbone_name).to(device)
    except BackboneError as error:
        get_run_logger().warning("no linear probe to compare with: %s", error)
        return None
    features = FeatureStore(settings().data_dir / "features", model)
    train, val = train.first(PROBE_IMAGES), val.first(PROBE_IMAGES)
    probe = fit_probe(
        (pooled_features(features, train, device), train.labels), (pooled_features(features, val, device), val.labels)
    )
    get_run_logger().info("linear probe: C = %s, chosen on val", probe.c)
    return probe.predict(pooled_features(features, samples, device))


def retrieval_rows(labels: np.ndarray, probabilities: np.ndarray, predicted: Predictions) -> list[dict[str, Any]]:
    """Recall@k and median rank of images sought by their attributes: by the shared embedding, by the product of the
    probabilities, and by chance."""
    asked, images = (found[:QUERIES] for found in retrieval.queries(labels))
    if not len(images):
        return []
    embedded = retrieval.embedding_scores(predicted.image.numpy(), predicted.attribute.numpy(), asked)
    found = {
        "embedding": retrieval.retrieval(embedded, images),
        "product": retrieval.retrieval(retrieval.product_scores(probabilities, asked), images),
        "chance": retrieval.chance(len(labels), len(images)),
    }
    rows = []
    for name, item in found.items():
        for k, value in item.recall.items():
            ends = (None, None) if name == "chance" else wilson(round(value * len(images)), len(images))
            rows.append((f"retrieval {name} recall@{k}", value, *ends))
        rows.append((f"retrieval {name} median rank", item.median_rank, None, None))
    n = {"n": len(images), "images": len(labels)}
    return [{"name": name, "value": value, "low": low, "high": high, **n} for name, value, low, high in rows]


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """A row in which undefined scores (nan) are NULL."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}


def _attribute_row(item: AttributeScore) -> dict[str, Any]:
    row: dict[str, Any] = {"attribute_id": INDEX[item.attribute]}
    for field in fields(item):
        value = getattr(item, field.name)
        if isinstance(value, Score):
            row |= {field.name: value.value, f"{field.name}_low": value.low, f"{field.name}_high": value.high}
        elif field.name != "attribute":
            row[field.name] = value
    return _finite(row)


def _prediction_rows(image_ids: list[int], probabilities: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"image_id": image_id, "attribute_id": k, "probability": float(row[k])}
        for image_id, row in zip(image_ids, probabilities, strict=True)
        for k in range(len(ATTRIBUTES))
    ]


def _sentence(result: Evaluation, split: str) -> str:
    s = result.overall
    over = s.get("map_over_probe")
    beside = f", {over.value:+.3f} [{over.low:+.3f}, {over.high:+.3f}] over the linear probe" if over else ""
    return (
        f"{split} split, {result.images} images, n = {s['accuracy'].n} known cells: "
        f"mAP {s['map'].value:.3f} [{s['map'].low:.3f}, {s['map'].high:.3f}] (prior {s['prior_map'].value:.3f}"
        f"{beside}); "
        f"accuracy {s['accuracy'].value:.3f} [{s['accuracy'].low:.3f}, {s['accuracy'].high:.3f}] "
        f"(all absent {s['all_absent_accuracy'].value:.3f}, prior {s['prior_accuracy'].value:.3f})"
    )
