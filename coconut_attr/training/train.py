"""Training: the loop, from the optimizer to the best epoch. Needs torch, torchvision, numpy and pillow alone."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from coconut_attr.model.backbones.catalogue import backbone
from coconut_attr.model.network import AttributeModel
from coconut_attr.model.predict import predict_batches
from coconut_attr.training import distributed
from coconut_attr.training.config import TrainConfig, TrainingError
from coconut_attr.training.data import PLAIN, Samples, TrainViews, ViewBatches, loader, plain_views
from coconut_attr.training.features import FeatureCache, feature_loader
from coconut_attr.training.losses import known_bce
from coconut_attr.training.state import keep, restore
from coconut_attr.training.step import Step


@dataclass(frozen=True)
class Epoch:
    """One finished epoch. `accuracy` is the share of right decisions at 0.5 over `decisions` known val cells; `map` is
    the val mAP, None where it was not scored; `probabilities` are those of val, float [n, 34]."""

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
    probabilities: np.ndarray = field(repr=False, compare=False)

    def figures(self) -> dict[str, Any]:
        """Its figures by name, as plain numbers; a mAP that is not defined is None."""
        found = {
            key: value
            for key, value in asdict(self).items()
            if key not in {"best", "probabilities"}
        }
        return found | {"map": None if self.map is None or math.isnan(self.map) else self.map}


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
    on_kept: Callable[[], None] = lambda: None,
    on_note: Callable[[str], None] = lambda note: None,
    features: FeatureCache | None = None,
    state: Path | None = None,
) -> None:
    """Train a model; the best epoch is chosen on val, by mAP where a scorer is given, else by loss.

    Started by torchrun, its processes share each batch and the validation.

    Args:
        on_epoch: called after each epoch with its figures and the model, for instance to save it when it is the best;
            in the first process alone.
        mean_average_precision: from labels int8 [n, 34] and probabilities float [n, 34].
        on_step: called with the epoch, and the steps done and to do in it.
        on_kept: called after `on_epoch` and the writing of `state`.
        on_note: called with what a user should know, such as that memory is short.
        features: where the frozen prefix's features are kept; with it the prefix runs once a view, not once an epoch.
        state: file in which the state of training is kept after each epoch. If it is there, training goes on from it,
            with the curve that it would have had.

    Raises:
        TrainingError: a split has no image or no known label, the loss is not finite, one image is too much for the
            device's memory, or `state` is of another run.
    """
    for name, samples in (("train", train), ("val", val)):
        if not len(samples) or not (samples.labels >= 0).any():
            raise TrainingError(
                f"the {name} split has no image with a known label: extract more images first"
            )
    seed_everything(config.seed)
    model.to(device).to(memory_format=torch.channels_last)
    order = TrainViews(len(train), config.views, config.seed)
    batches = ViewBatches(order, config.batch_size)
    val_batches = ViewBatches(distributed.shard(plain_views(len(val))), config.batch_size, own=True)
    if features:
        train_loader = feature_loader(
            train, features.fill(train, config.view_numbers, device), batches
        )
        val_loader = feature_loader(val, features.fill(val, [PLAIN], device), val_batches)
    else:
        train_loader = loader(train, backbone(config.backbone), batches)
        val_loader = loader(val, backbone(config.backbone), val_batches)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs * len(batches))
    step = Step(model, config, device, cached=bool(features), on_note=on_note)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}

    done, best = (
        restore(state, parts, config, device) if state and state.is_file() else (0, -math.inf)
    )
    for number in range(done + 1, config.epochs + 1):
        seed_everything(
            config.seed + 1000 * number
        )  # so that an epoch is the same after an interruption
        order.epoch = number
        started = time.monotonic()
        learning_rate = float(scheduler.get_last_lr()[0])
        loss = train_one_epoch(step, train_loader, optimizer, scheduler, number, on_step)
        seconds = time.monotonic() - started

        logits = distributed.gather(
            predict_batches(model, val_loader, device, cached=bool(features)).logits
        )
        labels = torch.from_numpy(val.labels)
        known = val.labels >= 0
        probabilities = logits.sigmoid().numpy()
        val_loss = known_bce(logits, labels).item()
        val_map = (
            mean_average_precision(val.labels, probabilities) if mean_average_precision else None
        )
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
            probabilities=probabilities,
        )
        best = max(best, score)
        if distributed.rank() == 0:
            on_epoch(epoch, model)
            if state:
                keep(state, parts, config, number, best)
                on_kept()


def train_one_epoch(
    step: Step,
    batches: DataLoader,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    epoch: int,
    on_step: Callable[[int, int, int], None],
) -> float:
    """One pass over the training images; returns the mean loss an image."""
    step.model.train()
    trainable = [p for p in step.model.parameters() if p.requires_grad]
    losses, sizes = [], []
    for number, (inputs, labels) in enumerate(batches, start=1):
        optimizer.zero_grad(set_to_none=True)
        losses.append(step(inputs, labels))
        torch.nn.utils.clip_grad_norm_(trainable, step.config.clip_norm)
        optimizer.step()
        scheduler.step()
        sizes.append(len(labels))
        on_step(epoch, number, len(batches))
    values = distributed.mean(torch.stack(losses)).cpu().double()
    if not values.isfinite().all():
        place = int((~values.isfinite()).nonzero()[0])
        views = list(batches.batch_sampler or batches.sampler)[place]
        files = ", ".join(batches.dataset.samples.paths[index].name for index, _ in views)  # type: ignore[attr-defined]
        raise TrainingError(
            f"the loss of step {place + 1} of epoch {epoch} is {values[place].item()}: lower the learning rate "
            f"({step.config.learning_rate}); the images of that step: {files}"
        )
    return float(values @ torch.tensor(sizes, dtype=torch.float64)) / sum(sizes)


def seed_everything(seed: int) -> None:
    """Seed every generator; call it before a model is made too, so that the same seed gives the same run."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
