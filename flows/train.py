"""The flow `train`: whatever is missing of the data, then a training run, then its scores on the test split."""

import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import Abort, TerminationSignal
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run

from coconut_attr.checkpoint import epoch_of
from coconut_attr.environment import environment
from coconut_attr.errors import UserError
from coconut_attr.job import STATE_NAME, Job, Watcher, run_folder, run_in_processes, run_job
from coconut_attr.model import AttributeModel, count_parameters
from coconut_attr.predict import choose_device
from coconut_attr.registry import dataset as registered
from coconut_attr.rules import load_rules
from coconut_attr.run_files import settle, share, unshare
from coconut_attr.settings import settings
from coconut_attr.train import AUTO, TrainConfig, TrainingError, epochs_done
from coconut_attr.train import profile as named_profile
from db import queries, runs
from db.downloads import worker_name
from db.periodic import every
from flows.download import download, summary
from flows.evaluate import evaluate
from flows.extract import extract
from flows.parameters import BackboneName, DatasetName, LearningRate, Positive, ProfileName, Seed
from flows.progress import Progress
from flows.samples import fingerprint, load_samples
from flows.store import store


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
    for dead in runs.end_silent(store()):
        get_run_logger().warning("run %s has not been heard of for long: its process has died", dead)
    if resume is not None:
        run_id = again(resume) if (flow_run.run_count or 0) > 1 else None
        return resumed(resume) if run_id is None else run_id
    name = registered(dataset).name
    config = named_profile(
        profile, backbone=backbone, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed
    )
    begun = queries.run_of_flow(store(), flow_run.root_flow_run_id)  # before its process died, on another machine maybe
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
        get_run_logger().info("run %s has the same data, labels and settings: it is not trained again", run_id)
        return run_id
    if begun and (begun["dataset"], begun["config"], begun["data_fingerprint"]) == (name, asdict(config), data):
        run_id = again(begun["id"])
        if run_id is not None:
            return run_id
    return evaluate(name, train_model(name, config, data))


def again(run_id: int) -> int | None:
    """A run that this Prefect run was at before its process died, trained to its end and scored; None where there is
    nothing of it to go on with."""
    if runs.is_alive(store(), run_id):  # Prefect may take a process for dead that it just did not hear of
        get_run_logger().warning("run %s was heard of just now: waiting for its end, or until it is silent", run_id)
        while runs.is_alive(store(), run_id):
            time.sleep(runs.HEARTBEAT_SECONDS / 10)
    run = queries.run(store(), run_id)
    if run and run["status"] == "finished":
        return evaluate(run["dataset"], run_id)
    if not can_go_on(run_id):
        process = worker_name()
        if run and not runs.take(store(), run_id, process):
            raise goes_on(run_id)
        runs.finish(store(), run_id, "failed", "its process ended before its first epoch did", process)
        return None
    get_run_logger().warning("run %s was interrupted: it goes on where its last epoch ended", run_id)
    return resumed(run_id)


def can_go_on(run_id: int) -> bool:
    """Have here the state from which a run can be gone on with; there is one from the first epoch to the run's end."""
    return settle(settings(), run_folder(settings().data_dir, run_id) / STATE_NAME, epochs_done)


def resumed(run_id: int) -> int:
    """Go on with an interrupted run where its last epoch ended, and score it."""
    run = queries.run(store(), run_id)
    if run is None or run["status"] == "finished" or not can_go_on(run_id):
        why = "it is finished" if run and run["status"] == "finished" else "no epoch of it was kept"
        raise TrainingError(f"run {run_id} cannot be gone on with: {'there is no such run' if run is None else why}")
    if runs.is_alive(store(), run_id):
        raise goes_on(run_id)
    if run["data_fingerprint"] != fingerprint(run["dataset"]):
        raise TrainingError(f"run {run_id} cannot be gone on with: the images or labels of {run['dataset']} changed")
    config = TrainConfig(**run["config"])
    return evaluate(run["dataset"], train_model(run["dataset"], config, run["data_fingerprint"], resume=run_id))


def goes_on(run_id: int) -> TrainingError:
    """Why a run that another process may have is left to it."""
    return TrainingError(
        f"run {run_id} seems to be going on: it was heard of less than {runs.HEARD.seconds} seconds ago; if its "
        "process is dead, try again after that time"
    )


def is_complete(dataset: str) -> bool:
    """Whether all annotation files have been read and every image has been tried."""
    files = queries.annotation_files(store(), dataset)
    counts = summary(dataset)
    whole = all(row["complete"] for row in files.values()) and (files or not registered(dataset).repos)
    return bool(whole and counts["images"] and counts["images"] == counts["downloaded"] + counts["failed"])


def finished_run(dataset: str, config: TrainConfig, data: str) -> int | None:
    """The newest finished run with the same data and settings whose checkpoint is there."""
    run = queries.newest_run(store(), dataset, data_fingerprint=data)
    if run is None or run["config"] != asdict(config):
        return None
    return run["id"] if settle(settings(), settings().data_dir / run["checkpoint"], epoch_of) else None


