"""95 % intervals of scores and shares. Without torch, so that the database's commands have them."""

import math

import numpy as np

Interval = tuple[float, float]
LEVEL = 0.95
UNDEFINED: Interval = (math.nan, math.nan)


def wilson(hits: int, n: int) -> Interval:
    """Compute Wilson's interval of a share (SciPy's); undefined for n = 0."""
    # Imported here, because it takes a while, for which other commands need not wait.
    from scipy.stats import binomtest

    if not n:
        return UNDEFINED
    interval = binomtest(hits, n).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def percentile(draws: np.ndarray) -> Interval:
    """Compute the percentile interval of a score's bootstrap draws; nan draws are left out."""
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return UNDEFINED
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def exact_bound(all_right: bool, n: int) -> Interval:
    """Compute Clopper and Pearson's one-sided 95 % interval of a share of n that is 1, or 0."""
    if not n:
        return UNDEFINED
    bound = (1 - LEVEL) ** (1 / n)
    return (bound, 1.0) if all_right else (0.0, 1 - bound)
