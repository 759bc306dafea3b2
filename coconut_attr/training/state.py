"""The state of training after an epoch, from which an interrupted run is resumed."""

import io
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from coconut_attr.files.atomic import write_atomically
from coconut_attr.training.config import TrainConfig, TrainingError

#: What torch raises for a file that is not a training state.
UNREADABLE = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


def save_state(
    path: Path, parts: dict[str, Any], config: TrainConfig, epoch: int, best: float
) -> None:
    """Write the state of training, completely or not at all.

    Args:
        parts: objects with a `state_dict`, by name.
        epoch: number of the last finished epoch.
        best: the best val score so far.
    """
    content = io.BytesIO()
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({"config": asdict(config), "epoch": epoch, "best": best, **states}, content)
    write_atomically(path, content.getvalue())


def load_state(path: Path, parts: dict[str, Any], config: TrainConfig) -> tuple[int, float]:
    """Load what `save_state` wrote into `parts`; return its epoch and best score.

    Raises:
        TrainingError: the file cannot be read, or belongs to a run with other settings.
    """
    try:
        # AdamW's step counts belong on the CPU: it would read them from a GPU in every step.
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["config"] != asdict(config):
            raise TrainingError(
                f"{path} is the state of a run with other settings; delete it to train from scratch"
            )
        for name, part in parts.items():
            part.load_state_dict(content[name])
    except UNREADABLE as error:
        raise TrainingError(
            f"{path} is not a usable training state ({error}); delete it to train from scratch"
        ) from error
    return content["epoch"], content["best"]


def state_epoch(content: bytes) -> int:
    """Return the epoch of a training state; 0 if it cannot be read."""
    try:
        return int(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["epoch"])
    except UNREADABLE:
        return 0
