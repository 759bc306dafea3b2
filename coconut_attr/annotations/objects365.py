"""Photos of Objects365: COCONut annotates some, COCO's host has none, so a user names a folder."""

import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

from coconut_attr.annotations.records import ImageInfo, plain_name

PREFIX: Final = "objects365:"
#: Added to Objects365's image ids, so that none is taken for COCO's image of that number.
FIRST_ID: Final = 1_000_000_000
HOW: Final = (
    "photos of Objects365 are not on COCO's host: download them from https://www.objects365.org"
    " and set COCONUT_ATTR_OBJECTS365_DIR to their folder"
)


def image(stated: ImageInfo) -> ImageInfo:
    """Return the record of an Objects365 photo, whose id lies above COCO's."""
    coco_id = stated.coco_id + FIRST_ID * (stated.coco_id < FIRST_ID)
    return replace(stated, coco_id=coco_id, url=PREFIX + stated.file_name, licence="")


def stored_path(url: str, data_dir: Path) -> Path:
    """Return where the data folder holds the photo of an `objects365:` URL.

    Raises:
        SourceError: its name could leave the folder.
    """
    return data_dir / "objects365" / plain_name(url.removeprefix(PREFIX))


def find_photo(url: str, folder: Path | None) -> Path:
    """Return the photo of an `objects365:` URL in the folder that the user names, or below it.

    Raises:
        FileNotFoundError: no folder is named, or it lacks the photo; the message says what to do.
    """
    name = url.removeprefix(PREFIX)
    found = _photos(folder).get(name) if folder else None
    if found is None:
        where = f"{folder} has no {name}" if folder else "COCONUT_ATTR_OBJECTS365_DIR is not set"
        raise FileNotFoundError(f"{where}; {HOW}")
    return found


@cache
def _photos(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by name: Objects365 comes in patches, one folder each."""
    return {name: Path(root) / name for root, _, names in os.walk(folder) for name in names}
