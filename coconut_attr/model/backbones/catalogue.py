"""The image encoders of this program: each family registers its own when it is imported."""

from coconut_attr.model.backbones import efficientnet_lite, resnet, timm_vit, vit  # noqa: F401
from coconut_attr.model.backbones.registry import BACKBONES, get_backbone

__all__ = ["BACKBONES", "get_backbone"]
