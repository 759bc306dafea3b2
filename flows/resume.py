"""TODO."""

import time
from dataclasses import asdict

from prefect.logging import get_run_logger

from coconut_attr.files.run_files import sync
from coconut_attr.model.checkpoint import epoch_of
from coconut_attr.settings import settings
from coconut_attr.training.config import TrainConfig, TrainingError
from coconut_attr.training.job import STATE_NAME, run_folder
from coconut_attr.training.state import epochs_done
from db import runs
from db.downloads import worker_name
from flows.database import engine
from flows.evaluate import evaluate
from flows.samples import fingerprint
from flows.training_run import goes_on, train_model


def again(run_id: int) -> int | None:
    """A run that this Prefect run was at before its process died, trained to its end and scored; None where there is
    nothing of it to go on with."""
    if runs.is_alive(
        engine(), run_id
    ):  # Prefect may take a process for dead that it just did not hear of
        get_run_logger().warning(
            "run %s was heard of just now: waiting for its end, or until it is silent", run_id
        )
        while runs.is_alive(engine(), run_id):
            time.sleep(runs.HEARTBEAT_SECONDS / 10)
    run = runs.get_run(engine(), run_id)
    if run and run["status"] == "finished":
        return evaluate(run["dataset"], run_id)
    if not can_go_on(run_id):
        process = worker_name()
        if run and not runs.take(engine(), run_id, process):
            raise goes_on(run_id)
        runs.finish(
            engine(), run_id, "failed", "its process ended before its first epoch did", process
        )
        return None
    get_run_logger().warning(
        "run %s was interrupted: it goes on where its last epoch ended", run_id
    )
    return resumed(run_id)


def can_go_on(run_id: int) -> bool:
    """Have here the state from which a run can be gone on with; there is one from the first epoch to the run's end."""
    return sync(settings(), run_folder(settings().data_dir, run_id) / STATE_NAME, epochs_done)


def resumed(run_id: int) -> int:
    """Go on with an interrupted run where its last epoch ended, and score it."""
    run = runs.get_run(engine(), run_id)
    if run is None or run["status"] == "finished" or not can_go_on(run_id):
        why = "it is finished" if run and run["status"] == "finished" else "no epoch of it was kept"
        raise TrainingError(
            f"run {run_id} cannot be gone on with: {'there is no such run' if run is None else why}"
        )
    if runs.is_alive(engine(), run_id):
        raise goes_on(run_id)
    if run["data_fingerprint"] != fingerprint(run["dataset"]):
        raise TrainingError(
            f"run {run_id} cannot be gone on with: the images or labels of {run['dataset']} changed"
        )
    config = TrainConfig(**run["config"])
    return evaluate(
        run["dataset"], train_model(run["dataset"], config, run["data_fingerprint"], resume=run_id)
    )


def finished_run(dataset: str, config: TrainConfig, data: str) -> int | None:
    """The newest finished run with the same data and settings whose checkpoint is there."""
    run = runs.newest_run(engine(), dataset, data_fingerprint=data)
    if run is None or run["config"] != asdict(config):
        return None
    return (
        run["id"] if sync(settings(), settings().data_dir / run["checkpoint"], epoch_of) else None
    )
