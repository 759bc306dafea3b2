"""Errors that a user can act on."""


class UserError(Exception):
    """An error that is shown without a traceback: it says what is wrong, where, what to do."""


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
