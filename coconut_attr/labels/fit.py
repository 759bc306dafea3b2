"""Fitting the label model on judged images, and measuring it on images that it has not seen."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.evaluation.results import Score
from coconut_attr.labels.label_model import LabelModel, LabelModelError, SecondPass, logit
from coconut_attr.labels.signals import Signals

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FOLDS = 8
MIN_IMAGES = 2 * FOLDS
#: Precision that the states present and absent must reach in cross-validation, mean of attributes.
PRECISION = 0.95
# Chosen by cross-validation over the judged images of train and val: benchmarks/label_model.py.
UNSURE_WEIGHT = 0.3  # of a cell that is judged unsure, with the target 0.5
OWN_SCALE = 0.5  # how freely an attribute's weights leave those that all attributes share
IMAGE_SCALE = 0.5
C = 1.0  # inverse strength of the regularisation


@dataclass(frozen=True)
class Fit:
    """A fitted label model, and what it estimates of the images when it is fitted without them.

    Attributes:
        estimates: float64 [n, 34], by cross-validation over images.
        scores: mAP, accuracy, balanced accuracy and calibration error of `estimates`, by name.
        second_scores: the same of the second pass; None if it was not fitted.
    """

    model: LabelModel
    estimates: np.ndarray
    scores: dict[str, Score]
    second_scores: dict[str, Score] | None


def fit_label_model(
    signals: Sequence[Signals],
    states: np.ndarray,
    judged: np.ndarray,
    facts: dict[str, Any],
    predictions: np.ndarray | None = None,
) -> Fit:
    """Fit a label model, choose its thresholds, and score it by cross-validation.

    Args:
        signals: of n judged images, none of the test split.
        states: int8 [n, 34], what was seen; 1 present, 0 absent, -1 unsure or not judged.
        judged: bool [n, 34].
        facts: what is fitted on, for the model's file.
        predictions: float [n, 34], probabilities by an image model that was trained without the
            image; the second pass is fitted on them.

    Raises:
        LabelModelError: too few images.
    """
    if len(signals) < MIN_IMAGES:
        raise LabelModelError(
            f"{len(signals)} judged images of train and val are too few to fit a label model: "
            f"at least {MIN_IMAGES} are needed; judge more, or use the model that is shipped"
        )
    estimates = cross_validate(
        signals,
        states,
        judged,
        lambda train, seen, cells, images: fit_weights(train, seen, cells).probabilities(images),
    )
    scores = _scores(states, estimates)
    present, absent = choose_thresholds(states, estimates)
    facts = {**facts, "images": len(signals), "cross_validated": _rounded(scores)}
    second_pass, second_scores = None, None
    if predictions is not None:
        second_pass, joined = fit_second_pass(states, estimates, predictions)
        second_scores = _scores(states, joined)
        facts["second_pass_cross_validated"] = _rounded(second_scores)
    model = replace(
        fit_weights(signals, states, judged),
        present=present,
        absent=absent,
        facts=facts,
        second_pass=second_pass,
    )
    return Fit(model, estimates, scores, second_scores)


def fit_second_pass(
    states: np.ndarray, estimates: np.ndarray, predictions: np.ndarray
) -> tuple[SecondPass, np.ndarray]:
    """Fit the second pass, and choose its thresholds by cross-validation.

    Args:
        states: int8 [n, 34]; 1 present, 0 absent, -1 unknown.
        estimates: float [n, 34], by a label model that was fitted without the image.
        predictions: float [n, 34], by an image model that was trained without it.

    Returns:
        The second pass, and its probabilities by cross-validation over images: float64 [n, 34].
    """
    from sklearn.linear_model import LogisticRegression

    logits = np.stack([logit(estimates), logit(predictions)], axis=-1)

    def fit(images: np.ndarray) -> SecondPass:
        decided = states[images] >= 0
        regression = LogisticRegression(C=100.0)
        regression.fit(logits[images][decided], states[images][decided])
        intercept, (evidence, model) = regression.intercept_[0], regression.coef_[0]
        return SecondPass(
            round(float(intercept), 3),
            round(float(evidence), 3),
            round(float(model), 3),
            present=0.5,
            absent=0.49,
        )

    joined = np.empty(estimates.shape)
    for out, rest in _folds(len(states)):
        joined[out] = fit(rest).join(estimates[out], predictions[out])
    present, absent = choose_thresholds(states, joined)
    return replace(fit(np.arange(len(states))), present=present, absent=absent), joined


def _scores(states: np.ndarray, probabilities: np.ndarray) -> dict[str, Score]:
    from coconut_attr.evaluation.scores import evaluate

    prior = np.array([_share(column) for column in states.T])
    return evaluate(states, probabilities, prior).overall


def _rounded(scores: dict[str, Score]) -> dict[str, dict[str, float]]:
    return {
        name: {"value": round(scores[name].value, 3), "n": scores[name].n}
        | {"low": round(scores[name].low, 3), "high": round(scores[name].high, 3)}
        for name in ("map", "accuracy", "balanced_accuracy", "ece")
    }


def _folds(images: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Return the images of each fold, and the others."""
    order = np.random.default_rng(0).permutation(images)
    for fold in range(FOLDS):
        out = order[fold::FOLDS]
        yield out, np.setdiff1d(order, out)


