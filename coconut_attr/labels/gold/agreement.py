"""The gold set: the true state of all 34 attributes of 60 COCO photographs.

One annotator judged them by GUIDELINE.md: an AI model that saw only the photographs. 40 images
(`dev`) may be looked at while writing rules; 20 (`test`) are for the final figure only.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import numpy as np

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.evaluation.intervals import UNDEFINED, Interval, percentile, wilson

Part = Literal["dev", "test"]
RESAMPLES = 1000
_CODES = {"p": 1, "a": 0, "u": -1}


def load_gold(part: Part) -> dict[int, list[int]]:
    """Load the true states of a part: COCO image id -> 34 times 1 present, 0 absent, -1 unknown."""
    with (resources.files("coconut_attr.labels.gold") / "gold.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == part]
    return {int(row["image_id"]): [_CODES[row[name]] for name in ATTRIBUTES] for row in rows}


@dataclass(frozen=True)
class Agreement:
    """The agreement of labels with gold on one attribute.

    Counts are of images whose gold state is known; ratios are nan if their denominator is 0.

    Attributes:
        known: share of all gold images whose label is known.
        present: labels `present`, of which `present_right` are right.
        absent: labels `absent`, of which `absent_right` are right.
        gold_present: images that gold calls present: the denominator of `recall`.
    """

    attribute: str
    known: float
    present: int
    present_right: int
    absent: int
    absent_right: int
    gold_present: int

    @property
    def present_precision(self) -> float:
        return self.present_right / self.present if self.present else math.nan

    @property
    def absent_precision(self) -> float:
        return self.absent_right / self.absent if self.absent else math.nan

    @property
    def recall(self) -> float:
        return self.present_right / self.gold_present if self.gold_present else math.nan


def agree(
    labels: Mapping[int, Sequence[int]], gold: Mapping[int, Sequence[int]]
) -> list[Agreement]:
    """Compare label vectors with gold, attribute by attribute.

    Args:
        labels: COCO image id -> 34 states (1, 0, -1); a missing image counts as all unknown.
        gold: from `load_gold`.
    """
    truth, states = _arrays(labels, gold)
    result = []
    for k, attribute in enumerate(ATTRIBUTES):
        decided = truth[:, k] >= 0
        present, absent = decided & (states[:, k] == 1), decided & (states[:, k] == 0)
        result.append(
            Agreement(
                attribute=attribute,
                known=float((states[:, k] >= 0).mean()),
                present=int(present.sum()),
                present_right=int((truth[present, k] == 1).sum()),
                absent=int(absent.sum()),
                absent_right=int((truth[absent, k] == 0).sum()),
                gold_present=int((truth[:, k] == 1).sum()),
            )
        )
    return result


def _arrays(
    labels: Mapping[int, Sequence[int]], gold: Mapping[int, Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the states of gold and of the labels, int [n, 34] each."""
    unknown = [-1] * len(ATTRIBUTES)
    return np.array(list(gold.values())), np.array([labels.get(image, unknown) for image in gold])


@dataclass(frozen=True)
class Overall:
    """Agreement over all attributes: macro over those where it is defined, micro over all cells."""

    coverage: float
    present_macro: float
    absent_macro: float
    recall_macro: float
    present_micro: float
    absent_micro: float
    right: float  #: micro, of both states together
    present: int
    absent: int


def overall(rows: Sequence[Agreement]) -> Overall:
    """Compute the summary of the rows of `agree`."""
    present, absent = sum(row.present for row in rows), sum(row.absent for row in rows)
    right = sum(row.present_right + row.absent_right for row in rows)
    return Overall(
        coverage=float(np.mean([row.known for row in rows])),
        present_macro=_mean([row.present_precision for row in rows]),
        absent_macro=_mean([row.absent_precision for row in rows]),
        recall_macro=_mean([row.recall for row in rows]),
        present_micro=sum(row.present_right for row in rows) / present if present else math.nan,
        absent_micro=sum(row.absent_right for row in rows) / absent if absent else math.nan,
        right=right / (present + absent) if present + absent else math.nan,
        present=present,
        absent=absent,
    )


def intervals(
    labels: Mapping[int, Sequence[int]], gold: Mapping[int, Sequence[int]]
) -> dict[str, Interval]:
    """Estimate 95 % intervals of the ratios of `Overall`, by name.

    The percentile bootstrap resamples images, because the cells of an image are not independent.
    Micro ratios take the wider of it and Wilson's interval: without an error all resamples agree.

    Args:
        labels, gold: as in `agree`.

    Returns:
        nan if a ratio is not defined, or a macro ratio is the same in all resamples.
    """
    truth, states = _arrays(labels, gold)
    images = len(truth)
    draws = np.random.default_rng(0).multinomial(
        images, np.full(images, 1 / images), size=RESAMPLES
    )

    def count(cells: np.ndarray) -> np.ndarray:
        return (draws @ cells).astype(float)  # [resamples, 34]

    decided = ((states == 1) & (truth >= 0), (states == 0) & (truth >= 0))
    rights = ((states == 1) & (truth == 1), (states == 0) & (truth == 0))
    (present, absent), (present_right, absent_right) = map(count, decided), map(count, rights)
    with np.errstate(invalid="ignore"):
        shares = {
            "coverage": count(states >= 0).mean(axis=1) / images,
            "present_macro": _row_means(present_right / present),
            "absent_macro": _row_means(absent_right / absent),
            "recall_macro": _row_means(present_right / count(truth == 1)),
            "present_micro": present_right.sum(axis=1) / present.sum(axis=1),
            "absent_micro": absent_right.sum(axis=1) / absent.sum(axis=1),
            "right": (present_right + absent_right).sum(axis=1) / (present + absent).sum(axis=1),
        }
    result = {name: _unless_equal(percentile(resampled)) for name, resampled in shares.items()}
    for name, cells, right in (
        ("present_micro", decided[0], rights[0]),
        ("absent_micro", decided[1], rights[1]),
        ("right", decided[0] | decided[1], rights[0] | rights[1]),
    ):
        (low, high), (least, most) = result[name], wilson(int(right.sum()), int(cells.sum()))
        result[name] = (float(np.fmin(low, least)), float(np.fmax(high, most)))
    return result


def _row_means(table: np.ndarray) -> np.ndarray:
    """Return the mean of each row's defined values."""
    return np.nansum(table, axis=1) / (~np.isnan(table)).sum(axis=1)


def _unless_equal(interval: Interval) -> Interval:
    return interval if interval[0] < interval[1] else UNDEFINED


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
