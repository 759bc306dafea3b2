"""Training losses over known cells; unknown ones (-1) do not contribute."""

import torch
from torch import Tensor, nn

from coconut_attr.model.network import Output

TEMPERATURE = 0.07


def known_bce(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0, cells: Tensor | None = None
) -> Tensor:
    """Compute the binary cross-entropy, averaged over the known cells; 0 if there is none.

    Args:
        logits: float [n, 34].
        labels: [n, 34]; 1 present, 0 absent, -1 unknown.
        smoothing: label smoothing (Szegedy et al. 2016): pull targets this far towards 0.5, because
            weak labels err.
        cells: number of known cells of the batch that this is a part of; the losses of the parts
            then add up to the batch's.
    """
    known = labels >= 0
    targets = labels.clamp(min=0).to(logits.dtype) * (1 - smoothing) + smoothing / 2
    losses = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (losses * known).sum() / (count_cells(labels) if cells is None else cells)


def count_cells(labels: Tensor) -> Tensor:
    """Count the known cells, at least 1."""
    return (labels >= 0).sum().clamp(min=1)


def count_anchors(labels: Tensor) -> Tensor:
    """Count the images with a present attribute, at least 1."""
    return (labels == 1).any(1).sum().clamp(min=1)


def contrastive(output: Output, labels: Tensor, anchors: Tensor | None = None) -> Tensor:
    """Compute the supervised contrastive loss (Khosla et al. 2020, L_out) of images and attributes.

    The image is the anchor, its present attributes are the positives, its absent ones the
    negatives.

    Args:
        output: of the model for n images.
        labels: [n, 34]; 1 present, 0 absent, -1 unknown.
        anchors: number of images with a present attribute of the batch that this is a part of.
    """
    similarity = output.image @ output.attribute.T / TEMPERATURE
    known, present = labels >= 0, labels == 1
    log_probability = similarity - torch.logsumexp(
        similarity.masked_fill(~known, -1e4), dim=1, keepdim=True
    )
    per_image = -(log_probability * present).sum(1) / present.sum(1).clamp(min=1)
    return per_image.sum() / (count_anchors(labels) if anchors is None else anchors)
