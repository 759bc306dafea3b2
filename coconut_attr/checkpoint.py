"""Checkpoints: safetensors, so that loading one runs no code from it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.backbones import BackboneError
from coconut_attr.errors import UserError
from coconut_attr.files import write_atomically
from coconut_attr.model import AttributeModel

FORMAT = "coconut-attr 1"
FILE_NAME = "best.safetensors"


class CheckpointError(UserError):
    """A checkpoint is missing or is not one of ours; the message says what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, and where it came from: `run` in the database, its dataset, and the epoch.

    `thresholds`: float [34], chosen on val, above which an attribute is called present.
    """

    model: AttributeModel
    run: int
    dataset: str
    epoch: int
    thresholds: np.ndarray


def save_checkpoint(
    path: Path, model: AttributeModel, *, run: int, dataset: str, epoch: int, thresholds: np.ndarray
) -> None:
    """Write a checkpoint whole or not at all."""
    metadata = {
        "format": FORMAT,
        "backbone": model.backbone_name,
        "attributes": json.dumps(ATTRIBUTES),
        "run": str(run),
        "dataset": dataset,
        "epoch": str(epoch),
        "thresholds": json.dumps(thresholds.tolist()),
    }
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(path, save(state, metadata))


def load_checkpoint(path: Path, device: torch.device | None = None) -> Checkpoint:
    """Read a checkpoint, ready to predict.

    Raises:
        CheckpointError: no such file, not of this format, or for other attributes than this version's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path} is not a checkpoint of this program (format {metadata.get('format')!r})")
        if tuple(json.loads(metadata["attributes"])) != ATTRIBUTES:
            raise CheckpointError(f"{path} was trained for other attributes than this version's; train again")
        # Checkpoints of the first version have none.
        thresholds = np.array(json.loads(metadata.get("thresholds", str([0.5] * len(ATTRIBUTES)))), float)
        if thresholds.shape != (len(ATTRIBUTES),):
            raise CheckpointError(f"{path} is not a usable checkpoint: thresholds of shape {thresholds.shape}")
        run, dataset, epoch = int(metadata["run"]), metadata["dataset"], int(metadata["epoch"])
        model = AttributeModel(metadata["backbone"], pretrained=False)
        model.load_state_dict(load_file(path))
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}; train first: make run") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError, BackboneError) as error:
        raise CheckpointError(f"{path} is not a usable checkpoint: {error}") from error
    model.to(device or torch.device("cpu")).eval()
    return Checkpoint(model, run, dataset, epoch, thresholds)


def newest_checkpoint(data_dir: Path) -> Path:
    """The checkpoint written last in a data folder.

    Raises:
        CheckpointError: there is none.
    """
    found = sorted(data_dir.glob(f"runs/*/{FILE_NAME}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise CheckpointError(f"no checkpoint under {data_dir / 'runs'}; train first (make run), or give --checkpoint")
    return found[-1]
