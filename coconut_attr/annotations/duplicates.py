"""TODO."""

from collections.abc import Callable, Iterable, Set
from dataclasses import replace
from typing import TypeVar

from coconut_attr.annotations.records import Caption, ImageInfo, Panoptic
from coconut_attr.findings import Finding

T = TypeVar("T")


def unique_annotations(
    annotations: Iterable[Panoptic], seen: Set[int], file: str
) -> tuple[list[Panoptic], list[tuple[int, Finding]]]:
    """The annotations of images that have none yet, their segments with different ids: the first of each counts.

    Args:
        seen: COCO ids of the images that have an annotation.
        file: name of the file that the annotations are of.

    Returns:
        The annotations, and for what was left out the COCO id of its image and the problem.
    """
    kept, problems = [], []
    own: set[int] = set()
    for annotation in annotations:
        coco_id = annotation.image.coco_id
        if coco_id in seen or coco_id in own:
            problems.append((coco_id, Finding("duplicate COCO id", f"annotated again in {file}")))
            continue
        own.add(coco_id)
        first, again = _first_of_each(annotation.segments, key=lambda segment: segment.id)
        for one, other in again:
            what = f"segment {one.id} as category {one.category_id} and as {other.category_id}"
            problems.append((coco_id, Finding("duplicate segment id", what)))
        kept.append(replace(annotation, segments=tuple(first)))
    return kept, problems


def unique_captions(
    images: Iterable[ImageInfo], captions: Iterable[Caption]
) -> tuple[list[ImageInfo], list[Caption], list[tuple[int, Finding]]]:
    """Images and captions with different ids, the first of each, and for each other one its COCO id and the problem."""
    first_images, again_images = _first_of_each(images, key=lambda image: image.coco_id)
    first_captions, again_captions = _first_of_each(captions, key=lambda caption: caption.id)
    problems = [
        (one.coco_id, Finding("duplicate COCO id", "listed again in a caption file"))
        for one, _ in again_images
    ]
    for one, other in again_captions:
        what = f"caption {one.id} is of image {one.coco_id} and of image {other.coco_id}"
        problems.append((other.coco_id, Finding("duplicate caption id", what)))
    return first_images, first_captions, problems


def _first_of_each(
    items: Iterable[T], key: Callable[[T], int]
) -> tuple[list[T], list[tuple[T, T]]]:
    """The first item of each key; and each other one, as a pair with the first."""
    first: dict[int, T] = {}
    again = []
    for item in items:
        kept = first.setdefault(key(item), item)
        if kept is not item:
            again.append((kept, item))
    return list(first.values()), again
