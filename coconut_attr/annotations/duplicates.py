"""The first of each: annotations, images and captions whose ids come more than once."""

from collections.abc import Callable, Iterable, Set
from dataclasses import replace
from typing import TypeVar

from coconut_attr.annotations.records import Caption, ImageInfo, Panoptic
from coconut_attr.findings import Finding

T = TypeVar("T")


def unique_annotations(
    annotations: Iterable[Panoptic], annotated: Set[int], superseded: Set[int], file: str
) -> tuple[list[Panoptic], list[tuple[int, Finding]]]:
    """Return the annotations of images that have none yet, their segments with different ids.

    Args:
        annotated: ids of the images that have an annotation.
        superseded: ids of those whose annotation comes from a repository that this one replaces;
            they are left out without a finding.
        file: name of the annotations' file.

    Returns:
        The annotations, and for each finding the COCO id of its image.
    """
    first_ones, findings = [], []
    own: set[int] = set()
    for annotation in annotations:
        coco_id = annotation.image_id
        if coco_id in annotated or coco_id in own:
            if coco_id not in superseded:
                detail = f"annotated again in {file}"
                findings.append((coco_id, Finding("duplicate COCO id", detail)))
            continue
        own.add(coco_id)
        findings += [(coco_id, finding) for finding in annotation.findings]
        first, again = _first_of_each(annotation.segments, id_of=lambda segment: segment.id)
        for one, other in again:
            what = f"segment {one.id} as category {one.category_id} and as {other.category_id}"
            findings.append((coco_id, Finding("duplicate segment id", what)))
        first_ones.append(replace(annotation, segments=tuple(first)))
    return first_ones, findings


def unique_captions(
    images: Iterable[ImageInfo], captions: Iterable[Caption]
) -> tuple[list[ImageInfo], list[Caption], list[tuple[int, Finding]]]:
    """Return the first image and caption of each id, and a finding for each other one."""
    first_images, again_images = _first_of_each(images, id_of=lambda image: image.coco_id)
    first_captions, again_captions = _first_of_each(captions, id_of=lambda caption: caption.id)
    findings = [
        (one.coco_id, Finding("duplicate COCO id", "listed again in a caption file"))
        for one, _ in again_images
    ]
    for one, other in again_captions:
        what = f"caption {one.id} is of image {one.coco_id} and of image {other.coco_id}"
        findings.append((other.coco_id, Finding("duplicate caption id", what)))
    return first_images, first_captions, findings


def _first_of_each(
    items: Iterable[T], id_of: Callable[[T], int]
) -> tuple[list[T], list[tuple[T, T]]]:
    """Return the first item of each id, and each other one as a pair with the first."""
    first: dict[int, T] = {}
    again = []
    for item in items:
        earlier = first.setdefault(id_of(item), item)
        if earlier is not item:
            again.append((earlier, item))
    return list(first.values()), again
