"""Values of rows that others wrote: taken as what they should be, or refused in words."""

import math
import reprlib
from pathlib import PurePath
from typing import Any

from coconut_attr.annotations.records import clean_text, plain_name

MAX_INTEGER = 2**31 - 1  #: of a database column


class OddValueError(ValueError):
    """A value of a row cannot be used; the message names the field and what it holds."""


def whole(entry: Any, name: str, least: int = 0, most: int = MAX_INTEGER) -> int:
    """Return the whole number in a field; files also write one as 640.0 or "640".

    Raises:
        OddValueError: the field is missing, holds anything else, or is out of range.
    """
    value = field(entry, name)
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise OddValueError(f"{name} is {shown(value)}")
    return value


def optional_whole(entry: Any, name: str) -> int | None:
    """Return the whole number in a field, or None where it holds none (null, NaN, no number)."""
    value = field(entry, name)
    if isinstance(value, float) and math.isfinite(value):
        value = round(value)
    return whole({name: value}, name) if _is_count(value) else None


def _is_count(value: Any) -> bool:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return is_number and 0 <= value <= MAX_INTEGER


def file_name(entry: Any, name: str = "file_name") -> str:
    """Return the bare file name in a field.

    Raises:
        OddValueError: it is no text.
        SourceError: it has a folder part.
    """
    value = field(entry, name)
    if not isinstance(value, str) or clean_text(value) != value:
        raise OddValueError(f"{name} is {shown(value)}")
    return plain_name(value)


def field(entry: Any, name: str) -> Any:
    """Return a field of an entry, None where it is missing.

    Raises:
        OddValueError: the entry has no fields at all.
    """
    if not isinstance(entry, dict):
        raise OddValueError(f"{shown(entry)} stands where {name} should be")
    return entry.get(name)


def number_of(name: str) -> int | None:
    """Return the COCO id that a file name such as 000000000139.png states, None where none."""
    stem = PurePath(name).stem
    return int(stem) if stem.isdecimal() and stem.isascii() and len(stem) < 20 else None


def shown(value: Any) -> str:
    """Return a value as a short text that a message can hold."""
    return "missing or null" if value is None else clean_text(reprlib.repr(value))
