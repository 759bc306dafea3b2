"""Agreement of labels with the truth: what judgements say of the same photos."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.evaluation.intervals import UNDEFINED, Interval, percentile, wilson
from coconut_attr.evaluation.scores import Bootstrap

RESAMPLES = 1000


@dataclass(frozen=True)
class Agreement:
    """The agreement of labels with the truth on one attribute.

    Counts are of images whose true state is known; ratios are nan if their denominator is 0.

    Attributes:
        known: share of all judged images whose label is known.
        present: labels `present`, of which `present_right` are right.
        absent: labels `absent`, of which `absent_right` are right.
        truly_present: images in which the attribute is present: the denominator of `recall`.
    """

    attribute: str
    known: float
    present: int
    present_right: int
    absent: int
    absent_right: int
    truly_present: int

    @property
    def present_precision(self) -> float:
        return self.present_right / self.present if self.present else math.nan

    @property
    def absent_precision(self) -> float:
        return self.absent_right / self.absent if self.absent else math.nan

    @property
    def recall(self) -> float:
        return self.present_right / self.truly_present if self.truly_present else math.nan


def agree(
    labels: Mapping[int, Sequence[int]], truth: Mapping[int, Sequence[int]]
) -> list[Agreement]:
    """Compare label vectors with the truth, attribute by attribute.

    Args:
        labels: COCO image id -> 34 states (1, 0, -1); a missing image counts as all unknown.
        truth: COCO image id -> 34 states (1, 0, -1 not decided).
    """
    true, states = _arrays(labels, truth)
    result = []
    for k, attribute in enumerate(ATTRIBUTES):
        decided = true[:, k] >= 0
        present, absent = decided & (states[:, k] == 1), decided & (states[:, k] == 0)
        result.append(
            Agreement(
                attribute=attribute,
                known=float((states[:, k] >= 0).mean()),
                present=int(present.sum()),
                present_right=int((true[present, k] == 1).sum()),
                absent=int(absent.sum()),
                absent_right=int((true[absent, k] == 0).sum()),
                truly_present=int((true[:, k] == 1).sum()),
            )
        )
    return result


def _arrays(
    labels: Mapping[int, Sequence[int]], truth: Mapping[int, Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the true states and those of the labels, int [n, 34] each."""
    unknown = [-1] * len(ATTRIBUTES)
    return np.array(list(truth.values())), np.array([labels.get(image, unknown) for image in truth])


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
    labels: Mapping[int, Sequence[int]], truth: Mapping[int, Sequence[int]]
) -> dict[str, Interval]:
    """Estimate 95 % intervals of the ratios of `Overall`, by name.

    The percentile bootstrap resamples images, because the cells of an image are not independent.
    Micro ratios take the wider of it and Wilson's interval: without an error all resamples agree.

    Args:
        labels, truth: as in `agree`.

    Returns:
        nan if a ratio is not defined, or a macro ratio is the same in all resamples.
    """
    true, states = _arrays(labels, truth)
    images = len(true)
    bootstrap = Bootstrap(images, RESAMPLES, seed=0)

    def count(cells: np.ndarray) -> np.ndarray:
        return bootstrap.count(cells)[1:]  # [resamples, 34]

    decided = ((states == 1) & (true >= 0), (states == 0) & (true >= 0))
    rights = ((states == 1) & (true == 1), (states == 0) & (true == 0))
    (present, absent), (present_right, absent_right) = map(count, decided), map(count, rights)
    with np.errstate(invalid="ignore"):
        shares = {
            "coverage": count(states >= 0).mean(axis=1) / images,
            "present_macro": _row_means(present_right / present),
            "absent_macro": _row_means(absent_right / absent),
            "recall_macro": _row_means(present_right / count(true == 1)),
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
