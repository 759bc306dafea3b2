"""Probabilities of the 34 attributes, for batches and for image files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from coconut_attr.backbones import backbone
from coconut_attr.data import transform
from coconut_attr.errors import UserError
from coconut_attr.images import decode
from coconut_attr.model import AttributeModel


class DeviceError(UserError):
    """A device is asked for that the machine lacks."""


def choose_device(wanted: str = "auto") -> torch.device:
    """The device of that name; `auto` is CUDA, else MPS, else the CPU.

    Raises:
        DeviceError: the device is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        wanted = next(name for name, there in available.items() if there)
    if not available[wanted]:
        raise DeviceError(f"device {wanted} is not available on this machine; set COCONUT_ATTR_DEVICE=auto")
    return torch.device(wanted)


@torch.inference_mode()
def predict_logits(model: AttributeModel, batches: DataLoader, device: torch.device) -> torch.Tensor:
    """Logits of every image of a loader, in its order: float32 [n, 34] on the CPU."""
    model.eval()
    model.to(memory_format=torch.channels_last)
    rows = (
        model(images.to(device, non_blocking=True, memory_format=torch.channels_last)).logits.float().cpu()
        for images, _ in batches
    )
    return torch.cat(list(rows))


@torch.inference_mode()
def predict_images(model: AttributeModel, images: Sequence[bytes | Path], device: torch.device) -> np.ndarray:
    """Probabilities for encoded images or image files: float32 [n, 34].

    Raises:
        coconut_attr.images.ImageError: one is not a whole JPEG or PNG.
        OSError: a file cannot be read.
    """
    prepare = transform(backbone(model.backbone_name), augment=False)
    model.eval()
    rows = [model(prepare(decode(image))[None].to(device)).logits.sigmoid().float().cpu() for image in images]
    return torch.cat(rows).numpy()
