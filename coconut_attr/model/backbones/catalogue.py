"""The image encoders of this program; the module of each is imported when it is used."""

from importlib import import_module

from coconut_attr.model.backbones.names import BACKBONES, check_backbone
from coconut_attr.model.backbones.registry import REGISTERED, Backbone


def get_backbone(name: str) -> Backbone:
    """Return the encoder of that name.

    Raises:
        coconut_attr.model.backbones.names.BackboneError: there is none.
    """
    check_backbone(name)
    import_module(f"{__package__}.{BACKBONES[name]}")
    return REGISTERED[name]
