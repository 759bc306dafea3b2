"""Images and targets for training: decoded at a reduced size, augmented, normalised."""

import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from coconut_attr.files.images import decode
from coconut_attr.model.backbones.registry import Backbone
from coconut_attr.model.preprocessing import transform
from coconut_attr.training import distributed

PLAIN = -1  # the view of an image without augmentation
View = tuple[int, int]  # index of an image in its split, and number of its view
#: Only its free space is read.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # nosec B108
PREFETCHED = 2  # batches per loader worker


@dataclass(frozen=True)
class Samples:
    """Labelled images of one split, all sequences in the same order.

    Attributes:
        image_ids: n ids of the images in the database.
        paths: n image files.
        labels: int8 [n, 34]; 1 present, 0 absent, -1 unknown.
        hashes: SHA-256 of each file; they seed its augmentation and name its features.
        probabilities: float32 [n, 34], of present: the targets of training; by default those that
            the labels state, and 0.5 for unknown.
        judged: bool [n, 34], cells whose label is what somebody saw; by default none.
    """

    image_ids: Sequence[int]
    paths: Sequence[Path]
    labels: np.ndarray
    hashes: Sequence[str]
    probabilities: np.ndarray = None  # type: ignore[assignment]  # set below
    judged: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.probabilities is None:
            stated = np.where(self.labels < 0, 0.5, self.labels).astype(np.float32)
            object.__setattr__(self, "probabilities", stated)
        if self.judged is None:
            object.__setattr__(self, "judged", np.zeros(self.labels.shape, bool))

    @property
    def weights(self) -> np.ndarray:
        """Return how much each cell counts in training, float32 [n, 34].

        A cell counts by how sure its probability is: 0 at 0.5, 1 at 0 and 1, and so where somebody
        judged.
        """
        return np.abs(2 * self.probabilities - 1).astype(np.float32)

    @property
    def targets(self) -> np.ndarray:
        """Return probabilities and weights together, float32 [n, 2, 34]."""
        return np.stack([self.probabilities, self.weights], axis=1).astype(np.float32)

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "Samples":
        """Return the samples at these indices."""
        return Samples(
            [self.image_ids[i] for i in indices],
            [self.paths[i] for i in indices],
            self.labels[np.asarray(indices, dtype=int)],
            [self.hashes[i] for i in indices],
            self.probabilities[np.asarray(indices, dtype=int)],
            self.judged[np.asarray(indices, dtype=int)],
        )


def prior(samples: Samples) -> np.ndarray:
    """Return the share of present of each attribute, by probability and weight: float [34]."""
    weights = samples.weights
    present = (samples.probabilities * weights).sum(0)
    return (present + 0.5) / (weights.sum(0) + 1)


class ViewDataset(Dataset):
    """Views of images, float32 [3, size, size], with their targets, float32 [2, 34].

    A view's augmentation is seeded by the image's hash and the view's number, so that it is the
    same in every epoch and every run.
    """

    def __init__(self, samples: Samples, backbone: Backbone) -> None:
        self.samples = samples
        self.targets = torch.from_numpy(samples.targets)
        self.backbone = backbone

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, view: View) -> tuple[Tensor, Tensor]:
        index, number = view
        image = decode(self.samples.paths[index], min_side=self.backbone.size)
        prepare = transform(self.backbone, augment=number != PLAIN)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(self.samples.hashes[index][:8], 16) + max(0, number))
            return prepare(image), self.targets[index]


class TrainViewSampler(Sampler[View]):
    """One view of every image, in an order and with numbers that seed and epoch decide.

    Args:
        views: number of views per image to draw from; 0: the view's number is the epoch's.
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


class ViewBatchSampler(Sampler[list[View]]):
    """Batches of views.

    Args:
        split: share each batch among the processes of the run; a last batch with fewer views than
            processes is left out. False: the views are this process's own.
    """

    def __init__(
        self, views: Sequence[View] | Sampler[View], batch_size: int, *, split: bool = True
    ) -> None:
        self.views = views
        self.batch_size = batch_size
        self.split = split

    def __len__(self) -> int:
        size = len(self.views)  # type: ignore[arg-type]  # TrainViewSampler has a length
        complete, rest = divmod(size, self.batch_size)
        return complete + (rest >= (distributed.world_size() if self.split else 1))

    def __iter__(self) -> Iterator[list[View]]:
        batches = BatchSampler(self.views, self.batch_size, drop_last=False)  # type: ignore[arg-type]  # any index does
        for batch in islice(batches, len(self)):
            yield distributed.shard(batch) if self.split else batch  # type: ignore[misc]


def plain_views(images: int) -> list[View]:
    """Return the view without augmentation of every image, in order."""
    return [(index, PLAIN) for index in range(images)]


def image_loader(
    samples: Samples,
    backbone: Backbone,
    batches: ViewBatchSampler,
    on_note: Callable[[str], None] = lambda note: None,
) -> DataLoader:
    """Return a loader of image views and targets; worker processes decode larger sets.

    Args:
        on_note: called if there are fewer workers than CPUs because shared memory is small.
    """
    workers = min(8, os.cpu_count() or 1) if len(samples) > 4 * batches.batch_size else 0
    most = workers_that_fit(4 * 3 * backbone.size**2 * batches.batch_size)
    if workers > most:
        on_note(
            f"{SHARED_MEMORY} is small: {most} of {workers} worker processes decode images "
            "(0: the training process does); in a container, start it with --shm-size=1g"
        )
        workers = most
    # Forking would copy the locks of Prefect's and torch's threads in whatever state they are. The
    # server that forks imports torch once: each worker would otherwise import it for seconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torchvision.transforms.v2", __name__])
    return DataLoader(
        ViewDataset(samples, backbone),
        batch_sampler=batches,  # type: ignore[arg-type]  # any index does
        num_workers=workers,
        prefetch_factor=PREFETCHED if workers else None,
        persistent_workers=workers > 0,
        multiprocessing_context=context if workers else None,
        pin_memory=torch.cuda.is_available(),
    )


def workers_that_fit(batch_bytes: int) -> int:
    """Return how many loader workers the free shared memory suffices for.

    Workers pass batches to the training process through it. When it is full (docker gives a
    container 64 MB), they die with a bus error.
    """
    if not SHARED_MEMORY.is_dir():
        return sys.maxsize
    free = shutil.disk_usage(SHARED_MEMORY).free / distributed.world_size()
    batches = 0.8 * free / batch_bytes - 2  # the one in use, and the one before it
    return max(0, int(batches // PREFETCHED))
