"""Trivial baselines on a val split, counted from its labels."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Baselines:
    """What trivial predictors reach on the known cells of a val split.

    Attributes:
        cells: number of known cells.
        all_absent: accuracy of calling every cell absent.
        accuracy: of the majority of the training labels, attribute by attribute.
        map: of any constant score: the mean share of present over the attributes that have both
            states; None if there is none.
    """

    cells: int
    all_absent: float
    accuracy: float
    map: float | None


def val_baselines(counts: pd.DataFrame) -> Baselines | None:
    """Count the baselines of a dataset's val split; return None if it has no known cell.

    Args:
        counts: rows of `db.counts.label_counts`.
    """
    if not len(counts):
        return None
    table = counts.pivot_table(
        index="attribute", columns="split", values=["present", "absent"], fill_value=0
    )
    if ("present", "val") not in table:
        return None
    present, absent = table["present", "val"], table["absent", "val"]
    cells = int((present + absent).sum())
    if not cells:
        return None
    if ("present", "train") in table:
        train_present, train_absent = table["present", "train"], table["absent", "train"]
        mostly_present = (train_present >= train_absent) & (train_present > 0)
    else:
        mostly_present = pd.Series(False, index=table.index)
    both = (present > 0) & (absent > 0)
    return Baselines(
        cells=cells,
        all_absent=float(absent.sum() / cells),
        accuracy=float(present.where(mostly_present, absent).sum() / cells),
        map=float((present / (present + absent))[both].mean()) if both.any() else None,
    )
