"""What an image encoder is, and the registry of those that there are."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from coconut_attr.errors import UserError


class BackboneError(UserError):
    """An encoder is unknown, or its pretrained weights cannot be had; the message says what to do."""


@dataclass(frozen=True)
class Stage:
    """One step of an encoder, and what holds its parameters; its forward pass is that of its stages, in order."""

    run: Callable[[Tensor], Tensor]
    owners: tuple[nn.Module | nn.Parameter, ...]

    def frozen(self) -> bool:
        """Whether no parameter of it is trained."""
        owned = [[o] if isinstance(o, nn.Parameter) else o.parameters() for o in self.owners]
        return not any(p.requires_grad for parameters in owned for p in parameters)


class Encoder(nn.Module):
    """An image encoder; images float32 [n, 3, size, size] -> features [n, channels, height, width]."""

    def stages(self) -> list[Stage]:
        """Its steps, in the order of their parameters."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages():
            x = stage.run(x)
        return x


@dataclass(frozen=True)
class Backbone:
    """How to build one encoder and what its input must look like.

    Attributes:
        build: makes the module.
        channels: features a position.
        load: loads ImageNet weights into that module.
        mean, std: of each RGB channel, for inputs scaled to 0..1.
    """

    name: str
    build: Callable[[], Encoder]
    load: Callable[[nn.Module], None]
    channels: int
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


BACKBONES: dict[str, Backbone] = {}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def get_backbone(name: str) -> Backbone:
    """The registered encoder of that name.

    Raises:
        BackboneError: there is none; the message lists those that there are.
    """
    if name not in BACKBONES:
        raise BackboneError(f"unknown backbone {name!r}; choose one of: {', '.join(BACKBONES)}")
    return BACKBONES[name]


def register(entry: Backbone) -> None:
    """Add an encoder to the registry."""
    BACKBONES[entry.name] = entry
