"""The interface of an image encoder."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


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
