"""TODO."""

from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms import v2

from coconut_attr.files.images import decode
from coconut_attr.model.backbones.registry import Backbone


def open_reduced(path: Path, size: int) -> Image.Image:
    """An RGB image; a JPEG is decoded at the smallest scale that still has `size` pixels a side, to save time."""
    return decode(path, min_side=size)


def transform(entry: Backbone, *, augment: bool) -> v2.Transform:
    """Preprocessing for an encoder: with augmentation for training, else the whole image squeezed to a square.

    The whole image is kept because an attribute may show anywhere in it, its edges included.
    """
    size = (entry.size, entry.size)
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
            v2.Normalize(list(entry.mean), list(entry.std)),
        ]
    )
