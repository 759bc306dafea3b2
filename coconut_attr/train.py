"""Training: the loop, from the optimizer to the best epoch. Needs torch, torchvision, numpy and pillow alone."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import DataLoader

from coconut_attr.backbones import backbone, choose_backbone
from coconut_attr.data import Samples, loader
from coconut_attr.errors import UserError
from coconut_attr.losses import contrastive, known_bce
from coconut_attr.model import AttributeModel
from coconut_attr.predict import predict_logits

AUTO = "auto"


class TrainingError(UserError):
    """Training cannot start or go on; the message says why."""


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of a run. The learning rate is AdamW's peak value; backbone `auto` is settled by `resolved`."""

    backbone: str = "auto"
    pretrained: bool = True
    epochs: int = 10
    batch_size: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    contrastive_weight: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.backbone != AUTO:
            backbone(self.backbone)
        if self.epochs < 1 or self.batch_size < 1:
            raise TrainingError(f"epochs ({self.epochs}) and batch_size ({self.batch_size}) must be at least 1")

    def resolved(self) -> "TrainConfig":
        """These settings with the backbone named: for `auto`, ResNet50 where its weights can be had."""
        return replace(self, backbone=choose_backbone()) if self.backbone == AUTO else self


#: Named settings. `report` is the earlier one-off run's: ResNet50, 10 epochs, cosine annealing, clipping, weight decay.
PROFILES: dict[str, TrainConfig] = {
    "default": TrainConfig(learning_rate=3e-4),
    "report": TrainConfig(backbone="resnet50"),
}


def profile(name: str, **changes: object) -> TrainConfig:
    """A named profile with some fields changed (those given as None are left as they are).

    Raises:
        TrainingError: no such profile, or a value out of range.
    """
    if name not in PROFILES:
        raise TrainingError(f"unknown profile {name!r}; choose one of: {', '.join(PROFILES)}")
    return replace(PROFILES[name], **{key: value for key, value in changes.items() if value is not None})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Epoch:
    """One finished epoch. `accuracy` is the share of right decisions at 0.5 over `decisions` known val cells; `map` is
    the val mAP, None where it was not scored."""

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


def fit(
    model: AttributeModel,
    train: Samples,
    val: Samples,
    config: TrainConfig,
    device: torch.device,
    *,
    on_epoch: Callable[[Epoch, AttributeModel], None],
    mean_average_precision: Callable[[np.ndarray, np.ndarray], float] | None = None,
    on_step: Callable[[int, int, int], None] = lambda epoch, step, steps: None,
) -> None:
    """Train a model; the best epoch is chosen on val, by mAP where a scorer is given, else by loss.

    Args:
        on_epoch: called after each epoch with its figures and the model, for instance to save it when it is the best.
        mean_average_precision: from labels int8 [n, 34] and probabilities float [n, 34].
        on_step: called with the epoch, and the steps done and to do in it.

    Raises:
        TrainingError: a split has no image or no known label, or the loss is not finite.
    """
    for name, samples in (("train", train), ("val", val)):
        if not len(samples) or not (samples.labels >= 0).any():
            raise TrainingError(f"the {name} split has no image with a known label: extract more images first")
    seed_everything(config.seed)
    entry = backbone(config.backbone)
    batches = loader(train, entry, batch_size=config.batch_size, augment=True, seed=config.seed)
    val_batches = loader(val, entry, batch_size=config.batch_size, augment=False)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=config.learning_rate, weight_decay=config.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs * len(batches))
    model.to(device).to(memory_format=torch.channels_last)

    best = -math.inf
    for number in range(1, config.epochs + 1):
        started = time.monotonic()
        learning_rate = float(scheduler.get_last_lr()[0])
        loss = train_one_epoch(model, batches, optimizer, scheduler, config, device, number, on_step)
        seconds = time.monotonic() - started

        logits = predict_logits(model, val_batches, device)
        labels = torch.from_numpy(val.labels)
        known = val.labels >= 0
        probabilities = logits.sigmoid().numpy()
        val_loss = known_bce(logits, labels).item()
        val_map = mean_average_precision(val.labels, probabilities) if mean_average_precision else None
        score = -val_loss if val_map is None or math.isnan(val_map) else val_map
        epoch = Epoch(
            epoch=number,
            loss=loss,
            val_loss=val_loss,
            accuracy=float(((probabilities >= 0.5) == val.labels)[known].mean()),
            map=val_map,
            decisions=int(known.sum()),
            learning_rate=learning_rate,
            images_per_second=len(train) / seconds,
            seconds=time.monotonic() - started,
            best=score > best,
        )
        best = max(best, score)
        on_epoch(epoch, model)


def train_one_epoch(
    model: AttributeModel,
    batches: DataLoader,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    config: TrainConfig,
    device: torch.device,
    epoch: int,
    on_step: Callable[[int, int, int], None],
) -> float:
    """One pass over the training images; returns the mean loss an image."""
    model.train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    total, images_seen = torch.zeros((), device=device), 0
    for step, (images, labels) in enumerate(batches, start=1):
        targets = labels.to(device, non_blocking=True)
        output = model(images.to(device, non_blocking=True, memory_format=torch.channels_last))
        loss = known_bce(output.logits, targets) + config.contrastive_weight * contrastive(output, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, config.clip_norm)
        optimizer.step()
        scheduler.step()
        total += loss.detach() * len(images)
        images_seen += len(images)
        on_step(epoch, step, len(batches))
    mean = total.item() / images_seen
    if not math.isfinite(mean):
        raise TrainingError(f"the loss of epoch {epoch} is {mean}: lower the learning rate ({config.learning_rate})")
    return mean


def seed_everything(seed: int) -> None:
    """Seed every generator; call it before a model is made too, so that the same seed gives the same run."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
