"""Scores over known cells, each with its trivial baselines, its n, and an interval.

Formulas are scikit-learn's (average precision), torchmetrics' (precision, recall, F1; balanced
accuracy as the mean of recall and specificity; expected calibration error, L1 over 10 bins) and
SciPy's (Wilson interval). Intervals are of 95 %: Wilson's for one attribute's share of decisions,
else the percentile bootstrap over images, as the decisions about one image are not independent.
They vary the images scored, not the training: another seed gives another model.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn import config_context
from sklearn.metrics import average_precision_score, precision_recall_curve
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multilabel_f1_score,
    multilabel_precision,
    multilabel_recall,
    multilabel_specificity,
)

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.evaluation.intervals import UNDEFINED, percentile, wilson
from coconut_attr.evaluation.results import AttributeScore, Evaluation, Score

RESAMPLES = 300
BINS = 10
DECISION_SCORES = ("precision", "recall", "f1", "balanced_accuracy")
HALF = np.full(len(ATTRIBUTES), 0.5)


def mean_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Compute the mean over attributes of the average precision on known cells.

    Args:
        labels: int8 [n, 34]; 1 present, 0 absent, -1 unknown.
        scores: float [n, 34].

    Returns:
        nan if no attribute has both states; attributes without both are left out.
    """
    return float(_mean(_average_precisions(labels, scores)))


def choose_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Choose each attribute's threshold with the best F1 on a split (val).

    Args:
        labels: int8 [n, 34]; 1 present, 0 absent, -1 unknown.
        probabilities: float [n, 34].

    Returns:
        float [34]; 0.5 where the split has not both states.
    """
    thresholds = HALF.copy()
    for k in range(labels.shape[1]):
        known = labels[:, k] >= 0
        states = labels[known, k]
        if states.any() and not states.all():
            precision, recall, values = precision_recall_curve(states, probabilities[known, k])
            f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
            thresholds[k] = values[int(f1[:-1].argmax())]
    return thresholds


def evaluate(
    labels: np.ndarray,
    probabilities: np.ndarray,
    train_labels: np.ndarray,
    *,
    thresholds: np.ndarray = HALF,
    probe: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Score probabilities against labels.

    Args:
        labels: int8 [n, 34] of the split; 1 present, 0 absent, -1 unknown.
        probabilities: float [n, 34].
        train_labels: int8 [m, 34] that the prior baseline is counted on.
        thresholds: float [34], chosen on another split.
        probe: probabilities float [n, 34] of the linear probe, compared on the same resamples.
        resamples: number of bootstrap resamples, which decides the time that this takes.
        seed: of the resampling.
    """
    bootstrap = Bootstrap(len(labels), resamples, seed)
    correct = {
        "accuracy": (probabilities >= 0.5) == labels,
        "all_absent_accuracy": labels == 0,
        "prior_accuracy": (_prior(train_labels) >= 0.5) == labels,
    }
    ap = bootstrap.average_precisions(labels, probabilities)
    probe_ap = None if probe is None else bootstrap.average_precisions(labels, probe)
    overall = _accuracies(labels, correct, bootstrap) | _map_scores(labels, ap, probe_ap, bootstrap)
    ece = bootstrap.table(lambda rows: _calibration_error(labels[rows], probabilities[rows]))
    overall["ece"] = score(ece, int((labels >= 0).sum()))
    attributes = _attribute_scores(
        labels, probabilities, thresholds, correct, ap, probe_ap, bootstrap
    )
    return Evaluation(len(labels), overall, attributes)


