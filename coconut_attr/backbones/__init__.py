"""Image encoders behind one interface, one file a family; importing a family registers its encoders."""

from coconut_attr.backbones import efficientnet_lite, resnet, timm_vit, vit  # noqa: F401 (for what they register)
from coconut_attr.backbones.registry import BACKBONES, Backbone, BackboneError, Encoder, Stage, backbone
from coconut_attr.backbones.resnet import choose_backbone

__all__ = ["BACKBONES", "Backbone", "BackboneError", "Encoder", "Stage", "backbone", "choose_backbone"]
