"""The image encoders of this program by name.

Commands and flows take the names from here. Importing torch and torchvision takes seconds, so the
module of an encoder is imported when that encoder is used.
"""

from importlib import import_module

from coconut_attr.model.backbones.registry import REGISTERED, Backbone, BackboneError

#: The module of this package that registers each encoder.
BACKBONES = {
    "efficientnet_lite0": "efficientnet_lite",
    "resnet50": "resnet",
    "dinov2_vit_b_14": "timm_vit",
    "clip_vit_b_16": "timm_vit",
    "vit_b_16": "vit",
}


def require_backbone(name: str) -> None:
    """Check that there is an encoder of that name, without importing it.

    Raises:
        BackboneError: there is none; the message lists those that there are.
    """
    if name not in BACKBONES:
        raise BackboneError(f"unknown backbone {name!r}; choose one of: {', '.join(BACKBONES)}")


def get_backbone(name: str) -> Backbone:
    """Return the encoder of that name; errors as `require_backbone`."""
    require_backbone(name)
    import_module(f"{__package__}.{BACKBONES[name]}")
    return REGISTERED[name]
