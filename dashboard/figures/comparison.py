"""Two runs on the same cells: gains with paired intervals, and what they decide differently."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.evaluation.results import Score
from dashboard import data
from dashboard.data import Row
from db import browse
from db.runs import attribute_scores

MANY: Final = 2_000  # images; of more, fewer resamples are drawn, or the page would take long
FEWER: Final = 200


@dataclass(frozen=True)
class Comparison:
    """What a run has gained over another on the known cells of a split that both predicted.

    Attributes:
        images, cells: number of them.
        map, accuracy: gains; None where undefined.
        gains: `attribute`, `gain` in average precision and its interval `low`, `high`; those that
            are defined.
        flipped: the cells that one of them decides rightly, at its thresholds, and the other not:
            `coco_id`, `attribute`, `state`, `probability` and `other_probability` of present, and
            `gained`, whether this run is the right one.
    """

    images: int
    cells: int
    map: Score | None
    accuracy: Score | None
    gains: pd.DataFrame
    flipped: pd.DataFrame


@st.cache_data(max_entries=32, show_spinner=False)
def compare(run: int, other: int, dataset: str, split: str, against: str, version: str):
    """Compare two runs on a split; return None if they have no cell in common.

    Args:
        version: of the database, by which the result is cached.
    """
    cells = data.to_frame(
        browse.compared_cells(data.engine(), run, other, dataset, split, against)  # type: ignore[arg-type]
    )
    if not len(cells):
        return None
    from coconut_attr.evaluation.scores import RESAMPLES, evaluate

    rows, images = pd.factorize(cells["coco_id"])
    place = rows, cells["attribute_id"].to_numpy()
    shape = len(images), len(ATTRIBUTES)
    states = np.full(shape, -1, np.int8)
    probabilities, others = np.zeros(shape), np.zeros(shape)
    states[place] = cells["present"]
    probabilities[place] = cells["probability"]
    others[place] = cells["other_probability"]
    result = evaluate(
        states,
        probabilities,
        np.full(len(ATTRIBUTES), 0.5),
        probe=others,
        resamples=RESAMPLES if len(images) <= MANY else FEWER,
    )
    gains = pd.DataFrame(
        [
            (score.attribute, score.over_probe.value, score.over_probe.low, score.over_probe.high)
            for score in result.attributes
        ],
        columns=["attribute", "gain", "low", "high"],
    ).dropna()
    present = cells["present"] == 1
    right = (cells["probability"] >= _thresholds(run, dataset, split, cells)) == present
    other_right = (
        cells["other_probability"] >= _thresholds(other, dataset, split, cells)
    ) == present
    flipped = cells[right != other_right].assign(gained=right[right != other_right])
    flipped = flipped.assign(
        attribute=[ATTRIBUTES[k] for k in flipped["attribute_id"]],
        state=np.where(flipped["present"] == 1, "present", "absent"),
    )
    return Comparison(
        len(images),
        len(cells),
        _defined(result.overall["map_over_probe"]),
        _defined(result.overall["accuracy_over_probe"]),
        gains,
        flipped,
    )


def _thresholds(run: int, dataset: str, split: str, cells: pd.DataFrame) -> np.ndarray:
    """Return the run's threshold for each cell; 0.5 where none is stored."""
    table = data.to_frame(attribute_scores(data.engine(), run, dataset, split))
    rows = data.rows_by(table, "attribute")
    thresholds = [data.threshold_of(rows.get(name, {})) for name in ATTRIBUTES]
    return np.array(thresholds)[cells["attribute_id"]]


def _defined(score: Score) -> Score | None:
    return None if np.isnan(score.value) else score


def settings_that_differ(run: Row, other: Row) -> pd.DataFrame:
    """Return `setting` and the values of two rows of `run`, where these differ."""
    first, second = (
        {
            **{name: row[name] for name in ("backbone", "train_images", "val_images")},
            "label rules": row["rule_version"],
            "data": (row["data_fingerprint"] or "")[:12],
            **(row["config"] or {}),
        }
        for row in (run, other)
    )
    rows = [
        (name, _text(first.get(name)), _text(second.get(name)))
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]
    return pd.DataFrame(rows, columns=["setting", "run", "other"])


def _text(value: object) -> str | None:
    return None if value is None else str(value)
