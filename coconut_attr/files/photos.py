"""Photos that a user names: files, folders of them, and web addresses."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from coconut_attr.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif"})
#: First bytes of AppleDouble files: macOS keeps a photo's resource fork as ._NAME beside it.
_RESOURCE_FORK = b"\x00\x05\x16\x07"


@dataclass
class PhotoNames:
    """What was found under the names that a user gave.

    Attributes:
        photos: paths and URLs, each once.
        failures: one message for each name, link or folder that leads to no file.
        left_out: one message for files that are no photos, which is not an error.
    """

    photos: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def find_photos(names: Sequence[str]) -> PhotoNames:
    """Return the names, and in place of a folder the photos in it and below, in order.

    Links are followed, hidden files are included. Every other file is accounted for in `failures`
    or `left_out`.

    Raises:
        UserError: there is no photo at all.
    """
    found = PhotoNames()
    for name in names:
        # Unlike pathlib, os.path returns False for a name that is too long for a file.
        if _is_url(name) or os.path.isfile(name):
            found.photos.append(name)
        elif os.path.isdir(name):
            _search(name, found)
        else:
            found.failures.append(f"{name[:200]} is not a file, a folder or an http(s) URL")
    found.photos = list(dict.fromkeys(found.photos))
    if not found.photos:
        raise UserError("; ".join([*found.failures, *found.left_out]))
    return found


def _search(folder: str, found: PhotoNames) -> None:
    photos: list[str] = []
    others: list[str] = []
    visited: set[str] = set()

    def unreadable(error: OSError) -> None:
        found.failures.append(f"{error.filename}: {error.strerror}")

    for parent, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link to a folder above would be followed for ever
            folders.clear()
            continue
        visited.add(real)
        for name in files:
            path = os.path.join(parent, name)
            if Path(name).suffix.lower() not in SUFFIXES:
                others.append(path)
            elif not os.path.isfile(path):
                kind = "a link to nothing" if os.path.islink(path) else "not a regular file"
                found.failures.append(f"{path}: {kind}")
            elif name.startswith("._") and _starts_with(path, _RESOURCE_FORK):
                found.left_out.append(f"left out {path}: a macOS resource file, not a photo")
            else:
                photos.append(path)
    found.photos += sorted(photos)
    if others:
        found.left_out.append(
            f"left out {len(others):,} files in {folder} whose names do not end in "
            f"{', '.join(sorted(SUFFIXES))}, such as {min(others)}"
        )
    if not photos:
        found.failures.append(f"there is no JPEG, PNG, WebP, AVIF or HEIC file in {folder}")


def _starts_with(path: str, magic: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False  # decoding it says why


def _is_url(name: str) -> bool:
    return name.lower().startswith(("http://", "https://"))


def upright(source: bytes | Path) -> "Image.Image":
    """Return a photo as RGB, turned by its EXIF orientation.

    Raises:
        coconut_attr.files.images.ImageError: it is not a complete JPEG, PNG, WebP, AVIF or HEIC.
    """
    from pillow_heif import register_heif_opener

    from coconut_attr.files.images import PHOTO_FORMATS, decode

    register_heif_opener()
    return decode(source, upright=True, formats=PHOTO_FORMATS)


def read_photo(name: str) -> "Image.Image":
    """Return a photo of `find_photos` as RGB, turned by its EXIF orientation.

    Raises:
        coconut_attr.files.images.ImageError: as `upright`.
        coconut_attr.files.public_http.RemoteError: its address cannot be fetched.
        OSError: its file cannot be read.
    """
    if not _is_url(name):
        return upright(Path(name))
    from coconut_attr.files.images import ImageError
    from coconut_attr.files.public_http import fetch

    scheme, rest = name.split(":", 1)
    try:
        return upright(fetch(f"{scheme.lower()}:{rest}"))
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
