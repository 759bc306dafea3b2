"""ImageNet weights that torchvision downloads, or finds where they were placed by hand."""

from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import WeightsEnum

from coconut_attr.model.backbones.registry import BackboneError


def cached_file(weights: WeightsEnum) -> Path:
    """Where torchvision keeps the file of these weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]


def state_without_head(weights: WeightsEnum, head: str) -> dict[str, Tensor]:
    """The weights but those whose name begins with `head`, checked against the hash in their file's name.

    Raises:
        BackboneError: they are neither here nor can they be downloaded.
    """
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: the hash of what arrived is another
        raise BackboneError(
            f"cannot download ImageNet weights ({error}): place {weights.url} at {cached_file(weights)}, or use "
            "--backbone efficientnet_lite0, whose weights are installed with the package"
        ) from error
    return {key: value for key, value in state.items() if not key.startswith(head)}
