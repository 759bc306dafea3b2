"""A training run without its database: what it is made from, its files, and its training."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from coconut_attr.evaluation.scores import choose_thresholds, mean_average_precision
from coconut_attr.files.atomic import write_atomically
from coconut_attr.files.run_files import RUNS
from coconut_attr.model.checkpoint import FILE_NAME, save_checkpoint
from coconut_attr.model.network import AttributeModel
from coconut_attr.training import distributed
from coconut_attr.training.config import TrainConfig
from coconut_attr.training.data import PLAIN, Samples, prior
from coconut_attr.training.features import FeatureCache
from coconut_attr.training.train import Epoch, OnStep, Trainer, seed_everything

STATE_NAME = "state.pt"


def run_folder(data_dir: Path, run: int) -> Path:
    """Return the folder of a run's files."""
    return data_dir / RUNS / str(run)


def state_path(data_dir: Path, run: int) -> Path:
    """Return the path of a run's training state, which is there while the run is not finished."""
    return run_folder(data_dir, run) / STATE_NAME


@dataclass(frozen=True)
class Job:
    """What a training run is made from. Its files lie in the data folder, under `runs`."""

    run: int
    dataset: str
    config: TrainConfig
    train: Samples
    val: Samples
    data_dir: Path

    @property
    def folder(self) -> Path:
        """Return the folder of the run's files."""
        return run_folder(self.data_dir, self.run)

    @property
    def checkpoint(self) -> Path:
        """Return the path of the best epoch's model."""
        return self.folder / FILE_NAME

    @property
    def state(self) -> Path:
        """Return the path of the training state."""
        return state_path(self.data_dir, self.run)

    def save(self) -> None:
        """Write the job to its folder, for the processes that train."""
        facts = {"run": self.run, "dataset": self.dataset, "config": asdict(self.config)}
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, samples in (("train", self.train), ("val", self.val)):
            np.savez(
                self.folder / f"{name}.npz",
                image_ids=list(samples.image_ids),
                paths=[str(path) for path in samples.paths],
                labels=samples.labels,
                hashes=list(samples.hashes),
                probabilities=samples.probabilities,
                judged=samples.judged,
            )
        write_atomically(self.folder / "job.json", json.dumps(facts).encode())

    @classmethod
    def load(cls, folder: Path) -> "Job":
        """Read what `save` wrote."""
        facts = json.loads((folder / "job.json").read_bytes())
        samples = {}
        for name in ("train", "val"):
            with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
                samples[name] = Samples(
                    file["image_ids"].tolist(),
                    [Path(path) for path in file["paths"].tolist()],
                    file["labels"],
                    file["hashes"].tolist(),
                    file["probabilities"],
                    file["judged"],
                )
        config = TrainConfig(**facts["config"])
        return cls(facts["run"], facts["dataset"], config, **samples, data_dir=folder.parents[1])


class Training:
    """The training of a job in this process, continued from its state if there is one.

    Args:
        on_fill: called with the views whose features are cached, done and to do.
        on_note: called with what a user should know.

    Raises:
        TrainingError: as `Trainer` and `Trainer.restore`.
        coconut_attr.model.backbones.names.BackboneError: the encoder has no weights here.
    """

    def __init__(
        self,
        job: Job,
        device: torch.device,
        *,
        on_fill: Callable[[int, int], None] = lambda done, total: None,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> None:
        self.job = job
        config = job.config
        seed_everything(config.seed)
        model = AttributeModel(config.backbone, config.head, pretrained=config.pretrained)
        model.to(device)
        features = feature_cache(job, model, on_note)
        if features:
            if distributed.rank() == 0:
                features.fill(job.train, config.view_numbers, device, on_fill, on_note)
                features.fill(job.val, [PLAIN], device)
            distributed.barrier()
        self.trainer = Trainer(
            model,
            job.train,
            job.val,
            config,
            device,
            features=features,
            score=mean_average_precision,
            on_note=on_note,
        )
        if job.state.is_file():
            self.trainer.restore(job.state)

    def epochs(self, on_step: OnStep = lambda epoch, step, steps: None) -> Iterator[Epoch]:
        """Train epoch by epoch and yield each one's figures; errors as `Trainer.epochs`."""
        return self.trainer.epochs(on_step)

    def save_checkpoint(self) -> None:
        """Write the model after the last epoch, with its thresholds."""
        save_checkpoint(
            self.job.checkpoint,
            self.trainer.model,
            run=self.job.run,
            dataset=self.job.dataset,
            epoch=self.trainer.epochs_done,
            thresholds=choose_thresholds(prior(self.job.train)),
        )

    def save_state(self) -> None:
        """Write the state after the last epoch, from which the run can be resumed."""
        self.trainer.save(self.job.state)


def feature_cache(
    job: Job, model: AttributeModel, on_note: Callable[[str], None]
) -> FeatureCache | None:
    """Return the cache for the features of the frozen stages; all ranks do as rank 0 finds.

    The curve is the same without it, only slower.

    Returns:
        None if every epoch has views of its own, or if the features to compute would take more than
        half of the free disk space.
    """
    if not job.config.views:
        return None
    folder = job.data_dir / "features"
    features = FeatureCache(folder, model)
    folder.mkdir(parents=True, exist_ok=True)
    views = len(features.missing(job.train, job.config.view_numbers)) + len(
        features.missing(job.val, [PLAIN])
    )
    needed, free = views * features.bytes_per_view, shutil.disk_usage(folder).free
    if distributed.broadcast(needed > free / 2):
        on_note(
            f"features are not cached: they would take {needed / 2**30:.0f} of "
            f"{free / 2**30:.0f} free GiB in {folder}"
        )
        return None
    return features
