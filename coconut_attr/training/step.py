"""TODO."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coconut_attr.model.network import AttributeModel
from coconut_attr.model.predict import autocast, to_device
from coconut_attr.training import distributed
from coconut_attr.training.config import TrainConfig, TrainingError
from coconut_attr.training.losses import contrastive, count_anchors, count_cells, known_bce


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
            nn.parallel.DistributedDataParallel(model, device_ids=ids)
            if distributed.count() > 1
            else model
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
        cells, anchors = distributed.mean(
            torch.stack([count_cells(targets), count_anchors(targets)]).float()
        )
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
                loss = loss + self.config.contrastive_weight * contrastive(
                    output, targets[rows], anchors
                )
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
        if (
            self.part == 1 or distributed.count() > 1
        ):  # alone, a process would wait for the others' gradients
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
