"""ImageNet weights that torchvision publishes: downloaded once, or placed by hand.

torchvision's own download has no timeout and begins again after an interruption.
"""

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

import torch
from filelock import FileLock
from torch import nn
from torchvision.models import WeightsEnum

from coconut_attr.model.backbones.names import BackboneError
from coconut_attr.model.backbones.registry import OnBytes

TIMEOUT = 20.0  # seconds in which a host answers, and sends something
SLOWEST: Final = 4096  # bytes per second
CHUNK: Final = 1 << 20


class WrongContent(OSError):
    """A host sent something else than the weights."""


def cached_file(weights: WeightsEnum) -> Path:
    """Return the path at which torchvision, too, looks for these weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]


def fetch_weights(weights: WeightsEnum, on_bytes: OnBytes = lambda done, total: None) -> None:
    """Download weights, if they are not on this machine.

    An interrupted download is continued, and the result is checked against the digits of its
    SHA-256 in the file's name.

    Raises:
        BackboneError: they cannot be had; the message says why and what to do.
    """
    path = cached_file(weights)
    most = int(1.1 * 2**20 * weights.meta["_file_size"])  # of MB; no host may fill the disk
    try:
        download(weights.url, path, most, on_bytes)
    except (OSError, http.client.HTTPException) as error:
        raise BackboneError(
            f"cannot download ImageNet weights ({error or type(error).__name__}): place "
            f"{weights.url} at {path}, or use --backbone efficientnet_lite0, whose weights are "
            "installed with the package"
        ) from error


def load_without_head(weights: WeightsEnum, head: str, module: nn.Module) -> None:
    """Load weights into a module, without those whose name begins with `head`.

    Raises:
        BackboneError: as `fetch_weights`.
    """
    fetch_weights(weights)
    state = torch.load(cached_file(weights), map_location="cpu", weights_only=True)
    module.load_state_dict(
        {name: tensor for name, tensor in state.items() if not name.startswith(head)}
    )


def download(url: str, path: Path, most: int, on_bytes: OnBytes) -> None:
    """Download a file whose name holds digits of its SHA-256, if it is not there and intact.

    Args:
        most: bytes that the file may have.

    Raises:
        OSError, http.client.HTTPException: the host does not answer, stalls, breaks off without
            having sent anything more, or sends something else; or the disk is full.
    """
    if is_intact(path, path.name):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with FileLock(path.with_name(f"{path.name}.lock")):
        if is_intact(path, path.name):  # another process has downloaded it meanwhile
            return
        retried = False
        while not is_intact(part, path.name):
            before = size_of(part)
            try:
                append(url, part, most, on_bytes)
            except urllib.error.HTTPError as error:
                if error.code != 416:  # there is nothing after what this file has
                    raise
            except (OSError, http.client.HTTPException):
                if size_of(part) - before < SLOWEST * TIMEOUT:
                    raise
                continue  # it broke off, but had sent enough to hope for the rest
            if not is_intact(part, path.name):
                part.unlink()
                if retried or not before:
                    raise WrongContent(f"what {url} sent is not {path.name}")
                retried = True  # from scratch: what was there before may have been something else
        os.replace(part, path)


def append(url: str, part: Path, most: int, on_bytes: OnBytes) -> None:
    """Request what a partial file lacks, and append it; errors as `download`."""
    done = size_of(part)
    headers = {"Range": f"bytes={done}-"} if done else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (https, or a test's host)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response, part.open("ab") as file:  # noqa: S310
        if response.status != 206:
            done = 0  # the host does not know ranges, and sends all of it
        file.truncate(done)
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else most
        checked, checked_at = done, time.monotonic()
        while block := response.read1(CHUNK):
            file.write(block)
            done += len(block)
            on_bytes(done, total)
            if done > most:
                part.unlink()
                raise WrongContent(f"{url} sent more than {most} bytes")
            if (seconds := time.monotonic() - checked_at) > TIMEOUT:
                if done - checked < SLOWEST * seconds:
                    raise TimeoutError(f"{url} sends less than {SLOWEST} bytes per second")
                checked, checked_at = done, time.monotonic()
        if length and done < total:
            raise ConnectionError(f"{url} broke off after {done} of {total} bytes")


def size_of(path: Path) -> int:
    """Return the size of a file; 0 if it is not there."""
    return path.stat().st_size if path.is_file() else 0


def is_intact(path: Path, name: str) -> bool:
    """Return whether a file is there and has the SHA-256 whose first digits end `name`.

    Names are as torch.hub's: `resnet50-11ad3fa6.pth`.
    """
    digits = re.search(r"-([0-9a-f]{8,})\.", name)
    if digits is None or not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(digits[1])
