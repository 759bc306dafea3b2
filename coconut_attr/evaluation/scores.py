"""Evaluation: scores over known cells, each with its trivial baselines, its n, and an interval.

Formulas are scikit-learn's (average precision), torchmetrics' (precision, recall, F1; balanced accuracy as the mean of
recall and specificity; expected calibration error, L1 over 10 bins) and SciPy's (Wilson interval). Intervals are of
95 %: Wilson's for a share of decisions of one attribute, else the percentile bootstrap over images, as the decisions
about one image are not independent. They vary the images scored, not the training: another seed gives another model.
"""

import math
from dataclasses import dataclass
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

from coconut_attr.attributes import ATTRIBUTES, GROUPS, INDEX
from coconut_attr.evaluation.intervals import UNDEFINED, percentile, wilson

RESAMPLES = 300
BINS = 10
HALF = np.full(len(ATTRIBUTES), 0.5)


@dataclass(frozen=True)
class Score:
    """A value with its 95 % interval and the number of known cells behind it; nan where it is not defined."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class AttributeScore:
    """Scores of one attribute.

    Accuracy is at 0.5, as the report counts it; precision, recall, F1 and balanced accuracy are at `threshold`.
    `prior_accuracy` decides as the majority of the training labels; `prior_ap` is the average precision of any constant
    score, that is the share of present cells; `probe_ap` is the linear probe's. `ece`: expected calibration error.
    """

    attribute: str
    n: int
    positives: int
    accuracy: Score
    ap: Score
    precision: Score
    recall: Score
    f1: Score
    balanced_accuracy: Score
    threshold: float
    ece: Score
    all_absent_accuracy: float
    prior_accuracy: float
    prior_ap: float
    probe_ap: float


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on one split, overall and for each attribute."""

    images: int
    overall: dict[str, Score]
    attributes: list[AttributeScore]


def mean_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean over attributes of the average precision on known cells; attributes without both states are left out.

    Args:
        labels: int8 [n, 34]; 1 present, 0 absent, -1 unknown.
        scores: float [n, 34].

    Returns:
        nan where no attribute has both states.
    """
    return _mean(np.array(_average_precision_columns(labels, scores)))


def choose_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The threshold of each attribute with the best F1 on a split (val); 0.5 where it does not know both states.

    Args:
        labels: int8 [n, 34]; 1 present, 0 absent, -1 unknown.
        probabilities: float [n, 34].
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
        probe: probabilities float [n, 34] of the linear probe, to be compared on the same resamples.
        resamples: of the bootstrap, whose time they decide; `seed` makes it repeatable.
    """
    majority = _prior(train_labels) >= 0.5
    decided = probabilities >= 0.5
    known = labels >= 0
    right = {
        "accuracy": (decided == labels) & known,
        "all_absent_accuracy": (labels == 0) & known,
        "prior_accuracy": (majority == labels) & known,
    }
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(labels), size=len(labels)) for _ in range(resamples)]
    with config_context(
        assume_finite=True, skip_parameter_validation=True
    ):  # thousands of small calls
        aps = np.array(
            [_average_precision_columns(labels[rows], probabilities[rows]) for rows in draws]
        )
        micro = [
            _average_precision(labels[rows].ravel(), probabilities[rows].ravel()) for rows in draws
        ]
        probe_aps = np.array(
            []
            if probe is None
            else [_average_precision_columns(labels[rows], probe[rows]) for rows in draws]
        )
    prevalences = np.array([_prevalence(labels[rows]) for rows in draws])
    n = int(known.sum())

    overall = {}
    for name, hits in right.items():
        drawn = [hits[rows].sum() / max(1, known[rows].sum()) for rows in draws]
        overall[name] = _score(hits.sum() / max(1, n), drawn, n)
    overall["map"] = _score(mean_average_precision(labels, probabilities), _row_means(aps), n)
    overall["prior_map"] = _score(_mean(_prevalence(labels)), _row_means(prevalences), n)
    overall["map_micro"] = _score(
        _average_precision(labels.ravel(), probabilities.ravel()), micro, n
    )
    columns = np.array(_average_precision_columns(labels, probabilities))
    for group, names in GROUPS.items():
        places = [INDEX[name] for name in names]
        cells = int(known[:, places].sum())
        overall[f"map {group}"] = _score(_mean(columns[places]), _row_means(aps[:, places]), cells)
    errors = [_calibration_error(labels[rows], probabilities[rows]) for rows in draws]
    overall["ece"] = _score(_calibration_error(labels, probabilities), errors, n)
    probe_columns = np.full(len(ATTRIBUTES), math.nan)
    if probe is not None:
        probe_columns = np.array(_average_precision_columns(labels, probe))
        overall["probe_map"] = _score(_mean(probe_columns), _row_means(probe_aps), n)
        gains = np.array(_row_means(aps)) - np.array(_row_means(probe_aps))
        overall["map_over_probe"] = _score(_mean(columns) - _mean(probe_columns), gains, n)
    attributes = _attribute_scores(
        labels, probabilities, thresholds, right, aps, probe_columns, draws
    )
    return Evaluation(len(labels), overall, attributes)


