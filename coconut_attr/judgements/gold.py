"""The gold set: 201 photos of val2017, each judged in two readings by an AI model."""

import csv
from datetime import UTC, datetime
from functools import cache
from importlib import resources

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.judgements.records import Judgement, Origin, State

DATASET = "val5k"  #: The dataset that the photos are of.
_STATES: dict[str, State] = {"p": "present", "a": "absent", "u": "unsure"}


@cache
def load_gold() -> tuple[Judgement, ...]:
    """Load the judgements of the gold set, by the guideline's version 1."""
    judgements = []
    file = resources.files("coconut_attr.judgements") / "gold.csv"
    for row in csv.DictReader(file.read_text().splitlines()):
        judged_at = datetime.fromisoformat(row["judged_on"]).replace(tzinfo=UTC)
        origin = Origin(row["annotator"], "ai", "1", "random", judged_at)
        coco_id = int(row["coco_id"])
        judgements += [Judgement(coco_id, name, _STATES[row[name]], origin) for name in ATTRIBUTES]
    return tuple(judgements)
