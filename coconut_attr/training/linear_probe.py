"""The linear probe: logistic regression on an encoder's pooled features, the baseline to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from coconut_attr.evaluation.scores import mean_average_precision
from coconut_attr.model.backbones.names import BackboneError
from coconut_attr.model.network import AttributeModel
from coconut_attr.training.data import PLAIN, Samples, ViewBatchSampler, plain_views
from coconut_attr.training.features import BATCH, FeatureCache, feature_loader

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
PROBE_IMAGES = 10_000  # of train and of val at most, so that the probe takes minutes


@dataclass(frozen=True)
class LinearProbe:
    """One classifier per attribute.

    Attributes:
        c: inverse strength of the regularisation of all of them.
        classifiers: scikit-learn's, in the order of the attributes.
    """

    c: float
    classifiers: list[ClassifierMixin]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Compute probabilities float [n, 34] for pooled features float [n, channels]."""
        return np.stack([_present(c, features) for c in self.classifiers], axis=1)


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


def _classifier(features: np.ndarray, labels: np.ndarray, c: float) -> ClassifierMixin:
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = labels >= 0
    present = labels[known] == 1
    if not len(present):
        return DummyClassifier().fit(features[:1], [False])
    if present.all() or not present.any():
        return DummyClassifier().fit(features[known], present)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))
    return model.fit(features[known], present)


def _present(classifier: ClassifierMixin, features: np.ndarray) -> np.ndarray:
    """Return the probability of True, float [n]; the classes are False, True or both."""
    return classifier.predict_proba(features) @ classifier.classes_


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
        (pooled_features(features, train, device), train.labels),
        (pooled_features(features, val, device), val.labels),
    )
    on_note(f"linear probe: C = {probe.c}, chosen on val")
    return probe.predict(pooled_features(features, samples, device))
