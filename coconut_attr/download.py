"""Images by URL: fetched with retries, verified, and kept under the upstream host's name."""

import hashlib
import random
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from coconut_attr.files import write_atomically
from coconut_attr.images import ImageError, decode
from coconut_attr.registry import Dataset
from coconut_attr.settings import Settings
from coconut_attr.sources import sample
from coconut_attr.sources.records import SourceError, local_path
from coconut_attr.sources.upstream import is_url, mirrored

MAX_BYTES = 50 * 2**20
MAX_WAIT = 60.0
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Wanted:
    """An image to fetch. Width and height (pixels) are what its annotation says it must have."""

    key: int
    url: str
    width: int
    height: int


@dataclass(frozen=True)
class Outcome:
    """What came of one image. `path` is relative to the data folder; `error_class` names the cause of a failure."""

    key: int
    url: str
    path: str = ""
    sha256: str = ""
    bytes: int = 0
    attempts: int = 0
    seconds: float = 0.0
    error_class: str = ""
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error_class


class _Failure(Exception):
    """One failed attempt. `wait` seconds before the next one; None: there is no use in another."""

    def __init__(self, error_class: str, message: str, wait: float | None):
        super().__init__(message)
        self.error_class = error_class
        self.wait = wait


def download(wanted: Iterable[Wanted], dataset: Dataset, settings: Settings) -> Iterator[Outcome]:
    """Fetch images in a bounded pool of threads; outcomes come as they are ready, failures among them.

    A file that is already in place and whole is kept without a request.
    """
    with requests.Session() as session, ThreadPoolExecutor(settings.download_threads) as pool:
        adapter = HTTPAdapter(pool_maxsize=settings.download_threads)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        futures = [pool.submit(_one, item, dataset, settings, session) for item in wanted]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def _one(item: Wanted, dataset: Dataset, settings: Settings, session: requests.Session) -> Outcome:
    started = time.monotonic()
    attempts = 0
    try:
        path = _place(item.url, dataset, settings)
        content = _kept(path, item)
        while content is None:
            attempts += 1
            try:
                content = _fetch(item.url, settings, session)
                _verify(content, item)
                write_atomically(path, content)
            except _Failure as failure:
                content = None
                if failure.wait is None or attempts > settings.retries:
                    raise
                backoff = min(MAX_WAIT, 0.5 * 2 ** (attempts - 1))
                time.sleep(max(failure.wait, random.uniform(backoff / 2, backoff)))  # noqa: S311 (jitter)
    except _Failure as failure:
        return _failed(item, failure.error_class, failure, attempts, started)
    except SourceError as error:
        return _failed(item, "refused", error, attempts, started)
    except OSError as error:
        return _failed(item, "disk", error, attempts, started)
    return Outcome(
        key=item.key,
        url=item.url,
        path=str(path.relative_to(settings.data_dir)),
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        attempts=attempts,
        seconds=time.monotonic() - started,
    )


def _failed(item: Wanted, error_class: str, error: Exception, attempts: int, started: float) -> Outcome:
    seconds = time.monotonic() - started
    return Outcome(item.key, item.url, attempts=attempts, seconds=seconds, error_class=error_class, error=str(error))


def _place(url: str, dataset: Dataset, settings: Settings) -> Path:
    if url.startswith(sample.PREFIX):
        return settings.data_dir / "sample" / url.removeprefix(sample.PREFIX)
    return local_path(url, dataset.image_hosts, settings.data_dir)


def _kept(path: Path, item: Wanted) -> bytes | None:
    try:
        content = path.read_bytes()
        _verify(content, item)
    except (OSError, _Failure):
        return None
    return content


def _verify(content: bytes, item: Wanted) -> None:
    try:
        size = decode(content).size
    except ImageError as error:
        raise _Failure("corrupt", str(error), wait=0) from error
    if size != (item.width, item.height):
        raise _Failure("wrong size", f"{size} pixels, annotated as {(item.width, item.height)}", wait=None)


def _fetch(url: str, settings: Settings, session: requests.Session) -> bytes:
    address = str(sample.photo_path(url)) if url.startswith(sample.PREFIX) else mirrored(url, settings)
    if not is_url(address):
        try:
            return Path(address).read_bytes()
        except FileNotFoundError:
            raise _Failure("not in mirror", f"{address} does not exist", wait=None) from None
    timeouts = (settings.connect_timeout, settings.read_timeout)
    try:
        with session.get(address, timeout=timeouts, stream=True, allow_redirects=False) as response:
            if response.status_code != requests.codes.ok:
                passing = response.status_code in PASSING
                wait = _retry_after(response) if passing else None
                raise _Failure(f"HTTP {response.status_code}", f"{address}: {response.reason}", wait)
            content = response.raw.read(MAX_BYTES + 1, decode_content=True)
    except requests.ConnectionError as error:
        raise _Failure("connection", f"{address}: {error}", wait=0) from error
    except requests.RequestException as error:
        raise _Failure(type(error).__name__, f"{address}: {error}", wait=0) from error
    except HTTPError as error:  # while the body is read, urllib3's errors come through as they are
        raise _Failure("connection", f"{address}: {error}", wait=0) from error
    if len(content) > MAX_BYTES:
        raise _Failure("too large", f"{address}: over {MAX_BYTES:,} bytes", wait=None)
    return content


def _retry_after(response: requests.Response) -> float:
    """Seconds that the server asks for (its date form is not used by image hosts), bounded; 0 where it asks none."""
    value = response.headers.get("Retry-After", "")
    return min(MAX_WAIT, float(value)) if value.isdigit() else 0.0
