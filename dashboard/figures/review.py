"""Figures of a reviewer's own judgements: how right labels are by them, and who agrees."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from coconut_attr.evaluation.intervals import UNDEFINED, Interval
from coconut_attr.judgements.agreement import PairAgreement, pair_agreements
from coconut_attr.judgements.label_agreement import agree, intervals, overall
from coconut_attr.judgements.records import CODES
from coconut_attr.labels.label_model import load_label_model
from dashboard import data
from db import review
from db.judgements import states_by
from db.labels import unjudged_states


@dataclass(frozen=True)
class Precision:
    """How right labels are by random judgements: the share of known labels that are right.

    Attributes:
        images, labels: number of judged photos, and of known labels in their decided cells.
        interval: 95 %, by a bootstrap over photos, or Wilson's where that is wider.
    """

    value: float
    interval: Interval
    images: int
    labels: int

    @property
    def more_to_halve(self) -> int:
        """Return how many more photos would halve the interval: its width falls as 1/sqrt(n)."""
        return 3 * self.images


@dataclass(frozen=True)
class Kappa:
    """A reviewer's agreement with another annotator, over all attributes.

    Attributes:
        kappa: the mean of Cohen's kappa over the attributes for which it is defined.
        cells: number of cells that both judged.
        alike: the share of these that both judged alike.
    """

    other: str
    kappa: float
    cells: int
    alike: float


@dataclass(frozen=True)
class Figures:
    """What a reviewer has judged, and what follows from it."""

    cells: int
    images: int
    precision: Precision
    kappas: list[Kappa]


@st.cache_data(max_entries=64, show_spinner=False)
def figures(dataset: str, annotator: str, version: object) -> Figures:
    """Compute the figures of a reviewer.

    Args:
        version: changes when they are to be computed again.
    """
    engine = data.engine()
    rows = review.own_judgements(engine, dataset, annotator)
    truth = states_by("coco_id", [row for row in rows if row["chosen"] == "random"])
    shared = pair_agreements(review.shared_judgements(engine, dataset, annotator))
    return Figures(
        cells=len(rows),
        images=len({row["image_id"] for row in rows}),
        precision=_precision(dataset, truth),
        kappas=_kappas(annotator, shared),
    )


def _precision(dataset: str, truth: dict[int, list[int]]) -> Precision:
    if not truth:
        return Precision(math.nan, UNDEFINED, 0, 0)
    labels = unjudged_states(data.engine(), dataset, list(truth), load_label_model())
    total = overall(agree(labels, truth))
    n = total.present + total.absent
    interval = intervals(labels, truth)["right"] if n else UNDEFINED
    return Precision(total.right, interval, len(truth), n)


def _kappas(annotator: str, agreements: Sequence[PairAgreement]) -> list[Kappa]:
    result = []
    for pair in dict.fromkeys(row.annotators for row in agreements if annotator in row.annotators):
        rows = [row for row in agreements if row.annotators == pair]
        kappas = [row.kappa for row in rows if not math.isnan(row.kappa)]
        cells = sum(row.n for row in rows)
        (other,) = set(pair) - {annotator}
        mean = sum(kappas) / len(kappas) if kappas else math.nan
        result.append(Kappa(other, mean, cells, sum(row.alike for row in rows) / cells))
    return result


@dataclass(frozen=True)
class Changes:
    """What judgements have changed in the labels, and will change at the next extraction.

    Attributes:
        flipped: number of labels that say the opposite of their estimate, because somebody looked.
        decided: number of labels that were unknown.
        flipping, deciding: those that the next extraction makes so.
    """

    flipped: int
    decided: int
    flipping: int
    deciding: int


def changes(dataset: str) -> Changes:
    """Count the labels that judgements change."""
    model = load_label_model()
    rows = review.label_changes(data.engine(), dataset, model)
    done = [row for row in rows if row["judged"]]

    def count(rows: Sequence, before: str, unknown: bool) -> int:
        return sum(
            row["cells"]
            for row in rows
            if (row[before] == "unknown") == unknown
            and CODES.get(row[before]) != CODES[row["truth"]]
        )

    return Changes(
        flipped=count(done, "estimated", unknown=False),
        decided=count(done, "estimated", unknown=True),
        flipping=count(rows, "label", unknown=False),
        deciding=count(rows, "label", unknown=True),
    )
