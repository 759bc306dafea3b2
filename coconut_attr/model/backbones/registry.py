"""The registry of image encoders. Importing it does not import torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from coconut_attr.model.backbones.encoder import Encoder

#: Called with the bytes done and to do of a download.
OnBytes = Callable[[int, int], None]


def nothing_to_fetch(on_bytes: OnBytes) -> None:
    """Return at once: the weights are installed, or come when they are loaded."""


@dataclass(frozen=True)
class Backbone:
    """How to build one encoder, and what its input must look like.

    Attributes:
        build: makes the module.
        load: loads ImageNet weights into that module.
        channels: of the feature map.
        size: width and height of its input in pixels.
        mean, std: of each RGB channel, for inputs scaled to 0..1.
        fetch: downloads the weights that `load` needs, if they are not on this machine.
    """

    name: str
    build: Callable[[], Encoder]
    load: Callable[[nn.Module], None]
    channels: int
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fetch: Callable[[OnBytes], None] = nothing_to_fetch


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
#: The encoders whose modules have been imported; see `catalogue.get_backbone`.
REGISTERED: dict[str, Backbone] = {}


def register(backbone: Backbone) -> None:
    """Add an encoder to the registry."""
    REGISTERED[backbone.name] = backbone
