"""The image encoders that this program knows: each family below registers its own when it is imported."""

from coconut_attr.model.backbones import efficientnet_lite, resnet, timm_vit, vit  # noqa: F401
from coconut_attr.model.backbones.registry import BACKBONES, get_backbone
from coconut_attr.model.backbones.resnet import choose_backbone

__all__ = ["BACKBONES", "choose_backbone", "get_backbone"]
