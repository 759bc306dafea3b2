"""What commands print: tables of which no cell is cut; and the words that a shell completes."""

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

WIDE = 1_000  # characters; more than any table has


def console() -> Console:
    """Return a console on standard output.

    Rich takes a pipe for a terminal of 80 characters, and would break the lines of a table for it.
    """
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if narrow else WIDE)


def table(*headers: str, **options: Any) -> Table:
    """Return a table; a word that is longer than its column goes on in the next line."""
    result = Table(**options)
    for header in headers:
        result.add_column(header, overflow="fold")
    return result


def slim_table(*headers: str, **options: Any) -> Table:
    """Return a table without vertical lines, for many columns in a terminal of 80 characters."""
    return table(*headers, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), **options)


def completion(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a function that completes what was typed to those of the names that begin with it."""

    def complete(incomplete: str) -> list[str]:  # Typer knows the argument by its name
        return [name for name in names if name.startswith(incomplete)]

    return complete
