"""Numbers, intervals, sizes and times as pages show them; a missing value is a dash."""

import re
from collections.abc import Callable

import pandas as pd

from dashboard.i18n import _

DASH = "–"
#: Text that a spreadsheet runs as a formula, also after spaces that it may trim; OWASP lists the
#: characters. A number with a sign is none.
_FORMULA = re.compile(r"[\t\r\n]|\s*[=+@＝＋－＠-]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def number(value: float | None, digits: int = 3) -> str:
    """Format a score, such as 0.880."""
    return DASH if value is None or pd.isna(value) else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """Format a difference, such as +0.042."""
    return DASH if value is None or pd.isna(value) else f"{value:+.3f}"


def percent(value: float | None, digits: int = 1) -> str:
    """Format a share, such as 88.7 % for 0.887."""
    return DASH if value is None or pd.isna(value) else f"{100 * value:.{digits}f} %"


def count(value: float | None) -> str:
    """Format a count, such as 5,000."""
    return DASH if value is None or pd.isna(value) else f"{int(value):,}"


def interval(low: float | None, high: float | None, show: Callable[..., str] = number) -> str:
    """Format an interval, its ends by `show`, low end, dash, high end."""
    if low is None or high is None or pd.isna(low) or pd.isna(high):
        return DASH
    if show is signed:  # a dash would read as a sign
        return _("{low} to {high}", low=show(low), high=show(high))
    return f"{show(low).removesuffix(' %')}–{show(high)}"


def intervals(table: pd.DataFrame, name: str, show: Callable[..., str]) -> pd.Series:
    """Format the intervals in `{name}_low` and `{name}_high`; None where undefined."""
    pairs = zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
    return pd.Series(
        [None if pd.isna(low) else interval(low, high, show) for low, high in pairs], table.index
    )


def size(in_bytes: float) -> str:
    """Format a file size, such as 56.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if in_bytes < 1000 or unit == "GB":
            break
        in_bytes /= 1000
    return f"{in_bytes:.0f} {unit}" if unit == "B" else f"{in_bytes:.1f} {unit}"


def time(moment: pd.Timestamp) -> str:
    """Format a UTC time to the minute."""
    return DASH if pd.isna(moment) else f"{moment:%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    """Format a duration, such as 2 min 05 s."""
    if pd.isna(seconds):
        return DASH
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return _("{hours} h {minutes} min", hours=hours, minutes=f"{minutes:02}")
    return _("{minutes} min {seconds} s", minutes=minutes, seconds=f"{seconds:02}")


def against(target: object, judged_by: object) -> str | None:
    """Say what scores are against; None for a run that has none.

    Args:
        target: the column `against` of a score: eyes or labels.
        judged_by: who saw what scores by eyes are against: human, ai or both.
    """
    if target == "labels":
        return _("against our labels, which err")
    if target != "eyes":
        return None
    if judged_by == "human":
        return _("by eyes (people)")
    return (
        _("by eyes (people and an AI model)") if judged_by == "both" else _("by eyes (an AI model)")
    )


def csv(table: pd.DataFrame) -> str:
    """Return a table as CSV in which a spreadsheet finds no formula.

    Text that it would run gets an apostrophe in front, in cells and column names. Numbers stay
    numbers.
    """
    safe = table.map(_without_formula)
    safe.columns = [_without_formula(str(name)) for name in table.columns]
    # With \r\n ending lines, a cell that holds \r is quoted: else it would end its line.
    return safe.to_csv(index=False, lineterminator="\r\n")


def _without_formula(value: object) -> object:
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
