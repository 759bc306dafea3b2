"""What an image encoder is, and the registry of them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from coconut_attr.model.backbones.names import check_backbone

#: Called with the bytes done and to do of a download.
OnBytes = Callable[[int, int], None]


@dataclass(frozen=True)
class Stage:
    """One step of an encoder, and the modules or parameters that it uses.

    The encoder's forward pass is that of its stages, in order.
    """

    run: Callable[[Tensor], Tensor]
    owners: tuple[nn.Module | nn.Parameter, ...]

    def is_frozen(self) -> bool:
        """Return whether none of its parameters is trained."""
        owned = [[o] if isinstance(o, nn.Parameter) else o.parameters() for o in self.owners]
        return not any(p.requires_grad for parameters in owned for p in parameters)


class Encoder(nn.Module):
    """An image encoder: float32 [n, 3, size, size] -> features [n, channels, height, width]."""

    def stages(self) -> list[Stage]:
        """Return its steps, in the order of their parameters."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Compute the features of images."""
        for stage in self.stages():
            x = stage.run(x)
        return x


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


BACKBONES: dict[str, Backbone] = {}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def get_backbone(name: str) -> Backbone:
    """Return the registered encoder of that name.

    Raises:
        coconut_attr.model.backbones.names.BackboneError: there is none.
    """
    check_backbone(name)
    return BACKBONES[name]


def register(backbone: Backbone) -> None:
    """Add an encoder to the registry."""
    BACKBONES[backbone.name] = backbone
