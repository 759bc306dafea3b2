"""One row of an annotation file as a record: any row gives an annotation or a finding."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from coconut_attr.annotations.categories import Category, coco_categories, contradicts
from coconut_attr.annotations.records import LICENCES, ImageInfo, OddRow, Panoptic, Row, SegmentInfo
from coconut_attr.annotations.values import (
    OddValueError,
    field,
    file_name,
    number_of,
    optional_whole,
    shown,
    whole,
)
from coconut_attr.errors import SourceError
from coconut_attr.findings import Finding

MAX_SEGMENT_ID = 2**24 - 1


def hub_row(row: Any, place: str) -> Row:
    """Return the annotation in a row of the hub's parquet files (mask, segments_info, image_info).

    Args:
        place: file and row, for findings.
    """
    try:
        info, mask = field(row, "segments_info"), field(row, "mask")
        image_id = whole(info, "image_id")
        png = field(mask, "bytes") if mask is not None else None
        for name in (field(info, "file_name"), field(mask or {}, "path")):
            refuse_other_image(name, image_id)
        if not isinstance(png, bytes):
            raise _Refused("mask not read", f"image {image_id}: its mask is {shown(png)}")
        image, findings = stated_image(field(row, "image_info"), image_id)
        segments, odd = segments_of(field(info, "segments_info"), coco_categories(), True)
    except (OddValueError, SourceError) as error:
        return odd_row(place, error)
    return Panoptic(image_id, image, png, segments, place, (*findings, *odd))


class _Refused(OddValueError):
    """A row is refused with a finding of another kind than `row not read`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def odd_row(place: str, error: Exception) -> OddRow:
    """Return the finding that a row which raised an error makes."""
    kind = error.kind if isinstance(error, _Refused) else "row not read"
    return OddRow(Finding(kind, f"{place}: {error}"))


def refuse_other_image(name: Any, image_id: int) -> None:
    """Refuse a mask whose name states the number of another image than its annotation.

    Raises:
        OddValueError: it does.
    """
    number = number_of(name) if isinstance(name, str) else None
    if number is not None and number != image_id:
        raise _Refused(
            "mask of another image", f"segments_info is of image {image_id}, its mask is {name}"
        )


def refuse_shared_mask(name: str, image_id: int) -> None:
    """Refuse a mask that several annotations name, unless its number is this image's id.

    Raises:
        OddValueError: it may be another image's.
    """
    if number_of(name) != image_id:
        raise _Refused(
            "mask of another image", f"image {image_id}: other images name the mask {name}, too"
        )


def refuse_missing_mask(name: str, reason: str | None) -> None:
    """Refuse an annotation whose mask file cannot be read.

    Raises:
        OddValueError: always.
    """
    raise _Refused("mask not read", f"{name}: {reason or 'cannot be read'}")


def stated_image(entry: Any, image_id: int) -> tuple[ImageInfo | None, list[Finding]]:
    """Return what image_info says of an image, None where it says it of another or of none."""
    try:
        info = image_entry(entry)
    except (OddValueError, SourceError) as error:
        return None, [Finding("image_info not read", str(error))]
    number = number_of(info.file_name)
    if info.coco_id != image_id or number not in {None, image_id}:
        what = f"image_info is of image {info.coco_id} ({info.file_name})"
        return None, [Finding("image_info of another image", f"{what}, its mask of {image_id}")]
    return info, []


def image_entry(entry: Any, photos: str = "") -> ImageInfo:
    """Return an `images` entry of a COCO file, or an image_info of the same form, as a record.

    Args:
        photos: URL folder of the photo where the entry states no URL.

    Raises:
        OddValueError: its id, name or size is missing or is none.
        SourceError: its name could leave its folder.
    """
    name = file_name(entry)
    url, number = entry.get("coco_url"), optional_whole(entry, "license")
    return ImageInfo(
        coco_id=whole(entry, "id"),
        file_name=name,
        width=whole(entry, "width", 1),
        height=whole(entry, "height", 1),
        url=url if isinstance(url, str) and url else photos + name,
        licence=LICENCES.get(number or 0, ""),
    )


def segments_of(
    entries: Any, categories: Mapping[int, Category], keep_unknown: bool
) -> tuple[tuple[SegmentInfo, ...], list[Finding]]:
    """Return the segments of a segments_info list with COCO's category ids, and what is odd.

    Args:
        categories: of the file, by the file's ids.
        keep_unknown: keep a segment of an unknown id, which the rules of the labels may know.

    Raises:
        OddValueError: it is no list.
    """
    if not isinstance(entries, list):
        raise OddValueError(f"segments_info is {shown(entries)}")
    segments, findings = [], []
    for entry in entries:
        try:
            own = whole(entry, "category_id")
            segment_id = whole(entry, "id", 0, MAX_SEGMENT_ID)
        except OddValueError as error:
            findings.append(Finding("segment not read", str(error)))
            continue
        category = categories.get(own)
        coco_id = category.coco_id if category else (own if keep_unknown else None)
        if coco_id is None:
            what = f"segment {segment_id}: category {own}"
            what += f", {shown(category.name)}, is none of COCO's" if category else " is not listed"
            findings.append(Finding("unknown category", what))
            continue
        if category and contradicts(category, entry.get("isthing")):
            what = f"segment {segment_id}: {category.name}, isthing {entry['isthing']}"
            findings.append(Finding("isthing differs", what))
        iscrowd = entry.get("iscrowd") in (1, True)
        segments.append(SegmentInfo(segment_id, coco_id, iscrowd, optional_whole(entry, "area")))
    return tuple(segments), findings


def stem(name: str) -> str:
    """Return a file name without its suffix: what photo and mask have in common."""
    return PurePath(name).stem
