"""Compare policies that combine evidence, on the judged images of train and val.

    python benchmarks/labels.py [DATASET]

Policies: `surest` (the product's: the state with the most confident piece), `vote` (the state with
more pieces), `learned` (sum of log-odds of each source's accuracy for that state and attribute
group, counted on the other dev images: leave one out). Reads the database of
COCONUT_ATTR_DATABASE_URL; run the flow `extract` first.
"""

import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from coconut_attr.attributes import ATTRIBUTES, CODES, GROUP_OF, INDEX
from coconut_attr.judgements.label_agreement import agree, overall
from coconut_attr.labels.evidence import Evidence
from coconut_attr.labels.extract import combine
from coconut_attr.settings import settings
from db.judgements import truth_of_part
from db.labels import evidence_of
from db.schema import open_for_reading

Pieces = Sequence[Evidence]


def surest(pieces: Pieces) -> list[int]:
    return [CODES[label.state] for label in combine(pieces)]


def vote(pieces: Pieces) -> list[int]:
    balance = Counter({name: 0 for name in ATTRIBUTES})
    for piece in pieces:
        balance[piece.attribute] += 1 if piece.state == "present" else -1
    return [-1 if balance[name] == 0 else int(balance[name] > 0) for name in ATTRIBUTES]


def learned(
    others: dict[int, Pieces], truth: dict[int, list[int]]
) -> Callable[[Pieces], list[int]]:
    """Build a policy from accuracies counted on other images, with add-one smoothing."""
    right: Counter = Counter()
    seen: Counter = Counter()
    for image, pieces in others.items():
        for piece in pieces:
            true = truth[image][INDEX[piece.attribute]]
            if true >= 0:
                key = (piece.source, piece.state, GROUP_OF[piece.attribute])
                seen[key] += 1
                right[key] += true == CODES[piece.state]

    def policy(pieces: Pieces) -> list[int]:
        odds: dict[str, float] = defaultdict(float)
        for piece in pieces:
            key = (piece.source, piece.state, GROUP_OF[piece.attribute])
            accuracy = (right[key] + 1) / (seen[key] + 2)
            odds[piece.attribute] += CODES[piece.state] * 2 * _logit(accuracy) - _logit(accuracy)
        return [
            -1 if abs(odds[name]) < _logit(0.65) else int(odds[name] > 0) for name in ATTRIBUTES
        ]

    return policy


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def main() -> None:
    dataset = sys.argv[1] if len(sys.argv) > 1 else "val5k"
    engine = open_for_reading(settings().sqlalchemy_url)
    truth = truth_of_part(engine, dataset, "dev")
    evidence: dict[int, list[Evidence]] = {image: [] for image in truth}
    for row in evidence_of(engine, dataset, list(truth)):
        piece = Evidence(
            row["attribute"], row["state"], row["source"], row["confidence"], row["detail"]
        )
        evidence[row["coco_id"]].append(piece)
    results = {
        "surest": {image: surest(pieces) for image, pieces in evidence.items()},
        "vote": {image: vote(pieces) for image, pieces in evidence.items()},
        "learned": {
            image: learned({k: v for k, v in evidence.items() if k != image}, truth)(pieces)
            for image, pieces in evidence.items()
        },
    }
    base = overall(agree(results["surest"], truth))
    columns = ("known cells", "of surest", "present: right", "n", "macro", "absent: right", "n")
    table = Table("policy", *columns, "macro")
    for name, labels in results.items():
        row = overall(agree(labels, truth))
        present = (f"{row.present_micro:.1%}", str(row.present), f"{row.present_macro:.1%}")
        absent = (f"{row.absent_micro:.1%}", str(row.absent), f"{row.absent_macro:.1%}")
        coverage = (f"{row.coverage:.1%}", f"{row.coverage / base.coverage:.3f}")
        table.add_row(name, *coverage, *present, *absent)
    Console().print(table)


if __name__ == "__main__":
    main()
