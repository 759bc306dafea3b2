"""Results of an evaluation. Without torch, so that the database can store them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """A value with its 95 % interval; nan where it is undefined.

    Attributes:
        n: number of known cells behind it; for retrieval, number of queries.
        attributes: number of attributes over which it is the mean; None: it is no such mean.
    """

    value: float
    low: float
    high: float
    n: int
    attributes: int | None = None


@dataclass(frozen=True)
class AttributeScore:
    """Scores of one attribute.

    Attributes:
        n: number of known cells.
        positives: number of cells that are present.
        accuracy: at probability 0.5, as the report counts it.
        ap: average precision.
        precision, recall, specificity, f1, balanced_accuracy: at `threshold`.
        ece: expected calibration error.
        all_absent_accuracy: of a predictor that says absent to everything.
        prior_accuracy: of the majority among the training images.
        prior_ap: of any constant score, that is the share of present cells.
        probe_ap: of the linear probe.
        over_prior: gain of `ap` over a random order, which is all that the prior gives.
        over_probe: gain of `ap` over the linear probe's, on the same resamples.
    """

    attribute: str
    n: int
    positives: int
    accuracy: Score
    ap: Score
    precision: Score
    recall: Score
    specificity: Score
    f1: Score
    balanced_accuracy: Score
    threshold: float
    ece: Score
    all_absent_accuracy: float
    prior_accuracy: float
    prior_ap: float
    probe_ap: float
    over_prior: Score
    over_probe: Score


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on one split, overall by name and for each attribute."""

    images: int
    overall: dict[str, Score]
    attributes: list[AttributeScore]
