"""Images by URL: fetched with retries at the pace that a host bears, verified, and kept under its name."""

import hashlib
import heapq
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, cast
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, IncompleteRead, ReadTimeoutError

from coconut_attr.files import write_atomically
from coconut_attr.image_store import image_store
from coconut_attr.images import ImageError, TooManyPixelsError, checked_size, decode
from coconut_attr.pace import Pace, backoff, retry_after
from coconut_attr.public_http import PrivateAddressError, PublicAdapter
from coconut_attr.registry import Dataset
from coconut_attr.settings import Settings
from coconut_attr.sources import sample
from coconut_attr.sources.records import SourceError, UnreachableError, clean_text, local_path, plain_name
from coconut_attr.sources.upstream import is_url, mirrored

MAX_BYTES = 50 * 2**20
CHUNK = 2**18
#: Encoded bodies are not asked for and never decoded: a photo has no use for that, a bomb has.
HEADERS = {"User-Agent": f"coconut-attr {requests.utils.default_user_agent()}", "Accept-Encoding": "identity"}
MAX_ERROR, MAX_ETAG = 500, 200  # characters that are kept of what a host says
#: So many images may wait for another attempt; then no new one is begun until some of them are through.
MAX_WAITING = 1000
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
REFUSALS = frozenset({429, 503})  # they speak of the host, not of the image

#: What to do about a cause of failure. HTTP answers that are not named are in `hint`.
HINTS: Final = {
    "HTTP 401": "the host wants an account: use a mirror (COCONUT_ATTR_MIRROR)",
    "HTTP 403": "the host forbids it: see whether it blocks this network, or use a mirror (COCONUT_ATTR_MIRROR)",
    "HTTP 404": "the image is gone upstream: leave it out, or name a mirror that has it (COCONUT_ATTR_MIRROR)",
    "HTTP 410": "the image is gone upstream: leave it out, or name a mirror that has it (COCONUT_ATTR_MIRROR)",
    "HTTP 429": "the host is being asked too fast: lower COCONUT_ATTR_DOWNLOAD_THREADS, run again later",
    "connection": "the network or the host failed: check both, run again",
    "timeout": "the host was silent: run again, or raise COCONUT_ATTR_READ_TIMEOUT",
    "too slow": "the body came in too slowly: run again, or raise COCONUT_ATTR_BODY_TIMEOUT",
    "truncated": "the connection broke within the body: run again",
    "corrupt": "what came is no whole JPEG or PNG: look at the URL; a proxy may answer in the host's place",
    "wrong size": "the photo is not the annotated one: its upstream file has changed, or the annotation is wrong",
    "too large": "larger than any photo of the dataset should be: look at the URL",
    "refused": "the annotation names a URL that this dataset does not allow: check where the annotation is from",
    "private address": "the host's name leads into a private network: check the DNS, or set COCONUT_ATTR_MIRROR",
    "not in mirror": "add the image to the mirror, or unset COCONUT_ATTR_MIRROR",
    "disk": "the data folder cannot be written: see to space and permissions, run again",
}


def hint(error_class: str) -> str:
    """What to do about a cause of failure."""
    if error_class.startswith("HTTP 3"):
        return "redirects are not followed: the image has moved, look at its URL"
    if error_class.startswith("HTTP 5"):
        return "the host is in trouble: run again later"
    return HINTS.get(error_class, "look at the example")


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


class _Failure(Exception):
    """One failed attempt. `final`: no other follows in this run; `permanent`: nor should any in a later one."""

    def __init__(self, error_class: str, message: str, *, permanent: bool = False, final: bool = False):
        super().__init__(message)
        self.error_class = error_class
        self.permanent = permanent
        self.final = final or permanent


class _Refusal(_Failure):
    """The host wants fewer requests, and maybe a pause of `wait` seconds."""

    def __init__(self, error_class: str, message: str, wait: float | None):
        super().__init__(error_class, message)
        self.wait = wait


@dataclass
class _Job:
    """An image under way. `kept` is its file in place, if that is whole."""

    item: Wanted
    host: str
    attempts: int = 0
    seconds: float = 0.0
    started: float = 0.0
    kept: Outcome | None = None
    failure: _Failure | None = None
    outcome: Outcome | None = None


@dataclass
class _Host:
    """The images of one host that wait, by the time from which they may be asked for."""

    pace: Pace
    waiting: list[tuple[float, int, _Job]] = field(default_factory=list)

    def next_start(self) -> float:
        return max(self.waiting[0][0], self.pace.paused_until)


