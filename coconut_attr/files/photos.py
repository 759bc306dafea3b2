"""Photos that a user names: files, folders of them, and web addresses."""

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from coconut_attr.errors import UserError
from coconut_attr.files.images import ImageError, decode
from coconut_attr.files.public_http import fetch

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


def find_photos(names: Sequence[str]) -> list[str]:
    """The names themselves, and in place of a folder the JPEG and PNG files in it and below, in order.

    Raises:
        UserError: a name is neither a file, a folder with such files, nor an http(s) URL.
    """
    found: list[str] = []
    for name in names:
        # Of a name that is too long for a file, os.path says that it is none, where pathlib raises an error.
        if name.startswith(("http://", "https://")) or os.path.isfile(name):
            found.append(name)
        elif os.path.isdir(name):
            inside = sorted(
                str(p)
                for p in Path(name).rglob("*")
                if p.suffix.lower() in SUFFIXES and p.is_file()
            )
            if not inside:
                raise UserError(f"there is no JPEG or PNG file in {name}")
            found += inside
        else:
            raise UserError(f"{name[:200]} is not a file, a folder or an http(s) URL")
    return list(dict.fromkeys(found))


def upright(source: bytes | Path) -> Image.Image:
    """A photo as its camera meant it, RGB. (COCO's masks ignore orientation tags, and so does `decode`.)

    Raises:
        coconut_attr.files.images.ImageError: no JPEG or PNG, not whole, or too large.
        OSError: the file cannot be read.
    """
    return ImageOps.exif_transpose(decode(source))


def read_photo(name: str) -> Image.Image:
    """A photo by the name that `find_photos` gave it, upright, as RGB.

    Raises:
        coconut_attr.files.images.ImageError: it is not a whole JPEG or PNG.
        coconut_attr.files.public_http.RemoteError: its address cannot be fetched.
        OSError: its file cannot be read.
    """
    if not name.startswith(("http://", "https://")):
        return upright(Path(name))
    try:
        return upright(fetch(name))
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
