"""Training: the loop, from the optimizer to the best epoch. Needs torch, torchvision, numpy and pillow alone."""

import io
import math
import pickle
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from coconut_attr import processes
from coconut_attr.backbones import backbone, choose_backbone
from coconut_attr.data import PLAIN, Samples, TrainViews, ViewBatches, loader, plain_views
from coconut_attr.errors import UserError
from coconut_attr.features import FeatureStore, feature_loader
from coconut_attr.files import write_atomically
from coconut_attr.losses import contrastive, count_anchors, count_cells, known_bce
from coconut_attr.model import AttributeModel
from coconut_attr.predict import autocast, predict_batches, to_device

AUTO = "auto"
#: What torch raises over a file that is no state of training.
UNREADABLE = (
    AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError
)  # fmt: skip


class TrainingError(UserError):
    """Training cannot start or go on; the message says why."""


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of a run. The learning rate is AdamW's peak value; backbone `auto` is settled by `resolved`.

    `views`: augmented views an image from which each epoch draws one, so that the frozen prefix's features of them can
    be kept; 0: new ones in every epoch. `mixup`: alpha of the Beta distribution by which pairs of images are mixed,
    after the frozen prefix (manifold mixup, Verma et al. 2019); 0: none are.
    """

    backbone: str = "auto"
    pretrained: bool = True
    epochs: int = 10
    batch_size: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    contrastive_weight: float = 0.1
    label_smoothing: float = 0.0
    mixup: float = 0.0
    views: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.backbone != AUTO:
            backbone(self.backbone)
        if self.mixup < 0:
            raise TrainingError(f"mixup ({self.mixup}) must not be negative")
        if self.epochs < 1 or self.batch_size < 1:
            raise TrainingError(f"epochs ({self.epochs}) and batch_size ({self.batch_size}) must be at least 1")

    @property
    def view_numbers(self) -> range:
        """The views of an image that training may ask for."""
        return range(self.views) if self.views else range(1, self.epochs + 1)

    def resolved(self) -> "TrainConfig":
        """These settings with the backbone named: for `auto`, ResNet50 where its weights can be had."""
        return replace(self, backbone=choose_backbone()) if self.backbone == AUTO else self


#: Named settings. `report` is the earlier one-off run's: ResNet50, 10 epochs, cosine annealing, clipping, weight decay.
PROFILES: dict[str, TrainConfig] = {
    "default": TrainConfig(epochs=20, learning_rate=3e-4, label_smoothing=0.2, mixup=1.0),
    "report": TrainConfig(backbone="resnet50", views=0),
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
        found = {key: value for key, value in asdict(self).items() if key not in {"best", "probabilities"}}
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
    features: FeatureStore | None = None,
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
            raise TrainingError(f"the {name} split has no image with a known label: extract more images first")
    seed_everything(config.seed)
    model.to(device).to(memory_format=torch.channels_last)
    order = TrainViews(len(train), config.views, config.seed)
    batches = ViewBatches(order, config.batch_size)
    val_batches = ViewBatches(processes.share(plain_views(len(val))), config.batch_size, own=True)
    if features:
        train_loader = feature_loader(train, features.fill(train, config.view_numbers, device), batches)
        val_loader = feature_loader(val, features.fill(val, [PLAIN], device), val_batches)
    else:
        train_loader = loader(train, backbone(config.backbone), batches)
        val_loader = loader(val, backbone(config.backbone), val_batches)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=config.learning_rate, weight_decay=config.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs * len(batches))
    step = Step(model, config, device, cached=bool(features), on_note=on_note)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}

    done, best = restore(state, parts, config, device) if state and state.is_file() else (0, -math.inf)
    for number in range(done + 1, config.epochs + 1):
        seed_everything(config.seed + 1000 * number)  # so that an epoch is the same after an interruption
        order.epoch = number
        started = time.monotonic()
        learning_rate = float(scheduler.get_last_lr()[0])
        loss = train_one_epoch(step, train_loader, optimizer, scheduler, number, on_step)
        seconds = time.monotonic() - started

        logits = processes.gather(predict_batches(model, val_loader, device, cached=bool(features)).logits)
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
            probabilities=probabilities,
        )
        best = max(best, score)
        if processes.rank() == 0:
            on_epoch(epoch, model)
            if state:
                keep(state, parts, config, number, best)
                on_kept()


class Step:
    """The gradients of one batch. What memory does not hold at once goes through in parts, to the same gradients.

    Raises:
        TrainingError: a single image is too much, or one of several processes has not the memory for its share.
    """

    def __init__(
        self,
        model: AttributeModel,
        config: TrainConfig,
        device: torch.device,
        *,
        cached: bool = False,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> None:
        self.model = model
        self.config = config
        self.device = device
        self.cached = cached
        self.on_note = on_note
        self.part = config.batch_size
        ids = [device.index] if device.type == "cuda" else None
        self.forward: nn.Module = (
            nn.parallel.DistributedDataParallel(model, device_ids=ids) if processes.count() > 1 else model
        )

    def __call__(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Compute a batch's loss and add its gradients to the parameters'.

        Args:
            inputs: images float [n, 3, size, size], or (cached) features of the frozen prefix; on the CPU.
            labels: int8 [n, 34]; 1 present, 0 absent, -1 unknown.

        Returns:
            The loss, on the device: reading it here would wait for the device.
        """
        targets = labels.to(self.device, non_blocking=True)
        mix = Mix.drawn(self.config.mixup, len(labels), self.device)
        while True:
            try:
                return self._in_parts(inputs, targets, mix)
            except torch.OutOfMemoryError as error:
                self.model.zero_grad(set_to_none=True)
                self._take_less(error)

    def _in_parts(self, inputs: Tensor, targets: Tensor, mix: "Mix | None") -> Tensor:
        # Means over what all processes have of the batch: each part's loss is its share of the whole.
        cells, anchors = processes.mean(torch.stack([count_cells(targets), count_anchors(targets)]).float())
        parts = [slice(start, start + self.part) for start in range(0, len(targets), self.part)]
        features = torch.cat([self._features(inputs[rows]) for rows in parts])
        if mix:
            features = mix.own * features + (1 - mix.own) * features[mix.partner]
        total = torch.zeros((), device=self.device)
        for rows in parts:
            with autocast(self.device):
                output = self.forward(features[rows], cached=True)
                loss = known_bce(output.logits, targets[rows], self.config.label_smoothing, cells)
                if mix:
                    partner = targets[mix.partner[rows]]
                    other = known_bce(output.logits, partner, self.config.label_smoothing, cells)
                    loss = mix.own * loss + (1 - mix.own) * other
                loss = loss + self.config.contrastive_weight * contrastive(output, targets[rows], anchors)
            loss.backward()
            total += loss.detach()
        return total

    @torch.no_grad()
    def _features(self, inputs: Tensor) -> Tensor:
        """What the frozen prefix makes of images, float32 on the device; of stored features, those."""
        batch = to_device(inputs, self.device)
        if self.cached:
            return batch
        with autocast(self.device):
            return self.model.prefix(batch).float()

    def _take_less(self, error: torch.OutOfMemoryError) -> None:
        if self.part == 1 or processes.count() > 1:  # alone, a process would wait for the others' gradients
            raise TrainingError(
                f"{self.device} has not the memory for {self.part} images at once: choose a smaller batch_size "
                f"(now {self.config.batch_size}) or backbone"
            ) from error
        self.part = -(-self.part // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.on_note(
            f"{self.device} is out of memory: batches of {self.config.batch_size} go through in parts of {self.part} "
            "from now on, to the same gradients; batch_size is better set to what fits"
        )


