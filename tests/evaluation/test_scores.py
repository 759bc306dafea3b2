"""Scores, their baselines, thresholds and intervals; retrieval."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, f1_score, recall_score

from coconut_attr.evaluation.retrieval import retrieval_scores
from coconut_attr.evaluation.scores import (
    Bootstrap,
    choose_thresholds,
    evaluate,
    mean_average_precision,
    trivial_baselines,
)

EVEN = np.full(34, 0.5)


def random_case(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.integers(-1, 2, (n, 34)).astype(np.int8), rng.random((n, 34))


def test_the_baselines_of_a_curve_know_the_training_images_alone() -> None:
    states = np.full((5, 34), -1, np.int8)
    states[:4, 0] = [1, 1, 1, 0]  # common in train
    states[:, 1] = [1, 0, 0, 0, 0]  # rare in train
    states[:2, 2] = 1  # rare in train, and without an absent cell
    prior = np.full(34, 0.1)
    prior[0] = 0.8
    baselines = trivial_baselines(states, prior)
    assert baselines["all_absent_accuracy"] == pytest.approx(5 / 11)
    assert baselines["prior_accuracy"] == pytest.approx((3 + 4 + 0) / 11)
    assert baselines["prior_map"] == pytest.approx((3 / 4 + 1 / 5) / 2)
    unknown = trivial_baselines(np.full((5, 34), -1, np.int8), prior)
    assert all(math.isnan(value) for value in unknown.values())


def test_scores_skip_unknown_cells_and_stand_beside_their_baselines() -> None:
    labels, scores = random_case()
    result = evaluate(labels, scores, EVEN, probe=scores, resamples=20)
    known = labels >= 0
    overall = result.overall
    assert overall["accuracy"].n == known.sum()
    assert overall["accuracy"].value == pytest.approx(((scores >= 0.5) == labels)[known].mean())
    assert overall["all_absent_accuracy"].value == pytest.approx((labels[known] == 0).mean())
    constant = mean_average_precision(labels, np.full(labels.shape, 0.5))
    assert overall["prior_map"].value == pytest.approx(constant)
    for score in overall.values():
        assert score.low <= score.value <= score.high
    changed = np.where(known, scores, 1 - scores)  # what is said of unknown cells must not matter
    assert evaluate(labels, changed, EVEN, probe=changed, resamples=20) == result
    gain = overall["map_over_probe"]
    assert (gain.value, gain.low, gain.high) == (0, 0, 0), "compared on the same resamples"


def test_average_precision_is_scikit_learns_in_every_resample() -> None:
    labels, scores = random_case()
    scores = scores.round(1)  # with ties
    bootstrap = Bootstrap(len(labels), 10, seed=3)
    table = bootstrap.average_precisions(labels, scores)
    for counts, row in zip(bootstrap.counts.astype(int), table, strict=True):
        images = np.repeat(np.arange(len(labels)), counts)
        for k in range(34):
            known = images[labels[images, k] >= 0]
            expected = average_precision_score(labels[known, k], scores[known, k])
            assert row[k] == pytest.approx(expected, abs=1e-12)


def test_a_random_order_has_no_gain_over_the_prior() -> None:
    rng = np.random.default_rng(5)
    states = (rng.random((30, 34)) < 0.3).astype(np.int8)
    bootstrap = Bootstrap(30, 200, seed=0)
    orders = np.stack(
        [bootstrap.average_precisions(states, rng.random((30, 34))) for _ in "x" * 60]
    )
    expected = bootstrap.random_precisions(states)
    assert np.nanmean(orders[:, 0]) == pytest.approx(np.nanmean(expected[0]), abs=0.01)
    assert np.nanmean(orders) == pytest.approx(np.nanmean(expected), abs=0.01)
    gain = evaluate(states, rng.random((30, 34)), EVEN).overall["map_over_prior"]
    assert gain.low < 0 < gain.high


def test_attributes_with_few_cells_of_a_state_are_scored_but_not_counted() -> None:
    states, scores = random_case()
    states[:, 3] = np.where(np.arange(40) < 4, 1, 0)
    states[:, 4] = np.where(np.arange(40) < 5, 1, 0)
    result = evaluate(states, scores, EVEN, probe=1 - scores, resamples=20)
    for name in ("map", "prior_map", "probe_map", "balanced_accuracy", "map_over_probe"):
        assert result.overall[name].attributes == 33, name
    assert result.overall["accuracy"].attributes is None
    counted = [a.ap.value for k, a in enumerate(result.attributes) if k != 3]
    assert result.overall["map"].value == pytest.approx(np.mean(counted))
    assert result.attributes[3].ap.n == 40


def test_without_an_error_the_interval_is_the_exact_one_of_a_share() -> None:
    states = np.tile(np.arange(20) < 6, (34, 1)).T.astype(np.int8)
    first = evaluate(states, states.astype(float), EVEN, resamples=50).attributes[0]
    bounds = {"ap": 6, "f1": 6, "recall": 6, "precision": 6, "specificity": 14}
    for name, cells in bounds.items():
        exact = binomtest(cells, cells, alternative="greater").proportion_ci(0.95, "exact")
        score = getattr(first, name)
        assert (score.low, score.high) == pytest.approx((exact.low, 1)), name
    balanced = first.balanced_accuracy
    assert balanced.low == pytest.approx((first.recall.low + first.specificity.low) / 2)
    always = evaluate(states, np.ones((20, 34)), EVEN, resamples=50).attributes[0]
    assert (always.specificity.low, always.specificity.value) == (0, 0)
    assert 0 < always.specificity.high < 0.3
    assert always.balanced_accuracy.low < 0.5 < always.balanced_accuracy.high


def test_thresholds_lie_between_a_half_and_the_prior() -> None:
    prior = np.array([0.5, 0.8, 0.1, 0.0, 1.0])
    thresholds = choose_thresholds(prior)
    assert thresholds[0] == 0.5
    assert 0.5 < thresholds[1] < 0.8 and 0.1 < thresholds[2] < 0.5
    assert 0 < thresholds[3] < 0.2 and 0.8 < thresholds[4] < 1


def test_decisions_are_scored_at_their_thresholds() -> None:
    labels, scores = random_case()
    result = evaluate(labels, scores, EVEN, thresholds=np.full(34, 0.3), resamples=50)
    first, known = result.attributes[0], labels[:, 0] >= 0
    states, decided = labels[known, 0], scores[known, 0] >= 0.3
    assert first.f1.value == pytest.approx(f1_score(states, decided))
    assert first.recall.value == pytest.approx(recall_score(states, decided))
    specificity = recall_score(states, decided, pos_label=0)
    assert first.specificity.value == pytest.approx(specificity)
    balanced = (first.recall.value + specificity) / 2
    assert first.balanced_accuracy.value == pytest.approx(balanced)
    for score in (first.precision, first.recall, first.f1, first.balanced_accuracy, first.ece):
        assert score.low <= score.value <= score.high
    assert first.f1.low < first.f1.high
    right = (scores >= 0.3) == labels
    assert result.overall["threshold_accuracy"].value == pytest.approx(right[labels >= 0].mean())


def test_a_perfect_model_scores_one_and_an_undefined_score_is_nan() -> None:
    labels, _ = random_case()
    labels[:, 3] = -1  # never known
    labels[:, 4] = np.where(labels[:, 4] == 0, 1, labels[:, 4])  # never absent
    result = evaluate(labels, (labels == 1).astype(float), EVEN, resamples=20)
    assert result.overall["map"].value == 1
    assert result.overall["accuracy"].value == 1
    unknown, present = result.attributes[3], result.attributes[4]
    assert unknown.n == 0
    assert math.isnan(unknown.accuracy.value)
    assert math.isnan(present.ap.value)
    assert present.accuracy.value == 1


def test_the_prior_says_the_more_frequent_state() -> None:
    labels = np.zeros((10, 34), dtype=np.int8)
    result = evaluate(labels, np.zeros((10, 34)), np.full(34, 0.9))
    assert result.overall["prior_accuracy"].value == 0
    assert result.overall["all_absent_accuracy"].value == 1


def test_images_are_retrieved_by_their_attributes() -> None:
    labels = np.full((3, 34), -1, dtype=np.int8)
    labels[0, :2], labels[1, 1:3] = 1, 1  # the third image has no attribute to ask for
    image, attribute = (labels == 1) / np.sqrt(2), np.eye(34)
    scores = retrieval_scores(labels, np.full((3, 34), 0.5), (image, attribute))
    recall = {name: score.value for name, score in scores.items()}
    assert {score.n for score in scores.values()} == {2}
    assert recall["retrieval embedding recall@1"] == 1
    assert recall["retrieval product recall@1"] == 0, "images that tie share their mean rank"
    assert recall["retrieval product recall@5"] == 1
    assert recall["retrieval chance recall@1"] == pytest.approx(1 / 3)
    assert retrieval_scores(labels[2:], np.full((1, 34), 0.5)) == {}
