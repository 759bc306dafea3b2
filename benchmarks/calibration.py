"""Compare calibrations and thresholds of the image model by eyes, by the number of judged photos.

    python benchmarks/calibration.py [--repeats 20]

Needs the labelled images of val5k in the database of the settings. The test split is not read: it
must not choose anything. The judged images of train and val are predicted by models of the default
profile that were trained without them (`ablation.py`: five folds). Each calibration is fitted on
the judged cells of some of these images, and scored on those of all others; the number of images
it is fitted on grows from line to line, and the last one is four fifths of them. The figures are
means over `--repeats` random choices of the images.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from ablation import BACKBONE, cross_predict, seen, train_and_predict, train_and_val
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from coconut_attr.evaluation.scores import HALF, choose_thresholds, evaluate
from coconut_attr.settings import settings
from coconut_attr.training.config import profile
from coconut_attr.training.data import prior

#: Computes probabilities from logits, all of them float [cells].
Calibration = Callable[[np.ndarray], np.ndarray]
NUMBERS = (5, 10, 20, 40, 80)  # of judged photos
PRIOR_CELLS = 10  # as many cells train's prior counts beside the judged ones
DECIDED = {"accuracy": "threshold_accuracy", "balanced accuracy": "balanced_accuracy"}


def uncalibrated(logits: np.ndarray, present: np.ndarray) -> Calibration:
    """Return what computes the model's own probabilities."""
    return expit


def temperature(logits: np.ndarray, present: np.ndarray) -> Calibration:
    """Fit one temperature by log loss (Guo et al. 2017)."""
    fitted = minimize(lambda t: log_loss(expit(logits * np.exp(t[0])), present), [0.0])
    return lambda z: expit(z * np.exp(fitted.x[0]))


def platt(logits: np.ndarray, present: np.ndarray) -> Calibration:
    """Fit a slope and an offset by log loss (Platt 1999)."""
    fitted = minimize(lambda t: log_loss(expit(logits * np.exp(t[0]) + t[1]), present), [0.0, 0.0])
    return lambda z: expit(z * np.exp(fitted.x[0]) + fitted.x[1])


def isotonic(logits: np.ndarray, present: np.ndarray) -> Calibration:
    """Fit an isotonic regression over the cells of all attributes."""
    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(logits, present)
    return model.predict  # type: ignore[no-any-return]


CALIBRATIONS = {
    "none (shipped)": uncalibrated,
    "temperature": temperature,
    "slope and offset": platt,
    "isotonic": isotonic,
}


def log_loss(probabilities: np.ndarray, present: np.ndarray) -> float:
    """Return the mean binary cross-entropy, in nats."""
    clipped = np.clip(probabilities, 1e-3, 1 - 1e-3)
    return float(-np.mean(np.where(present, np.log(clipped), np.log(1 - clipped))))


def shipped(states: np.ndarray, probabilities: np.ndarray, of_train: np.ndarray) -> np.ndarray:
    """Return the thresholds that training stores: by the prior of its labels."""
    return choose_thresholds(of_train)


def one_half(states: np.ndarray, probabilities: np.ndarray, of_train: np.ndarray) -> np.ndarray:
    """Return 0.5 for each attribute."""
    return np.full(len(of_train), 0.5)


def of_judged_prior(
    states: np.ndarray, probabilities: np.ndarray, of_train: np.ndarray
) -> np.ndarray:
    """Return the shipped rule's thresholds, by the share of present among judged cells."""
    known = (states >= 0).sum(0)
    return choose_thresholds(
        ((states == 1).sum(0) + PRIOR_CELLS * of_train) / (known + PRIOR_CELLS)
    )


def of_judged_cells(
    states: np.ndarray, probabilities: np.ndarray, of_train: np.ndarray
) -> np.ndarray:
    """Return the thresholds that are best on the judged cells, by the mean of both accuracies."""
    thresholds = choose_thresholds(of_train)
    for k, column in enumerate(states.T):
        known = column >= 0
        present = column[known] == 1
        if not 0 < present.sum() < len(present):
            continue
        predicted = probabilities[known, k]
        edges = np.unique(predicted)
        candidates = np.append((edges[1:] + edges[:-1]) / 2, thresholds[k])
        said = predicted >= candidates[:, None]
        right = (said == present).mean(1)
        recall, specificity = said[:, present].mean(1), 1 - said[:, ~present].mean(1)
        gained = right + (recall + specificity) / 2
        thresholds[k] = candidates[np.flatnonzero(gained == gained.max())].mean()
    return thresholds


THRESHOLDS = {
    "0.5": one_half,
    "half way to train's prior (shipped)": shipped,
    "half way to the judged cells' prior": of_judged_prior,
    "best on the judged cells": of_judged_cells,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    samples = train_and_val()
    features = settings().data_dir / "features"
    config = profile("default", backbone=BACKBONE)
    probabilities = cross_predict(samples, partial(train_and_predict, config, features))
    judged = np.flatnonzero(samples.judged.any(1))
    states, probabilities = seen(samples)[judged], probabilities[judged]
    of_train = prior(samples)
    print(
        f"`python benchmarks/calibration.py --repeats {repeats}`: {BACKBONE}, {len(judged)} judged "
        f"images of val5k's train and val splits, {(states >= 0).sum():,} cells.\n"
    )
    numbers = [*(n for n in NUMBERS if n < 0.7 * len(judged)), round(0.8 * len(judged))]
    rows: list[dict[str, object]] = []
    for number in numbers:
        for repeat in range(repeats):
            order = np.random.default_rng(repeat).permutation(len(judged))
            fitted, scored = order[:number], order[number:]
            fit_on = states[fitted], probabilities[fitted]
            score_on = states[scored], probabilities[scored]
            for name, fit in CALIBRATIONS.items():
                loss = calibration_loss(fit, fit_on, score_on)
                rows.append({"": name, "photos": number, **loss})
            for name, choose in THRESHOLDS.items():
                thresholds = choose(*fit_on, of_train)
                scores = evaluate(*score_on, of_train, thresholds=thresholds, resamples=0).overall
                values = {key: scores[score].value for key, score in DECIDED.items()}
                rows.append({"": name, "photos": number, **values})
    figures = pd.DataFrame(rows)
    for figure in ("calibration error", "log loss", *DECIDED):
        table = figures.pivot_table(figure, "", "photos", sort=False)
        print(f"{figure}, by the number of judged photos that were fitted on\n")
        print(
            "| |"
            + "".join(f" {number} |" for number in table)
            + "\n"
            + "| --- " * (len(numbers) + 1)
            + "|"
        )
        for name, values in table.iterrows():
            print(f"| {name} |" + "".join(f" {value:.3f} |" for value in values))
        print()


def calibration_loss(
    fit: Callable[[np.ndarray, np.ndarray], Calibration],
    fit_on: tuple[np.ndarray, np.ndarray],
    score_on: tuple[np.ndarray, np.ndarray],
) -> dict[str, float]:
    """Fit a calibration on states and probabilities, and score it on others."""
    known, present, logits = cells(*fit_on)
    calibrate = fit(logits[known], present[known])
    known, present, logits = cells(*score_on)
    calibrated = calibrate(logits.ravel()).reshape(logits.shape)
    scores = evaluate(score_on[0], calibrated, HALF, resamples=0).overall
    loss = log_loss(calibrated[known], present[known])
    return {"calibration error": scores["ece"].value, "log loss": loss}


def cells(
    states: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which cells are known, which are present, and their logits; all of them [n, 34]."""
    return states >= 0, states == 1, logit(np.clip(probabilities, 1e-4, 1 - 1e-4))


if __name__ == "__main__":
    main()
