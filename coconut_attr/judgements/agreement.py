"""Agreement of annotators with each other: Cohen's kappa of each pair, by attribute."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from coconut_attr.attributes import ATTRIBUTES


@dataclass(frozen=True)
class PairAgreement:
    """How two annotators agree on one attribute, in three states: present, absent, unsure.

    Attributes:
        n: number of images that both judged.
        alike: number of those that both judged alike.
        opposite: number of those that one calls present, the other absent.
        kappa: Cohen's kappa; nan if both use one and the same state alone.
    """

    annotators: tuple[str, str]
    attribute: str
    n: int
    alike: int
    opposite: int
    kappa: float


def pair_agreements(judgements: Iterable[Mapping[Any, Any]]) -> list[PairAgreement]:
    """Compare each pair of annotators on each attribute.

    Args:
        judgements: the newest of each annotator, image and attribute: `annotator`, `attribute`,
            `image_id`, `state`.

    Returns:
        pairs that share an image, by name, then attributes in label order.
    """
    cells: dict[tuple[str, str], dict[object, str]] = defaultdict(dict)
    for row in judgements:
        cells[row["annotator"], row["attribute"]][row["image_id"]] = row["state"]
    annotators = sorted({annotator for annotator, _ in cells})
    result = []
    for one, other in combinations(annotators, 2):
        for attribute in ATTRIBUTES:
            of_one, of_other = cells.get((one, attribute), {}), cells.get((other, attribute), {})
            pairs = [(of_one[image], of_other[image]) for image in of_one.keys() & of_other.keys()]
            if pairs:
                result.append(_agreement((one, other), attribute, pairs))
    return result


def _agreement(
    annotators: tuple[str, str], attribute: str, pairs: list[tuple[str, str]]
) -> PairAgreement:
    alike = sum(one == other for one, other in pairs)
    opposite = sum(set(pair) == {"present", "absent"} for pair in pairs)
    kappa = math.nan
    if len({state for pair in pairs for state in pair}) > 1:
        from sklearn.metrics import cohen_kappa_score

        kappa = float(cohen_kappa_score(*zip(*pairs, strict=True)))
    return PairAgreement(annotators, attribute, len(pairs), alike, opposite, kappa)
