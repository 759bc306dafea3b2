"""Training losses over cells with a probability of present and a weight."""

import torch
from torch import Tensor, nn

TEMPERATURE = 0.07


def weighted_bce(
    logits: Tensor, targets: Tensor, smoothing: float = 0.0, total: Tensor | None = None
) -> Tensor:
    """Compute the binary cross-entropy, averaged over the cells by weight; 0 without any weight.

    Args:
        logits: float [n, 34].
        targets: float [n, 2, 34]; the probability that a cell is present, and its weight.
        smoothing: label smoothing (Szegedy et al. 2016): pull targets this far towards 0.5.
        total: weight of the batch that this is a part of; the losses of the parts then add up to
            the batch's.
    """
    probabilities, weights = targets.to(logits.dtype).unbind(1)
    probabilities = probabilities * (1 - smoothing) + smoothing / 2
    losses = nn.functional.binary_cross_entropy_with_logits(logits, probabilities, reduction="none")
    return (losses * weights).sum() / (total_weight(targets) if total is None else total)


def total_weight(targets: Tensor) -> Tensor:
    """Sum the weights of targets float [n, 2, 34]; 1 if all are 0."""
    total = targets[:, 1].sum()
    return torch.where(total > 0, total, torch.ones_like(total))


def count_anchors(targets: Tensor) -> Tensor:
    """Count the images with an attribute that is rather present than not, at least 1."""
    return (_positives(targets) > 0).any(1).sum().clamp(min=1)


def contrastive(
    image: Tensor, attribute: Tensor, targets: Tensor, anchors: Tensor | None = None
) -> Tensor:
    """Compute the supervised contrastive loss (Khosla et al. 2020, L_out) of images and attributes.

    The image is the anchor; the attributes that are rather present than not are its positives, each
    with its weight. The attributes with a weight are compared with.

    Args:
        image: float [n, 512], unit length; embeddings of n images.
        attribute: float [34, 512], unit length; embeddings of the attributes.
        targets: float [n, 2, 34]; the probability that a cell is present, and its weight.
        anchors: number of images with a positive of the batch that this is a part of.
    """
    similarity = image @ attribute.T / TEMPERATURE
    positives = _positives(targets).to(similarity.dtype)
    log_probability = similarity - torch.logsumexp(
        similarity.masked_fill(targets[:, 1] == 0, -1e4), dim=1, keepdim=True
    )
    per_image = -(log_probability * positives).sum(1) / positives.sum(1).clamp(min=1e-6)
    return per_image.sum() / (count_anchors(targets) if anchors is None else anchors)


def _positives(targets: Tensor) -> Tensor:
    """Return the weights of the cells that are rather present than not, 0 for others."""
    probabilities, weights = targets.unbind(1)
    return weights * (probabilities > 0.5)