def download(wanted: Iterable[Wanted], dataset: Dataset, settings: Settings) -> Iterator[Outcome]:
    """Fetch images in a bounded pool of threads; outcomes come as they are ready, failures among them.

    `wanted` is read as there is room, a few images ahead. A file that is already in place and whole is kept without a
    request. An image that waits for another attempt occupies no thread; a host that refuses requests is left alone
    for as long as it asks, and then asked more slowly.

    Raises:
        coconut_attr.image_store.ImageStoreError, UnreachableError: the image store fails; no outcome tells of an image
            that is not in it.
    """
    queue = _Queue(wanted, settings.download_threads)
    fetcher = _Fetcher(dataset, settings)
    done: SimpleQueue[Future[_Job]] = SimpleQueue()
    pool = ThreadPoolExecutor(settings.download_threads, thread_name_prefix="download")
    try:
        while True:
            for job in queue.due():
                pool.submit(fetcher.attempt, job).add_done_callback(done.put)
            if queue.is_empty():
                return
            with suppress(Empty):
                tried = done.get(timeout=queue.pause())
                while True:  # and all that are ready beside it
                    job = tried.result()
                    queue.back(job)
                    if job.outcome:
                        yield job.outcome
                    tried = done.get_nowait()
    finally:
        pool.shutdown(cancel_futures=True)
        fetcher.session.close()


class _Queue:
    """The images that wait for an attempt, and those under way; used by one thread."""

    def __init__(self, wanted: Iterable[Wanted], threads: int) -> None:
        self.threads = threads
        self.running = self.waiting = 0
        self._source: Iterator[Wanted] | None = iter(wanted)
        self._hosts: dict[str, _Host] = {}
        self._now = 0.0
        self._order = count()  # of equal times, first come, first served

    def due(self) -> Iterator[_Job]:
        """The images whose attempts are to begin now; they count as under way."""
        now = self._now = time.monotonic()
        self._pull(now)
        for host in self._hosts.values():
            while (
                self.running < self.threads and host.pace.may_start(now) and host.waiting and host.waiting[0][0] <= now
            ):
                job = heapq.heappop(host.waiting)[2]
                job.started = now
                host.pace.running += 1
                self.running, self.waiting = self.running + 1, self.waiting - 1
                yield job

    def back(self, job: _Job) -> None:
        """Take an image back from its attempt; without an outcome it waits for the next one."""
        host = self._hosts[job.host]
        self.running -= 1
        host.pace.running -= 1
        delay = backoff(job.attempts)
        if isinstance(job.failure, _Refusal):
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
        return None if later is None or self.running == self.threads else max(0.0, later - time.monotonic())

    def is_empty(self) -> bool:
        return not self.running and not self.waiting

    def _pull(self, now: float) -> None:
        """Read on, so that every thread has something to do."""
        ready = sum(when <= now for host in self._hosts.values() for when, _, _ in host.waiting[: self.threads])
        while self._source is not None and ready < self.threads and self.waiting < MAX_WAITING:
            item = next(self._source, None)
            if item is None:
                self._source = None
                return
            name = urlsplit(item.url).netloc
            self._wait(self._hosts.setdefault(name, _Host(Pace(self.threads))), 0.0, _Job(item, name))
            ready += 1

    def _wait(self, host: _Host, until: float, job: _Job) -> None:
        heapq.heappush(host.waiting, (until, next(self._order), job))
        self.waiting += 1


