"""The gold set: 60 COCO photographs of which a person wrote down the true state of all 34 attributes (GUIDELINE.md).

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
    unknown = [-1] * len(ATTRIBUTES)
    truth = np.array(list(gold.values()))
    found = np.array([labels.get(image, unknown) for image in gold])
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


@dataclass(frozen=True)
class Overall:
    """Means over the attributes for which a figure is defined (macro), and over all cells (micro, with its counts)."""

    coverage: float
    present_macro: float
    absent_macro: float
    recall_macro: float
    present_micro: float
    absent_micro: float
    present: int
    absent: int


def overall(rows: Sequence[Agreement]) -> Overall:
    """The summary of `agree`'s rows."""
    present, absent = sum(row.present for row in rows), sum(row.absent for row in rows)
    return Overall(
        coverage=float(np.mean([row.known for row in rows])),
        present_macro=_mean([row.present_precision for row in rows]),
        absent_macro=_mean([row.absent_precision for row in rows]),
        recall_macro=_mean([row.recall for row in rows]),
        present_micro=sum(row.present_right for row in rows) / present if present else math.nan,
        absent_micro=sum(row.absent_right for row in rows) / absent if absent else math.nan,
        present=present,
        absent=absent,
    )


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
