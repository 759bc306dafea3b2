"""Request rate of a host: additive increase, multiplicative decrease, and requested pauses."""

import time
from dataclasses import dataclass

from coconut_attr.files.remote import backoff


@dataclass
class HostPace:
    """How many requests a host may have at once, and from when on (`time.monotonic`).

    A success opens the window by one request a round. A throttling answer (429, 503) halves the
    window and stops all requests to the host for as long as it asks, or else for a growing time.
    """

    limit: int

    def __post_init__(self) -> None:
        self.window = float(self.limit)
        self.running = 0
        self.paused_until = 0.0
        self._throttled_in_a_row = 0
        self._throttled_at = 0.0

    def may_start(self, now: float) -> bool:
        return self.running < int(self.window) and now >= self.paused_until

    def record_success(self) -> None:
        """Open the window after a request that the host answered as it should."""
        self._throttled_in_a_row = 0
        self.window = min(self.limit, self.window + 1 / self.window)

    def record_throttling(self, started: float, pause: float | None) -> None:
        """Slow down after a request, begun at `started`, that the host throttled.

        Args:
            pause: seconds that the host asks to wait; None if it does not say.
        """
        now = time.monotonic()
        # Requests that were in flight when the host first throttled carry no new information.
        if started > self._throttled_at:
            self._throttled_in_a_row += 1
            self._throttled_at = now
            self.window = max(1.0, self.window / 2)
            pause = backoff(self._throttled_in_a_row) if pause is None else pause
        self.paused_until = max(self.paused_until, now + (pause or 0))
