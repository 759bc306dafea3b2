"""The images of a download, queued by host: which to attempt now, and which wait for a retry."""

import heapq
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Literal
from urllib.parse import urlsplit

from coconut_attr.download.failures import DownloadFailure, HostThrottled
from coconut_attr.download.pace import HostPace
from coconut_attr.errors import UserError
from coconut_attr.files.remote import backoff

#: Which images a download covers. new: never tried, or failed for a transient cause; failed: every
#: image that failed; verify: every downloaded image, whose file is read and compared with upstream.
Mode = Literal["new", "failed", "verify"]


def mode_of(*, retry_failed: bool, verify: bool) -> Mode:
    """Return the mode that two options ask for.

    Raises:
        UserError: they exclude each other.
    """
    if retry_failed and verify:
        raise UserError(
            "retry_failed and verify exclude each other: a failed image has no file to verify"
        )
    return "failed" if retry_failed else "verify" if verify else "new"


#: Images that may wait for another attempt before no further image is begun.
MAX_WAITING = 1000


@dataclass(frozen=True)
class Wanted:
    """An image to fetch.

    Attributes:
        width, height: pixels that its annotation states.
        sha256, etag: of the file that was downloaded before; empty if there is none. Only a
            download in mode "verify" compares them.
    """

    image_id: int
    url: str
    width: int
    height: int
    sha256: str = ""
    etag: str = ""


@dataclass(frozen=True)
class Outcome:
    """The result of downloading one image.

    Attributes:
        path: its file, relative to the data folder; empty if there is none.
        attempts: requests, or reads of a mirror's file; 0: the file was already there.
        seconds: time spent on attempts, without the waits between them.
        kept: the file was already there and intact.
        uploaded: the file was intact on this machine only and is now in the object store.
        decoded: all pixels were decoded, beyond the check of the file's structure.
        error_class: cause of a failure. With a path: the file is intact, but could not be compared
            with upstream.
        permanent: another attempt will not help.
    """

    image_id: int
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
class ImageJob:
    """An image in progress; `kept` describes its file on disk if that is intact."""

    item: Wanted
    host: str
    attempts: int = 0
    seconds: float = 0.0
    started: float = 0.0
    kept: Outcome | None = None
    failure: DownloadFailure | None = None
    outcome: Outcome | None = None


@dataclass
class HostQueue:
    """The jobs of one host that wait, ordered by the time from which they may start."""

    pace: HostPace
    waiting: list[tuple[float, int, ImageJob]] = field(default_factory=list)

    def next_start(self) -> float:
        return max(self.waiting[0][0], self.pace.paused_until)


class JobQueue:
    """The jobs that wait for an attempt, and those running; used by one thread."""

    def __init__(self, wanted: Iterable[Wanted], threads: int) -> None:
        self.threads = threads
        self.running = self.waiting = 0
        self._source: Iterator[Wanted] | None = iter(wanted)
        self._hosts: dict[str, HostQueue] = {}
        self._now = 0.0
        self._order = count()  # breaks ties between equal start times: first come, first served

    def start_due(self) -> Iterator[ImageJob]:
        """Yield the jobs whose next attempt starts now, and count them as running."""
        now = self._now = time.monotonic()
        self._refill(now)
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

    def finish_attempt(self, job: ImageJob) -> None:
        """Record that an attempt ended; a job without an outcome waits for its next attempt."""
        host = self._hosts[job.host]
        self.running -= 1
        host.pace.running -= 1
        delay = backoff(job.attempts)
        if isinstance(job.failure, HostThrottled):
            host.pace.record_throttling(job.started, job.failure.pause)
            delay = 0.0  # the host's pause holds back all of its images
        elif job.failure is None:
            host.pace.record_success()
        if not job.outcome:
            self._wait(host, time.monotonic() + delay, job)

    def seconds_to_next(self) -> float | None:
        """Return the seconds until an attempt is due; None if one must end first."""
        starts = [host.next_start() for host in self._hosts.values() if host.waiting]
        later = min((start for start in starts if start > self._now), default=None)
        if later is None or self.running == self.threads:
            return None
        return max(0.0, later - time.monotonic())

    def is_empty(self) -> bool:
        return not self.running and not self.waiting

    def _refill(self, now: float) -> None:
        """Take further images from the source, so that every thread has something to do."""
        ready = sum(
            start <= now
            for host in self._hosts.values()
            for start, _, _ in host.waiting[: self.threads]
        )
        while self._source is not None and ready < self.threads and self.waiting < MAX_WAITING:
            item = next(self._source, None)
            if item is None:
                self._source = None
                return
            name = urlsplit(item.url).netloc
            host = self._hosts.setdefault(name, HostQueue(HostPace(self.threads)))
            self._wait(host, 0.0, ImageJob(item, name))
            ready += 1

    def _wait(self, host: HostQueue, until: float, job: ImageJob) -> None:
        heapq.heappush(host.waiting, (until, next(self._order), job))
        self.waiting += 1
