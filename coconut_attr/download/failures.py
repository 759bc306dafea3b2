"""TODO."""

from typing import Final

import requests

from coconut_attr.download.pace import retry_after

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


class Failure(Exception):
    """One failed attempt. `final`: no other follows in this run; `permanent`: nor should any in a later one."""

    def __init__(
        self, error_class: str, message: str, *, permanent: bool = False, final: bool = False
    ):
        super().__init__(message)
        self.error_class = error_class
        self.permanent = permanent
        self.final = final or permanent


class Refusal(Failure):
    """The host wants fewer requests, and maybe a pause of `wait` seconds."""

    def __init__(self, error_class: str, message: str, wait: float | None):
        super().__init__(error_class, message)
        self.wait = wait


def answered(address: str, response: requests.Response) -> Failure:
    """The failure that an HTTP status means."""
    code = response.status_code
    error_class, message = f"HTTP {code}", f"{address}: {response.reason}"
    if code in REFUSALS:
        return Refusal(error_class, message, retry_after(response.headers))
    return Failure(error_class, message, permanent=code not in PASSING)
