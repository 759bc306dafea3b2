"""The linear probe: logistic regression on an encoder's pooled features, the baseline to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from coconut_attr.model.backbones.names import BackboneError
from coconut_attr.model.network import AttributeModel
from coconut_attr.training.data import PLAIN, Samples, ViewBatchSampler, plain_views
from coconut_attr.training.features import BATCH, FeatureCache, feature_loader

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
PROBE_IMAGES = 10_000  # of train and of val at most, so that the probe takes minutes


@dataclass(frozen=True)
class LinearProbe:
    """A logistic regression for each attribute.

    Attributes:
        c: inverse strength of the regularisation of all of them.
        mean, scale: float [channels], of the features that it was fitted on.
        weights: float [34, channels].
        intercepts: float [34].
    """

    c: float
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    intercepts: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Compute probabilities float [n, 34] for pooled features float [n, channels]."""
        logits = (features - self.mean) / self.scale @ self.weights.T + self.intercepts
        return 1 / (1 + np.exp(-np.clip(logits, -50, 50)))


def fit_probe(
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    strengths: Sequence[float] = STRENGTHS,
) -> LinearProbe:
    """Fit on train, and choose C by the loss on val.

    Args:
        train, val: pooled features float [n, channels], and targets float [n, 2, 34]: the
            probability that a cell is present, and its weight.
    """
    probes = [fit_logistic(*train, c) for c in strengths]
    return min(probes, key=lambda probe: _loss(probe.predict(val[0]), val[1]))


def fit_logistic(features: np.ndarray, targets: np.ndarray, c: float) -> LinearProbe:
    """Fit with a given C; args as those of `fit_probe`."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 0, scale, 1)
    # Fewer images than channels span fewer dimensions: a regression there has the same solution.
    left, singular, axes = np.linalg.svd((features - mean) / scale, full_matrices=False)
    # An uncertain target is two rows: present with its probability as weight, absent with the rest.
    both = np.tile(left * singular, (2, 1))
    present = np.repeat([True, False], len(features))
    weights, intercepts = [], []
    for probabilities, weight in zip(targets[:, 0].T, targets[:, 1].T, strict=True):
        row_weights = np.concatenate([weight * probabilities, weight * (1 - probabilities)])
        used = row_weights > 0
        if len(set(present[used])) == 2:
            model = LogisticRegression(C=c, max_iter=2000)
            model.fit(both[used], present[used], sample_weight=row_weights[used])
            weights.append(model.coef_[0] @ axes)
            intercepts.append(model.intercept_[0])
        else:  # one state only, or nothing known: say so of every image
            weights.append(np.zeros(features.shape[1]))
            intercepts.append(20.0 if present[used].any() else -20.0)
    return LinearProbe(c, mean, scale, np.array(weights), np.array(intercepts))


def _loss(predicted: np.ndarray, targets: np.ndarray) -> float:
    """Return the binary cross-entropy by weight."""
    probabilities, weights = targets[:, 0], targets[:, 1]
    clipped = np.clip(predicted, 1e-6, 1 - 1e-6)
    losses = -probabilities * np.log(clipped) - (1 - probabilities) * np.log(1 - clipped)
    return float((losses * weights).sum() / max(weights.sum(), 1e-6))


@torch.inference_mode()
def pooled_features(features: FeatureCache, samples: Samples, device: torch.device) -> np.ndarray:
    """Compute the mean over positions of the encoder's last feature map, without augmentation.

    Args:
        features: cache of the model whose encoder is meant; filled with what it lacks.

    Returns:
        float32 [n, channels].
    """
    cached = features.fill(samples, [PLAIN], device)
    features.model.eval()
    batches = ViewBatchSampler(plain_views(len(samples)), BATCH, split=False)
    rows = []
    for inputs, _ in feature_loader(samples, cached, batches):
        batch = inputs.to(device, non_blocking=True).float()
        rows.append(features.model.encode_after_prefix(batch).flatten(2).mean(2).cpu())
    return torch.cat(rows).numpy()


def probe_probabilities(
    backbone_name: str,
    train: Samples,
    val: Samples,
    samples: Samples,
    device: torch.device,
    features_folder: Path,
    on_note: Callable[[str], None],
) -> np.ndarray | None:
    """Fit a linear probe on train, choose C on val, and predict samples.

    Args:
        features_folder: where features of the encoder are cached.
        on_note: called with the C that was chosen, or why there is no probe.

    Returns:
        float [n, 34]; None if the encoder has no weights.
    """
    try:
        model = AttributeModel(backbone_name).to(device)
    except BackboneError as error:
        on_note(f"no linear probe to compare with: {error}")
        return None
    features = FeatureCache(features_folder, model)
    train, val = (part.subset(range(min(PROBE_IMAGES, len(part)))) for part in (train, val))
    probe = fit_probe(
        (pooled_features(features, train, device), train.targets),
        (pooled_features(features, val, device), val.targets),
    )
    on_note(f"linear probe: C = {probe.c}, chosen on val")
    return probe.predict(pooled_features(features, samples, device))
