"""Files over HTTP: read by byte range or fetched complete, retried while a failure is transient."""

import logging
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import responses
from typing import BinaryIO, Final

import requests
from fsspec.spec import AbstractBufferedFile
from huggingface_hub.utils import parse_ratelimit_headers
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from urllib3 import Retry
from urllib3.exceptions import HTTPError, InvalidHeader

from coconut_attr.errors import SourceError, UnreachableError
from coconut_attr.settings import Settings

TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
MAX_PAUSE = 600.0  # seconds; a longer pause is cut to this
MAX_BACKOFF = 60.0  # seconds
CHUNK = 2**20  # bytes
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

logger = logging.getLogger(__name__)


class RangesNotSupportedError(SourceError):
    """A server, or a proxy before it, ignores byte ranges; `size` is the file's (0: not stated)."""

    def __init__(self, message: str, size: int = 0) -> None:
        super().__init__(message)
        self.size = size


def requested_pause(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a response asks to wait, at most MAX_PAUSE; None if it does not say.

    Reads Retry-After (RFC 9110: seconds or a date), or else RateLimit
    (draft-ietf-httpapi-ratelimit-headers), which the Hugging Face hub sends.
    """
    try:
        seconds = Retry().parse_retry_after(headers["Retry-After"])
    except (KeyError, InvalidHeader):
        limit = parse_ratelimit_headers(headers)
        if limit is None or limit.remaining:
            return None
        seconds = limit.reset_in_seconds
    return min(MAX_PAUSE, seconds)


def backoff(failures: int) -> float:
    """Return the seconds to wait after this many failures in a row.

    The wait doubles from 0.5 s up to MAX_BACKOFF; half of it is random, so that retries spread.
    """
    longest = min(MAX_BACKOFF, 0.5 * 2 ** (failures - 1))
    return random.uniform(longest / 2, longest)  # noqa: S311 (jitter)


def retrying(settings: Settings) -> Retrying:
    """Return a caller that repeats a function on UnreachableError, pausing as its host asks."""

    def wait(state: RetryCallState) -> float:
        pause = getattr(state.outcome and state.outcome.exception(), "pause", None)
        return backoff(state.attempt_number) if pause is None else pause

    def report(state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        logger.warning("%s; next attempt in %.1f s", error, state.upcoming_sleep)

    return Retrying(
        retry=retry_if_exception_type(UnreachableError),
        stop=stop_after_attempt(settings.retries + 1),
        wait=wait,
        before_sleep=report,
        reraise=True,
    )


def status_error(url: str, status: int, headers: Mapping[str, str]) -> SourceError:
    """Return the error that an HTTP status means; a transient one carries the requested pause."""
    message = f"{url} answers {status} {responses.get(status, '')}".strip()
    if status in TRANSIENT_STATUSES:
        return UnreachableError(message, requested_pause(headers))
    if status in {401, 403}:
        message += ": the host wants an account (on the Hugging Face hub: set HF_TOKEN), or blocks"
        message += " this network"
    return SourceError(message)


class RemoteFile(AbstractBufferedFile):
    """A seekable file on an HTTP server, read by byte range.

    Args:
        block_size: bytes to read ahead.
        headers: sent with each request, except to another host that it is redirected to.

    Raises:
        RangesNotSupportedError: the server ignores byte ranges. Reads raise it, too.
        UnreachableError: it does not answer, or asks for another attempt, after all retries.
        SourceError: it answers with another error status.
    """

    def __init__(
        self,
        url: str,
        settings: Settings,
        block_size: int,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url = url
        self.settings = settings
        self.session = requests.Session()
        self.session.headers.update({"Accept-Encoding": "identity", **(headers or {})})
        self.attempts = retrying(settings)
        _, size = self.attempts(self._get_range, 0, 1)
        super().__init__(None, url, "rb", block_size, size=size)

    def _fetch_range(self, start: int, end: int) -> bytes:
        content, _ = self.attempts(self._get_range, start, end)
        return content

    def _get_range(self, start: int, end: int) -> tuple[bytes, int]:
        """Return the bytes from start up to end, and the size of the file."""
        with _response(
            self.session, self.url, self.settings, {"Range": f"bytes={start}-{end - 1}"}
        ) as response:
            span = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if response.status_code != requests.codes.partial_content or not span:
                raise RangesNotSupportedError(
                    f"{self.url} is answered without byte ranges, which are needed to read it: a"
                    " proxy may drop them; use a mirror (COCONUT_ATTR_MIRROR, HF_ENDPOINT)",
                    response.raw.length_remaining or 0,
                )
            content = response.content
            if int(span[1]) != start or len(content) != min(end, int(span[3])) - start:
                raise UnreachableError(f"{self.url}: the answer is not the requested byte range")
            return content, int(span[3])

    def close(self) -> None:
        self.session.close()
        super().close()


def fetch_complete(url: str, file: BinaryIO, settings: Settings) -> None:
    """Write the complete content of a URL to a file, with a progress bar on a terminal.

    Raises:
        UnreachableError, SourceError: as `RemoteFile`.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with (
        requests.Session() as session,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task(url.rsplit("/", 1)[-1], total=None)

        def attempt() -> None:
            file.seek(0)
            file.truncate()
            with _response(session, url, settings, {}) as response:
                length = response.headers.get("Content-Length", "")
                progress.reset(bar, total=int(length) if length.isdecimal() else None)
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    progress.advance(bar, len(chunk))

        retrying(settings)(attempt)


@contextmanager
def _response(
    session: requests.Session, url: str, settings: Settings, headers: dict[str, str]
) -> Iterator[requests.Response]:
    """Yield the successful response to a GET; failures, also while it is read, are SourceErrors."""
    timeout = (settings.connect_timeout, settings.read_timeout)
    try:
        with session.get(url, headers=headers, timeout=timeout, stream=True) as response:
            if not response.ok:
                raise status_error(url, response.status_code, response.headers)
            yield response
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise SourceError(f"cannot read {url}: {error}") from error
    except (requests.RequestException, HTTPError) as error:
        raise UnreachableError(f"cannot read {url}: {error}") from error
