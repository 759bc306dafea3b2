"""Checkpoints: safetensors, so that loading one runs no code from it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.errors import UserError
from coconut_attr.files.atomic import write_atomically
from coconut_attr.files.object_store import object_store
from coconut_attr.files.run_files import RUNS, sync
from coconut_attr.model.backbones.names import BackboneError
from coconut_attr.model.checkpoint_metadata import checkpoint_metadata, epoch_of
from coconut_attr.model.heads import check_head
from coconut_attr.model.network import AttributeModel
from coconut_attr.settings import Settings

FORMAT = "coconut-attr 1"
FILE_NAME = "best.safetensors"


class CheckpointError(UserError):
    """A checkpoint is missing or not usable; the message says what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and its origin.

    Attributes:
        run: id of the run in the database.
        dataset: that it was trained on.
        thresholds: float [34], chosen on val; at or above, an attribute is predicted present.
    """

    model: AttributeModel
    run: int
    dataset: str
    epoch: int
    thresholds: np.ndarray


def save_checkpoint(
    path: Path, model: AttributeModel, *, run: int, dataset: str, epoch: int, thresholds: np.ndarray
) -> None:
    """Write a checkpoint, completely or not at all."""
    metadata = {
        "format": FORMAT,
        "backbone": model.backbone_name,
        "head": model.head,
        "attributes": json.dumps(ATTRIBUTES),
        "run": str(run),
        "dataset": dataset,
        "epoch": str(epoch),
        "thresholds": json.dumps(thresholds.tolist()),
    }
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    write_atomically(path, save(state, metadata))


def load_checkpoint(path: Path, device: torch.device | None = None) -> Checkpoint:
    """Read a checkpoint, ready to predict.

    Raises:
        CheckpointError: there is no such file, or as `read_checkpoint`.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}; train first: make run") from error
    except OSError as error:
        raise CheckpointError(f"{path} is not a usable checkpoint: {error}") from error
    return read_checkpoint(content, path, device)


def read_checkpoint(content: bytes, path: Path, device: torch.device | None = None) -> Checkpoint:
    """Return the checkpoint that a file's content is, ready to predict.

    Args:
        path: of the file, for messages.

    Raises:
        CheckpointError: it is not of this format, or for other attributes than this version's.
    """
    try:
        tensors = load(content)
        metadata = checkpoint_metadata(content)
        if metadata.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} is not a checkpoint of this program (format {metadata.get('format')!r})"
            )
        if tuple(json.loads(metadata["attributes"])) != ATTRIBUTES:
            raise CheckpointError(
                f"{path} was trained for other attributes than this version's; train again"
            )
        # The first version's checkpoints have no thresholds.
        thresholds = np.array(
            json.loads(metadata.get("thresholds", str([0.5] * len(ATTRIBUTES)))), float
        )
        if thresholds.shape != (len(ATTRIBUTES),):
            raise CheckpointError(
                f"{path} is not a usable checkpoint: thresholds of shape {thresholds.shape}"
            )
        run, dataset, epoch = int(metadata["run"]), metadata["dataset"], int(metadata["epoch"])
        # Checkpoints of versions before the linear head name none.
        head = check_head(metadata.get("head", "attention"))
        model = AttributeModel(metadata["backbone"], head, pretrained=False)
        model.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, BackboneError) as error:
        raise CheckpointError(f"{path} is not a usable checkpoint: {error}") from error
    model.to(device or torch.device("cpu")).eval()
    return Checkpoint(model, run, dataset, epoch, thresholds)


def newest_checkpoint(settings: Settings) -> Path:
    """Return the path of the checkpoint that was written last.

    With an object store, that is the last one there, which is fetched.

    Raises:
        CheckpointError: there is none.
        coconut_attr.files.object_store.ObjectStoreError, UnreachableError: as `ObjectStore`.
    """
    if store := object_store(settings):
        names = [name for name in store.sizes(RUNS) if name.endswith(f"/{FILE_NAME}")]
        if names:
            _, newest = max(zip(store.map(store.modified, names), names, strict=True))
            sync(settings, settings.data_dir / newest, epoch_of)
            return settings.data_dir / newest
    folder = settings.data_dir / RUNS
    paths = sorted(folder.glob(f"*/{FILE_NAME}"), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise CheckpointError(
            f"no checkpoint under {folder}; train first (make run), or give --checkpoint"
        )
    return paths[-1]
