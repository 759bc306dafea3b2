"""TODO."""

from collections.abc import Callable

import pandas as pd

from dashboard.i18n import _

DASH = "–"


def number(value: float | None, digits: int = 3) -> str:
    return DASH if value is None or pd.isna(value) else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    return DASH if value is None or pd.isna(value) else f"{100 * value:.{digits}f} %"


def count(value: float | None) -> str:
    return DASH if value is None or pd.isna(value) else f"{int(value):,}"


def interval(low: float | None, high: float | None, show: Callable[..., str] = number) -> str:
    """An interval, in the format of its value."""
    if low is None or high is None or pd.isna(low) or pd.isna(high):
        return DASH
    return f"{show(low).removesuffix(' %')}–{show(high)}"


def intervals(table: pd.DataFrame, name: str, show: Callable[..., str]) -> pd.Series:
    """The intervals of a score, None where it is not defined."""
    pairs = zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
    return pd.Series(
        [None if pd.isna(low) else interval(low, high, show) for low, high in pairs], table.index
    )


def size(in_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if in_bytes < 1000 or unit == "GB":
            break
        in_bytes /= 1000
    return f"{in_bytes:.0f} {unit}" if unit == "B" else f"{in_bytes:.1f} {unit}"


def time_of(moment: pd.Timestamp) -> str:
    return DASH if pd.isna(moment) else f"{moment:%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    if pd.isna(seconds):
        return DASH
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return _("{hours} h {minutes} min", hours=hours, minutes=f"{minutes:02}")
    return _("{minutes} min {seconds} s", minutes=minutes, seconds=f"{seconds:02}")
