"""Features of the frozen prefix, computed once for each view of an image and kept on disk in half precision."""

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
from coconut_attr.model.backbones.catalogue import backbone
from coconut_attr.model.network import AttributeModel
from coconut_attr.model.preprocessing import transform
from coconut_attr.training.data import Samples, View, ViewBatches, loader

BATCH = 32


def prefix_key(model: AttributeModel) -> str:
    """Names the features of a prefix: equal weights and preprocessing, equal key."""
    digest = hashlib.sha256(f"{model.backbone_name} {model.prefix_length}".encode())
    for augment in (False, True):
        digest.update(repr(transform(backbone(model.backbone_name), augment=augment)).encode())
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
    """Stored features: float16 [rows, ...], mapped from disk, and the row of each image hash and view."""

    values: np.ndarray
    rows: dict[tuple[str, int], int]


class FeatureCache:
    """The features of one prefix in a folder: `values.f16`, and `rows.txt` with the image hash and view of each row.

    Rows are appended, values first; what an interruption leaves without its line is overwritten. One process writes
    at a time; others may read meanwhile, since no whole line is ever taken away.
    """

    def __init__(self, folder: Path, model: AttributeModel) -> None:
        self.folder = folder / prefix_key(model)
        self.model = model
        size = backbone(model.backbone_name).size
        with torch.inference_mode():
            device = next(model.parameters()).device
            self.shape = tuple(
                model.eval().prefix(torch.zeros(1, 3, size, size, device=device)).shape[1:]
            )

    @property
    def bytes_a_view(self) -> int:
        """Bytes on disk of one view of an image."""
        return 2 * int(np.prod(self.shape))

    def open(self) -> Features:
        """What is stored."""
        keys = self._keys()
        shape = (len(keys), *self.shape)
        values = (
            np.memmap(self.folder / "values.f16", np.float16, "r", shape=shape)
            if keys
            else np.empty(shape)
        )
        return Features(values, {key: row for row, key in enumerate(keys)})

    def _keys(self) -> list[tuple[str, int]]:
        path = self.folder / "rows.txt"
        lines = (
            path.read_text().split("\n")[:-1] if path.is_file() else []
        )  # a line without its end is not finished
        return [(sys.intern(key), int(number)) for key, number in map(str.split, lines)]

    def missing(self, samples: Samples, views: Sequence[int]) -> list[View]:
        """Those views of the images that are not stored, in order; of equal files one."""
        stored = set(self._keys())
        wanted = {(samples.hashes[i], v): (i, v) for v in views for i in range(len(samples))}
        return sorted(view for key, view in wanted.items() if key not in stored)

    def fill(
        self,
        samples: Samples,
        views: Sequence[int],
        device: torch.device,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> Features:
        """Compute those views of the images that are missing; returns all that is stored.

        Args:
            on_step: called with the views done and to do.

        Raises:
            OSError: the disk is full, or an image cannot be read; what is stored stays.
        """
        if self.missing(
            samples, views
        ):  # who lacks nothing need not wait for another process that fills
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                if missing := self.missing(
                    samples, views
                ):  # again: the one before may have stored them
                    self._append(samples, missing, device, on_step)
        return self.open()

    @torch.inference_mode()
    def _append(
        self, samples: Samples, missing: Sequence[View], device: torch.device, on_step
    ) -> None:
        self.model.eval()
        rows_path = self.folder / "rows.txt"
        text = rows_path.read_text() if rows_path.is_file() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_atomically(rows_path, whole.encode())
        with (self.folder / "values.f16").open("ab") as values, rows_path.open("a") as rows:
            values.truncate(whole.count("\n") * self.bytes_a_view)
            done = 0
            batches = ViewBatches(missing, BATCH, own=True)
            for images, _ in loader(samples, backbone(self.model.backbone_name), batches):
                batch = images.to(device, non_blocking=True, memory_format=torch.channels_last)
                values.write(self.model.prefix(batch).contiguous().half().cpu().numpy().tobytes())
                values.flush()
                part = missing[done : done + len(images)]
                rows.write("".join(f"{samples.hashes[index]} {view}\n" for index, view in part))
                rows.flush()
                done += len(images)
                on_step(done, len(missing))


class FeatureSet(Dataset):
    """Batches of stored features, float16 [n, ...], with labels, int8 [n, 34], by the views asked for."""

    def __init__(self, samples: Samples, features: Features) -> None:
        self.samples = samples
        self.features = features
        self.labels = torch.from_numpy(samples.labels)

    def __getitem__(self, views: Sequence[View]) -> tuple[Tensor, Tensor]:
        rows = [self.features.rows[self.samples.hashes[index], number] for index, number in views]
        return torch.from_numpy(self.features.values[rows]), self.labels[
            [index for index, _ in views]
        ]


def feature_loader(samples: Samples, features: Features, batches: ViewBatches) -> DataLoader:
    """Batches of stored features and labels."""
    return DataLoader(
        FeatureSet(samples, features),
        sampler=batches,
        batch_size=None,
        pin_memory=torch.cuda.is_available(),
    )
