"""The training loop. Needs torch, torchvision, numpy and pillow alone."""

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from coconut_attr.model.backbones.catalogue import get_backbone
from coconut_attr.model.network import AttributeModel
from coconut_attr.model.predict import predict_batches
from coconut_attr.training import distributed
from coconut_attr.training.config import TrainConfig, TrainingError
from coconut_attr.training.data import (
    PLAIN,
    Samples,
    TrainViewSampler,
    ViewBatchSampler,
    image_loader,
    plain_views,
)
from coconut_attr.training.features import FeatureCache, feature_loader
from coconut_attr.training.losses import weighted_bce
from coconut_attr.training.state import load_state, save_state
from coconut_attr.training.step import Step

#: Called with the epoch, the steps done in it, and the steps of an epoch.
OnStep = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Epoch:
    """Figures of one finished epoch.

    Attributes:
        epoch: its number, from 1.
        loss: mean training loss per image.
        val_loss: binary cross-entropy over the cells of val by weight, without label smoothing.
        accuracy: share of correct decisions at probability 0.5 over the known cells of val.
        map: mAP on val; None if it is undefined or was not computed.
        decisions: number of known cells of val.
        learning_rate: at the start of the epoch.
        images_per_second: training images per second, without validation.
        seconds: duration of training and validation.
        best: whether no earlier epoch had as low a val loss. It counts every cell of val by what is
            known of it; mAP on as few images as a small val split has would choose by chance.
    """

    epoch: int
    loss: float
    val_loss: float
    accuracy: float
    map: float | None
    decisions: int
    learning_rate: float
    images_per_second: float
    seconds: float
    best: bool

    def figures(self) -> dict[str, Any]:
        """Return the figures by name, without `best`."""
        return {name: value for name, value in asdict(self).items() if name != "best"}


