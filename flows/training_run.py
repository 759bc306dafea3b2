"""TODO."""

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import Abort, TerminationSignal
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run

from coconut_attr.errors import UserError
from coconut_attr.files.run_files import delete, upload
from coconut_attr.labels.rules import load_rules
from coconut_attr.model.network import AttributeModel, count_parameters
from coconut_attr.model.predict import choose_device
from coconut_attr.settings import settings
from coconut_attr.training.config import TrainConfig, TrainingError
from coconut_attr.training.environment import environment
from coconut_attr.training.job import Job, Watcher, run_in_processes, run_job
from db import runs
from db.downloads import worker_name
from db.periodic import every
from flows.database import engine
from flows.progress import Progress
from flows.samples import load_samples


def goes_on(run_id: int) -> TrainingError:
    """Why a run that another process may have is left to it."""
    return TrainingError(
        f"run {run_id} seems to be going on: it was heard of less than {runs.HEARD.seconds} seconds ago; if its "
        "process is dead, try again after that time"
    )


@task(task_run_name="train {config.backbone} on {dataset}", cache_policy=NO_CACHE)
def train_model(dataset: str, config: TrainConfig, data: str, resume: int | None = None) -> int:
    """One training run, stored epoch by epoch; the checkpoint is of the epoch that is best on val."""
    logger = get_run_logger()
    device = choose_device(settings().device)
    _, train_samples = load_samples(dataset, "train")
    _, val_samples = load_samples(dataset, "val")
    process = worker_name()
    if resume is None:
        run_id = start_run(
            dataset, config, data, device, (len(train_samples), len(val_samples)), process
        )
    else:
        run_id = resume
        if not runs.take(engine(), run_id, process):
            raise goes_on(run_id)
    job = Job(run_id, dataset, config, train_samples, val_samples, settings().data_dir)
    number = settings().processes or (torch.cuda.device_count() if device.type == "cuda" else 1)
    logger.info("run %s: %s on %s (%s), %s train and %s val images of %s", run_id, config.backbone, device,
                "one process" if number == 1 else f"{number} processes", len(train_samples), len(val_samples),
                dataset)  # fmt: skip
    try:
        if resume is None:  # files of this number are of another database's run
            for path in (job.state, job.checkpoint):
                delete(settings(), path)
        # However long an epoch or the scoring of val may take, this process is alive.
        alive = every(
            runs.HEARTBEAT_SECONDS, lambda: runs.beat(engine(), run_id, process), "heartbeat"
        )
        with alive, ExitStack() as bars:
            watcher = watch(run_id, process, job, bars)
            if number == 1:
                run_job(job, device, watcher)
            else:
                run_in_processes(job, device, watcher, number)
    except (KeyboardInterrupt, TerminationSignal):
        note = f"go on with: coconut-attr train --resume {run_id}"
        logger.warning("run %s is cancelled; %s", run_id, note)
        runs.finish(engine(), run_id, "cancelled", note, process)
        raise
    except BaseException as error:
        runs.finish(engine(), run_id, "failed", f"{type(error).__name__}: {error}", process)
        raise
    if not runs.finish(engine(), run_id, "finished", process=process):
        raise taken(run_id)
    try:
        delete(settings(), job.state)
    except UserError as error:
        logger.warning(
            "the state of run %s, which nobody needs any more, stays in the image store: %s",
            run_id,
            error,
        )
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
        if not runs.beat(engine(), run_id, process):
            raise taken(run_id)

    def on_epoch(figures: dict[str, Any], best: bool) -> None:
        nonlocal last
        on_claim()
        unshared[:] = (
            [job.checkpoint, job.state] if best or job.checkpoint in unshared else [job.state]
        )
        if best:
            checkpoint = str(job.checkpoint.relative_to(job.data_dir))
            runs.update(engine(), run_id, checkpoint=checkpoint, best_epoch=figures["epoch"])
        runs.record_epoch(engine(), run_id, figures)
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
                upload(settings(), unshared[0])
                unshared.pop(0)
        except UserError as error:
            logger.warning(
                "so far, this epoch of run %s is kept on this machine alone: %s", run_id, error
            )

    return Watcher(on_claim, on_fill, on_step, on_epoch, on_kept, logger.warning)


def start_run(
    dataset: str,
    config: TrainConfig,
    data: str,
    device: torch.device,
    images: tuple[int, int],
    process: str,
) -> int:
    """Store a new run with all that it was made from; returns its id."""
    counts = count_parameters(AttributeModel(config.backbone, pretrained=False))
    return runs.start(
        engine(),
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