class Bootstrap:
    """Resamples of the images of a split.

    Every metric is computed on the same resamples, so that differences of metrics are paired.
    """

    def __init__(self, images: int, resamples: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        draws = [rng.integers(images, size=images) for _ in range(resamples)]
        self.rows = [np.arange(images), *draws]

    def table(self, metric: Callable[[np.ndarray], Any]) -> np.ndarray:
        """Compute a metric on the images themselves, then on each resample.

        Args:
            metric: of int [n], the rows of the images.

        Returns:
            float [1 + resamples, ...].
        """
        return np.array([metric(rows) for rows in self.rows], float)

    def average_precisions(self, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Compute each attribute's average precision: float [1 + resamples, 34]."""
        # Thousands of small calls, in which scikit-learn's checks would take most of the time.
        with config_context(assume_finite=True, skip_parameter_validation=True):
            return self.table(lambda rows: _average_precisions(labels[rows], scores[rows]))


def score(column: np.ndarray, n: int) -> Score:
    """Return the score of a column of a bootstrap table, with its percentile interval."""
    value = float(column[0])
    return Score(value, *(UNDEFINED if math.isnan(value) else percentile(column[1:])), n)


def _accuracies(
    labels: np.ndarray, correct: dict[str, np.ndarray], bootstrap: Bootstrap
) -> dict[str, Score]:
    known = labels >= 0
    n = int(known.sum())

    def accuracy(hits: np.ndarray) -> Callable[[np.ndarray], float]:
        return lambda rows: hits[rows].sum() / max(1, known[rows].sum())

    return {
        name: score(bootstrap.table(accuracy(hits & known)), n) for name, hits in correct.items()
    }


def _map_scores(
    labels: np.ndarray, ap: np.ndarray, probe_ap: np.ndarray | None, bootstrap: Bootstrap
) -> dict[str, Score]:
    n = int((labels >= 0).sum())
    prior_ap = bootstrap.table(lambda rows: _constant_ap(labels[rows]))
    scores = {"map": score(_mean(ap), n), "prior_map": score(_mean(prior_ap), n)}
    if probe_ap is not None:
        scores["probe_map"] = score(_mean(probe_ap), n)
        scores["map_over_probe"] = score(_mean(ap) - _mean(probe_ap), n)
    return scores


def _attribute_scores(
    labels: np.ndarray,
    probabilities: np.ndarray,
    thresholds: np.ndarray,
    correct: dict[str, np.ndarray],
    ap: np.ndarray,
    probe_ap: np.ndarray | None,
    bootstrap: Bootstrap,
) -> list[AttributeScore]:
    known, decided = labels >= 0, probabilities >= thresholds
    decisions = bootstrap.table(lambda rows: _decision_scores(labels[rows], decided[rows]))
    scores = []
    for k, attribute in enumerate(ATTRIBUTES):
        n, positives = int(known[:, k].sum()), int((labels[:, k] == 1).sum())
        hits = {name: int((right & known)[:, k].sum()) for name, right in correct.items()}
        share = {name: count / n if n else math.nan for name, count in hits.items()}
        states, values = labels[:, k], probabilities[:, k]
        ece = bootstrap.table(lambda rows: _calibration_error(states[rows], values[rows]))  # noqa: B023
        scores.append(
            AttributeScore(
                attribute=attribute,
                n=n,
                positives=positives,
                accuracy=Score(share["accuracy"], *wilson(hits["accuracy"], n), n),
                ap=score(ap[:, k], n),
                **{name: score(decisions[:, i, k], n) for i, name in enumerate(DECISION_SCORES)},
                threshold=float(thresholds[k]),
                ece=score(ece, n),
                all_absent_accuracy=share["all_absent_accuracy"],
                prior_accuracy=share["prior_accuracy"],
                prior_ap=positives / n if n else math.nan,
                probe_ap=math.nan if probe_ap is None else float(probe_ap[0, k]),
            )
        )
    return scores


def _decision_scores(labels: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """Compute DECISION_SCORES of each attribute: float [4, 34]; nan where one is undefined."""
    target, given = torch.from_numpy(labels).long(), torch.from_numpy(decided).long()
    options: dict[str, Any] = {"num_labels": labels.shape[1], "average": None, "ignore_index": -1}
    precision = multilabel_precision(given, target, **options).numpy()
    recall = multilabel_recall(given, target, **options).numpy()
    f1 = multilabel_f1_score(given, target, **options).numpy()
    specificity = multilabel_specificity(given, target, **options).numpy()
    present, absent = (labels == 1).any(0), (labels == 0).any(0)
    positive = (decided & (labels >= 0)).any(0)
    return np.stack(
        [
            np.where(positive, precision, np.nan),
            np.where(present, recall, np.nan),
            np.where(positive | present, f1, np.nan),
            np.where(present & absent, (recall + specificity) / 2, np.nan),
        ]
    )


def _calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    known = labels >= 0
    if not known.any():
        return math.nan
    error = binary_calibration_error(
        torch.from_numpy(probabilities[known]).double(),
        torch.from_numpy(labels[known]).long(),
        n_bins=BINS,
        norm="l1",
    )
    return float(error)


def _average_precisions(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute each attribute's average precision, [34]; nan where it lacks one of the states."""
    values = np.full(labels.shape[1], math.nan)
    for k in range(labels.shape[1]):
        known = labels[:, k] >= 0
        states = labels[known, k]
        if states.any() and not states.all():
            values[k] = average_precision_score(states, scores[known, k])
    return values


def _prior(labels: np.ndarray) -> np.ndarray:
    """Return the share of present among each attribute's known cells; 0 where none is known."""
    return (labels == 1).sum(0) / np.maximum(1, (labels >= 0).sum(0))


def _constant_ap(labels: np.ndarray) -> np.ndarray:
    """Return the average precision of a constant score, [34]; nan as `_average_precisions`."""
    share = _prior(labels)
    return np.where((share > 0) & (share < 1), share, np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over attributes, the last axis, of what is defined; nan where nothing is."""
    defined = ~np.isnan(values)
    count = defined.sum(-1)
    return np.where(defined, values, 0).sum(-1) / np.where(count > 0, count, np.nan)
