"""Images and label vectors for training: files decoded at a reduced size, augmented, normalised."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from coconut_attr.backbones import Backbone


@dataclass(frozen=True)
class Samples:
    """Images of one split with their labels.

    Attributes:
        paths: n image files.
        labels: int8 [n, 34]; 1 present, 0 absent, -1 unknown.
    """

    paths: Sequence[Path]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)


class ImageSet(Dataset):
    """Pairs of an image, float32 [3, size, size], and its labels, int8 [34]."""

    def __init__(self, samples: Samples, transform: v2.Transform, size: int) -> None:
        self.samples = samples
        self.transform = transform
        self.size = size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.transform(open_reduced(self.samples.paths[index], self.size))
        return image, torch.from_numpy(self.samples.labels[index])


def open_reduced(path: Path, size: int) -> Image.Image:
    """An RGB image; a JPEG is decoded at the smallest scale that still has `size` pixels a side, to save time."""
    with Image.open(path) as image:
        image.draft("RGB", (size, size))
        return image.convert("RGB")


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
        [v2.ToImage(), *shape, v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(entry.mean), list(entry.std))]
    )


def loader(samples: Samples, entry: Backbone, *, batch_size: int, augment: bool, seed: int = 0) -> DataLoader:
    """Batches of images and labels; shuffled and augmented for training, in order otherwise."""
    workers = min(8, os.cpu_count() or 1) if len(samples) > 4 * batch_size else 0
    return DataLoader(
        ImageSet(samples, transform(entry, augment=augment), entry.size),
        batch_size=batch_size,
        shuffle=augment,
        num_workers=workers,
        persistent_workers=workers > 0,
        # Forking would copy the threads' locks of Prefect and of torch in whatever state they are.
        multiprocessing_context="forkserver" if workers else None,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
    )
