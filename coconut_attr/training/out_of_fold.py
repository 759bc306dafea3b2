"""Out-of-fold predictions: of each image, by a linear probe that was trained without it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from coconut_attr.model.network import AttributeModel
from coconut_attr.training.data import Samples
from coconut_attr.training.features import FeatureCache
from coconut_attr.training.linear_probe import (
    PROBE_IMAGES,
    fit_logistic,
    fit_probe,
    pooled_features,
)

FOLDS = 5
PROBES = FOLDS + 1  # and one of all folds, for the test split
#: The second pass of the packaged label model was fitted on predictions by 300 images. Those by a
#: few images are far less right than it takes them to be.
MIN_IMAGES = 200


def out_of_fold(
    backbone: str,
    train: Samples,
    val: Samples,
    test: Samples,
    device: torch.device,
    features_folder: Path,
    on_step: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Predict every image by a linear probe that was trained without it.

    Images of train and val are cut into folds by their hash, so that copies of a photo are in the
    same fold. Images of test are predicted by a probe of all of train and val, and never trained
    on. C is chosen on val.

    Args:
        features_folder: where features of the encoder are cached.
        on_step: called with the number of probes fitted, of PROBES.

    Returns:
        float64 [n, 34], in the order of train, val and test.

    Raises:
        coconut_attr.model.backbones.names.BackboneError: the encoder has no weights here.
    """
    cache = FeatureCache(features_folder, AttributeModel(backbone).to(device))
    parts = (train, val, test)
    of_train, of_val, of_test = (pooled_features(cache, part, device) for part in parts)
    c = fit_probe(
        (of_train[:PROBE_IMAGES], train.targets[:PROBE_IMAGES]),
        (of_val[:PROBE_IMAGES], val.targets[:PROBE_IMAGES]),
    ).c
    features = np.concatenate([of_train, of_val])
    targets = np.concatenate([train.targets, val.targets])
    fold = np.array([int(sha256[:8], 16) % FOLDS for sha256 in (*train.hashes, *val.hashes)])
    predictions = np.empty((len(features), targets.shape[2]))
    for k in range(FOLDS):
        others = np.flatnonzero(fold != k)[:PROBE_IMAGES]
        probe = fit_logistic(features[others], targets[others], c)
        predictions[fold == k] = probe.predict(features[fold == k])
        on_step(k + 1)
    probe = fit_logistic(features[:PROBE_IMAGES], targets[:PROBE_IMAGES], c)
    on_step(PROBES)
    return np.concatenate([predictions, probe.predict(of_test)])