class Trainer:
    """Trains a model and validates it after each epoch.

        trainer = Trainer(model, train, val, config, device)
        if path.is_file():
            trainer.restore(path)
        for epoch in trainer.epochs():
            trainer.save(path)

    With torchrun, every process runs this loop: they share each batch and the validation.

    Args:
        features: cache for the features of the frozen stages, which then see each view once in all
            and not once per epoch.
        score: mAP from labels int8 [n, 34] and probabilities float [n, 34], for the curve.
        on_note: called with what a user should know, such as that memory is short.

    Attributes:
        epochs_done: number of the last finished epoch.
        probabilities: float32 [n, 34]; predictions for val after that epoch.

    Raises:
        TrainingError: a split has no image with a known label.
    """

    def __init__(
        self,
        model: AttributeModel,
        train: Samples,
        val: Samples,
        config: TrainConfig,
        device: torch.device,
        *,
        features: FeatureCache | None = None,
        score: Callable[[np.ndarray, np.ndarray], float] | None = None,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> None:
        for name, samples in (("train", train), ("val", val)):
            if not (samples.labels >= 0).any():
                raise TrainingError(
                    f"the {name} split has no image with a known label: extract more images first"
                )
        self.model = model.to(device)
        self.model.to(memory_format=torch.channels_last)
        self.train, self.val = train, val
        self.config = config
        self.device = device
        self.score = score
        self.epochs_done = 0
        self.best_score = -math.inf
        self.probabilities = np.empty((0, val.labels.shape[1]), np.float32)

        self.views = TrainViewSampler(len(train), config.views, config.seed)
        batches = ViewBatchSampler(self.views, config.batch_size)
        own_part = distributed.shard(plain_views(len(val)))
        val_batches = ViewBatchSampler(own_part, config.batch_size, split=False)
        self.cached = features is not None
        if features:
            train_features = features.fill(train, config.view_numbers, device)
            self.train_loader = feature_loader(train, train_features, batches)
            self.val_loader = feature_loader(val, features.fill(val, [PLAIN], device), val_batches)
        else:
            backbone = get_backbone(config.backbone)
            self.train_loader = image_loader(train, backbone, batches, on_note)
            self.val_loader = image_loader(val, backbone, val_batches, on_note)

        self.optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, config.epochs * len(batches)
        )
        self.step = Step(model, config, device, cached=self.cached, on_note=on_note)

    def epochs(self, on_step: OnStep = lambda epoch, step, steps: None) -> Iterator[Epoch]:
        """Train epoch by epoch up to `config.epochs`, and yield each one's figures.

        Raises:
            TrainingError: the loss is not finite, or one image does not fit into the memory.
        """
        for number in range(self.epochs_done + 1, self.config.epochs + 1):
            # Seeded per epoch, so that an interrupted run has the same curve after it is resumed.
            seed_everything(self.config.seed + 1000 * number)
            self.views.epoch = number
            started = time.monotonic()
            learning_rate = float(self.scheduler.get_last_lr()[0])
            loss = train_one_epoch(
                self.step, self.train_loader, self.optimizer, self.scheduler, number, on_step
            )
            train_seconds = time.monotonic() - started

            logits = self._predict_val()
            labels = self.val.labels
            known = labels >= 0
            self.probabilities = logits.sigmoid().numpy()
            val_loss = weighted_bce(logits, torch.from_numpy(self.val.targets)).item()
            val_map = self.score(labels, self.probabilities) if self.score else math.nan
            best = -val_loss > self.best_score
            self.best_score = max(-val_loss, self.best_score)
            self.epochs_done = number
            yield Epoch(
                epoch=number,
                loss=loss,
                val_loss=val_loss,
                accuracy=float(((self.probabilities >= 0.5) == labels)[known].mean()),
                map=None if math.isnan(val_map) else val_map,
                decisions=int(known.sum()),
                learning_rate=learning_rate,
                images_per_second=len(self.train) / train_seconds,
                seconds=time.monotonic() - started,
                best=best,
            )

    def _predict_val(self) -> torch.Tensor:
        predicted = predict_batches(self.model, self.val_loader, self.device, cached=self.cached)
        return distributed.gather(predicted.logits)

    def save(self, path: Path) -> None:
        """Write the state of training after the last epoch, completely or not at all."""
        save_state(path, self._parts(), self.config, self.epochs_done, self.best_score)

    def restore(self, path: Path) -> None:
        """Load a state that `save` wrote, to continue after its epoch.

        Raises:
            TrainingError: the file cannot be read, or belongs to a run with other settings.
        """
        self.epochs_done, self.best_score = load_state(path, self._parts(), self.config)
        if self.best_score > 0:  # an older version's, the mAP: no loss would ever be better
            self.best_score = -math.inf

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}


def train_one_epoch(
    step: Step,
    batches: DataLoader,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    epoch: int,
    on_step: OnStep,
) -> float:
    """Train on every batch once; return the mean loss per image.

    Raises:
        TrainingError: the loss of a step is not finite; the message names its images.
    """
    step.model.train()
    trainable = [p for p in step.model.parameters() if p.requires_grad]
    losses, sizes = [], []
    for number, (inputs, targets) in enumerate(batches, start=1):
        optimizer.zero_grad(set_to_none=True)
        losses.append(step(inputs, targets))
        torch.nn.utils.clip_grad_norm_(trainable, step.config.clip_norm)
        optimizer.step()
        scheduler.step()
        sizes.append(len(targets))
        on_step(epoch, number, len(batches))
    values = distributed.mean(torch.stack(losses)).cpu().double()
    if not values.isfinite().all():
        index = int((~values.isfinite()).nonzero()[0])
        views = list(batches.batch_sampler or batches.sampler)[index]
        files = ", ".join(batches.dataset.samples.paths[i].name for i, _ in views)  # type: ignore[attr-defined]
        raise TrainingError(
            f"the loss of step {index + 1} of epoch {epoch} is {values[index].item()}: lower the "
            f"learning rate ({step.config.learning_rate}); the images of that step: {files}"
        )
    return float(values @ torch.tensor(sizes, dtype=torch.float64)) / sum(sizes)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch.

    Call it before a model is made, so that the same seed gives the same run.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
