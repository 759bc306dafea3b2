"""The flow `train`: whatever is missing of the data, then a training run, then its scores on the test split."""

from dataclasses import asdict, replace

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from coconut_attr.datasets import get_dataset
from coconut_attr.training.config import AUTO
from coconut_attr.training.config import profile as named_profile
from db import annotations, runs
from db.runs import run_of_flow
from flows.database import engine
from flows.download import download, summary
from flows.evaluate import evaluate
from flows.extract import extract
from flows.parameters import BackboneName, DatasetName, LearningRate, Positive, ProfileName, Seed
from flows.resume import again, finished_run, resumed
from flows.samples import fingerprint
from flows.training_run import train_model


@flow
def train(
    dataset: DatasetName = "val5k",
    profile: ProfileName = "default",
    backbone: BackboneName | None = None,
    epochs: Positive | None = None,
    batch_size: Positive | None = None,
    learning_rate: LearningRate | None = None,
    seed: Seed | None = None,
    resume: Positive | None = None,
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
    for dead in runs.end_silent(engine()):
        get_run_logger().warning(
            "run %s has not been heard of for long: its process has died", dead
        )
    if resume is not None:
        run_id = again(resume) if (flow_run.run_count or 0) > 1 else None
        return resumed(resume) if run_id is None else run_id
    name = get_dataset(dataset).name
    config = named_profile(
        profile,
        backbone=backbone,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    begun = run_of_flow(
        engine(), flow_run.root_flow_run_id
    )  # before its process died, on another machine maybe
    if begun and config.backbone == AUTO:
        config = replace(config, backbone=begun["backbone"])
    config = config.resolved()
    if prepare:
        if not is_complete(name):
            download(name)
        extract(name)
    data = fingerprint(name)
    run_id = finished_run(name, config, data) if reuse else None
    if run_id is not None:
        get_run_logger().info(
            "run %s has the same data, labels and settings: it is not trained again", run_id
        )
        return run_id
    if begun and (begun["dataset"], begun["config"], begun["data_fingerprint"]) == (
        name,
        asdict(config),
        data,
    ):
        run_id = again(begun["id"])
        if run_id is not None:
            return run_id
    return evaluate(name, train_model(name, config, data))


def is_complete(dataset: str) -> bool:
    """Whether all annotation files have been read and every image has been tried."""
    files = annotations.annotation_files(engine(), dataset)
    counts = summary(dataset)
    whole = all(row["complete"] for row in files.values()) and (
        files or not get_dataset(dataset).has_masks
    )
    return bool(
        whole and counts["images"] and counts["images"] == counts["downloaded"] + counts["failed"]
    )
