"""Images and label vectors for training: files decoded at a reduced size, augmented, normalised."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from coconut_attr.files.atomic import sha256_of
from coconut_attr.model.backbones.registry import Backbone
from coconut_attr.model.preprocessing import open_reduced, transform
from coconut_attr.training import distributed

PLAIN = -1  # the view of an image without augmentation
View = tuple[int, int]  # place of an image in its split, and which of its views


@dataclass(frozen=True)
class Samples:
    """Images of one split with their labels.

    Attributes:
        paths: n image files.
        labels: int8 [n, 34]; 1 present, 0 absent, -1 unknown.
        hashes: SHA-256 of each file; they seed its augmentation and name its features.
    """

    paths: Sequence[Path]
    labels: np.ndarray
    hashes: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def first(self, n: int) -> "Samples":
        """The first n of them; splits are made by a hash of the COCO id, so they are in no order that matters."""
        return Samples(self.paths[:n], self.labels[:n], self.hashes[:n])

    @classmethod
    def of_files(cls, paths: Sequence[Path], labels: np.ndarray) -> "Samples":
        """Samples whose files are hashed here."""
        return cls(paths, labels, [sha256_of(path) for path in paths])


class ImageSet(Dataset):
    """Views of images, float32 [3, size, size], with their labels, int8 [34].

    A view is the same whenever it is asked for: its augmentation is seeded by the image's hash and its number.
    """

    def __init__(self, samples: Samples, entry: Backbone) -> None:
        self.samples = samples
        self.entry = entry

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, view: View) -> tuple[Tensor, Tensor]:
        index, number = view
        image = open_reduced(self.samples.paths[index], self.entry.size)
        prepare = transform(self.entry, augment=number != PLAIN)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(self.samples.hashes[index][:8], 16) + max(0, number))
            return prepare(image), torch.from_numpy(self.samples.labels[index])


class TrainViews(Sampler[View]):
    """Every image once an epoch, in an order and in views that the seed and the epoch decide.

    Args:
        views: an epoch draws one of so many views of each image; 0: every epoch has views of its own.
    """

    def __init__(self, images: int, views: int, seed: int) -> None:
        self.images = images
        self.views = views
        self.seed = seed
        self.epoch = 1

    def __len__(self) -> int:
        return self.images

    def __iter__(self) -> Iterator[View]:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        order = torch.randperm(self.images, generator=generator).tolist()
        numbers = torch.randint(max(1, self.views), (self.images,), generator=generator).tolist()
        for index, number in zip(order, numbers, strict=True):
            yield index, number if self.views else self.epoch


class ViewBatches(Sampler[list[View]]):
    """Views in batches, of each of which this process takes its share; a last batch with less than one view for each
    process is left out.

    Args:
        own: the views are this process's own, all of them.
    """

    def __init__(
        self, views: Sequence[View] | Sampler[View], batch_size: int, *, own: bool = False
    ) -> None:
        self.views = views
        self.batch_size = batch_size
        self.own = own

    def __len__(self) -> int:
        size = len(self.views)  # type: ignore[arg-type]  # TrainViews has a length
        whole, rest = divmod(size, self.batch_size)
        return whole + (rest >= (1 if self.own else distributed.count()))

    def __iter__(self) -> Iterator[list[View]]:
        batches = BatchSampler(self.views, self.batch_size, drop_last=False)  # type: ignore[arg-type]  # any index does
        for batch in islice(batches, len(self)):
            yield batch if self.own else distributed.shard(batch)  # type: ignore[misc]


def plain_views(images: int) -> list[View]:
    """Every image as it is, in order."""
    return [(index, PLAIN) for index in range(images)]


def loader(samples: Samples, entry: Backbone, batches: ViewBatches) -> DataLoader:
    """Batches of image views and labels, decoded by worker processes where there is enough to do."""
    workers = min(8, os.cpu_count() or 1) if len(samples) > 4 * batches.batch_size else 0
    return DataLoader(
        ImageSet(samples, entry),
        batch_sampler=batches,  # type: ignore[arg-type]  # any index does
        num_workers=workers,
        persistent_workers=workers > 0,
        # Forking would copy the threads' locks of Prefect and of torch in whatever state they are.
        multiprocessing_context="forkserver" if workers else None,
        pin_memory=torch.cuda.is_available(),
    )
