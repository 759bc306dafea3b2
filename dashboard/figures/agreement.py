"""How the stored labels agree with judgements: by attribute, overall, and cell by cell."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from coconut_attr.attributes import ATTRIBUTES, GROUP_OF, SOURCES
from coconut_attr.evaluation.intervals import Interval, wilson
from coconut_attr.judgements.label_agreement import Agreement, Overall, agree, intervals, overall
from coconut_attr.labels.label_model import load_label_model
from dashboard import data
from db.counts import COMBINED
from db.labels import source_labels, unjudged_states

#: COCONut-PanCap describes photos of train2017, the gold set is of val2017.
CHOICES = (COMBINED, *(source for source in SOURCES if source != "pancap"))
STATE_OF = {1: "present", 0: "absent"}
States = Mapping[int, Sequence[int]]  #: the 34 states (1, 0, -1) of an image, by its COCO id


def label_states(dataset: str, coco_ids: Sequence[int], source: str) -> States:
    """Return the labels of images by one source, or combined from all."""
    if source == COMBINED:
        return unjudged_states(data.engine(), dataset, list(coco_ids), load_label_model())
    return source_labels(data.engine(), dataset, list(coco_ids))[source]


@dataclass(frozen=True)
class Summary:
    """Agreement over all attributes, the counts behind it, and trivial baselines.

    Attributes:
        overall: of `coconut_attr.judgements.label_agreement.overall`.
        intervals: of `coconut_attr.judgements.label_agreement.intervals`.
        defined: number of attributes over which a macro score is the mean.
        baselines: what calling every cell present, or absent, would reach. Those of macro scores
            are means over the same attributes.
    """

    overall: Overall
    intervals: dict[str, Interval]
    images: int
    judged_cells: int
    truly_present: int
    recall_micro: float
    defined: dict[str, int]
    baselines: dict[str, float]


def compare(labels: States, truth: States) -> tuple[pd.DataFrame, Summary]:
    """Compare labels with the truth.

    Returns:
        one row an attribute with precisions, their Wilson intervals and baselines; and the summary.
    """
    rows = agree(labels, truth)
    true = np.array(list(truth.values()))
    table = pd.DataFrame([_row(row, int((true[:, k] >= 0).sum())) for k, row in enumerate(rows)])
    return table, _summarise(rows, table, labels, truth)


def _summarise(
    rows: Sequence[Agreement], table: pd.DataFrame, labels: States, truth: States
) -> Summary:
    present, cells = int(table["truly_present"].sum()), int(table["judged_cells"].sum())
    micro = present / cells if cells else math.nan
    scores = ("present_precision", "absent_precision", "recall")
    return Summary(
        overall=overall(rows),
        intervals=intervals(labels, truth),
        images=len(truth),
        judged_cells=cells,
        truly_present=present,
        recall_micro=table["present_right"].sum() / present if present else math.nan,
        defined={name: int(table[name].notna().sum()) for name in scores},
        baselines={
            "present_macro": table.loc[table["present_precision"].notna(), "all_present"].mean(),
            "absent_macro": table.loc[table["absent_precision"].notna(), "all_absent"].mean(),
            "present_micro": micro,
            "absent_micro": 1 - micro,
        },
    )


def _row(row: Agreement, judged_cells: int) -> data.Row:
    cells = {
        "attribute": row.attribute,
        "group_name": GROUP_OF[row.attribute],
        "known": row.known,
        "recall": row.recall,
        "truly_present": row.truly_present,
        "judged_cells": judged_cells,
        "all_present": row.truly_present / judged_cells if judged_cells else math.nan,
        "all_absent": 1 - row.truly_present / judged_cells if judged_cells else math.nan,
    }
    for state, n, right in (
        ("present", row.present, row.present_right),
        ("absent", row.absent, row.absent_right),
    ):
        low, high = wilson(right, n)
        cells |= {
            state: n,
            f"{state}_right": right,
            f"{state}_precision": right / n if n else math.nan,
            f"{state}_precision_low": low,
            f"{state}_precision_high": high,
        }
    return cells


@dataclass(frozen=True)
class WrongCell:
    """A cell in which label and judgement say the opposite."""

    attribute: str
    coco_id: int
    truth: str
    label: str


def wrong_cells(labels: States, truth: States) -> list[WrongCell]:
    """Return all cells in which label and judgement say the opposite, in label order."""
    return [
        WrongCell(attribute, coco_id, STATE_OF[states[k]], STATE_OF[labels[coco_id][k]])
        for k, attribute in enumerate(ATTRIBUTES)
        for coco_id, states in truth.items()
        if coco_id in labels and {states[k], labels[coco_id][k]} == {0, 1}
    ]
