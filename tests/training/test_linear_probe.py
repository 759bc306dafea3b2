"""The linear probe: what it learns, and attributes of which training knows one state."""

import numpy as np

from coconut_attr.evaluation.scores import mean_average_precision
from coconut_attr.training.linear_probe import STRENGTHS, fit_probe


def test_the_linear_probe_learns_and_its_strength_is_chosen_on_val() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 8))
    states = np.full((120, 34), -1, dtype=np.int8)
    states[:, 0] = features[:, 0] > 0
    states[:, 1] = 1
    # Attribute 0 is known by probability alone, attribute 1 in one state, the others not at all.
    probabilities = np.where(states == 1, 0.9, np.where(states == 0, 0.1, 0.5))
    probabilities[:, 1] = 1
    weights = (states >= 0) * np.abs(2 * probabilities - 1)
    targets = np.stack([probabilities, weights], axis=1)
    probe = fit_probe((features[:80], targets[:80]), (features[80:], targets[80:]))
    scores = probe.predict(features)
    assert probe.c in STRENGTHS
    assert mean_average_precision(states, scores) > 0.95
    assert (scores[:, 1] > 0.999).all()
    assert (scores[:, 2] < 0.001).all()
