"""The linear probe: logistic regression on an encoder's pooled features, the baseline that training has to beat."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from coconut_attr.evaluation.scores import mean_average_precision
from coconut_attr.training.data import PLAIN, Samples, ViewBatches, plain_views
from coconut_attr.training.features import BATCH, FeatureCache, feature_loader

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class LinearProbe:
    """One classifier an attribute, all with the same inverse strength of regularisation (scikit-learn's C)."""

    c: float
    classifiers: list[
        object
    ]  # a scikit-learn pipeline, or the share of present where training knows one state alone

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities float [n, 34] for pooled features float [n, channels]."""
        columns = [
            np.full(len(features), classifier)
            if isinstance(classifier, float)
            else classifier.predict_proba(features)[:, 1]  # type: ignore[attr-defined]
            for classifier in self.classifiers
        ]
        return np.stack(columns, axis=1)


def fit_probe(
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    strengths: Sequence[float] = STRENGTHS,
) -> LinearProbe:
    """Fit on train, and choose C by the mAP on val.

    Args:
        train, val: pooled features float [n, channels] and labels int8 [n, 34].
    """
    probes = [
        LinearProbe(c, [_classifier(train[0], labels, c) for labels in train[1].T])
        for c in strengths
    ]
    return max(
        probes,
        key=lambda probe: np.nan_to_num(mean_average_precision(val[1], probe.predict(val[0]))),
    )


def _classifier(features: np.ndarray, labels: np.ndarray, c: float) -> object:
    known = labels >= 0
    present = labels[known] == 1
    if not present.any() or present.all():
        return float(present.mean()) if len(present) else 0.0
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)).fit(
        features[known], present
    )


@torch.inference_mode()
def pooled_features(features: FeatureCache, samples: Samples, device: torch.device) -> np.ndarray:
    """Mean over positions of the encoder's last feature map, of images without augmentation: float32 [n, channels].

    Args:
        features: of the model whose encoder is meant; what is missing of its prefix's features is computed and kept.
    """
    stored = features.fill(samples, [PLAIN], device)
    features.model.eval()
    rows = [
        features.model.encode_after_prefix(inputs.to(device, non_blocking=True).float())
        .flatten(2)
        .mean(2)
        .cpu()
        for inputs, _ in feature_loader(
            samples, stored, ViewBatches(plain_views(len(samples)), BATCH, own=True)
        )
    ]
    return torch.cat(rows).numpy()
