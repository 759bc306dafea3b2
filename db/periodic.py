"""Signs of life in the store, given while something else goes on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from db.sql import DatabaseError


@contextmanager
def every(seconds: float, write: Callable[[], object], name: str) -> Iterator[None]:
    """Call `write` every so many seconds, on a thread of this name, until the block ends.

    A database that is away is no reason to stop: the next time may be in time.
    """
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            with suppress(DatabaseError):
                write()

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
