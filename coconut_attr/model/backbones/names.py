"""The names of the image encoders, to check one without importing what builds them."""

from typing import Final

from coconut_attr.errors import UserError

#: In the order of `coconut_attr.model.backbones.registry.BACKBONES`.
BACKBONE_NAMES: Final = (
    "efficientnet_lite0",
    "resnet50",
    "dinov2_vit_b_14",
    "clip_vit_b_16",
    "vit_b_16",
)


class BackboneError(UserError):
    """An encoder is unknown, or its weights cannot be had; the message says what to do."""


def check_backbone(name: str) -> None:
    """Check that there is an encoder of that name.

    Raises:
        BackboneError: there is none; the message lists those that there are.
    """
    if name not in BACKBONE_NAMES:
        raise BackboneError(
            f"unknown backbone {name!r}; choose one of: {', '.join(BACKBONE_NAMES)}"
        )
