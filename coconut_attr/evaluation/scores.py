"""Scores of predicted probabilities against states, beside trivial baselines, with 95 % intervals.

The states are what somebody saw in the photos (by eyes), or the labels. Unknown cells are left out.
Intervals are percentiles of a bootstrap that resamples images, because the cells of an image are
not independent; the accuracy of one attribute, whose cells are of different images, has Wilson's
interval. They tell how much a score varies with the images, not with the training: another seed
gives another model. Where all resamples agree that nothing, or everything, is right, the interval
is Clopper and Pearson's one-sided one.

A mean over attributes leaves out those whose rarer state has fewer than RARER_CELLS cells: one
more or less of these cells would change their scores too much.
"""

import math
from dataclasses import replace

import numpy as np

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.evaluation.intervals import UNDEFINED, exact_bound, percentile, wilson
from coconut_attr.evaluation.results import AttributeScore, Evaluation, Score

RESAMPLES = 2_000
BINS = 10
RARER_CELLS = 5  # the view `trust` has it too
HALF = np.full(len(ATTRIBUTES), 0.5)


def mean_average_precision(states: np.ndarray, scores: np.ndarray) -> float:
    """Compute the mean over attributes of the average precision on known cells.

    Every attribute with both states counts, however few their cells: epochs of one run are compared
    by it. `evaluate` leaves out those with few.

    Args:
        states: int8 [n, 34]; 1 present, 0 absent, -1 unknown.
        scores: float [n, 34].

    Returns:
        nan if no attribute has both states; attributes without both are left out.
    """
    images_alone = Bootstrap(len(states), resamples=0, seed=0)
    return float(_mean(images_alone.average_precisions(states, scores))[0])


def trivial_baselines(states: np.ndarray, prior: np.ndarray) -> dict[str, float]:
    """Score what knows no photo, as the epochs of a run are scored.

    Args:
        states: int8 [n, 34] of the images; 1 present, 0 absent, -1 unknown.
        prior: float [34], the share of present among the training images.

    Returns:
        `all_absent_accuracy`, `prior_accuracy` and `prior_map`; nan where it is undefined.
    """
    known = states >= 0
    likelier = np.broadcast_to(prior >= 0.5, states.shape)
    n = known.sum() or math.nan
    return {
        "all_absent_accuracy": float((states == 0).sum() / n),
        "prior_accuracy": float((known & (states == likelier)).sum() / n),
        "prior_map": mean_average_precision(states, np.zeros(states.shape)),
    }


def choose_thresholds(prior: np.ndarray) -> np.ndarray:
    """Choose the threshold of each attribute: float [34], between 0.5 and its prior.

    A threshold of 0.5 says the same of every image where an attribute is rare or common; the prior
    makes more errors. Half way between them, in logits, was best by eyes in cross-validation:
    nearly the accuracy of 0.5, and most of the balanced accuracy of the prior (docs/training.md).

    Args:
        prior: float [34], the share of present among the training images.
    """
    clipped = np.clip(prior, 0.02, 0.98)
    return 1 / (1 + np.sqrt((1 - clipped) / clipped))


