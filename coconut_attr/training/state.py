"""TODO."""

import io
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from coconut_attr.files.atomic import write_atomically
from coconut_attr.training.config import TrainConfig, TrainingError

#: What torch raises over a file that is no state of training.
UNREADABLE = (
    AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError
)  # fmt: skip


def keep(path: Path, parts: dict[str, Any], config: TrainConfig, epoch: int, best: float) -> None:
    """Write the state of training after an epoch, whole or not at all."""
    content = io.BytesIO()
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({"config": asdict(config), "epoch": epoch, "best": best, **states}, content)
    write_atomically(path, content.getvalue())


def restore(
    path: Path, parts: dict[str, Any], config: TrainConfig, device: torch.device
) -> tuple[int, float]:
    """Load what `keep` wrote; returns the epochs done and the best score so far.

    Raises:
        TrainingError: it cannot be read, or is of other settings.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        if content["config"] != asdict(config):
            raise TrainingError(
                f"{path} is the state of a run with other settings; delete it to begin anew"
            )
        for name, part in parts.items():
            part.load_state_dict(content[name])
    except UNREADABLE as error:
        raise TrainingError(
            f"{path} cannot be gone on with ({error}); delete it to begin anew"
        ) from error
    return content["epoch"], content["best"]


def epochs_done(content: bytes) -> int:
    """The epochs done of what `keep` wrote; 0 if it cannot be read."""
    try:
        return int(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["epoch"])
    except UNREADABLE:
        return 0
