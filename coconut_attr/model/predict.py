"""Probabilities of the 34 attributes, for batches and for image files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from coconut_attr.errors import UserError
from coconut_attr.files.images import decode, to_rgb
from coconut_attr.model.backbones.catalogue import get_backbone
from coconut_attr.model.network import AttributeModel, Output
from coconut_attr.model.preprocessing import transform


class DeviceError(UserError):
    """The machine lacks the device that was asked for."""


def choose_device(wanted: str = "auto") -> torch.device:
    """Return the device of that name; `auto` is CUDA, else MPS, else the CPU.

    Raises:
        DeviceError: the machine lacks it.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        wanted = next(name for name, there in available.items() if there)
    if not available[wanted]:
        raise DeviceError(
            f"device {wanted} is not available on this machine; set COCONUT_ATTR_DEVICE=auto"
        )
    return torch.device(wanted)


@dataclass(frozen=True)
class Predictions:
    """Predictions for n images, on the CPU.

    Attributes:
        logits: float32 [n, 34].
        embeddings: of the images, float32 [n, 512], and of the attributes, float32 [34, 512], of
            unit length; None with the linear head.
    """

    logits: torch.Tensor
    embeddings: tuple[torch.Tensor, torch.Tensor] | None


@torch.inference_mode()
def predict_batches(
    model: AttributeModel, batches: Iterable[Any], device: torch.device, *, cached: bool = False
) -> Predictions:
    """Predict every image of a loader, in its order.

    A batch that does not fit into the memory is predicted in parts.

    Args:
        cached: the loader yields features of the model's frozen stages, not images.

    Raises:
        torch.OutOfMemoryError: a single image does not fit.
    """
    model.eval()
    model.to(memory_format=torch.channels_last)
    outputs: list[Output] = []
    part_size = 0  # 0: complete batches
    for inputs, _ in batches:
        done = 0
        while done < len(inputs):
            part = inputs[done : done + (part_size or len(inputs))]
            try:
                with autocast(device):
                    outputs.append(model(to_device(part, device), cached=cached))
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                part_size = len(part) // 2
            else:
                done += len(part)
    logits = torch.cat([output.logits.float() for output in outputs]).cpu()
    images = [output.image.float() for output in outputs if output.image is not None]
    attribute = outputs[0].attribute
    if attribute is None:
        return Predictions(logits, None)
    return Predictions(logits, (torch.cat(images).cpu(), attribute.float().cpu()))


def to_device(inputs: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a batch of images, or of cached features, as float32 on the device."""
    # A transformer's features are tokens, which have no channels.
    layout = torch.channels_last if inputs.ndim == 4 else torch.preserve_format
    return inputs.to(device, non_blocking=True, memory_format=layout).float()


def autocast(device: torch.device) -> torch.autocast:
    """Use bfloat16 on CUDA, where it is faster."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


@torch.inference_mode()
def predict_images(
    model: AttributeModel, images: Sequence[bytes | Path | Image.Image], device: torch.device
) -> np.ndarray:
    """Compute probabilities for images, encoded images or image files in one batch.

    Returns:
        float32 [n, 34].

    Raises:
        coconut_attr.files.images.ImageError: one is not a complete JPEG or PNG.
        OSError: a file cannot be read.
    """
    prepare = transform(get_backbone(model.backbone_name), augment=False)
    model.eval()
    decoded = (
        to_rgb(image) if isinstance(image, Image.Image) else decode(image) for image in images
    )
    batch = torch.stack([prepare(image) for image in decoded])
    with autocast(device):
        return model(to_device(batch, device)).logits.float().sigmoid().cpu().numpy()