@task(task_run_name="train {config.backbone} on {dataset}", cache_policy=NO_CACHE)
def train_model(dataset: str, config: TrainConfig, data: str, resume: int | None = None) -> int:
    """One training run, stored epoch by epoch; the checkpoint is of the epoch that is best on val."""
    logger = get_run_logger()
    device = choose_device(settings().device)
    _, train_samples = load_samples(dataset, "train")
    _, val_samples = load_samples(dataset, "val")
    process = worker_name()
    if resume is None:
        run_id = start_run(dataset, config, data, device, (len(train_samples), len(val_samples)), process)
    else:
        run_id = resume
        if not runs.take(store(), run_id, process):
            raise goes_on(run_id)
    job = Job(run_id, dataset, config, train_samples, val_samples, settings().data_dir)
    number = settings().processes or (torch.cuda.device_count() if device.type == "cuda" else 1)
    logger.info("run %s: %s on %s (%s), %s train and %s val images of %s", run_id, config.backbone, device,
                "one process" if number == 1 else f"{number} processes", len(train_samples), len(val_samples),
                dataset)  # fmt: skip
    try:
        if resume is None:  # files of this number are of another database's run
            for path in (job.state, job.checkpoint):
                unshare(settings(), path)
        # However long an epoch or the scoring of val may take, this process is alive.
        alive = every(runs.HEARTBEAT_SECONDS, lambda: runs.beat(store(), run_id, process), "heartbeat")
        with alive, ExitStack() as bars:
            watcher = watch(run_id, process, job, bars)
            if number == 1:
                run_job(job, device, watcher)
            else:
                run_in_processes(job, device, watcher, number)
    except (KeyboardInterrupt, TerminationSignal):
        note = f"go on with: coconut-attr train --resume {run_id}"
        logger.warning("run %s is cancelled; %s", run_id, note)
        runs.finish(store(), run_id, "cancelled", note, process)
        raise
    except BaseException as error:
        runs.finish(store(), run_id, "failed", f"{type(error).__name__}: {error}", process)
        raise
    if not runs.finish(store(), run_id, "finished", process=process):
        raise taken(run_id)
    try:
        unshare(settings(), job.state)
    except UserError as error:
        logger.warning("the state of run %s, which nobody needs any more, stays in the image store: %s", run_id, error)
    return run_id


def taken(run_id: int) -> BaseException:
    """Why a process stops whose run another has."""
    why = (
        f"run {run_id} was not heard of for {runs.HEARD.seconds} seconds (was the store out of reach?), so another "
        "process has taken it: this one stops"
    )
    # The other process may be of the same flow run, whose state is then that one's.
    return Abort(why) if deployment.id else TrainingError(why)


def watch(run_id: int, process: str, job: Job, bars: ExitStack) -> Watcher:
    """Stores a run's epochs as they end, and shows how far it is; its bars are closed with the stack.

    It raises if another process has taken the run.
    """
    logger = get_run_logger()
    shown: dict[str, Progress] = {}
    last = ""
    unshared: list[Path] = []  # a state in the image store has its checkpoint there

    def bar(what: str, total: int) -> Progress:
        if what not in shown:
            bars.close()  # a terminal shows one at a time
            shown[what] = bars.enter_context(Progress(f"{job.dataset} {what}", total))
        return shown[what]

    def on_claim() -> None:
        if not runs.beat(store(), run_id, process):
            raise taken(run_id)

    def on_epoch(figures: dict[str, Any], best: bool) -> None:
        nonlocal last
        on_claim()
        unshared[:] = [job.checkpoint, job.state] if best or job.checkpoint in unshared else [job.state]
        if best:
            checkpoint = str(job.checkpoint.relative_to(job.data_dir))
            runs.update(store(), run_id, checkpoint=checkpoint, best_epoch=figures["epoch"])
        runs.record_epoch(store(), run_id, figures)
        val_map = "undefined" if figures["map"] is None else f"{figures['map']:.3f}"
        last = f"loss {figures['loss']:.3f}, val mAP {val_map}, {figures['images_per_second']:.0f} images/s"
        logger.info("epoch %s: %s, val accuracy %.3f (n = %s cells)", figures["epoch"], last, figures["accuracy"],
                    figures["decisions"])  # fmt: skip

    def on_step(epoch: int, step: int, steps: int) -> None:
        note = f"epoch {epoch} of {job.config.epochs}" + (f" ({last})" if last else "")
        bar("training", job.config.epochs * steps).reach((epoch - 1) * steps + step, note)

    def on_fill(done: int, total: int) -> None:
        bar("features", total).reach(done)

    def on_kept() -> None:
        try:
            while unshared:
                share(settings(), unshared[0])
                unshared.pop(0)
        except UserError as error:
            logger.warning("so far, this epoch of run %s is kept on this machine alone: %s", run_id, error)

    return Watcher(on_claim, on_fill, on_step, on_epoch, on_kept, logger.warning)


def start_run(
    dataset: str, config: TrainConfig, data: str, device: torch.device, images: tuple[int, int], process: str
) -> int:
    """Store a new run with all that it was made from; returns its id."""
    counts = count_parameters(AttributeModel(config.backbone, pretrained=False))
    return runs.start(
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
        flow_run_id=flow_run.root_flow_run_id,
        process=process,
    )
