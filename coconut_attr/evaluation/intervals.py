"""95 % intervals of scores and shares. Without torch, so that the database's commands can have them, too."""

import math

import numpy as np

Interval = tuple[float, float]
LEVEL = 0.95
UNDEFINED: Interval = (math.nan, math.nan)


def wilson(hits: int, n: int) -> Interval:
    """Wilson's interval of a share (SciPy's); undefined for n = 0."""
    from scipy.stats import (
        binomtest,
    )  # takes a while, which commands that need no interval need not wait

    if not n:
        return UNDEFINED
    found = binomtest(hits, n).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def percentile(drawn: np.ndarray) -> Interval:
    """The percentile interval of a score's bootstrap draws; those that are nan are left out."""
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return UNDEFINED
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
