"""TODO."""

import heapq
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit

from coconut_attr.download.failures import Failure, Refusal
from coconut_attr.download.pace import Pace, backoff

#: So many images may wait for another attempt; then no new one is begun until some of them are through.
MAX_WAITING = 1000


@dataclass(frozen=True)
class Wanted:
    """An image to fetch. Width and height (pixels) are what its annotation says it must have.

    With `sha256`, the file is there and is to be verified: read again, decoded, and compared with upstream by `etag`.
    """

    key: int
    url: str
    width: int
    height: int
    sha256: str = ""
    etag: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of one image.

    Attributes:
        path: its file, relative to the data folder; empty if there is none.
        attempts: requests, or readings of a mirror's file; 0: the file was there.
        seconds: spent on attempts, without the waiting between them.
        kept: the file was there already, and whole.
        uploaded: the kept file was whole on this machine alone, and has been put into the image store.
        decoded: it has been decoded to its last byte, not only checked by its structure.
        error_class: cause of a failure; with a path: the file is whole, but could not be compared with upstream.
        permanent: there is no use in another attempt.
    """

    key: int
    url: str
    path: str = ""
    sha256: str = ""
    bytes: int = 0
    etag: str = ""
    kept: bool = False
    uploaded: bool = False
    decoded: bool = False
    attempts: int = 0
    seconds: float = 0.0
    error_class: str = ""
    error: str = ""
    permanent: bool = False

    @property
    def ok(self) -> bool:
        return bool(self.path)


@dataclass
class Job:
    """An image under way. `kept` is its file in place, if that is whole."""

    item: Wanted
    host: str
    attempts: int = 0
    seconds: float = 0.0
    started: float = 0.0
    kept: Outcome | None = None
    failure: Failure | None = None
    outcome: Outcome | None = None


@dataclass
class Host:
    """The images of one host that wait, by the time from which they may be asked for."""

    pace: Pace
    waiting: list[tuple[float, int, Job]] = field(default_factory=list)

    def next_start(self) -> float:
        return max(self.waiting[0][0], self.pace.paused_until)


class Queue:
    """The images that wait for an attempt, and those under way; used by one thread."""

    def __init__(self, wanted: Iterable[Wanted], threads: int) -> None:
        self.threads = threads
        self.running = self.waiting = 0
        self._source: Iterator[Wanted] | None = iter(wanted)
        self._hosts: dict[str, Host] = {}
        self._now = 0.0
        self._order = count()  # of equal times, first come, first served

    def due(self) -> Iterator[Job]:
        """The images whose attempts are to begin now; they count as under way."""
        now = self._now = time.monotonic()
        self._pull(now)
        for host in self._hosts.values():
            while (
                self.running < self.threads
                and host.pace.may_start(now)
                and host.waiting
                and host.waiting[0][0] <= now
            ):
                job = heapq.heappop(host.waiting)[2]
                job.started = now
                host.pace.running += 1
                self.running, self.waiting = self.running + 1, self.waiting - 1
                yield job

    def back(self, job: Job) -> None:
        """Take an image back from its attempt; without an outcome it waits for the next one."""
        host = self._hosts[job.host]
        self.running -= 1
        host.pace.running -= 1
        delay = backoff(job.attempts)
        if isinstance(job.failure, Refusal):
            host.pace.refused(job.started, job.failure.wait)
            delay = 0.0  # the pause of the host is that of its images
        elif job.failure is None:
            host.pace.answered()
        if not job.outcome:
            self._wait(host, time.monotonic() + delay, job)

    def pause(self) -> float | None:
        """Seconds until the next attempt is due; None where one that is under way has to end before."""
        starts = [host.next_start() for host in self._hosts.values() if host.waiting]
        later = min((start for start in starts if start > self._now), default=None)
        return (
            None
            if later is None or self.running == self.threads
            else max(0.0, later - time.monotonic())
        )

    def is_empty(self) -> bool:
        return not self.running and not self.waiting

    def _pull(self, now: float) -> None:
        """Read on, so that every thread has something to do."""
        ready = sum(
            when <= now
            for host in self._hosts.values()
            for when, _, _ in host.waiting[: self.threads]
        )
        while self._source is not None and ready < self.threads and self.waiting < MAX_WAITING:
            item = next(self._source, None)
            if item is None:
                self._source = None
                return
            name = urlsplit(item.url).netloc
            self._wait(self._hosts.setdefault(name, Host(Pace(self.threads))), 0.0, Job(item, name))
            ready += 1

    def _wait(self, host: Host, until: float, job: Job) -> None:
        heapq.heappush(host.waiting, (until, next(self._order), job))
        self.waiting += 1
