"""The gold set: 60 COCO photographs and the true state of all 34 attributes of each, as one annotator, an AI model that
saw the photographs alone, judged them by GUIDELINE.md.

Forty of them (`dev`) may be looked at while rules are written; twenty (`test`) are for the final figure alone.
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
    """COCO image id -> the 34 true states: 1 present, 0 absent, -1 unknown."""
    with (resources.files("coconut_attr.labels.gold") / "gold.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == part]
    return {int(row["image_id"]): [_CODES[row[name]] for name in ATTRIBUTES] for row in rows}


@dataclass(frozen=True)
class Agreement:
    """How labels agree with gold on one attribute.

    Counts are of cells that gold knows, but for `known`: the share of all gold images that have a label at all.
    Precision of a state: of the labels of that state, how many are right; nan where there is none. Recall: of gold's
    present cells, how many are labelled present.
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
        labels: COCO image id -> 34 states (1, 0, -1); images that are missing have no label at all.
        gold: of `load_gold`.
    """
    truth, found = _arrays(labels, gold)
    result = []
    for k, attribute in enumerate(ATTRIBUTES):
        sure = truth[:, k] >= 0
        present, absent = sure & (found[:, k] == 1), sure & (found[:, k] == 0)
        result.append(
            Agreement(
                attribute=attribute,
                known=float((found[:, k] >= 0).mean()),
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
    """Gold's states and those of the labels, [n, 34]."""
    unknown = [-1] * len(ATTRIBUTES)
    return np.array(list(gold.values())), np.array([labels.get(image, unknown) for image in gold])


@dataclass(frozen=True)
class Overall:
    """Means over the attributes for which a figure is defined (macro), and over all cells (micro, with its counts)."""

    coverage: float
    present_macro: float
    absent_macro: float
    recall_macro: float
    present_micro: float
    absent_micro: float
    right: float  #: of both states together, micro
    present: int
    absent: int


def overall(rows: Sequence[Agreement]) -> Overall:
    """The summary of `agree`'s rows."""
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
    """95 % intervals of `Overall`'s shares by their names: the percentile bootstrap over images, as the cells of one
    image are not independent; for micro shares with Wilson's, where that reaches further, as it does if all is right.

    Args:
        labels, gold: as `agree` takes them.

    Returns:
        nan where a share is not defined, or a macro share is the same in all resamples.
    """
    truth, found = _arrays(labels, gold)
    images = len(truth)
    draws = np.random.default_rng(0).multinomial(
        images, np.full(images, 1 / images), size=RESAMPLES
    )

    def count(cells: np.ndarray) -> np.ndarray:
        return (draws @ cells).astype(float)  # [resamples, 34]

    states = ((found == 1) & (truth >= 0), (found == 0) & (truth >= 0))
    rights = ((found == 1) & (truth == 1), (found == 0) & (truth == 0))
    (present, absent), (present_right, absent_right) = map(count, states), map(count, rights)
    with np.errstate(invalid="ignore"):
        shares = {
            "coverage": count(found >= 0).mean(axis=1) / images,
            "present_macro": _row_means(present_right / present),
            "absent_macro": _row_means(absent_right / absent),
            "recall_macro": _row_means(present_right / count(truth == 1)),
            "present_micro": present_right.sum(axis=1) / present.sum(axis=1),
            "absent_micro": absent_right.sum(axis=1) / absent.sum(axis=1),
            "right": (present_right + absent_right).sum(axis=1) / (present + absent).sum(axis=1),
        }
    result = {name: _unless_equal(percentile(drawn)) for name, drawn in shares.items()}
    for name, cells, right in (
        ("present_micro", states[0], rights[0]),
        ("absent_micro", states[1], rights[1]),
        ("right", states[0] | states[1], rights[0] | rights[1]),
    ):
        (low, high), (least, most) = result[name], wilson(int(right.sum()), int(cells.sum()))
        result[name] = (float(np.fmin(low, least)), float(np.fmax(high, most)))
    return result


def _row_means(table: np.ndarray) -> np.ndarray:
    """The mean of each row's defined values."""
    return np.nansum(table, axis=1) / (~np.isnan(table)).sum(axis=1)


def _unless_equal(interval: Interval) -> Interval:
    return interval if interval[0] < interval[1] else UNDEFINED


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