def evaluate(
    states: np.ndarray,
    probabilities: np.ndarray,
    prior: np.ndarray,
    *,
    thresholds: np.ndarray = HALF,
    probe: np.ndarray | None = None,
    probe_thresholds: np.ndarray = HALF,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Score probabilities against states.

    Args:
        states: int8 [n, 34] of the images; 1 present, 0 absent, -1 unknown.
        probabilities: float [n, 34].
        prior: float [34], the share of present among the training images: a baseline.
        thresholds: float [34], chosen on other images.
        probe: probabilities float [n, 34] of the linear probe, compared on the same resamples.
        probe_thresholds: float [34].
        resamples: number of bootstrap resamples.
        seed: of the resampling.
    """
    bootstrap = Bootstrap(len(states), resamples, seed)
    n = int((states >= 0).sum())
    correct = {
        "accuracy": (probabilities >= 0.5) == states,
        "threshold_accuracy": (probabilities >= thresholds) == states,
        "all_absent_accuracy": states == 0,
        "prior_accuracy": (prior >= 0.5) == states,
    }
    if probe is not None:
        correct["probe_accuracy"] = (probe >= 0.5) == states
    overall = _accuracies(states, correct, bootstrap)
    precisions = _precisions(states, probabilities, probe, bootstrap)
    decisions = _decision_scores(states, probabilities >= thresholds, bootstrap)
    means = {**precisions, "balanced_accuracy": decisions["balanced_accuracy"]}
    if probe is not None:
        of_probe = _decision_scores(states, probe >= probe_thresholds, bootstrap)
        means["probe_balanced_accuracy"] = of_probe["balanced_accuracy"]
    counted = rarer_cells(states) >= RARER_CELLS
    overall |= {
        name: replace(score(_mean(table[:, counted]), n), attributes=int(counted.sum()))
        for name, table in means.items()
    }
    overall["ece"] = score(_calibration_error(states, probabilities, bootstrap), n)
    attributes = _attribute_scores(
        states, probabilities, thresholds, correct, precisions, decisions, bootstrap
    )
    return Evaluation(len(states), overall, attributes)


def rarer_cells(states: np.ndarray) -> np.ndarray:
    """Count each attribute's known cells of its rarer state: int8 [n, 34] -> int [34]."""
    return np.minimum((states == 1).sum(0), (states == 0).sum(0))


class Bootstrap:
    """Resamples of images, as how often each resample has each image.

    Every metric is computed on the same resamples, so that differences of metrics are paired.

    Attributes:
        counts: float [1 + resamples, n]; the first row is the images themselves, each once.
    """

    def __init__(self, images: int, resamples: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        draws = rng.multinomial(images, np.full(images, 1 / max(1, images)), size=resamples)
        self.counts = np.concatenate([np.ones((1, images)), draws])

    def count(self, cells: np.ndarray) -> np.ndarray:
        """Count cells in each resample: bool or int [n, ...] -> float [1 + resamples, ...]."""
        return np.tensordot(self.counts, cells.astype(float), axes=1)

    def average_precisions(self, states: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Compute each attribute's average precision in each resample, as scikit-learn defines it.

        AP = sum over thresholds of (R_i - R_{i-1}) P_i; equal scores are one threshold.

        Returns:
            float [1 + resamples, 34]; nan where a resample lacks one of the states.
        """
        columns = []
        for k in range(states.shape[1]):
            known = np.flatnonzero(states[:, k] >= 0)
            order = known[np.argsort(-scores[known, k], kind="stable")]
            weights, present = self.counts[:, order], states[order, k] == 1
            ends = np.flatnonzero(np.diff(scores[order, k], append=-np.inf))  # of equal scores
            true = np.cumsum(weights * present, axis=1)[:, ends]
            called = np.cumsum(weights, axis=1)[:, ends]
            gained = np.diff(true, axis=1, prepend=0)
            all_present, all_called = weights @ present, weights.sum(1)
            ap = (gained * true / np.maximum(called, 1)).sum(1) / np.maximum(all_present, 1)
            columns.append(np.where((all_present > 0) & (all_present < all_called), ap, np.nan))
        return np.stack(columns, axis=1)

    def random_precisions(self, states: np.ndarray) -> np.ndarray:
        """Compute the average precision to expect of a random order in each resample.

        It is the chance level of a score that knows the prior alone, and lies above the share of
        present cells: of N cells, P present, it is r + (1 - r) H(N) / N with r = (P - 1) / (N - 1)
        and the harmonic number H (Bestgen 2015). A cell drawn w times is one of N / w.

        Returns:
            float [1 + resamples, 34]; nan where a resample lacks one of the states.
        """
        from scipy.special import digamma  # the training core does without SciPy

        columns = []
        for k in range(states.shape[1]):
            known = states[:, k] >= 0
            weights, present = self.counts[:, known], states[known, k] == 1
            all_present, cells = weights @ present, weights.sum(1)
            expected = np.zeros(len(weights))
            for times in range(1, int(weights.max(initial=0)) + 1):
                share = times * ((weights == times) & present).sum(1) / np.maximum(all_present, 1)
                n = np.maximum(cells / times, 1)
                rest = (all_present / times - 1) / np.maximum(n - 1, 1e-9)
                harmonic = digamma(n + 1) + np.euler_gamma
                expected += share * (rest + (1 - rest) * harmonic / n)
            both = (all_present > 0) & (all_present < cells)
            columns.append(np.where(both, expected, np.nan))
        return np.stack(columns, axis=1)


def score(column: np.ndarray, n: int) -> Score:
    """Return the score of a column of a bootstrap table, with its percentile interval."""
    value = float(column[0])
    return Score(value, *(UNDEFINED if math.isnan(value) else percentile(column[1:])), n)


def _accuracies(
    states: np.ndarray, correct: dict[str, np.ndarray], bootstrap: Bootstrap
) -> dict[str, Score]:
    """Score the accuracies, and by how much the model's is above each baseline's."""
    known = states >= 0
    n, cells = int(known.sum()), bootstrap.count(known.sum(1))
    shares = {
        name: bootstrap.count((right & known).sum(1)) / np.maximum(1, cells)
        for name, right in correct.items()
    }
    for baseline in ("all_absent", "prior", "probe"):
        if f"{baseline}_accuracy" in shares:
            gain = shares["accuracy"] - shares[f"{baseline}_accuracy"]
            shares[f"accuracy_over_{baseline}"] = gain
    return {name: score(share, n) for name, share in shares.items()}


def _precisions(
    states: np.ndarray, probabilities: np.ndarray, probe: np.ndarray | None, bootstrap: Bootstrap
) -> dict[str, np.ndarray]:
    """Compute average precisions and gains by the name of their mean: float [1 + resamples, 34]."""
    ap = bootstrap.average_precisions(states, probabilities)
    present, known = bootstrap.count(states == 1), bootstrap.count(states >= 0)
    # A constant score has the share of present cells as its average precision.
    constant = np.where((present > 0) & (present < known), present / np.maximum(known, 1), np.nan)
    over_prior = ap - bootstrap.random_precisions(states)
    tables = {"map": ap, "prior_map": constant, "map_over_prior": over_prior}
    if probe is not None:
        of_probe = bootstrap.average_precisions(states, probe)
        tables |= {"probe_map": of_probe, "map_over_probe": ap - of_probe}
    return tables


def _decision_scores(
    states: np.ndarray, decided: np.ndarray, bootstrap: Bootstrap
) -> dict[str, np.ndarray]:
    """Compute the scores of decisions: float [1 + resamples, 34] by name; nan if undefined."""
    present, absent = states == 1, states == 0
    true, false = bootstrap.count(present & decided), bootstrap.count(absent & decided)
    missed, rejected = bootstrap.count(present & ~decided), bootstrap.count(absent & ~decided)
    with np.errstate(invalid="ignore"):
        recall, specificity = true / (true + missed), rejected / (rejected + false)
        return {
            "precision": true / (true + false),
            "recall": recall,
            "specificity": specificity,
            "f1": 2 * true / (2 * true + false + missed),
            "balanced_accuracy": (recall + specificity) / 2,
        }


def _attribute_scores(
    states: np.ndarray,
    probabilities: np.ndarray,
    thresholds: np.ndarray,
    correct: dict[str, np.ndarray],
    precisions: dict[str, np.ndarray],
    decisions: dict[str, np.ndarray],
    bootstrap: Bootstrap,
) -> list[AttributeScore]:
    known, decided = states >= 0, probabilities >= thresholds
    rarer = rarer_cells(states)
    undefined = np.full_like(precisions["map"], np.nan)
    probe_ap = precisions.get("probe_map", undefined)
    over_probe = precisions.get("map_over_probe", undefined)
    scores = []
    for k, attribute in enumerate(ATTRIBUTES):
        n, positives = int(known[:, k].sum()), int((states[:, k] == 1).sum())
        hits = {name: int((right & known)[:, k].sum()) for name, right in correct.items()}
        share = {name: count / n if n else math.nan for name, count in hits.items()}
        only_k = slice(k, k + 1)
        ece = _calibration_error(states[:, only_k], probabilities[:, only_k], bootstrap)
        # Cells of which the score is a share, or which limit how sure it can be.
        cells = {
            "precision": int((known & decided)[:, k].sum()),
            "recall": positives,
            "specificity": n - positives,
            "f1": int(rarer[k]),
        }
        of_decisions = {
            name: _opened(score(decisions[name][:, k], n), count) for name, count in cells.items()
        }
        balanced = score(decisions["balanced_accuracy"][:, k], n)
        if balanced.low == balanced.high:  # the same of every photo, or without an error
            recall, specificity = of_decisions["recall"], of_decisions["specificity"]
            balanced = replace(
                balanced,
                low=(recall.low + specificity.low) / 2,
                high=(recall.high + specificity.high) / 2,
            )
        scores.append(
            AttributeScore(
                attribute=attribute,
                n=n,
                positives=positives,
                accuracy=Score(share["accuracy"], *wilson(hits["accuracy"], n), n),
                ap=_opened(score(precisions["map"][:, k], n), int(rarer[k])),
                **of_decisions,
                balanced_accuracy=balanced,
                threshold=float(thresholds[k]),
                ece=score(ece, n),
                all_absent_accuracy=share["all_absent_accuracy"],
                prior_accuracy=share["prior_accuracy"],
                prior_ap=positives / n if n else math.nan,
                probe_ap=float(probe_ap[0, k]),
                over_prior=score(precisions["map_over_prior"][:, k], n),
                over_probe=score(over_probe[:, k], n),
            )
        )
    return scores


def _opened(result: Score, cells: int) -> Score:
    """Return a score whose interval, if it is one point at 0 or 1, is the exact one of a share."""
    if result.low == result.high and result.value in (0, 1):
        low, high = exact_bound(result.value == 1, cells)
        return replace(result, low=low, high=high)
    return result


def _calibration_error(
    states: np.ndarray, probabilities: np.ndarray, bootstrap: Bootstrap
) -> np.ndarray:
    """Compute the expected calibration error (Guo et al. 2017: L1, BINS equal bins).

    Returns:
        float [1 + resamples]; nan without a known cell.
    """
    known = states >= 0
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    # Summed over an image's cells first: a resample has all cells of an image or none.
    gaps = np.stack(
        [
            np.where(known & (bins == number), probabilities - (states == 1), 0).sum(1)
            for number in range(BINS)
        ],
        axis=1,
    )
    cells = bootstrap.count(known.sum(1))
    with np.errstate(invalid="ignore"):
        return np.abs(bootstrap.counts @ gaps).sum(1) / np.where(cells > 0, cells, np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over attributes, the last axis, of what is defined; nan where nothing is."""
    defined = ~np.isnan(values)
    count = defined.sum(-1)
    return np.where(defined, values, 0).sum(-1) / np.where(count > 0, count, np.nan)
