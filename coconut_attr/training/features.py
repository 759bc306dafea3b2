"""Cache on disk for the features of a model's frozen stages, in half precision."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from coconut_attr.files.atomic import write_atomically
from coconut_attr.model.backbones.catalogue import get_backbone
from coconut_attr.model.network import AttributeModel
from coconut_attr.model.preprocessing import DECODING, transform
from coconut_attr.training.data import Samples, View, ViewBatchSampler, image_loader

BATCH = 32


def prefix_name(model: AttributeModel) -> str:
    """Return a name for the frozen stages: equal weights and preprocessing, equal name."""
    digest = hashlib.sha256(f"{model.backbone_name} {model.prefix_length} {DECODING}".encode())
    for augment in (False, True):
        preprocessing = transform(get_backbone(model.backbone_name), augment=augment)
        digest.update(repr(preprocessing).encode())
    owners = [
        owner for stage in model.encoder.stages()[: model.prefix_length] for owner in stage.owners
    ]
    for owner in owners:
        tensors = [owner] if isinstance(owner, Tensor) else owner.state_dict().values()
        for tensor in tensors:
            digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Features:
    """Cached features.

    Attributes:
        values: float16 [rows, ...], mapped from disk.
        rows: row of each image hash and view number.
    """

    values: np.ndarray
    rows: dict[tuple[str, int], int]


class FeatureCache:
    """Features of one model's frozen stages in a folder.

    `values.f16` holds the values, and `rows.txt` the image hash and view number of each row. Rows
    are appended, values first; a row that an interruption left without its line is overwritten. One
    process writes at a time; others may read meanwhile, since no complete line is ever removed.
    """

    def __init__(self, folder: Path, model: AttributeModel) -> None:
        self.folder = folder / prefix_name(model)
        self.model = model
        size = get_backbone(model.backbone_name).size
        with torch.inference_mode():
            device = next(model.parameters()).device
            self.shape = tuple(
                model.eval().prefix(torch.zeros(1, 3, size, size, device=device)).shape[1:]
            )

    @property
    def bytes_per_view(self) -> int:
        """Return the size on disk of one view of an image."""
        return 2 * int(np.prod(self.shape))

    def open(self) -> Features:
        """Return what is cached."""
        rows = self._rows()
        shape = (len(rows), *self.shape)
        values = (
            np.memmap(self.folder / "values.f16", np.float16, "r", shape=shape)
            if rows
            else np.empty(shape)
        )
        return Features(values, {row: number for number, row in enumerate(rows)})

    def _rows(self) -> list[tuple[str, int]]:
        path = self.folder / "rows.txt"
        # The last line is incomplete where it has no end.
        lines = path.read_text().split("\n")[:-1] if path.is_file() else []
        return [(sys.intern(sha256), int(number)) for sha256, number in map(str.split, lines)]

    def missing(self, samples: Samples, views: Sequence[int]) -> list[View]:
        """Return those views of the images that are not cached, in order; of equal files one."""
        cached = set(self._rows())
        wanted = {(samples.hashes[i], v): (i, v) for v in views for i in range(len(samples))}
        return sorted(view for row, view in wanted.items() if row not in cached)

    def fill(
        self,
        samples: Samples,
        views: Sequence[int],
        device: torch.device,
        on_step: Callable[[int, int], None] = lambda done, total: None,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> Features:
        """Compute those views of the images that are missing; return all that is cached.

        Args:
            on_step: called with the views done and to do.
            on_note: as for `image_loader`.

        Raises:
            OSError: the disk is full, or an image cannot be read; what is cached stays.
        """
        if self.missing(samples, views):  # nothing missing: do not wait for the lock
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                # Again: another process may have computed them meanwhile.
                if missing := self.missing(samples, views):
                    self._append(samples, missing, device, on_step, on_note)
        return self.open()

    @torch.inference_mode()
    def _append(
        self, samples: Samples, missing: Sequence[View], device: torch.device, on_step, on_note
    ) -> None:
        self.model.eval()
        rows_path = self.folder / "rows.txt"
        text = rows_path.read_text() if rows_path.is_file() else ""
        complete = text[: text.rfind("\n") + 1]
        if complete != text:
            write_atomically(rows_path, complete.encode())
        batches = ViewBatchSampler(missing, BATCH, split=False)
        loader = image_loader(samples, get_backbone(self.model.backbone_name), batches, on_note)
        with (self.folder / "values.f16").open("ab") as values, rows_path.open("a") as rows:
            values.truncate(complete.count("\n") * self.bytes_per_view)
            done = 0
            for images, _ in loader:
                batch = images.to(device, non_blocking=True, memory_format=torch.channels_last)
                values.write(self.model.prefix(batch).contiguous().half().cpu().numpy().tobytes())
                values.flush()
                part = missing[done : done + len(images)]
                rows.write("".join(f"{samples.hashes[index]} {view}\n" for index, view in part))
                rows.flush()
                done += len(images)
                on_step(done, len(missing))


class FeatureDataset(Dataset):
    """Batches of cached features, float16 [n, ...], and targets, float32 [n, 2, 34], by views."""

    def __init__(self, samples: Samples, features: Features) -> None:
        self.samples = samples
        self.features = features
        self.targets = torch.from_numpy(samples.targets)

    def __getitem__(self, views: Sequence[View]) -> tuple[Tensor, Tensor]:
        rows = [self.features.rows[self.samples.hashes[index], number] for index, number in views]
        targets = self.targets[[index for index, _ in views]]
        return torch.from_numpy(self.features.values[rows]), targets


def feature_loader(samples: Samples, features: Features, batches: ViewBatchSampler) -> DataLoader:
    """Return a loader of cached features and targets."""
    return DataLoader(
        FeatureDataset(samples, features),
        sampler=batches,
        batch_size=None,
        pin_memory=torch.cuda.is_available(),
    )
