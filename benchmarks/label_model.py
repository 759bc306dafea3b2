"""Compare ways to turn evidence into probabilities, by eyes, on images that each was not fitted on.

    python benchmarks/label_model.py

Needs the labelled images of val5k in the database of the settings. Fitted and scored by the same
cross-validation over the judged images of train and val; the test split is not read.
"""

from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from coconut_attr.evaluation.scores import evaluate
from coconut_attr.labels import fit
from coconut_attr.labels.signals import CELL_SIGNALS, Signals
from coconut_attr.settings import settings
from db.judgements import SPLITS_OF, judged_cells, states_by, truth_rows
from db.schema import open_for_reading
from db.work.extract import signals_of

DATASET = "val5k"
#: Estimates probabilities float [m, 34] of images from others and what was seen in them.
Method = Callable[[list[Signals], np.ndarray, np.ndarray, list[Signals]], np.ndarray]


def counts(
    train: list[Signals], states: np.ndarray, judged: np.ndarray, images: list[Signals]
) -> np.ndarray:
    """Count how often an attribute is present where the evidence combines to the same state.

    Smoothed by two images with the attribute's share.
    """

    def group(rows: list[Signals]) -> np.ndarray:
        columns = [CELL_SIGNALS.index(f"combined {state}") for state in ("present", "absent")]
        cells = np.stack([row.cells for row in rows])
        return cells[..., columns[0]] - cells[..., columns[1]]

    of_train, of_images = group(train), group(images)
    estimates = np.empty(of_images.shape)
    for k in range(states.shape[1]):
        known = states[:, k] >= 0
        share = (states[known, k].sum() + 1) / (known.sum() + 2)
        for value in (-1, 0, 1):
            same = states[known & (of_train[:, k] == value), k]
            estimates[of_images[:, k] == value, k] = (same.sum() + 2 * share) / (len(same) + 2)
    return estimates


def shipped(
    train: list[Signals], states: np.ndarray, judged: np.ndarray, images: list[Signals]
) -> np.ndarray:
    """Estimate by the label model: logistic regression with partial pooling."""
    return fit.fit_weights(train, states, judged).probabilities(images)


def gradient_boosting(
    train: list[Signals], states: np.ndarray, judged: np.ndarray, images: list[Signals]
) -> np.ndarray:
    """Estimate by gradient boosting on the same signals, with the attribute as a category."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    def rows(signals: list[Signals]) -> np.ndarray:
        n = states.shape[1]
        parts = [
            np.hstack([s.cells, np.tile(s.image, (n, 1)), np.arange(n)[:, None]]) for s in signals
        ]
        return np.vstack(parts)

    known = (states >= 0).ravel()
    model = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=200, max_leaf_nodes=15, l2_regularization=1.0,
        categorical_features=[rows(train[:1]).shape[1] - 1], random_state=0,
    )  # fmt: skip
    model.fit(rows(train)[known], states.ravel()[known])
    return model.predict_proba(rows(images))[:, 1].reshape(-1, states.shape[1])


METHODS: dict[str, Method] = {
    "counts by combined state, smoothed": counts,
    "gradient boosting": gradient_boosting,
    "logistic regression, partial pooling (shipped)": shipped,
}


def main() -> None:
    """Print the table."""
    engine = open_for_reading(settings().sqlalchemy_url)
    rows = truth_rows(engine, DATASET, SPLITS_OF["dev"])
    truth, cells = states_by("image_id", rows), judged_cells(rows)
    signals = signals_of(engine, sorted(truth))
    states = np.array([truth[key] for key in signals], np.int8)
    judged = np.array([cells[key] for key in signals], bool)
    images = list(signals.values())
    known = states >= 0
    prior = (states == 1).sum(0) / np.maximum(1, known.sum(0))
    names = ("map", "accuracy", "balanced_accuracy", "ece")
    table = Table(f"{len(images)} images, {known.sum():,} judged cells", *names)
    for title, method in METHODS.items():
        estimates = fit.cross_validate(images, states, judged, method)
        scores = evaluate(states, estimates, prior).overall
        table.add_row(
            title,
            *(f"{scores[n].value:.3f} ({scores[n].low:.3f}–{scores[n].high:.3f})" for n in names),
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
