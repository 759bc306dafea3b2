"""The version of an annotation file: its size and checksums, as its host states them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coconut_attr.files.atomic import sha256_of


@dataclass(frozen=True)
class Version:
    """What distinguishes two states of a file; empty or 0 where it is not known.

    Attributes:
        size: bytes.
        sha256: as the hub states it (LFS), or computed from a local file.
        etag: the host's ETag (the hub's blob id), or the modification time of a local file.
    """

    size: int = 0
    sha256: str = ""
    etag: str = ""


def version_of(info: dict[str, Any]) -> Version:
    """Return the version that the `info` of a file of an fsspec filesystem states."""
    lfs = info.get("lfs") or {}
    etag = (
        info.get("blob_id")
        or info.get("ETag")
        or info.get("Last-Modified")
        or info.get("mtime")
        or ""
    )
    return Version(int(info.get("size") or 0), lfs.get("sha256") or "", str(etag))


def with_checksum(version: Version, local: Path | None) -> Version:
    """Return the version with its SHA-256, which is computed from a local file.

    Raises:
        OSError: it cannot be read.
    """
    if version.sha256 or local is None:
        return version
    return replace(version, sha256=sha256_of(local))


def differs(before: Version, now: Version, local: Path | None) -> bool:
    """Return whether a file has changed, as far as both versions tell.

    Args:
        local: the file, if it is a local one; it is hashed only if size and time do not decide.
    """
    if before.size and now.size and before.size != now.size:
        return True
    if before.etag and before.etag == now.etag:
        return False
    now = with_checksum(now, local)
    if before.sha256 and now.sha256:
        return before.sha256 != now.sha256
    return bool(before.etag and now.etag)
