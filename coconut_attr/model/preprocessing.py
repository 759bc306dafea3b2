"""Preprocessing of images for an encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coconut_attr.model.backbones.registry import Backbone

if TYPE_CHECKING:
    from torchvision.transforms import v2

#: How images are decoded. Part of the names of cached features, which another way would change.
DECODING: Final = "sRGB, reduced"


def transform(backbone: Backbone, *, augment: bool) -> v2.Transform:
    """Return the preprocessing for an encoder.

    With augmentation, for training, the image is cropped and flipped at random. Without, it is
    resized to a square and not cropped, because an attribute may show at its edges.
    """
    import torch
    from torchvision.transforms import v2  # imports all of torchvision: a second

    size = (backbone.size, backbone.size)
    shape = (
        [v2.RandomResizedCrop(size, scale=(0.6, 1.0), antialias=True), v2.RandomHorizontalFlip()]
        if augment
        else [v2.Resize(size, antialias=True)]
    )
    return v2.Compose(
        [
            v2.ToImage(),
            *shape,
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(backbone.mean), list(backbone.std)),
        ]
    )
