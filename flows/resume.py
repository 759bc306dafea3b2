"""Runs that need not be trained from scratch: interrupted ones, and finished ones that fit."""

import time
from dataclasses import asdict

from prefect.logging import get_run_logger

from coconut_attr.files.run_files import sync
from coconut_attr.model.checkpoint_metadata import epoch_of
from coconut_attr.settings import settings
from coconut_attr.training.config import TrainConfig
from db import lease, runs
from db.downloads import worker_name
from db.lease import RunLease, RunStillAlive
from flows.database import engine
from flows.evaluate import evaluate
from flows.resumable import NotResumable, unfinished_run
from flows.samples import fingerprint
from flows.second_pass import second_pass
from flows.training_run import train_model


def resume_own_run(run_id: int) -> int | None:
    """Resume the run that this flow run had started before its process died, and score it.

    Returns:
        The run's id; None if there is no such run, or if it has no saved state and is recorded as
        failed.
    """
    logger = get_run_logger()
    if lease.is_alive(engine(), run_id):  # Prefect may have missed heartbeats of a live process
        logger.warning("run %s is still alive: waiting for its end, or for it to expire", run_id)
        while lease.is_alive(engine(), run_id):
            time.sleep(lease.HEARTBEAT_SECONDS / 10)
    run = runs.get_run(engine(), run_id)
    if run is None:
        return None
    if run["status"] == "finished":
        return label_and_score(run["dataset"], run_id)
    if not fetch_state(run_id):
        note = "its process ended before its first epoch did"
        RunLease.take(engine(), run_id, worker_name()).finish("failed", note)
        return None
    logger.warning("run %s was interrupted: it continues after its last epoch", run_id)
    return resume_run(run_id)


def resume_run(run_id: int) -> int:
    """Resume an interrupted run after its last epoch, and score it; return its id.

    Raises:
        NotResumable: the message says why.
        RunStillAlive: another process trains it.
    """
    run = unfinished_run(engine(), run_id)
    if not fetch_state(run_id):
        raise NotResumable(run_id, "the state of no epoch of it was saved")
    if lease.is_alive(engine(), run_id):
        raise RunStillAlive(run_id)
    dataset, data = run["dataset"], run["data_fingerprint"]
    if data != fingerprint(dataset):
        raise NotResumable(run_id, f"the images or labels of {dataset} have changed")
    train_model(dataset, TrainConfig(**run["config"]), data, run_id)
    return label_and_score(dataset, run_id)


def label_and_score(dataset: str, run_id: int) -> int:
    """Do what follows on a training: the labels' second pass, and the scores; return the run's id.

    Both may be done again: a process may have died between them.
    """
    second_pass(dataset, run_id)
    return evaluate(dataset, run_id)


def fetch_state(run_id: int) -> bool:
    """Fetch a run's training state, if the object store has a newer one.

    Returns:
        Whether there is one: from the run's first epoch to its end.
    """
    from coconut_attr.training.job import state_path
    from coconut_attr.training.state import state_epoch

    return sync(settings(), state_path(settings().data_dir, run_id), state_epoch)


def finished_run(dataset: str, config: TrainConfig, data: str) -> int | None:
    """Return the newest finished run on equal data, if its settings are equal too.

    Args:
        data: the fingerprint of the dataset.

    Returns:
        The run's id; None if its settings differ, or its checkpoint is lost.
    """
    run = runs.newest_run(engine(), dataset, data_fingerprint=data)
    if run is None or run["config"] != asdict(config):
        return None
    checkpoint = settings().data_dir / run["checkpoint"]
    return run["id"] if sync(settings(), checkpoint, epoch_of) else None
