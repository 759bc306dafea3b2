"""Heartbeats: writes that are repeated on a thread while a block runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from db.sql import DatabaseError


@contextmanager
def every(seconds: float, write: Callable[[], object], name: str) -> Iterator[None]:
    """Call `write` every so many seconds, on a thread with this name, until the block ends.

    Errors of the database are ignored: it may be back before the next call.
    """
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            with suppress(DatabaseError):
                write()

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
