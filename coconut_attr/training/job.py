"""A training run apart from the database: what it is made from, and its running in one process or, by torchrun, more.

`run_in_processes` starts
`python -m torch.distributed.run --nproc-per-node N -m coconut_attr.training.job FOLDER`.
"""

import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coconut_attr.errors import UserError
from coconut_attr.evaluation.scores import choose_thresholds, mean_average_precision
from coconut_attr.files.atomic import write_atomically
from coconut_attr.files.run_files import RUNS
from coconut_attr.model.checkpoint import FILE_NAME, save_checkpoint
from coconut_attr.model.network import AttributeModel
from coconut_attr.training import distributed
from coconut_attr.training.config import TrainConfig, TrainingError
from coconut_attr.training.data import PLAIN, Samples
from coconut_attr.training.features import FeatureCache
from coconut_attr.training.train import Epoch, fit, seed_everything

STATE_NAME = "state.pt"
GRACE_SECONDS = 20
#: Events after which training goes on only when the parent has seen to them: no file is ahead of what it has stored.
AWAITED = frozenset({"claim", "epoch"})


def run_folder(data_dir: Path, run: int) -> Path:
    """Where the files of a run are."""
    return data_dir / RUNS / str(run)


def _nothing(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class Watcher:
    """Who is told how a run goes on.

    Attributes:
        claim: the files of an epoch are about to be written; raises where another process has the run now.
        fill: views whose frozen features are stored, done and to do.
        step: epoch, and its steps, done and to do.
        epoch: the figures of a finished epoch by name, and whether it is the best so far, with its checkpoint written.
        kept: the state of training after that epoch has been written.
        note: something that a user should know.
    """

    claim: Callable[[], None] = _nothing
    fill: Callable[[int, int], None] = _nothing
    step: Callable[[int, int, int], None] = _nothing
    epoch: Callable[[dict[str, Any], bool], None] = _nothing
    kept: Callable[[], None] = _nothing
    note: Callable[[str], None] = _nothing


@dataclass(frozen=True)
class Job:
    """A run: its number and dataset, settings, images, and the data folder, in which its files lie under `runs`."""

    run: int
    dataset: str
    config: TrainConfig
    train: Samples
    val: Samples
    data_dir: Path

    @property
    def folder(self) -> Path:
        return run_folder(self.data_dir, self.run)

    @property
    def checkpoint(self) -> Path:
        """The model of the best epoch."""
        return self.folder / FILE_NAME

    @property
    def state(self) -> Path:
        """The state of training after the last epoch, while the run is not finished."""
        return self.folder / STATE_NAME

    def save(self) -> None:
        """Write the job to its folder, for the processes that run it."""
        facts = {"run": self.run, "dataset": self.dataset, "config": asdict(self.config)}
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, samples in (("train", self.train), ("val", self.val)):
            paths = [str(path) for path in samples.paths]
            np.savez(
                self.folder / f"{name}.npz",
                paths=paths,
                labels=samples.labels,
                hashes=list(samples.hashes),
            )
        write_atomically(self.folder / "job.json", json.dumps(facts).encode())

    @classmethod
    def load(cls, folder: Path) -> "Job":
        """Read what `save` wrote."""
        facts = json.loads((folder / "job.json").read_bytes())
        samples = {}
        for name in ("train", "val"):
            with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
                paths = [Path(path) for path in file["paths"].tolist()]
                samples[name] = Samples(paths, file["labels"], file["hashes"].tolist())
        return cls(
            facts["run"],
            facts["dataset"],
            TrainConfig(**facts["config"]),
            **samples,
            data_dir=folder.parents[1],
        )


def run_job(job: Job, device: torch.device, watcher: Watcher) -> None:
    """Train in this process: the best epoch on val is kept as a checkpoint; an interrupted run goes on.

    Raises:
        TrainingError: as `fit`.
        coconut_attr.model.backbones.BackboneError: the encoder's weights cannot be had.
    """
    config = job.config
    seed_everything(config.seed)
    model = AttributeModel(config.backbone, pretrained=config.pretrained).to(device)
    features = feature_store(job, model, watcher)
    if features:
        if distributed.rank() == 0:
            features.fill(job.train, config.view_numbers, device, on_step=watcher.fill)
            features.fill(job.val, [PLAIN], device)
        distributed.barrier()

    def on_epoch(epoch: Epoch, trained: AttributeModel) -> None:
        watcher.claim()
        if epoch.best:
            save_checkpoint(
                job.checkpoint, trained, run=job.run, dataset=job.dataset, epoch=epoch.epoch,
                thresholds=choose_thresholds(job.val.labels, epoch.probabilities),
            )  # fmt: skip
        watcher.epoch(epoch.figures(), epoch.best)

    fit(
        model, job.train, job.val, config, device,
        on_epoch=on_epoch,
        mean_average_precision=mean_average_precision,
        on_step=watcher.step,
        on_kept=watcher.kept,
        on_note=watcher.note,
        features=features,
        state=job.state,
    )  # fmt: skip


def feature_store(job: Job, model: AttributeModel, watcher: Watcher) -> FeatureCache | None:
    """Where features of the frozen prefix are kept; None where every epoch has views of its own, or the disk is small
    for those that are not stored yet.

    The curve is the same without it, only slower. All processes do as the first one finds.
    """
    if not job.config.views:
        return None
    folder = job.data_dir / "features"
    features = FeatureCache(folder, model)
    folder.mkdir(parents=True, exist_ok=True)
    views = len(features.missing(job.train, job.config.view_numbers)) + len(
        features.missing(job.val, [PLAIN])
    )
    needed, free = views * features.bytes_a_view, shutil.disk_usage(folder).free
    if distributed.broadcast(needed > free / 2):
        watcher.note(
            f"features are not kept: they would take {needed / 2**30:.0f} of {free / 2**30:.0f} free GiB in {folder}"
        )
        return None
    return features


def run_in_processes(job: Job, device: torch.device, watcher: Watcher, number: int) -> None:
    """Train in several processes of this machine, by torchrun: one for each GPU, or on the CPU.

    Args:
        number: of processes; fewer are used where a batch or a split has not so many images.

    Raises:
        TrainingError: as `run_job`, or a process died; what they printed is in `torchrun.log` in the job's folder.
    """
    job.save()
    if number > (most := max(1, min(job.config.batch_size, len(job.train), len(job.val)))):
        watcher.note(
            f"{most} of {number} processes train: each needs an image of every batch and of val"
        )
        number = most
    log = job.folder / "torchrun.log"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}",
               "-m", "coconut_attr.training.job", str(job.folder), device.type]  # fmt: skip
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.PIPE, text=True
        )
    try:
        for line in process.stdout or ():
            name, *arguments = json.loads(line)
            if name == "error":
                raise TrainingError(*arguments)
            getattr(watcher, name)(*arguments)
            if name in AWAITED and process.stdin:
                with suppress(BrokenPipeError):  # they died meanwhile: why comes next
                    print(name, file=process.stdin, flush=True)
        if code := process.wait():
            raise TrainingError(f"the training processes ended with code {code}; see {log}")
    finally:
        process.terminate()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def main(folder: Path, device: torch.device) -> None:
    """One of the processes; the first tells the parent what happens, a line of JSON an event, and any its error.

    The parent answers those events that training must not outrun by a line.

    Standard output goes to the parent; what libraries print there, such as NCCL, is sent to standard error.
    """
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(name: str, *arguments: Any) -> None:
        if name == "error" or distributed.rank() == 0:
            print(json.dumps([name, *arguments]), file=events, flush=True)
            if name in AWAITED and not sys.stdin.readline():
                raise TrainingError("the process that started the training is gone")

    watcher = Watcher(
        *(
            lambda *arguments, name=name: tell(name, *arguments)
            for name in Watcher.__dataclass_fields__
        )  # type: ignore[misc]
    )
    try:
        with distributed.process_group(device) as own:
            run_job(Job.load(folder), own, watcher)
    except BaseException as error:
        try:
            traceback.print_exc()
            sys.stdout.flush()
            if isinstance(error, UserError):
                tell("error", str(error))
        finally:
            os._exit(
                1
            )  # see process_group; torchrun then ends the others, which may be waiting for this one


if __name__ == "__main__":
    main(Path(sys.argv[1]), torch.device(sys.argv[2]))
