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

Part = Literal["dev", "test"]
Interval = tuple[float, float]
RESAMPLES, LEVEL = 1000, 0.95
_CODES = {"p": 1, "a": 0, "u": -1}


def load_gold(part: Part) -> dict[int, list[int]]:
    """COCO image id -> the 34 true states: 1 present, 0 absent, -1 unknown."""
    with (resources.files(__name__) / "gold.csv").open() as file:
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


def agree(labels: Mapping[int, Sequence[int]], gold: Mapping[int, Sequence[int]]) -> list[Agreement]:
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


def _arrays(labels: Mapping[int, Sequence[int]], gold: Mapping[int, Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
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


def intervals(labels: Mapping[int, Sequence[int]], gold: Mapping[int, Sequence[int]]) -> dict[str, Interval]:
    """95 % intervals of `Overall`'s shares by their names: the percentile bootstrap over images, as the cells of one
    image are not independent; for micro shares with Wilson's, where that reaches further, as it does if all is right.

    Args:
        labels, gold: as `agree` takes them.

    Returns:
        nan where a share is not defined, or a macro share is the same in all resamples.
    """
    from scipy.stats import binomtest  # takes a while, which other commands need not wait

    truth, found = _arrays(labels, gold)
    images = len(truth)
    draws = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), size=RESAMPLES)

    def count(cells: np.ndarray) -> np.ndarray:
        return (draws @ cells).astype(float)  # [resamples, 34]

    present, absent = count((found == 1) & (truth >= 0)), count((found == 0) & (truth >= 0))
    present_right, absent_right = count((found == 1) & (truth == 1)), count((found == 0) & (truth == 0))
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
    found_intervals = {name: _interval(drawn) for name, drawn in shares.items()}
    total = overall(agree(labels, gold))
    for name, n in (
        ("present_micro", total.present), ("absent_micro", total.absent), ("right", total.present + total.absent)
    ):  # fmt: skip
        if n:
            wilson = binomtest(round(getattr(total, name) * n), n).proportion_ci(LEVEL, method="wilson")
            low, high = found_intervals[name]
            found_intervals[name] = (float(np.fmin(low, wilson.low)), float(np.fmax(high, wilson.high)))
    return found_intervals


def _row_means(table: np.ndarray) -> np.ndarray:
    """The mean of each row's defined values."""
    return np.nansum(table, axis=1) / (~np.isnan(table)).sum(axis=1)


def _interval(drawn: np.ndarray) -> Interval:
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return math.nan, math.nan
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return (float(low), float(high)) if low < high else (math.nan, math.nan)


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