class _Fetcher:
    """Makes attempts at images; used by many threads."""

    def __init__(self, dataset: Dataset, settings: Settings) -> None:
        self.dataset = dataset
        self.settings = settings
        self.store = image_store(settings)
        self.session = session = requests.Session()
        # Proxies and certificates of the environment are looked up once, not at each of 100,000 requests.
        address = settings.mirror if is_url(settings.mirror) else f"http://{''.join(dataset.image_hosts[:1])}/"
        found = session.merge_environment_settings(address, {}, None, None, None)
        self.environment: dict[str, Any] = {name: found[name] for name in ("proxies", "verify", "cert")}
        adapter = HTTPAdapter if is_url(settings.mirror) else PublicAdapter
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter(pool_maxsize=settings.download_threads))

    def attempt(self, job: _Job) -> _Job:
        """Try once; sets `failure`, and `outcome` unless another attempt is due. Returns the job."""
        started = time.monotonic()
        job.failure = None
        try:
            outcome = self._attempt(job)
        except _Failure as failure:
            job.failure = failure
            if not failure.final and job.attempts <= self.settings.retries:
                job.seconds += time.monotonic() - started
                return job
            outcome = replace(
                job.kept or Outcome(job.item.key, job.item.url),
                error_class=failure.error_class,
                error=clean_text(str(failure))[:MAX_ERROR],
                permanent=failure.permanent,
            )
        job.seconds += time.monotonic() - started
        job.outcome = replace(outcome, attempts=job.attempts, seconds=job.seconds)
        return job

    def _attempt(self, job: _Job) -> Outcome:
        item = job.item
        try:
            path = _place(item.url, self.dataset, self.settings)
            name = str(path.relative_to(self.settings.data_dir))
            if not job.attempts:
                job.kept = self._kept(path, name, item)
            if job.kept and not item.sha256:
                return job.kept
            job.attempts += 1
            found = self._fetch(item.url, item.etag if job.kept else "")
            if found is None:
                return cast(Outcome, job.kept)
            content, etag = found
            digest = hashlib.sha256(content).hexdigest()
            if job.kept and digest == item.sha256:
                return replace(job.kept, etag=etag)
            _check(content, item)
            write_atomically(path, content)
            if self.store:
                self.store.write(name, content)
            return Outcome(item.key, item.url, name, digest, len(content), etag, decoded=bool(item.sha256))
        except UnreachableError:  # the image store's: no other image would fare better
            raise
        except SourceError as error:
            raise _Failure("refused", str(error), permanent=True) from error
        except PrivateAddressError as error:
            raise _Failure("private address", str(error), permanent=True) from error
        except OSError as error:
            raise _Failure("disk", str(error), final=True) from error

    def _kept(self, path: Path, name: str, item: Wanted) -> Outcome | None:
        """The file in place, if it is whole to its last byte and what it should be.

        With an image store that holds for the file there: a whole one here and a whole one there mend each other.
        """
        here = _content(path)
        kept = _whole(here, name, item)
        if self.store and (there := self.store.read(name)) != here:
            if stored := _whole(there, name, item):
                write_atomically(path, cast(bytes, there))
                return stored
            if kept:
                self.store.write(name, cast(bytes, here))
                return replace(kept, uploaded=True)
        return kept

    def _fetch(self, url: str, known_etag: str) -> tuple[bytes, str] | None:
        """The content and the ETag of an upstream URL, or None if the ETag is still the known one."""
        address = str(sample.photo_path(url)) if url.startswith(sample.PREFIX) else mirrored(url, self.settings)
        if not is_url(address):
            try:
                return Path(address).read_bytes(), ""
            except FileNotFoundError:
                raise _Failure("not in mirror", f"{address} does not exist", permanent=True) from None
        timeout = (self.settings.connect_timeout, self.settings.read_timeout)
        try:
            # Straight to the connection pool: a session's own `get` takes twice the time, for cookies and redirects.
            request = requests.PreparedRequest()
            request.prepare("GET", address, HEADERS | ({"If-None-Match": known_etag} if known_etag else {}))
            adapter = self.session.get_adapter(address)
            with adapter.send(request, stream=True, timeout=timeout, **self.environment) as response:
                if known_etag and response.status_code == requests.codes.not_modified:
                    return None
                if response.status_code != requests.codes.ok:
                    raise _answered(address, response)
                return self._body(address, response), response.headers.get("ETag", "")[:MAX_ETAG]
        # While the body is read, urllib3's errors come through as they are.
        except (requests.Timeout, ReadTimeoutError) as error:
            raise _Failure("timeout", f"{address}: {error}") from error
        except IncompleteRead as error:
            raise _Failure("truncated", f"{address}: {error}") from error
        except (requests.ConnectionError, HTTPError) as error:
            raise _Failure("connection", f"{address}: {error}") from error
        except requests.RequestException as error:
            raise _Failure(type(error).__name__, f"{address}: {error}", permanent=True) from error

    def _body(self, address: str, response: requests.Response) -> bytes:
        deadline = time.monotonic() + self.settings.body_timeout
        chunks: list[bytes] = []
        received, declared = 0, response.raw.length_remaining or 0
        while max(received, declared) <= MAX_BYTES:
            chunk = response.raw.read1(CHUNK, decode_content=False)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            received += len(chunk)
            if time.monotonic() > deadline:
                raise _Failure("too slow", f"{address}: no whole body in {self.settings.body_timeout:g} s")
        raise _Failure("too large", f"{address}: over {MAX_BYTES:,} bytes", permanent=True)


def _answered(address: str, response: requests.Response) -> _Failure:
    """The failure that an HTTP status means."""
    code = response.status_code
    error_class, message = f"HTTP {code}", f"{address}: {response.reason}"
    if code in REFUSALS:
        return _Refusal(error_class, message, retry_after(response.headers))
    return _Failure(error_class, message, permanent=code not in PASSING)


def _place(url: str, dataset: Dataset, settings: Settings) -> Path:
    if url.startswith(sample.PREFIX):
        return settings.data_dir / "sample" / plain_name(url.removeprefix(sample.PREFIX))
    return local_path(url, dataset.image_hosts, settings.data_dir)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _whole(content: bytes | None, name: str, item: Wanted) -> Outcome | None:
    """A file that is kept, if its content is whole to its last byte and what it should be."""
    if content is None:
        return None
    digest = hashlib.sha256(content).hexdigest()
    try:
        if item.sha256 not in {"", digest} or decode(content).size != (item.width, item.height):
            return None
    except ImageError:
        return None
    return Outcome(item.key, item.url, name, digest, len(content), item.etag, kept=True, decoded=True)


def _check(content: bytes, item: Wanted) -> None:
    try:
        size = decode(content).size if item.sha256 else checked_size(content)
    except TooManyPixelsError as error:
        raise _Failure("too large", str(error), permanent=True) from error
    except ImageError as error:
        raise _Failure("corrupt", str(error)) from error
    if size != (item.width, item.height):
        expected = (item.width, item.height)
        raise _Failure("wrong size", f"{size} pixels, annotated as {expected}", permanent=True)