def cross_validate(
    signals: Sequence[Signals],
    states: np.ndarray,
    judged: np.ndarray,
    estimate: Callable[[list[Signals], np.ndarray, np.ndarray, list[Signals]], np.ndarray],
) -> np.ndarray:
    """Estimate each image by `estimate(others, their states, their judged, images)`.

    Returns:
        float64 [n, 34].
    """
    estimates = np.empty(states.shape)
    for out, rest in _folds(len(signals)):
        estimates[out] = estimate(
            [signals[i] for i in rest], states[rest], judged[rest], [signals[i] for i in out]
        )
    return estimates


def choose_thresholds(states: np.ndarray, estimates: np.ndarray) -> tuple[float, float]:
    """Choose the thresholds of present and absent that call most cells at enough precision.

    Args:
        states: int8 [n, 34]; 1 present, 0 absent, -1 unknown.
        estimates: float [n, 34], by a model that was fitted without the image.

    Returns:
        The lowest threshold from 0.5 up, and the highest from 0.5 down, at which the precision,
        mean of the attributes, reaches PRECISION; 0.99 and 0.01 where none does.
    """

    def precision(called: np.ndarray, right: int) -> float:
        shares = [
            (states[column, k] == right).mean()
            for k in range(states.shape[1])
            if (column := called[:, k] & (states[:, k] >= 0)).any()
        ]
        return float(np.mean(shares)) if shares else 0.0

    steps = np.arange(50, 100) / 100
    present = (float(t) for t in steps if precision(estimates >= t, 1) >= PRECISION)
    absent = (float(1 - t) for t in steps if precision(estimates <= 1 - t, 0) >= PRECISION)
    return next(present, 0.99), round(next(absent, 0.01), 2)


def fit_weights(signals: Sequence[Signals], states: np.ndarray, judged: np.ndarray) -> LabelModel:
    """Fit one logistic regression, whose weights the attributes share in part.

    Its thresholds are not chosen yet. Args as for `fit_label_model`.
    """
    from sklearn.linear_model import LogisticRegression

    cells = np.stack([image.cells for image in signals])
    images = np.stack([image.image for image in signals])
    rows = np.flatnonzero(judged)
    target = np.where(states < 0, 0.5, states).ravel()[rows]
    weight = np.where(states < 0, UNSURE_WEIGHT, 1.0).ravel()[rows]
    design = _design(cells, images)[rows]
    # An uncertain target is two rows: present with its probability as weight, absent with the rest.
    from scipy.sparse import vstack

    both = vstack([design, design], format="csr")
    weights = np.concatenate([weight * target, weight * (1 - target)])
    present = np.repeat([True, False], len(rows))
    used = weights > 0
    regression = LogisticRegression(C=C, max_iter=5000)
    regression.fit(both[used], present[used], sample_weight=weights[used])

    n, width, of_image = len(ATTRIBUTES), cells.shape[2], images.shape[1]
    shared, intercepts, own, context = np.split(
        regression.coef_[0], np.cumsum([width, n, n * width])
    )
    return LabelModel(
        intercepts=regression.intercept_[0] + intercepts,
        cell_weights=shared + OWN_SCALE * own.reshape(n, width),
        image_weights=IMAGE_SCALE * context.reshape(n, of_image),
        present=0.5,
        absent=0.49,
        facts={},
    )


def _design(cells: np.ndarray, images: np.ndarray) -> "csr_array":
    """Return a row for each cell: shared weights, intercept, own weights, the image's weights.

    Args:
        cells: float [n, 34, signals].
        images: float [n, signals of the image].
    """
    from scipy.sparse import csr_array, hstack, kron

    n, attributes, width = cells.shape
    flat = cells.reshape(n * attributes, width)
    own_attribute = csr_array(kron(np.ones((n, 1)), np.eye(attributes)))

    def by_attribute(values: np.ndarray) -> csr_array:
        columns = values.shape[1]
        place = np.tile(np.arange(attributes), n)[:, None] * columns + np.arange(columns)
        row = np.repeat(np.arange(n * attributes), columns)
        shape = (n * attributes, attributes * columns)
        return csr_array((values.ravel(), (row, place.ravel())), shape)

    parts = [
        csr_array(flat),
        own_attribute,
        OWN_SCALE * by_attribute(flat),
        IMAGE_SCALE * by_attribute(np.repeat(images, attributes, axis=0)),
    ]
    return csr_array(hstack(parts))


def _share(column: np.ndarray) -> float:
    known = column[column >= 0]
    return float((known == 1).mean()) if len(known) else 0.0