@dataclass(frozen=True)
class Mix:
    """How the images of a batch are mixed: `own` is the share of each itself, the rest is of its `partner`, int [n]."""

    own: float
    partner: Tensor

    @classmethod
    def drawn(cls, alpha: float, images: int, device: torch.device) -> "Mix | None":
        """A share of one half to one, by Beta(alpha, alpha), and a permutation; None where alpha is 0."""
        if not alpha:
            return None
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        return cls(max(share, 1 - share), torch.randperm(images).to(device, non_blocking=True))


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
    values = processes.mean(torch.stack(losses)).cpu().double()
    if not values.isfinite().all():
        place = int((~values.isfinite()).nonzero()[0])
        views = list(batches.batch_sampler or batches.sampler)[place]
        files = ", ".join(batches.dataset.samples.paths[index].name for index, _ in views)  # type: ignore[attr-defined]
        raise TrainingError(
            f"the loss of step {place + 1} of epoch {epoch} is {values[place].item()}: lower the learning rate "
            f"({step.config.learning_rate}); the images of that step: {files}"
        )
    return float(values @ torch.tensor(sizes, dtype=torch.float64)) / sum(sizes)


def keep(path: Path, parts: dict[str, Any], config: TrainConfig, epoch: int, best: float) -> None:
    """Write the state of training after an epoch, whole or not at all."""
    content = io.BytesIO()
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({"config": asdict(config), "epoch": epoch, "best": best, **states}, content)
    write_atomically(path, content.getvalue())


def restore(path: Path, parts: dict[str, Any], config: TrainConfig, device: torch.device) -> tuple[int, float]:
    """Load what `keep` wrote; returns the epochs done and the best score so far.

    Raises:
        TrainingError: it cannot be read, or is of other settings.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        if content["config"] != asdict(config):
            raise TrainingError(f"{path} is the state of a run with other settings; delete it to begin anew")
        for name, part in parts.items():
            part.load_state_dict(content[name])
    except UNREADABLE as error:
        raise TrainingError(f"{path} cannot be gone on with ({error}); delete it to begin anew") from error
    return content["epoch"], content["best"]


def epochs_done(content: bytes) -> int:
    """The epochs done of what `keep` wrote; 0 if it cannot be read."""
    try:
        return int(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["epoch"])
    except UNREADABLE:
        return 0


def seed_everything(seed: int) -> None:
    """Seed every generator; call it before a model is made too, so that the same seed gives the same run."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
