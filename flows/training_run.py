"""The task that trains a run and stores it epoch by epoch."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import Abort, TerminationSignal
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run

from coconut_attr.errors import UserError
from coconut_attr.files.run_files import delete, upload
from coconut_attr.labels.rules import load_rules
from coconut_attr.settings import settings
from coconut_attr.training.config import TrainConfig
from db.downloads import worker_name
from db.lease import RunLease, RunTakenOver
from flows.database import engine
from flows.progress import Progress
from flows.samples import load_samples

if TYPE_CHECKING:  # torch is imported when a run is trained
    import torch

    from coconut_attr.training.data import Samples
    from coconut_attr.training.job import Job
    from coconut_attr.training.train import Epoch


@task(task_run_name="train {config.backbone} on {dataset}", cache_policy=NO_CACHE)
def train_model(
    dataset: str, config: TrainConfig, fingerprint: str, resume: int | None = None
) -> int:
    """Train a run, or continue the run `resume`; return its id.

    The run's checkpoint is the model of the epoch that is best on val.

    Raises:
        RunStillAlive: another process has the run to be resumed.
        RunTakenOver: another process has taken the run meanwhile.
    """
    from coconut_attr.model.predict import choose_device
    from coconut_attr.training.job import Job

    device = choose_device(settings().device)
    train, val = load_samples(dataset, "train"), load_samples(dataset, "val")
    if resume is None:
        lease = start_run(dataset, config, fingerprint, device, train, val)
    else:
        lease = RunLease.take(engine(), resume, worker_name())
    job = Job(lease.run_id, dataset, config, train, val, settings().data_dir)
    try:
        with recorded_end(lease):
            if resume is None:  # files of this number belong to another database's run
                for path in (job.state, job.checkpoint):
                    delete(settings(), path)
            with lease.heartbeats():
                train_epochs(job, device, lease)
            lease.finish("finished")
    except RunTakenOver as error:
        if deployment.id:  # the other process may be of this flow run, and then sets its state
            raise Abort(str(error)) from error
        raise
    delete_state(job)
    return job.run


def train_epochs(job: "Job", device: "torch.device", lease: RunLease) -> None:
    """Train a job, and store each epoch in the database and its files in the data folder."""
    import torch

    from coconut_attr.training.launch import open_training

    logger = get_run_logger()
    gpus = torch.cuda.device_count() if device.type == "cuda" else 1
    processes = settings().processes or gpus
    logger.info(
        "run %s: %s on %s (%s), %s train and %s val images of %s",
        job.run,
        job.config.backbone,
        device,
        "one process" if processes == 1 else f"{processes} processes",
        len(job.train),
        len(job.val),
        job.dataset,
    )
    checkpoint_uploaded = True
    with (
        TrainingProgress(job) as progress,
        open_training(
            job, device, processes, on_fill=progress.fill, on_note=logger.warning
        ) as training,
    ):
        for epoch in training.epochs(progress.step):
            lease.renew()  # raises if the run is lost: no file of it is written then
            if epoch.best:
                training.save_checkpoint()
                checkpoint_uploaded = False
            lease.record_epoch(epoch.figures(), checkpoint_name(job) if epoch.best else None)
            training.save_state()
            try:
                if not checkpoint_uploaded:  # before the state, which must not be ahead of it
                    upload(settings(), job.checkpoint)
                    checkpoint_uploaded = True
                upload(settings(), job.state)
            except UserError as error:
                logger.warning(
                    "epoch %s of run %s is stored on this machine only, so far: %s",
                    epoch.epoch,
                    job.run,
                    error,
                )
            progress.note = describe(epoch)
            logger.info(
                "epoch %s: %s, val accuracy %.3f (n = %s cells)",
                epoch.epoch,
                progress.note,
                epoch.accuracy,
                epoch.decisions,
            )


class TrainingProgress:
    """Progress of a training run: first of the features, then of the steps."""

    def __init__(self, job: "Job") -> None:
        self.job = job
        self.note = ""
        self._bars: dict[str, Progress] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, *error) -> None:
        self._stack.__exit__(*error)

    def fill(self, done: int, total: int) -> None:
        """Report the views whose features are cached."""
        self._bar("features", total).reach(done)

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Report a training step."""
        epochs = self.job.config.epochs
        note = f"epoch {epoch} of {epochs}" + (f" ({self.note})" if self.note else "")
        self._bar("training", epochs * steps).reach((epoch - 1) * steps + step, note)

    def _bar(self, what: str, total: int) -> Progress:
        if what not in self._bars:
            self._stack.close()  # a terminal shows one bar at a time
            bar = Progress(f"{self.job.dataset} {what}", total)
            self._bars[what] = self._stack.enter_context(bar)
        return self._bars[what]


def describe(epoch: "Epoch") -> str:
    """Return an epoch's main figures as text."""
    val_map = "undefined" if epoch.map is None else f"{epoch.map:.3f}"
    return f"loss {epoch.loss:.3f}, val mAP {val_map}, {epoch.images_per_second:.0f} images/s"


def checkpoint_name(job: "Job") -> str:
    """Return the checkpoint's path as the database stores it: relative to the data folder."""
    return str(job.checkpoint.relative_to(job.data_dir))


@contextmanager
def recorded_end(lease: RunLease) -> Iterator[None]:
    """Record why a block ends, if it is cancelled or fails, as the end of the run."""
    try:
        yield
    except RunTakenOver:
        raise
    except (KeyboardInterrupt, TerminationSignal):
        note = f"resume with: coconut-attr train --resume {lease.run_id}"
        get_run_logger().warning("run %s is cancelled; %s", lease.run_id, note)
        lease.finish("cancelled", note)
        raise
    except BaseException as error:
        lease.finish("failed", f"{type(error).__name__}: {error}")
        raise


def delete_state(job: "Job") -> None:
    """Delete the training state of a finished run, here and in the object store."""
    try:
        delete(settings(), job.state)
    except UserError as error:
        get_run_logger().warning(
            "the training state of run %s, which is not needed any more, stays in the object "
            "store: %s",
            job.run,
            error,
        )


def start_run(
    dataset: str,
    config: TrainConfig,
    fingerprint: str,
    device: "torch.device",
    train: "Samples",
    val: "Samples",
) -> RunLease:
    """Store a new run with all that it is made from, and return its lease."""
    from coconut_attr.evaluation.scores import trivial_baselines
    from coconut_attr.model.network import AttributeModel, count_parameters
    from coconut_attr.training.data import prior
    from coconut_attr.training.environment import environment

    counts = count_parameters(AttributeModel(config.backbone, config.head, pretrained=False))
    return RunLease.start(
        engine(),
        worker_name(),
        dataset=dataset,
        backbone=config.backbone,
        total_parameters=counts.total,
        trainable_parameters=counts.trainable,
        train_images=len(train),
        val_images=len(val),
        **{
            f"val_{name}": None if math.isnan(value) else value
            for name, value in trivial_baselines(val.labels, prior(train)).items()
        },
        seed=config.seed,
        config=asdict(config),
        environment=environment(device),
        rule_version=load_rules().version,
        data_fingerprint=fingerprint,
        flow_run_id=flow_run.root_flow_run_id,
    )
