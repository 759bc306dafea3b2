"""COCO's own files: captions and images of a split, or the images of unlabeled2017."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coconut_attr.annotations.records import MALFORMED, Caption, ImageInfo, clean_text
from coconut_attr.annotations.rows import image_entry
from coconut_attr.annotations.values import OddValueError, shown, whole
from coconut_attr.errors import SourceError
from coconut_attr.findings import Finding


@dataclass
class CocoImages:
    """The images of some of COCO's files by id; not a dict, which Prefect would walk through.

    Attributes:
        photos_of_others: URL folder of the photos that no file lists.
    """

    photos_of_others: str = ""
    by_id: dict[int, ImageInfo] = field(default_factory=dict)

    def get(self, coco_id: int) -> ImageInfo | None:
        """Return the image with that id, None where no file lists it."""
        return self.by_id.get(coco_id)


@dataclass
class CocoContent:
    """The images and captions of a COCO file, and its entries that are neither."""

    images: list[ImageInfo] = field(default_factory=list)
    captions: list[Caption] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def read_coco_file(path: Path, photos: str, with_captions: bool = True) -> CocoContent:
    """Return the content of a COCO file; an odd entry is a finding.

    Args:
        photos: URL folder of its photos.

    Raises:
        SourceError: the file is not of that form.
    """
    try:
        content = json.loads(path.read_bytes())
        images = _list(content["images"])
        captions = _list(content["annotations"]) if with_captions else []
    except MALFORMED as error:
        raise SourceError(
            f"{path} is not a COCO caption file ({error!r}); delete it to fetch it again"
        ) from error
    found = CocoContent()
    for entry in images:
        try:
            found.images.append(image_entry(entry, photos))
        except (OddValueError, SourceError) as error:
            found.findings.append(Finding("entry not read", f"{path.name}: image: {error}"))
    for entry in captions:
        try:
            found.captions.append(_caption(entry))
        except OddValueError as error:
            found.findings.append(Finding("entry not read", f"{path.name}: caption: {error}"))
    return found


def _list(value: Any) -> Iterable[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{shown(value)} is no list")
    return value


def _caption(entry: Any) -> Caption:
    caption_id, coco_id = whole(entry, "id"), whole(entry, "image_id")
    text = entry.get("caption")
    if text is not None and not isinstance(text, str):
        raise OddValueError(f"caption is {shown(text)}")
    return Caption(caption_id, coco_id, clean_text(text or ""))
