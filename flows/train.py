"""The flow `train`: fetch and label what is missing, train a run, score it on the test split."""

from dataclasses import asdict, replace

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from coconut_attr.datasets import get_dataset
from coconut_attr.training.config import profile as named_profile
from db import annotations, lease, runs
from flows.database import engine
from flows.download import download, summary
from flows.extract import extract
from flows.parameters import (
    BackboneName,
    DatasetName,
    LearningRate,
    Positive,
    ProfileName,
    Seed,
    run_name,
)
from flows.resumable import refuse_other_settings
from flows.resume import finished_run, label_and_score, resume_own_run, resume_run
from flows.samples import fingerprint
from flows.training_run import train_model
from flows.weights import resolve_backbone


@flow(flow_run_name=run_name)
def train(
    dataset: DatasetName | None = None,
    profile: ProfileName | None = None,
    backbone: BackboneName | None = None,
    epochs: Positive | None = None,
    batch_size: Positive | None = None,
    learning_rate: LearningRate | None = None,
    seed: Seed | None = None,
    resume: Positive | None = None,
    prepare: bool = True,
    reuse: bool = False,
) -> int:
    """Train a model on a dataset and score it on the test split; return the run's id.

    Args:
        dataset: by default val5k.
        profile: named settings, by default `default`; the arguments after it change single ones.
        resume: continue this interrupted run with its own settings; no others may be given.
        prepare: first fetch and label what is missing of the dataset.
        reuse: if a finished run has the same data, labels and settings, return that one.
    """
    changes = {
        "backbone": backbone,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    if resume is None:  # refuse what cannot be trained before anything else happens
        name = get_dataset(dataset or "val5k").name
        config = named_profile(profile or "default", **changes)
    logger = get_run_logger()
    for abandoned in lease.fail_abandoned(engine()):
        logger.warning("run %s sent no heartbeat for long: its process has died", abandoned)
    if resume is not None:
        refuse_other_settings(engine(), resume, dataset, {"profile": profile, **changes})
        run_id = resume_own_run(resume) if (flow_run.run_count or 0) > 1 else None
        return resume_run(resume) if run_id is None else run_id
    config = replace(config, backbone=resolve_backbone(config.backbone))
    if prepare:
        if not is_complete(name):
            download(name)
        extract(name)
    data = fingerprint(name)
    run_id = finished_run(name, config, data) if reuse else None
    if run_id is not None:
        logger.info("run %s has the same data, labels and settings: not training again", run_id)
        return run_id
    # The run that this flow run had started before its process died, perhaps on another machine.
    own_run = runs.run_of_flow(engine(), flow_run.root_flow_run_id)
    made_from = {"dataset": name, "config": asdict(config), "data_fingerprint": data}
    if own_run and all(own_run[column] == value for column, value in made_from.items()):
        run_id = resume_own_run(own_run["id"])
        if run_id is not None:
            return run_id
    run_id = train_model(name, config, data)
    return label_and_score(name, run_id)


def is_complete(dataset: str) -> bool:
    """Return whether all annotation files have been read and every image has been tried."""
    files = annotations.annotation_files(engine(), dataset)
    counts = summary(dataset)
    read = all(row["complete"] for row in files.values()) and (
        files or not get_dataset(dataset).has_masks
    )
    return bool(
        read and counts["images"] and counts["images"] == counts["downloaded"] + counts["failed"]
    )
