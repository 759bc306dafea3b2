"""How fast a host may be asked: additive increase, multiplicative decrease, and the pauses that it asks for."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

#: Longer pauses than this (seconds) are cut: a host that asks for more is not worth a waiting worker.
MAX_PAUSE = 600.0
MAX_BACKOFF = 60.0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks for, in either of its forms (RFC 9110); None where it asks for nothing.

    A date is read against the answer's own Date, as the two clocks need not agree.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return min(MAX_PAUSE, float(value))
    then = _seconds(value)
    now = _seconds(headers.get("Date", ""))
    return (
        None
        if then is None
        else min(MAX_PAUSE, max(0.0, then - (time.time() if now is None else now)))
    )


def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling from half a second, half of it at random."""
    longest = min(MAX_BACKOFF, 0.5 * 2 ** (failures - 1))
    return random.uniform(longest / 2, longest)  # noqa: S311 (jitter)


@dataclass
class Pace:
    """How many requests a host may have at once, and from when on. Times are of `time.monotonic`.

    An answer in time opens the window by one a round; a refusal (429, 503) halves it and stops all requests to the
    host for as long as it asks, or for a growing while.
    """

    limit: int

    def __post_init__(self) -> None:
        self.window = float(self.limit)
        self.running = 0
        self.paused_until = 0.0
        self._refusals = 0
        self._refused_at = 0.0

    def may_start(self, now: float) -> bool:
        return self.running < int(self.window) and now >= self.paused_until

    def answered(self) -> None:
        """The host has answered a request as it should."""
        self._refusals = 0
        self.window = min(self.limit, self.window + 1 / self.window)

    def refused(self, started: float, wait: float | None) -> None:
        """The host has refused a request that began at `started`, and asks for a pause of `wait` seconds."""
        now = time.monotonic()
        if (
            started > self._refused_at
        ):  # requests that were under way when the host first refused say nothing new
            self._refusals += 1
            self._refused_at = now
            self.window = max(1.0, self.window / 2)
            wait = backoff(self._refusals) if wait is None else wait
        self.paused_until = max(self.paused_until, now + (wait or 0))
