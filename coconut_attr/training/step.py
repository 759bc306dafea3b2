"""One training step: the loss of a batch and its gradients."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coconut_attr.model.network import AttributeModel
from coconut_attr.model.predict import autocast, to_device
from coconut_attr.training import distributed
from coconut_attr.training.config import TrainConfig, TrainingError
from coconut_attr.training.losses import contrastive, count_anchors, total_weight, weighted_bce


class Step:
    """Computes the loss and the gradients of a batch.

    A batch that does not fit into the device's memory is processed in micro-batches, whose
    accumulated gradients are those of the batch.

    Args:
        cached: the inputs are features of the frozen stages, not images.

    Raises:
        TrainingError: one image, or one of several processes' share of a batch, does not fit.
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
        self.micro_batch = config.batch_size
        ids = [device.index] if device.type == "cuda" else None
        self.forward: nn.Module = (
            nn.parallel.DistributedDataParallel(model, device_ids=ids)
            if distributed.world_size() > 1
            else model
        )

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Compute a batch's loss and add its gradients to the parameters'.

        Args:
            inputs: images float [n, 3, size, size], or (cached) features of the frozen stages; on
                the CPU.
            targets: float32 [n, 2, 34]; the probability that a cell is present, and its weight.

        Returns:
            The loss, on the device: reading it here would wait for the device.
        """
        targets = targets.to(self.device, non_blocking=True)
        mix = Mix.sample(self.config.mixup, len(targets), self.device)
        while True:
            try:
                return self._accumulate(inputs, targets, mix)
            except torch.OutOfMemoryError as error:
                self.model.zero_grad(set_to_none=True)
                self._halve_micro_batch(error)

    def _accumulate(self, inputs: Tensor, targets: Tensor, mix: "Mix | None") -> Tensor:
        # Averaged over the processes, as DistributedDataParallel averages their gradients. With the
        # batch's sums as divisors, the losses of micro-batches add up to the batch's loss.
        weight, anchors = distributed.mean(
            torch.stack([total_weight(targets), count_anchors(targets).float()])
        )
        size = self.micro_batch
        parts = [slice(start, start + size) for start in range(0, len(targets), size)]
        features = torch.cat([self._features(inputs[rows]) for rows in parts])
        if mix:
            features = mix.own * features + (1 - mix.own) * features[mix.partner]
        total = torch.zeros((), device=self.device)
        for rows in parts:
            with autocast(self.device):
                output = self.forward(features[rows], cached=True)
                loss = weighted_bce(
                    output.logits, targets[rows], self.config.label_smoothing, weight
                )
                if mix:
                    partner = targets[mix.partner[rows]]
                    other = weighted_bce(
                        output.logits, partner, self.config.label_smoothing, weight
                    )
                    loss = mix.own * loss + (1 - mix.own) * other
                if output.image is not None and output.attribute is not None:
                    loss = loss + self.config.contrastive_weight * contrastive(
                        output.image, output.attribute, targets[rows], anchors
                    )
            loss.backward()
            total += loss.detach()
        return total

    @torch.no_grad()
    def _features(self, inputs: Tensor) -> Tensor:
        """Return the features of the frozen stages, float32 on the device."""
        batch = to_device(inputs, self.device)
        if self.cached:
            return batch
        with autocast(self.device):
            return self.model.prefix(batch).float()

    def _halve_micro_batch(self, error: torch.OutOfMemoryError) -> None:
        # With several processes, the others would wait for the gradients of one that starts again.
        if self.micro_batch == 1 or distributed.world_size() > 1:
            raise TrainingError(
                f"{self.device} has not enough memory for {self.micro_batch} images at once: "
                f"choose a smaller batch_size (now {self.config.batch_size}) or backbone"
            ) from error
        self.micro_batch = -(-self.micro_batch // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.on_note(
            f"{self.device} is out of memory: batches of {self.config.batch_size} are processed in "
            f"micro-batches of {self.micro_batch} from now on, with the same gradients; better set "
            "batch_size to what fits"
        )


@dataclass(frozen=True)
class Mix:
    """Mixing of the images of a batch.

    Attributes:
        own: share of each image itself; the rest is its partner's.
        partner: int [n], index of each image's partner.
    """

    own: float
    partner: Tensor

    @classmethod
    def sample(cls, alpha: float, images: int, device: torch.device) -> "Mix | None":
        """Sample a share of at least one half from Beta(alpha, alpha), and a permutation.

        Returns:
            None if alpha is 0.
        """
        if not alpha:
            return None
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        return cls(max(share, 1 - share), torch.randperm(images).to(device, non_blocking=True))
