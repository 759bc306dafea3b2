"""The verdict on a run in words: against its strongest baseline, and attribute by attribute."""

from collections.abc import Callable

import pandas as pd

from dashboard.data import Row
from dashboard.figures.verdict import compare, count, is_few
from dashboard.i18n import _, paragraph


def verdict(scores: dict[str, Row], name: str, title: str, show: Callable[..., str]) -> str:
    """Compare a score with its strongest baseline in a sentence; empty if one is undefined.

    Args:
        scores: rows of `run_metric` by name.
        name: map or accuracy.
        show: formats the score.
    """
    found = compare(scores, name)
    if found is None:
        return ""
    texts = {
        "name": title,
        "value": show(found.value),
        "baseline": _(found.baseline),
        "at": show(found.at),
        "gain": f"{found.gain:+.3f}",
        "low": f"{found.low:+.3f}",
        "high": f"{found.high:+.3f}",
    }
    if found.low > 0:
        return _(
            "{name} {value} is **better** than the strongest baseline, the {baseline} ({at}): "
            "{gain}, 95 % interval {low} to {high}.",
            **texts,
        )
    if found.high < 0:
        return _(
            "{name} {value} is **worse** than the strongest baseline, the {baseline} ({at}): "
            "{gain}, 95 % interval {low} to {high}.",
            **texts,
        )
    return _(
        "{name} {value} is **not distinguishable** from the strongest baseline, the {baseline} "
        "({at}): {gain}, 95 % interval {low} to {high}.",
        **texts,
    )


def attribute_counts(scores: pd.DataFrame) -> str:
    """Say on how many attributes a model is better than the prior and the probe, and worse.

    Args:
        scores: rows of `attribute_accuracy`.
    """
    sentences = []
    for baseline, message in (
        (
            "prior",
            _(
                "Better than the prior on {better} attributes, worse on {worse}, not told apart on "
                "{rest}."
            ),
        ),
        (
            "probe",
            _(
                "Better than the linear probe on {better} attributes, worse on {worse}, not told "
                "apart on {rest}."
            ),
        ),
    ):
        if counts := count(scores, baseline):
            sentences.append(message.format(**vars(counts)))
    if few := int(is_few(scores).sum()):
        sentences.append(
            _("{n} attributes have under 5 cells of their rarer state and are left out.", n=few)
        )
    return paragraph(*sentences)
