"""Causes of a failed download: whether another attempt may help, and what to do about it."""

from typing import Final

import requests

from coconut_attr.annotations import objects365
from coconut_attr.files.remote import TRANSIENT_STATUSES, requested_pause

THROTTLING_STATUSES = frozenset({429, 503})  # about the host, not about the image

#: What to do about each cause of failure. Further HTTP statuses are handled in `hint`.
HINTS: Final = {
    "HTTP 401": "the host wants an account: use a mirror (COCONUT_ATTR_MIRROR)",
    "HTTP 403": "the host forbids it: check whether it blocks this network, or use a mirror"
    " (COCONUT_ATTR_MIRROR)",
    "HTTP 404": "the image is gone upstream: leave it out, or name a mirror that has it"
    " (COCONUT_ATTR_MIRROR)",
    "HTTP 410": "the image is gone upstream: leave it out, or name a mirror that has it"
    " (COCONUT_ATTR_MIRROR)",
    "HTTP 429": "the host gets too many requests: lower COCONUT_ATTR_DOWNLOAD_THREADS and run again"
    " later",
    "connection": "the network or the host failed: check both and run again",
    "timeout": "the host was silent: run again, or raise COCONUT_ATTR_READ_TIMEOUT",
    "too slow": "the body arrived too slowly: run again, or raise COCONUT_ATTR_BODY_TIMEOUT",
    "truncated": "the connection broke within the body: run again",
    "corrupt": "the body is not a complete JPEG or PNG: open the URL; a proxy may answer in the"
    " host's place",
    "wrong size": "the photo is not the annotated one: its upstream file has changed, or the"
    " annotation is wrong",
    "too large": "larger than any photo of the dataset should be: open the URL",
    "redirects": "the host redirects in circles: open the URL; a proxy may answer in its place",
    "refused": "the annotation names a URL that this dataset does not allow: check where the"
    " annotation is from",
    "private address": "the host's name resolves to a private network: check the DNS, or set"
    " COCONUT_ATTR_MIRROR",
    "not in mirror": "add the image to the mirror, or unset COCONUT_ATTR_MIRROR",
    "no Objects365 photo": objects365.HOW,
    "disk": "the data folder cannot be written: check space and permissions and run again",
}


def hint(error_class: str) -> str:
    """Return what to do about a cause of failure."""
    if error_class.startswith("HTTP 3"):
        return "the image has moved to another host, which is not followed: see the example"
    if error_class.startswith("HTTP 5"):
        return "the host is in trouble: run again later"
    return HINTS.get(error_class, "see the example")


class DownloadFailure(Exception):
    """One failed attempt.

    Attributes:
        error_class: the cause, a key of HINTS or "HTTP" and a status.
        permanent: no later run should try again either.
        final: no further attempt follows in this run.
    """

    def __init__(
        self, error_class: str, message: str, *, permanent: bool = False, final: bool = False
    ):
        super().__init__(message)
        self.error_class = error_class
        self.permanent = permanent
        self.final = final or permanent


class HostThrottled(DownloadFailure):
    """An attempt refused because the host gets too many requests; it may ask for a `pause` (s)."""

    def __init__(self, error_class: str, message: str, pause: float | None):
        super().__init__(error_class, message)
        self.pause = pause


def status_failure(address: str, response: requests.Response) -> DownloadFailure:
    """Return the failure that the status of a response means."""
    status = response.status_code
    error_class, message = f"HTTP {status}", f"{address}: {response.reason}"
    if status in THROTTLING_STATUSES:
        return HostThrottled(error_class, message, requested_pause(response.headers))
    return DownloadFailure(error_class, message, permanent=status not in TRANSIENT_STATUSES)
