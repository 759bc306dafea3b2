"""The names of the image encoders, to check one without importing what builds them."""

from typing import Final

from coconut_attr.errors import UserError

#: The module of this package that registers each encoder: several import torch for seconds.
BACKBONES: Final = {
    "efficientnet_lite0": "efficientnet_lite",
    "resnet50": "resnet",
    "dinov2_vit_b_14": "timm_vit",
    "clip_vit_b_16": "timm_vit",
    "vit_b_16": "vit",
}


class BackboneError(UserError):
    """An encoder is unknown, or its weights cannot be had; the message says what to do."""


def check_backbone(name: str) -> None:
    """Check that there is an encoder of that name.

    Raises:
        BackboneError: there is none; the message lists those that there are.
    """
    if name not in BACKBONES:
        raise BackboneError(f"unknown backbone {name!r}; choose one of: {', '.join(BACKBONES)}")
