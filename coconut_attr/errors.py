"""Errors that a user can act on."""

import sys
from collections.abc import Sequence


class UserError(Exception):
    """An error that is shown without a traceback: it says what is wrong, where, what to do."""


class SettingsError(UserError):
    """Settings have values of the wrong kind; `problems` has a line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(self.problems)


class SourceError(UserError):
    """A source of data cannot be reached or read; the message says what, where and what to do."""


class UnreachableError(SourceError):
    """A source does not answer; another attempt may help, after `pause` seconds if it asks so."""

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


def printable(text: str) -> str:
    """Return text with whatever a terminal would act on or cannot show as backslash escapes.

    These are control characters, line breaks, marks that change the direction of writing, and bytes
    of a file name that are not text.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def print_error(error: Exception) -> None:
    """Print an error on stderr: one line, or one for each problem of the settings."""
    problems = error.problems if isinstance(error, SettingsError) else [str(error)]
    for problem in problems:
        print(f"coconut-attr: {printable(problem)}", file=sys.stderr)
