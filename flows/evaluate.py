"""The flow `evaluate`: scores of a trained run on any split of any dataset."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from coconut_attr.attributes import Split
from coconut_attr.datasets import get_dataset
from coconut_attr.evaluation.results import Evaluation
from coconut_attr.files.run_files import sync
from coconut_attr.labels.label_model import load_label_model
from coconut_attr.model.checkpoint_metadata import epoch_of
from coconut_attr.settings import settings
from coconut_attr.training.config import TrainingError
from db import runs
from db.duplicates import unify_splits
from db.judgements import States, states_by, truth_rows
from db.labels import labelled_images, unjudged_states
from db.sql import Rows
from flows.database import engine
from flows.parameters import DatasetName, run_name
from flows.progress import Progress
from flows.retries import RETRY
from flows.samples import load_samples
from flows.summary import against_words

if TYPE_CHECKING:
    from coconut_attr.judgements.label_agreement import Agreement


@flow(flow_run_name=run_name)
def evaluate(
    dataset: DatasetName = "val5k",
    run_id: int | None = None,
    split: Split = "test",
) -> int:
    """Score a run's checkpoint on a split, beside the trivial baselines; return the run's id.

    Args:
        run_id: by default the newest finished run on the dataset.
        split: report test. Val has chosen the epoch, and the label model was fitted on what was
            seen in train and val.
    """
    name = get_dataset(dataset).name
    run = runs.run_to_score(engine(), name, run_id)
    overall = score_run(run["id"], run["dataset"], run["checkpoint"], name, split)
    create_table_artifact(
        overall, key=f"scores-{name}", description=f"Run {run['id']} on the {split} split of {name}"
    )
    return run["id"]


@task(task_run_name="score run {run_id} on {dataset} {split}", **RETRY)
def score_run(
    run_id: int, trained_on: str, checkpoint: str, dataset: str, split: Split
) -> list[dict[str, Any]]:
    """Predict a split, score the predictions by eyes and against labels, and store all of it.

    Returns:
        The overall scores by eyes; without judgements in the split, those against labels.
    """
    # Here, as every process that registers or runs any flow imports this module: see test_imports.
    from coconut_attr.evaluation.retrieval import retrieval_scores
    from coconut_attr.evaluation.scores import choose_thresholds
    from coconut_attr.evaluation.scores import evaluate as evaluate_predictions
    from coconut_attr.model.backbones.catalogue import get_backbone
    from coconut_attr.model.checkpoint import load_checkpoint
    from coconut_attr.model.predict import choose_device, predict_batches
    from coconut_attr.training.data import ViewBatchSampler, image_loader, plain_views, prior
    from coconut_attr.training.features import BATCH
    from coconut_attr.training.linear_probe import probe_probabilities

    logger = get_run_logger()
    device = choose_device(settings().device)
    path = settings().data_dir / checkpoint
    sync(settings(), path, epoch_of)
    loaded = load_checkpoint(path, device)
    unify_splits(engine())  # a copy of a training photo in test would raise the scores
    samples = load_samples(dataset, split)
    if not len(samples):
        raise TrainingError(
            f"the {split} split of {dataset} has no labelled image; nothing to evaluate"
        )
    train, val = load_samples(trained_on, "train"), load_samples(trained_on, "val")

    backbone_name = loaded.model.backbone_name
    batches = ViewBatchSampler(plain_views(len(samples)), BATCH)
    loader = image_loader(samples, get_backbone(backbone_name), batches, logger.warning)
    # The linear probe may take as long as the predictions.
    with Progress(f"{dataset} scores", 2 * len(loader)) as progress:
        predicted = predict_batches(loaded.model, reported(loader, progress), device)
        probabilities = predicted.logits.sigmoid().numpy()
        embeddings = predicted.embeddings
        predictions = runs.prediction_rows(samples.image_ids, probabilities)
        runs.record_predictions(engine(), run_id, predictions)
        progress.reach(len(loader), "fitting the linear probe")
        features_folder = settings().data_dir / "features"
        probe = probe_probabilities(
            backbone_name, train, val, samples, device, features_folder, logger.info
        )
        progress.reach(2 * len(loader))
    share = prior(train)
    overall: list[dict[str, Any]] = []
    truth = truth_rows(engine(), dataset, (split,))
    by_eyes = seen_by_eyes(truth)
    for target in (labels_of_first_pass(dataset, split), by_eyes):
        rows = [k for k, image_id in enumerate(samples.image_ids) if image_id in target.states]
        if not rows:
            continue
        states = np.array([target.states[samples.image_ids[k]] for k in rows], np.int8)
        evaluation = evaluate_predictions(
            states,
            probabilities[rows],
            share,
            thresholds=loaded.thresholds,
            probe=None if probe is None else probe[rows],
            probe_thresholds=choose_thresholds(share),
        )
        retrieval = retrieval_scores(
            states,
            probabilities[rows],
            embeddings and (embeddings[0].numpy()[rows], embeddings[1].numpy()),
        )
        overall = runs.overall_rows(evaluation.overall | retrieval, evaluation.images)
        runs.record_evaluation(
            engine(),
            run_id,
            dataset,
            split,
            target.against,
            overall=overall,
            attributes=runs.attribute_rows(
                evaluation.attributes,
                label_agreement(dataset, truth) if target is by_eyes else (),
            ),
            judged_by=target.judged_by,
        )
        words = against_words(target.against, target.judged_by)
        logger.info("%s: %s", words, _sentence(evaluation, split))
    if not by_eyes.states:
        logger.warning(
            "nobody has judged a photo of the %s split of %s: its scores are against labels alone, "
            "which err; judge some: coconut-attr judgements import",
            split,
            dataset,
        )
    return overall


def reported(batches: Iterable[Any], progress: Progress) -> Iterator[Any]:
    """Yield batches, and report each as done when the next one is asked for."""
    for batch in batches:
        yield batch
        progress.advance(note="predicting")


@dataclass(frozen=True)
class Target:
    """What predictions are scored against: image id -> 34 states (1, 0, -1)."""

    against: runs.Against
    states: States
    judged_by: str | None = None


def labels_of_first_pass(dataset: str, split: str) -> Target:
    """Return what the evidence alone says of the images of a split, also where somebody judged.

    In the second pass, what a model of the same encoder predicts has a say.
    """
    images = labelled_images(engine(), dataset, split, load_label_model())
    return Target("labels", {image.id: image.states for image in images})


def label_agreement(dataset: str, rows: Rows) -> "list[Agreement]":
    """Compare the labels of images, as they are without judgements, with their `truth_rows`."""
    from coconut_attr.judgements.label_agreement import agree

    truth = states_by("coco_id", rows)
    return agree(unjudged_states(engine(), dataset, list(truth), load_label_model()), truth)


def seen_by_eyes(rows: Rows) -> Target:
    """Return what was seen by `truth_rows`, and by whom."""
    kinds = {row["kind"] for row in rows}
    judged_by = "both" if len(kinds) > 1 else next(iter(kinds), None)
    return Target("eyes", states_by("image_id", rows), judged_by)


def _sentence(evaluation: Evaluation, split: str) -> str:
    s = evaluation.overall
    gain = s.get("map_over_probe")
    over = (
        f", {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] over the linear probe"
        if gain
        else ""
    )
    return (
        f"{split} split, {evaluation.images} images, n = {s['accuracy'].n} known cells: "
        f"mAP over {s['map'].attributes} attributes {s['map'].value:.3f} "
        f"[{s['map'].low:.3f}, {s['map'].high:.3f}] "
        f"(prior {s['prior_map'].value:.3f}{over}); "
        f"accuracy {s['accuracy'].value:.3f} [{s['accuracy'].low:.3f}, {s['accuracy'].high:.3f}] "
        f"(all absent {s['all_absent_accuracy'].value:.3f}, "
        f"prior {s['prior_accuracy'].value:.3f})"
    )