def _attribute_scores(
    labels, probabilities, thresholds, right, aps, probe_aps, draws
) -> list[AttributeScore]:
    decided = probabilities >= thresholds
    known = labels >= 0
    decisions = _decision_scores(labels, decided)
    drawn = [_decision_scores(labels[rows], decided[rows]) for rows in draws]
    result = []
    for k, attribute in enumerate(ATTRIBUTES):
        n = int(known[:, k].sum())
        positives = int((labels[:, k] == 1).sum())
        share = {name: int(hits[:, k].sum()) / n if n else math.nan for name, hits in right.items()}
        column = (labels[:, k], probabilities[:, k])
        errors = (
            [_calibration_error(*(values[rows] for values in column)) for rows in draws]
            if n
            else []
        )
        result.append(
            AttributeScore(
                attribute=attribute,
                n=n,
                positives=positives,
                accuracy=_share(int(right["accuracy"][:, k].sum()), n),
                ap=_score(_average_precision(*column), aps[:, k], n),
                **{
                    name: _score(values[k], [draw[name][k] for draw in drawn], n)
                    for name, values in decisions.items()
                },
                threshold=float(thresholds[k]),
                ece=_score(_calibration_error(*column), errors, n),
                all_absent_accuracy=share["all_absent_accuracy"],
                prior_accuracy=share["prior_accuracy"],
                prior_ap=positives / n if n else math.nan,
                probe_ap=float(probe_aps[k]),
            )
        )
    return result


def _decision_scores(labels: np.ndarray, decided: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and balanced accuracy of each attribute, [34]; nan where one is not defined."""
    target, given = torch.from_numpy(labels).long(), torch.from_numpy(decided).long()
    options: dict[str, Any] = {"num_labels": labels.shape[1], "average": None, "ignore_index": -1}
    recall = multilabel_recall(given, target, **options).numpy()
    specificity = multilabel_specificity(given, target, **options).numpy()
    present, absent = (labels == 1).any(0), (labels == 0).any(0)
    found = (decided & (labels >= 0)).any(0)
    return {
        "precision": np.where(
            found, multilabel_precision(given, target, **options).numpy(), np.nan
        ),
        "recall": np.where(present, recall, np.nan),
        "f1": np.where(
            found | present, multilabel_f1_score(given, target, **options).numpy(), np.nan
        ),
        "balanced_accuracy": np.where(present & absent, (recall + specificity) / 2, np.nan),
    }


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


def _average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    cells = labels >= 0
    states = labels[cells]
    if not states.any() or states.all():
        return math.nan
    return float(average_precision_score(states, scores[cells]))


def _average_precision_columns(labels: np.ndarray, scores: np.ndarray) -> list[float]:
    return [_average_precision(labels[:, k], scores[:, k]) for k in range(labels.shape[1])]


def _prior(labels: np.ndarray) -> np.ndarray:
    """Share of present among the known cells of each attribute (0 where none is known)."""
    return (labels == 1).sum(0) / np.maximum(1, (labels >= 0).sum(0))


def _prevalence(labels: np.ndarray) -> np.ndarray:
    """Average precision of a constant score: the share of present, nan where an attribute lacks one of the states."""
    share = _prior(labels)
    return np.where((share > 0) & (share < 1), share, np.nan)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


def _row_means(table: np.ndarray) -> list[float]:
    return [_mean(row) for row in table]


def _score(value: float, drawn, n: int) -> Score:
    interval = UNDEFINED if math.isnan(value) else percentile(np.asarray(drawn, dtype=float))
    return Score(float(value), *interval, n)


def _share(hits: int, n: int) -> Score:
    return Score(hits / n if n else math.nan, *wilson(hits, n), n)
