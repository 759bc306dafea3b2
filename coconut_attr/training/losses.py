"""Training losses over cells that are known; unknown ones (-1) count for nothing."""

import torch
from torch import Tensor, nn

from coconut_attr.model.network import Output

TEMPERATURE = 0.07


def known_bce(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0, cells: Tensor | None = None
) -> Tensor:
    """Binary cross-entropy, averaged over the known cells of a batch (0 where there is none).

    Args:
        logits: float [n, 34].
        labels: [n, 34]; 1 present, 0 absent, -1 unknown.
        smoothing: targets are drawn so far from 0 and 1 towards one half (Szegedy et al. 2016): weak labels err.
        cells: number of known cells of the whole batch, where this is a part of one; the parts' losses then add up.
    """
    known = labels >= 0
    targets = labels.clamp(min=0).to(logits.dtype) * (1 - smoothing) + smoothing / 2
    losses = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (losses * known).sum() / (count_cells(labels) if cells is None else cells)


def count_cells(labels: Tensor) -> Tensor:
    """The number of known cells, at least 1."""
    return (labels >= 0).sum().clamp(min=1)


def count_anchors(labels: Tensor) -> Tensor:
    """The number of images with a present attribute, at least 1."""
    return (labels == 1).any(1).sum().clamp(min=1)


def contrastive(output: Output, labels: Tensor, anchors: Tensor | None = None) -> Tensor:
    """Supervised contrastive loss between an image and its attributes (Khosla et al. 2020, L_out; here the image is the
    anchor, its present attributes are the positives, its absent ones the negatives).

    Args:
        output: of the model for n images.
        labels: [n, 34]; 1 present, 0 absent, -1 unknown.
        anchors: number of images with a present attribute in the whole batch, where this is a part of one.
    """
    similarity = output.image @ output.attribute.T / TEMPERATURE
    known, present = labels >= 0, labels == 1
    log_probability = similarity - torch.logsumexp(
        similarity.masked_fill(~known, -1e4), dim=1, keepdim=True
    )
    each = -(log_probability * present).sum(1) / present.sum(1).clamp(min=1)
    return each.sum() / (count_anchors(labels) if anchors is None else anchors)
