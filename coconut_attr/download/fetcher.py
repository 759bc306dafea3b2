"""One attempt at one image: keep an intact file, or fetch, check and store it."""

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, IncompleteRead, ReadTimeoutError

from coconut_attr.annotations import objects365, sample
from coconut_attr.annotations.records import clean_text, local_path, plain_name
from coconut_attr.annotations.upstream import is_url, mirrored
from coconut_attr.datasets import Dataset
from coconut_attr.download.failures import DownloadFailure, status_failure
from coconut_attr.download.queue import ImageJob, Mode, Outcome, Wanted
from coconut_attr.errors import SourceError, UnreachableError
from coconut_attr.files.atomic import write_atomically
from coconut_attr.files.images import ImageError, TooManyPixelsError, checked_size, decode
from coconut_attr.files.object_store import object_store
from coconut_attr.files.public_http import (
    STAND_INS,
    PrivateAddressError,
    PublicAdapter,
    require_reachable,
)
from coconut_attr.settings import Settings

MAX_BYTES = 50 * 2**20
MAX_REDIRECTS = 5
CHUNK = 2**18

#: Compressed bodies are neither requested nor decoded: photos do not compress, and a
#: decompression bomb would fill the memory.
HEADERS = {
    "User-Agent": f"coconut-attr {requests.utils.default_user_agent()}",
    "Accept-Encoding": "identity",
}
#: The photo is not in its folder: COCO's other folder may have it.
NOT_THERE = frozenset({"HTTP 404", "not in mirror"})
MAX_ERROR, MAX_ETAG = 500, 200  # characters of a host's message and ETag that are stored


def require_image_hosts(dataset: Dataset, settings: Settings) -> None:
    """Check that a dataset's image hosts may be asked, before its annotations are fetched in vain.

    Raises:
        PrivateAddressError: a host resolves to private addresses only, and there is no mirror.
    """
    if not settings.mirror:
        require_reachable(dataset.image_hosts, STAND_INS)


