"""The flow `evaluate`: scores of a trained run on any split of any dataset."""

from dataclasses import asdict
from typing import Any, Literal

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from coconut_attr.datasets import get_dataset
from coconut_attr.evaluation.scores import Evaluation
from coconut_attr.evaluation.scores import evaluate as score
from coconut_attr.files.run_files import sync
from coconut_attr.model.backbones.catalogue import backbone
from coconut_attr.model.checkpoint import epoch_of, load_checkpoint
from coconut_attr.model.predict import choose_device, predict_batches
from coconut_attr.settings import settings
from coconut_attr.training.config import TrainingError
from coconut_attr.training.data import ViewBatches, loader, plain_views
from coconut_attr.training.score import probe_scores, retrieval_rows
from db import runs
from db.runs import attribute_row, finite, prediction_rows
from flows.database import engine
from flows.parameters import DatasetName
from flows.retries import RETRY
from flows.samples import load_samples


@flow
def evaluate(
    dataset: DatasetName = "val5k",
    run_id: int | None = None,
    split: Literal["train", "val", "test"] = "test",
) -> int:
    """Score a run's checkpoint on a split, beside the trivial baselines; returns the run's id.

    Args:
        run_id: by default the newest finished run on the dataset.
        split: test is what to report; val has chosen epoch and thresholds, train has been learnt by heart.
    """
    name = get_dataset(dataset).name
    run = runs.get_run(engine(), run_id) if run_id is not None else runs.newest_run(engine(), name)
    if run is None or not run["checkpoint"]:
        wanted = f"run {run_id}" if run_id is not None else f"finished run on {name}"
        raise TrainingError(
            f"there is no {wanted} with a checkpoint; train first: coconut-attr train {name}"
        )
    overall = score_run(run["id"], run["dataset"], run["checkpoint"], name, split)
    create_table_artifact(
        overall, key=f"scores-{name}", description=f"Run {run['id']} on the {split} split of {name}"
    )
    return run["id"]


@task(task_run_name="score run {run_id} on {dataset} {split}", **RETRY)
def score_run(
    run_id: int, trained_on: str, checkpoint: str, dataset: str, split: str
) -> list[dict[str, Any]]:
    """Predict a split, score the predictions, and store both; returns the overall scores."""
    device = choose_device(settings().device)
    path = settings().data_dir / checkpoint
    sync(settings(), path, epoch_of)
    loaded = load_checkpoint(path, device)
    image_ids, samples = load_samples(dataset, split)
    if not len(samples):
        raise TrainingError(
            f"the {split} split of {dataset} has no labelled image; nothing to evaluate"
        )
    _, train = load_samples(trained_on, "train")
    _, val = load_samples(trained_on, "val")
    entry = backbone(loaded.model.backbone_name)
    batches = loader(samples, entry, ViewBatches(plain_views(len(samples)), 32))
    predicted = predict_batches(loaded.model, batches, device)
    probabilities = predicted.logits.sigmoid().numpy()
    probe = probe_scores(
        loaded.model.backbone_name, train, val, samples, device, get_run_logger().info
    )
    result = score(
        samples.labels, probabilities, train.labels, thresholds=loaded.thresholds, probe=probe
    )
    overall = [
        {"name": key, "images": result.images, **finite(asdict(value))}
        for key, value in result.overall.items()
    ]
    overall += retrieval_rows(samples.labels, probabilities, predicted)
    runs.record_evaluation(
        engine(), run_id, dataset, split,
        overall=overall,
        attributes=[attribute_row(item) for item in result.attributes],
        predictions=prediction_rows(image_ids, probabilities),
    )  # fmt: skip
    get_run_logger().info("%s", _sentence(result, split))
    return overall


def _sentence(result: Evaluation, split: str) -> str:
    s = result.overall
    over = s.get("map_over_probe")
    beside = (
        f", {over.value:+.3f} [{over.low:+.3f}, {over.high:+.3f}] over the linear probe"
        if over
        else ""
    )
    return (
        f"{split} split, {result.images} images, n = {s['accuracy'].n} known cells: "
        f"mAP {s['map'].value:.3f} [{s['map'].low:.3f}, {s['map'].high:.3f}] (prior {s['prior_map'].value:.3f}"
        f"{beside}); "
        f"accuracy {s['accuracy'].value:.3f} [{s['accuracy'].low:.3f}, {s['accuracy'].high:.3f}] "
        f"(all absent {s['all_absent_accuracy'].value:.3f}, prior {s['prior_accuracy'].value:.3f})"
    )
