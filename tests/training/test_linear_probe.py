"""The linear probe: what it learns, and attributes of which training knows one state."""

import numpy as np

from coconut_attr.evaluation.scores import mean_average_precision
from coconut_attr.training.linear_probe import STRENGTHS, fit_probe


def test_the_linear_probe_learns_and_its_strength_is_chosen_on_val() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 8))
    labels = np.full((120, 34), -1, dtype=np.int8)
    labels[:, 0] = features[:, 0] > 0
    labels[:, 1] = 1
    probe = fit_probe((features[:80], labels[:80]), (features[80:], labels[80:]))
    scores = probe.predict(features)
    assert probe.c in STRENGTHS
    assert mean_average_precision(labels, scores) > 0.95
    assert (scores[:, 1] == 1).all()  # training knows one state alone
    assert (scores[:, 2] == 0).all()  # training knows nothing