class ImageFetcher:
    """Attempts at the images of a dataset; shared by many threads."""

    def __init__(self, dataset: Dataset, settings: Settings, mode: Mode) -> None:
        self.dataset = dataset
        self.settings = settings
        self.verify = mode == "verify"
        self.store = object_store(settings)
        self.session = requests.Session()
        # Looked up once: the environment's proxies and certificates cost more than a request.
        address = (
            settings.mirror
            if is_url(settings.mirror)
            else f"http://{''.join(dataset.image_hosts[:1])}/"
        )
        options = self.session.merge_environment_settings(address, {}, None, None, None)
        self.environment: dict[str, Any] = {
            name: options[name] for name in ("proxies", "verify", "cert")
        }
        self.hosts = {*dataset.image_hosts, urlsplit(settings.mirror).netloc} - {""}
        threads = settings.download_threads
        for scheme in ("http://", "https://"):
            self.session.mount(
                scheme,
                HTTPAdapter(pool_maxsize=threads)
                if is_url(settings.mirror)
                else PublicAdapter(STAND_INS, pool_maxsize=threads),
            )

    def attempt(self, job: ImageJob) -> ImageJob:
        """Try once and return the job: its `failure`, and its `outcome` unless a retry is due."""
        started = time.monotonic()
        job.failure = None
        try:
            outcome = self._attempt(job)
        except DownloadFailure as failure:
            job.failure = failure
            if not failure.final and job.attempts <= self.settings.retries:
                job.seconds += time.monotonic() - started
                return job
            outcome = replace(
                job.kept or Outcome(job.item.image_id, job.item.url),
                error_class=failure.error_class,
                error=clean_text(str(failure))[:MAX_ERROR],
                permanent=failure.permanent,
            )
        job.seconds += time.monotonic() - started
        job.outcome = replace(outcome, attempts=job.attempts, seconds=job.seconds)
        return job

    def _attempt(self, job: ImageJob) -> Outcome:
        item = job.item
        try:
            path = _target(item.url, self.dataset, self.settings)
            name = str(path.relative_to(self.settings.data_dir))
            if not job.attempts:
                job.kept = self._intact_file(path, name, item)
            if job.kept and not self.verify:
                return job.kept
            job.attempts += 1
            url = item.url
            try:
                response = self._fetch(url, item.etag if job.kept else "")
            except DownloadFailure as failure:
                if failure.error_class not in NOT_THERE:
                    raise
                url, response = self._fetch_from_other_folder(url, failure)
                path = _target(url, self.dataset, self.settings)
                name = str(path.relative_to(self.settings.data_dir))
            if response is None:
                return cast(Outcome, job.kept)
            content, etag = response
            digest = hashlib.sha256(content).hexdigest()
            if job.kept and digest == item.sha256:
                return replace(job.kept, etag=etag)
            self._check(content, item)
            write_atomically(path, content)
            if self.store:
                self.store.write(name, content)
            return Outcome(
                item.image_id, url, name, digest, len(content), etag, decoded=self.verify
            )
        except UnreachableError:  # the object store's: every other image would fail the same way
            raise
        except SourceError as error:
            raise DownloadFailure("refused", str(error), permanent=True) from error
        except PrivateAddressError as error:
            raise DownloadFailure("private address", str(error), permanent=True) from error
        except OSError as error:
            raise DownloadFailure("disk", str(error), final=True) from error

    def _intact_file(self, path: Path, name: str, item: Wanted) -> Outcome | None:
        """Return the outcome for the file on disk if it is intact and the expected one.

        With an object store, an intact copy there replaces a damaged one here, and the other way
        round.
        """
        local = _content(path)
        kept = self._kept_outcome(local, name, item)
        if self.store and (remote := self.store.read(name)) != local:
            if kept_remotely := self._kept_outcome(remote, name, item):
                write_atomically(path, cast(bytes, remote))
                return kept_remotely
            if kept:
                self.store.write(name, cast(bytes, local))
                return replace(kept, uploaded=True)
        return kept

    def _kept_outcome(self, content: bytes | None, name: str, item: Wanted) -> Outcome | None:
        """Return the outcome for a stored file if its content is intact and the expected one."""
        if content is None:
            return None
        digest = hashlib.sha256(content).hexdigest()
        try:
            if self.verify and item.sha256 not in {"", digest}:
                return None
            if decode(content).size != (item.width, item.height):
                return None
        except ImageError:
            return None
        return Outcome(
            item.image_id, item.url, name, digest, len(content), item.etag, kept=True, decoded=True
        )

    def _fetch_from_other_folder(
        self, url: str, failure: DownloadFailure
    ) -> tuple[str, tuple[bytes, str] | None]:
        """Return the URL and content of a photo that lies in another folder of its dataset.

        Raises:
            DownloadFailure: it is in none of them; the failure in its own folder.
        """
        folder, _, name = url.rpartition("/")
        folders = self.dataset.photo_folders
        for other in folders if f"{folder}/" in folders else ():
            if other != f"{folder}/":
                try:
                    return other + name, self._fetch(other + name, "")
                except DownloadFailure as elsewhere:
                    if elsewhere.error_class not in NOT_THERE:
                        raise
        raise failure

    def _fetch(self, url: str, known_etag: str) -> tuple[bytes, str] | None:
        """Return the content and the ETag of an upstream URL; None if its ETag is unchanged."""
        if url.startswith(objects365.PREFIX):
            try:
                return objects365.find_photo(url, self.settings.objects365_dir).read_bytes(), ""
            except FileNotFoundError as error:
                raise DownloadFailure("no Objects365 photo", str(error), final=True) from None
        address = (
            str(sample.photo_path(url))
            if url.startswith(sample.PREFIX)
            else mirrored(url, self.settings)
        )
        if not is_url(address):
            try:
                return Path(address).read_bytes(), ""
            except FileNotFoundError:
                raise DownloadFailure(
                    "not in mirror", f"{address} does not exist", permanent=True
                ) from None
        headers = HEADERS | ({"If-None-Match": known_etag} if known_etag else {})
        try:
            for _ in range(MAX_REDIRECTS):
                with self._send(address, headers) as response:
                    if known_etag and response.status_code == requests.codes.not_modified:
                        return None
                    if response.is_redirect:
                        address = self._redirection(address, response)
                        continue
                    if response.status_code != requests.codes.ok:
                        raise status_failure(address, response)
                    etag = response.headers.get("ETag", "")[:MAX_ETAG]
                    return self._body(address, response), etag
            raise DownloadFailure("redirects", f"{url}: over {MAX_REDIRECTS} redirects")
        # While the body is read, urllib3's own errors are raised.
        except (requests.Timeout, ReadTimeoutError) as error:
            raise DownloadFailure("timeout", f"{address}: {error}") from error
        except IncompleteRead as error:
            raise DownloadFailure("truncated", f"{address}: {error}") from error
        except (requests.ConnectionError, HTTPError) as error:
            raise DownloadFailure("connection", f"{address}: {error}") from error
        except requests.RequestException as error:
            raise DownloadFailure(
                type(error).__name__, f"{address}: {error}", permanent=True
            ) from error

    def _send(self, address: str, headers: dict[str, str]) -> requests.Response:
        """Send a GET; Session.get takes twice the time, for cookies and redirects."""
        request = requests.PreparedRequest()
        request.prepare("GET", address, headers)
        timeout = (self.settings.connect_timeout, self.settings.read_timeout)
        adapter = self.session.get_adapter(address)
        return adapter.send(request, stream=True, timeout=timeout, **self.environment)

    def _redirection(self, address: str, response: requests.Response) -> str:
        """Return the target of a redirect, which must be on a host of the dataset or the mirror."""
        target = urljoin(address, response.headers["Location"])
        if is_url(target) and urlsplit(target).netloc in self.hosts:
            return target
        raise DownloadFailure(
            f"HTTP {response.status_code}", f"{address}: moved to {target}", permanent=True
        )

    def _body(self, address: str, response: requests.Response) -> bytes:
        seconds = self.settings.body_timeout
        deadline = time.monotonic() + seconds
        chunks: list[bytes] = []
        received, declared = 0, response.raw.length_remaining or 0
        while max(received, declared) <= MAX_BYTES:
            chunk = response.raw.read1(CHUNK, decode_content=False)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            received += len(chunk)
            if time.monotonic() > deadline:
                raise DownloadFailure("too slow", f"{address}: body incomplete after {seconds:g} s")
        raise DownloadFailure("too large", f"{address}: over {MAX_BYTES:,} bytes", permanent=True)

    def _check(self, content: bytes, item: Wanted) -> None:
        try:
            size = decode(content).size if self.verify else checked_size(content)
        except TooManyPixelsError as error:
            raise DownloadFailure("too large", str(error), permanent=True) from error
        except ImageError as error:
            raise DownloadFailure("corrupt", str(error)) from error
        if size != (item.width, item.height):
            expected = (item.width, item.height)
            raise DownloadFailure(
                "wrong size", f"{size} pixels, annotated as {expected}", permanent=True
            )


def _target(url: str, dataset: Dataset, settings: Settings) -> Path:
    if url.startswith(sample.PREFIX):
        return settings.data_dir / "sample" / plain_name(url.removeprefix(sample.PREFIX))
    if url.startswith(objects365.PREFIX):
        return objects365.stored_path(url, settings.data_dir)
    return local_path(url, dataset.image_hosts, settings.data_dir)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
