"""TODO."""

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, IncompleteRead, ReadTimeoutError

from coconut_attr.annotations import sample
from coconut_attr.annotations.records import clean_text, local_path, plain_name
from coconut_attr.annotations.upstream import is_url, mirrored
from coconut_attr.datasets import Dataset
from coconut_attr.download.failures import Failure, answered
from coconut_attr.download.queue import Job, Outcome, Wanted
from coconut_attr.errors import SourceError, UnreachableError
from coconut_attr.files.atomic import write_atomically
from coconut_attr.files.images import ImageError, TooManyPixelsError, checked_size, decode
from coconut_attr.files.object_store import object_store
from coconut_attr.files.public_http import PrivateAddressError, PublicAdapter
from coconut_attr.settings import Settings

MAX_BYTES = 50 * 2**20
CHUNK = 2**18

#: Encoded bodies are not asked for and never decoded: a photo has no use for that, a bomb has.
HEADERS = {
    "User-Agent": f"coconut-attr {requests.utils.default_user_agent()}",
    "Accept-Encoding": "identity",
}
MAX_ERROR, MAX_ETAG = 500, 200  # characters that are kept of what a host says


class Fetcher:
    """Makes attempts at images; used by many threads."""

    def __init__(self, dataset: Dataset, settings: Settings) -> None:
        self.dataset = dataset
        self.settings = settings
        self.store = object_store(settings)
        self.session = session = requests.Session()
        # Proxies and certificates of the environment are looked up once, not at each of 100,000 requests.
        address = (
            settings.mirror
            if is_url(settings.mirror)
            else f"http://{''.join(dataset.image_hosts[:1])}/"
        )
        found = session.merge_environment_settings(address, {}, None, None, None)
        self.environment: dict[str, Any] = {
            name: found[name] for name in ("proxies", "verify", "cert")
        }
        adapter = HTTPAdapter if is_url(settings.mirror) else PublicAdapter
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter(pool_maxsize=settings.download_threads))

    def attempt(self, job: Job) -> Job:
        """Try once; sets `failure`, and `outcome` unless another attempt is due. Returns the job."""
        started = time.monotonic()
        job.failure = None
        try:
            outcome = self._attempt(job)
        except Failure as failure:
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

    def _attempt(self, job: Job) -> Outcome:
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
            return Outcome(
                item.key, item.url, name, digest, len(content), etag, decoded=bool(item.sha256)
            )
        except UnreachableError:  # the image store's: no other image would fare better
            raise
        except SourceError as error:
            raise Failure("refused", str(error), permanent=True) from error
        except PrivateAddressError as error:
            raise Failure("private address", str(error), permanent=True) from error
        except OSError as error:
            raise Failure("disk", str(error), final=True) from error

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
        address = (
            str(sample.photo_path(url))
            if url.startswith(sample.PREFIX)
            else mirrored(url, self.settings)
        )
        if not is_url(address):
            try:
                return Path(address).read_bytes(), ""
            except FileNotFoundError:
                raise Failure(
                    "not in mirror", f"{address} does not exist", permanent=True
                ) from None
        timeout = (self.settings.connect_timeout, self.settings.read_timeout)
        try:
            # Straight to the connection pool: a session's own `get` takes twice the time, for cookies and redirects.
            request = requests.PreparedRequest()
            request.prepare(
                "GET", address, HEADERS | ({"If-None-Match": known_etag} if known_etag else {})
            )
            adapter = self.session.get_adapter(address)
            with adapter.send(
                request, stream=True, timeout=timeout, **self.environment
            ) as response:
                if known_etag and response.status_code == requests.codes.not_modified:
                    return None
                if response.status_code != requests.codes.ok:
                    raise answered(address, response)
                return self._body(address, response), response.headers.get("ETag", "")[:MAX_ETAG]
        # While the body is read, urllib3's errors come through as they are.
        except (requests.Timeout, ReadTimeoutError) as error:
            raise Failure("timeout", f"{address}: {error}") from error
        except IncompleteRead as error:
            raise Failure("truncated", f"{address}: {error}") from error
        except (requests.ConnectionError, HTTPError) as error:
            raise Failure("connection", f"{address}: {error}") from error
        except requests.RequestException as error:
            raise Failure(type(error).__name__, f"{address}: {error}", permanent=True) from error

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
                raise Failure(
                    "too slow", f"{address}: no whole body in {self.settings.body_timeout:g} s"
                )
        raise Failure("too large", f"{address}: over {MAX_BYTES:,} bytes", permanent=True)


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
    return Outcome(
        item.key, item.url, name, digest, len(content), item.etag, kept=True, decoded=True
    )


def _check(content: bytes, item: Wanted) -> None:
    try:
        size = decode(content).size if item.sha256 else checked_size(content)
    except TooManyPixelsError as error:
        raise Failure("too large", str(error), permanent=True) from error
    except ImageError as error:
        raise Failure("corrupt", str(error)) from error
    if size != (item.width, item.height):
        expected = (item.width, item.height)
        raise Failure("wrong size", f"{size} pixels, annotated as {expected}", permanent=True)
