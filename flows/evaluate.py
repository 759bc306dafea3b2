"""The flow `evaluate`: scores of a trained run on a split that it was not trained on."""

import math
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from coconut_attr.attributes import ATTRIBUTES, INDEX
from coconut_attr.backbones import backbone
from coconut_attr.checkpoint import load_checkpoint
from coconut_attr.data import loader
from coconut_attr.evaluate import AttributeScore, Evaluation
from coconut_attr.evaluate import evaluate as score
from coconut_attr.predict import choose_device, predict_logits
from coconut_attr.registry import dataset as registered
from coconut_attr.settings import settings
from coconut_attr.train import TrainingError
from db import queries
from db import store as writes
from flows.samples import load_samples
from flows.store import store


@flow
def evaluate(dataset: str = "val5k", run_id: int | None = None, split: Literal["val", "test"] = "test") -> int:
    """Score a run's checkpoint on a split, beside the trivial baselines; returns the run's id.

    Args:
        run_id: by default the newest finished run on the dataset.
    """
    name = registered(dataset).name
    run = queries.run(store(), run_id) if run_id is not None else queries.newest_run(store(), name)
    if run is None or not run["checkpoint"]:
        wanted = f"run {run_id}" if run_id is not None else f"finished run on {name}"
        raise TrainingError(f"there is no {wanted} with a checkpoint; train first: prefect deployment run train/{name}")
    overall = score_run(run["id"], run["dataset"], run["checkpoint"], name, split)
    create_table_artifact(overall, key=f"scores-{name}", description=f"Run {run['id']} on the {split} split of {name}")
    return run["id"]


@task(task_run_name="score run {run_id} on {dataset} {split}", cache_policy=NO_CACHE)
def score_run(run_id: int, trained_on: str, checkpoint: str, dataset: str, split: str) -> list[dict[str, Any]]:
    """Predict a split, score the predictions, and store both; returns the overall scores."""
    device = choose_device(settings().device)
    model = load_checkpoint(settings().data_dir / checkpoint, device).model
    image_ids, samples = load_samples(dataset, split)
    if not len(samples):
        raise TrainingError(f"the {split} split of {dataset} has no labelled image; nothing to evaluate")
    _, train = load_samples(trained_on, "train")
    batches = loader(samples, backbone(model.backbone_name), batch_size=32, augment=False)
    probabilities = predict_logits(model, batches, device).sigmoid().numpy()
    result = score(samples.labels, probabilities, train.labels)
    overall = [
        {"name": key, "images": result.images, **_finite(asdict(value))} for key, value in result.overall.items()
    ]
    writes.record_evaluation(
        store(), run_id, dataset, split,
        overall=overall,
        attributes=[_attribute_row(item) for item in result.attributes],
        predictions=_prediction_rows(image_ids, probabilities),
    )  # fmt: skip
    get_run_logger().info("%s", _sentence(result, split))
    return overall


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """A row in which undefined scores (nan) are NULL."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}


def _attribute_row(item: AttributeScore) -> dict[str, Any]:
    return _finite(
        {
            "attribute_id": INDEX[item.attribute],
            "n": item.n,
            "positives": item.positives,
            "accuracy": item.accuracy.value,
            "accuracy_low": item.accuracy.low,
            "accuracy_high": item.accuracy.high,
            "all_absent_accuracy": item.all_absent_accuracy,
            "prior_accuracy": item.prior_accuracy,
            "ap": item.ap.value,
            "ap_low": item.ap.low,
            "ap_high": item.ap.high,
            "prior_ap": item.prior_ap,
            "precision": item.precision,
            "recall": item.recall,
            "f1": item.f1,
        }
    )


def _prediction_rows(image_ids: list[int], probabilities: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"image_id": image_id, "attribute_id": k, "probability": float(row[k])}
        for image_id, row in zip(image_ids, probabilities, strict=True)
        for k in range(len(ATTRIBUTES))
    ]


def _sentence(result: Evaluation, split: str) -> str:
    s = result.overall
    return (
        f"{split} split, {result.images} images, n = {s['accuracy'].n} known cells: "
        f"mAP {s['map'].value:.3f} [{s['map'].low:.3f}, {s['map'].high:.3f}] (prior {s['prior_map'].value:.3f}); "
        f"accuracy {s['accuracy'].value:.3f} [{s['accuracy'].low:.3f}, {s['accuracy'].high:.3f}] "
        f"(all absent {s['all_absent_accuracy'].value:.3f}, prior {s['prior_accuracy'].value:.3f})"
    )
