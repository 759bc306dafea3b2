"""The flow `train`: whatever is missing of the data, then a training run, then its scores on the test split."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from coconut_attr.checkpoint import FILE_NAME, save_checkpoint
from coconut_attr.environment import environment
from coconut_attr.evaluate import choose_thresholds, mean_average_precision
from coconut_attr.features import FeatureStore
from coconut_attr.model import AttributeModel, count_parameters
from coconut_attr.predict import choose_device
from coconut_attr.registry import dataset as registered
from coconut_attr.rules import load_rules
from coconut_attr.settings import settings
from coconut_attr.train import Epoch, TrainConfig, TrainingError, fit, seed_everything
from coconut_attr.train import profile as named_profile
from db import queries
from db import store as writes
from flows.download import download, summary
from flows.evaluate import evaluate
from flows.extract import extract
from flows.progress import Progress
from flows.samples import fingerprint, load_samples
from flows.store import store


@flow
def train(
    dataset: str = "val5k",
    profile: str = "default",
    backbone: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    resume: int | None = None,
    prepare: bool = True,
    reuse: bool = False,
) -> int:
    """Train a model on a dataset and score it on the test split; returns the run's id.

    Args:
        profile: named settings; the arguments after it change single ones.
        resume: go on with this interrupted run, by its own settings.
        prepare: first fetch and label what is missing of the dataset.
        reuse: if a finished run has the same data, labels and settings, return that one.
    """
    if resume is not None:
        return resumed(resume)
    name = registered(dataset).name
    config = named_profile(
        profile, backbone=backbone, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed
    ).resolved()
    if prepare:
        if not is_complete(name):
            download(name)
        extract(name)
    data = fingerprint(name)
    run_id = finished_run(name, config, data) if reuse else None
    if run_id is not None:
        get_run_logger().info("run %s has the same data, labels and settings: it is not trained again", run_id)
        return run_id
    return evaluate(name, train_model(name, config, data))


def resumed(run_id: int) -> int:
    """Go on with an interrupted run where its last epoch ended, and score it."""
    run = queries.run(store(), run_id)
    if run is None or run["status"] == "finished" or not state_file(run_id).is_file():
        why = "it is finished" if run and run["status"] == "finished" else "no epoch of it was kept"
        raise TrainingError(f"run {run_id} cannot be gone on with: {'there is no such run' if run is None else why}")
    if run["data_fingerprint"] != fingerprint(run["dataset"]):
        raise TrainingError(f"run {run_id} cannot be gone on with: the images or labels of {run['dataset']} changed")
    config = TrainConfig(**run["config"])
    return evaluate(run["dataset"], train_model(run["dataset"], config, run["data_fingerprint"], resume=run_id))


def state_file(run_id: int) -> Path:
    """Where the state of a run that is not finished is kept."""
    return settings().data_dir / "runs" / str(run_id) / "state.pt"


def is_complete(dataset: str) -> bool:
    """Whether all annotation files have been read and every image has been tried."""
    files = queries.annotation_files(store(), dataset)
    counts = summary(dataset)
    whole = all(row["complete"] for row in files.values()) and (files or not registered(dataset).repos)
    return bool(whole and counts["images"] and counts["images"] == counts["downloaded"] + counts["failed"])


def finished_run(dataset: str, config: TrainConfig, data: str) -> int | None:
    """The newest finished run with the same data and settings whose checkpoint is there."""
    run = queries.newest_run(store(), dataset, data_fingerprint=data)
    if run is None or run["config"] != asdict(config) or not (settings().data_dir / run["checkpoint"]).is_file():
        return None
    return run["id"]


@task(task_run_name="train {config.backbone} on {dataset}", cache_policy=NO_CACHE)
def train_model(dataset: str, config: TrainConfig, data: str, resume: int | None = None) -> int:
    """One training run, stored epoch by epoch; the checkpoint is of the epoch that is best on val."""
    logger = get_run_logger()
    device = choose_device(settings().device)
    _, train_samples = load_samples(dataset, "train")
    _, val_samples = load_samples(dataset, "val")
    seed_everything(config.seed)
    model = AttributeModel(config.backbone, pretrained=config.pretrained).to(device)
    if resume is None:
        run_id = start_run(dataset, config, data, model, device, (len(train_samples), len(val_samples)))
    else:
        run_id = resume
        writes.update_run(store(), run_id, status="running", note=None, flow_run_id=flow_run.get_id())
    logger.info("run %s: %s on %s, %s train and %s val images of %s", run_id, config.backbone, device,
                len(train_samples), len(val_samples), dataset)  # fmt: skip
    checkpoint = f"runs/{run_id}/{FILE_NAME}"
    steps = config.epochs * -(-len(train_samples) // config.batch_size)
    features = feature_store(model, config, len(train_samples) + len(val_samples))
    try:
        if features:
            with Progress(f"{dataset} features", len(train_samples) * config.views) as filling:
                features.fill(
                    train_samples, config.view_numbers, device, on_step=lambda done, _missing: filling.reach(done)
                )
        with Progress(f"{dataset} training", steps) as progress:

            def on_epoch(epoch: Epoch, trained: AttributeModel) -> None:
                if epoch.best:
                    save_checkpoint(
                        settings().data_dir / checkpoint, trained, run=run_id, dataset=dataset, epoch=epoch.epoch,
                        thresholds=choose_thresholds(val_samples.labels, epoch.probabilities),
                    )  # fmt: skip
                    writes.update_run(store(), run_id, checkpoint=checkpoint, best_epoch=epoch.epoch)
                writes.record_epoch(store(), run_id, _epoch_row(epoch))
                logger.info("epoch %s: loss %.4f, val accuracy %.3f (n = %s), val mAP %.3f, %.1f images/s",
                            epoch.epoch, epoch.loss, epoch.accuracy, epoch.decisions, epoch.map or float("nan"),
                            epoch.images_per_second)  # fmt: skip

            def on_step(epoch: int, step: int, _steps: int) -> None:
                per_epoch = steps // config.epochs
                progress.reach((epoch - 1) * per_epoch + step, note=f"epoch {epoch}")

            fit(
                model, train_samples, val_samples, config, device,
                on_epoch=on_epoch,
                mean_average_precision=mean_average_precision,
                on_step=on_step,
                features=features,
                state=state_file(run_id),
            )  # fmt: skip
    except BaseException as error:
        writes.finish_run(store(), run_id, "failed", note=f"{type(error).__name__}: {error}")
        raise
    writes.finish_run(store(), run_id, "finished")
    state_file(run_id).unlink(missing_ok=True)
    return run_id


def feature_store(model: AttributeModel, config: TrainConfig, images: int) -> FeatureStore | None:
    """Where features of the frozen prefix are kept; None where every epoch has views of its own, or the disk is small.

    The curve is the same without it, only slower.
    """
    if not config.views:
        return None
    folder = settings().data_dir / "features"
    features = FeatureStore(folder, model)
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = images * config.views * features.bytes_a_view, shutil.disk_usage(folder).free
    if needed > free / 2:
        get_run_logger().warning("features are not kept: they would take %.0f of %.0f free GiB in %s",
                                 needed / 2**30, free / 2**30, folder)  # fmt: skip
        return None
    return features


def start_run(
    dataset: str, config: TrainConfig, data: str, model: AttributeModel, device: torch.device, images: tuple[int, int]
) -> int:
    """Store a new run with all that it was made from; returns its id."""
    counts = count_parameters(model)
    return writes.start_run(
        store(),
        dataset=dataset,
        backbone=config.backbone,
        total_parameters=counts.total,
        trainable_parameters=counts.trainable,
        train_images=images[0],
        val_images=images[1],
        seed=config.seed,
        config=asdict(config),
        environment=environment(device),
        rule_version=load_rules().version,
        data_fingerprint=data,
        flow_run_id=flow_run.get_id(),
    )


def _epoch_row(epoch: Epoch) -> dict[str, Any]:
    row = asdict(epoch)
    del row["best"], row["probabilities"]
    if row["map"] != row["map"]:  # nan: no attribute has both states in val
        row["map"] = None
    return row
