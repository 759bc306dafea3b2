"""What a run's scores amount to beside the strongest of its trivial baselines."""

from dataclasses import dataclass

import pandas as pd

from coconut_attr.evaluation.scores import RARER_CELLS
from dashboard.data import Row
from dashboard.i18n import N_

#: Baselines of each score, by the start of their names in `run_metric`.
BASELINES = {
    "map": {"probe": N_("linear probe"), "prior": N_("prior")},
    "accuracy": {
        "probe": N_("linear probe"),
        "prior": N_("prior"),
        "all_absent": N_("all absent"),
    },
}


@dataclass(frozen=True)
class Verdict:
    """A score beside its strongest baseline.

    Attributes:
        baseline: name of the baseline, a message.
        at: its score.
        low, high: 95 % interval of the gain over it.
    """

    baseline: str
    at: float
    value: float
    low: float
    high: float

    @property
    def gain(self) -> float:
        """The score less the baseline's."""
        return self.value - self.at


def compare(scores: dict[str, Row], name: str) -> Verdict | None:
    """Compare a score with its strongest baseline; None if one of them is undefined.

    Args:
        scores: rows of `run_metric` by name. Those of an older version have no gain over every
            baseline: the score's own interval then stands in.
        name: map or accuracy.
    """
    score = scores.get(name)
    known = {
        short: scores[f"{short}_{name}"]["value"]
        for short in BASELINES[name]
        if pd.notna(scores.get(f"{short}_{name}", {}).get("value"))
    }
    if score is None or pd.isna(score["value"]) or not known:
        return None
    short = max(known, key=lambda baseline: known[baseline])
    at = known[short]
    gain = scores.get(f"{name}_over_{short}")
    low, high = (
        (score["low"] - at, score["high"] - at) if gain is None else (gain["low"], gain["high"])
    )
    return Verdict(BASELINES[name][short], at, score["value"], low, high)


@dataclass(frozen=True)
class Counts:
    """On how many attributes a model is told apart from a baseline."""

    better: int
    worse: int
    rest: int


def count(scores: pd.DataFrame, baseline: str) -> Counts | None:
    """Count the attributes on which a model is better or worse; None if that is not stored.

    Args:
        scores: rows of `attribute_accuracy`; those with few cells are left out.
        baseline: prior or probe.
    """
    gains = scores[~is_few(scores) & scores[f"over_{baseline}_low"].notna()]
    if not len(gains):
        return None
    better = int((gains[f"over_{baseline}_low"] > 0).sum())
    worse = int((gains[f"over_{baseline}_high"] < 0).sum())
    return Counts(better, worse, len(gains) - better - worse)


def is_few(scores: pd.DataFrame) -> pd.Series:
    """Return which attributes have too few cells of their rarer state."""
    return scores["rarer_n"] < RARER_CELLS
