"""Integrity of a dataset: what in its annotations, masks, photos and counts does not fit together."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from coconut_attr.evidence import Problem
from coconut_attr.files import sha256_of
from coconut_attr.image_store import image_store
from coconut_attr.images import ImageError
from coconut_attr.panoptic import Measured, decode_mask, measure
from coconut_attr.registry import Dataset
from coconut_attr.settings import Settings
from coconut_attr.sources import kaggle
from coconut_attr.sources.records import Caption, ImageInfo, Panoptic, SegmentInfo

T = TypeVar("T")

AT_SOURCE: Final = "the source has it so: report it upstream; the rest of the image is used"
FETCH: Final = "to fetch what differs: coconut-attr download DATASET --verify"
READ_ANEW: Final = "to take the new one: coconut-attr download DATASET --refresh"

#: What each kind of finding means, and what to do about it.
KINDS: Final[dict[str, tuple[str, str]]] = {
    "image count differs": ("upstream states another number of images", "finish or repeat the download"),
    "segment count differs": ("upstream states another number of segments", "finish or repeat the download"),
    "annotation file unfinished": ("its reading was interrupted, or limited", "run download again without a limit"),
    "annotation file changed": ("upstream replaced a file after it was read", READ_ANEW),
    "annotation file gone": ("a file that was read is listed no more", READ_ANEW),
    "image without annotation": ("captions name the image, no mask does", "finish the download; else nothing is lost"),
    "annotation without image": ("the photo could not be fetched", "coconut-attr download DATASET --retry-failed"),
    "image not asked for": ("the download was interrupted, or limited", "run download again without a limit"),
    "image file missing": ("the photo is no longer in the data folder", FETCH),
    "image file changed": ("the photo's SHA-256 is not the downloaded one's", FETCH),
    "not in the image store": ("this machine has the file, others get none", "coconut-attr download DATASET"),
    "mask without annotation": ("no annotation names the mask file", "it is not used; report it upstream"),
    "mask not read": ("the mask is missing, damaged, or no RGB PNG", "restore it from a copy, or report it upstream"),
    "mask size differs": ("mask and photo differ in width or height", AT_SOURCE),
    "ids not in segments_info": ("the mask has ids that nothing describes", AT_SOURCE),
    "segment not in mask": ("segments_info lists an id that has no pixel", AT_SOURCE),
    "segment area differs": ("segments_info and the mask's pixels disagree", "the pixels count; report it upstream"),
    "unknown category": ("the rules have no such category", "add it to the rules, or report it upstream"),
    "duplicate segment id": ("segments_info lists an id more than once", "the first is used; report it upstream"),
    "duplicate COCO id": ("an image is annotated or listed more than once", "the first is used; report it upstream"),
    "duplicate caption id": ("two captions have one id", "the first is used; report it upstream"),
}


def read_mask(mask: Path, shape: tuple[int, int]) -> np.ndarray | Problem:
    """Segment ids [height, width] of a panoptic PNG, or why it cannot be used for an image of that shape."""
    try:
        ids = decode_mask(mask.read_bytes())
    except (ImageError, OSError) as error:
        return Problem("mask not read", str(error))
    if ids.shape != shape:
        what = f"{ids.shape[1]} x {ids.shape[0]} pixels, its image has {shape[1]} x {shape[0]}"
        return Problem("mask size differs", what)
    return ids


def unusable(infos: Iterable[SegmentInfo], measured: Measured, categories: Iterable[int]) -> list[Problem]:
    """What of an annotation nothing can be made of: ids that segments_info lacks, and categories unknown to the rules.

    Args:
        categories: ids of the categories that there are.
    """
    problems = []
    if measured.unnamed:
        shown = ", ".join(map(str, measured.unnamed[:5]))
        problems.append(Problem("ids not in segments_info", f"{len(measured.unnamed)} ids of the mask: {shown}"))
    unknown = sorted({info.category_id for info in infos}.difference(categories))
    return problems + [Problem("unknown category", f"category {c} is none of the rules' categories") for c in unknown]


def check_annotation(
    mask: Path, infos: Sequence[SegmentInfo], shape: tuple[int, int], categories: Iterable[int]
) -> list[Problem]:
    """What does not fit in the panoptic annotation of one image; a mask that cannot be used is not looked into.

    Args:
        mask: its panoptic PNG.
        infos: its segments_info, with different ids.
        shape: height and width of the image in pixels.
        categories: ids of the categories that there are.
    """
    ids = read_mask(mask, shape)
    if isinstance(ids, Problem):
        return [ids, *unusable(infos, Measured([], []), categories)]
    measured = measure(ids, infos, frozenset())
    problems = unusable(infos, measured, categories)
    areas = {segment.id: segment.area for segment in measured.segments}
    for info in infos:
        name = f"segment {info.id} (category {info.category_id})"
        if info.id not in areas:
            problems.append(Problem("segment not in mask", f"{name}, {info.area} pixels by segments_info"))
        elif areas[info.id] != info.area:
            both = f"{info.area} pixels by segments_info, {areas[info.id]} in the mask"
            problems.append(Problem("segment area differs", f"{name}: {both}"))
    return problems


def check_photo(photo: Path, sha256: str | None) -> list[Problem]:
    """Whether a downloaded photo is there and has the content that was downloaded."""
    try:
        found = sha256_of(photo)
    except OSError as error:
        return [Problem("image file missing", str(error))]
    if found != sha256:
        return [Problem("image file changed", f"{photo}: SHA-256 {found[:12]}..., downloaded as {str(sha256)[:12]}...")]
    return []


@dataclass(frozen=True)
class Held:
    """How much of a dataset is held: images, segments, the mask files (relative paths) that images have, and the photos
    with their bytes."""

    images: int
    segments: int
    masks: frozenset[str]
    photos: Mapping[str, int]
    unfinished: tuple[str, ...] = ()  #: names of annotation files that were not read to their end


def check_dataset(dataset: Dataset, held: Held, settings: Settings) -> list[Problem]:
    """What does not fit in a dataset as a whole: its counts, its annotation files, masks that nothing names, and what
    the image store (if there is one) lacks although it is here.

    Raises:
        coconut_attr.sources.records.SourceError: the Kaggle-layout folder of the settings is not one.
    """
    problems = [
        Problem(f"{what} count differs", f"{found:,} {what}s, upstream states {expected:,}")
        for what, found, expected in (
            ("image", held.images, dataset.expected_images),
            ("segment", held.segments, dataset.expected_segments),
        )
        if expected is not None and abs(found - expected) >= _precision(expected)
    ]
    problems += [Problem("annotation file unfinished", name) for name in held.unfinished]
    folder, store = dataset.mask_folder, image_store(settings)
    masks = store.sizes(folder) if store else (settings.data_dir / folder).glob("*.png")
    if store:
        photos = store.sizes_of(held.photos)
        lacking = held.masks.difference(masks) | {
            path for path, size in held.photos.items() if photos.get(path) != size
        }
        here = sorted(path for path in lacking if (settings.data_dir / path).is_file())
        problems += [Problem("not in the image store", path) for path in here]
    files = {f"{folder}/{Path(mask).name}" for mask in masks}
    unnamed = sorted(files - held.masks)
    if settings.annotations_dir and dataset.repos:
        unnamed += kaggle.unnamed_masks(settings.annotations_dir, dataset)
    return problems + [Problem("mask without annotation", name) for name in unnamed]


def _precision(expected: int) -> int:
    """Unit of the last digit of a stated count: upstream rounds those of ten thousand and more (67K, 1.54M)."""
    unit = 1
    while expected >= 10_000 and expected % (10 * unit) == 0:
        unit *= 10
    return unit


def unique_annotations(
    annotations: Iterable[Panoptic], seen: Set[int], file: str
) -> tuple[list[Panoptic], list[tuple[int, Problem]]]:
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
            problems.append((coco_id, Problem("duplicate COCO id", f"annotated again in {file}")))
            continue
        own.add(coco_id)
        first, again = _first_of_each(annotation.segments, key=lambda segment: segment.id)
        for one, other in again:
            what = f"segment {one.id} as category {one.category_id} and as {other.category_id}"
            problems.append((coco_id, Problem("duplicate segment id", what)))
        kept.append(replace(annotation, segments=tuple(first)))
    return kept, problems


def unique_captions(
    images: Iterable[ImageInfo], captions: Iterable[Caption]
) -> tuple[list[ImageInfo], list[Caption], list[tuple[int, Problem]]]:
    """Images and captions with different ids, the first of each, and for each other one its COCO id and the problem."""
    first_images, again_images = _first_of_each(images, key=lambda image: image.coco_id)
    first_captions, again_captions = _first_of_each(captions, key=lambda caption: caption.id)
    problems = [
        (one.coco_id, Problem("duplicate COCO id", "listed again in a caption file")) for one, _ in again_images
    ]
    for one, other in again_captions:
        what = f"caption {one.id} is of image {one.coco_id} and of image {other.coco_id}"
        problems.append((other.coco_id, Problem("duplicate caption id", what)))
    return first_images, first_captions, problems


def _first_of_each(items: Iterable[T], key: Callable[[T], int]) -> tuple[list[T], list[tuple[T, T]]]:
    """The first item of each key; and each other one, as a pair with the first."""
    first: dict[int, T] = {}
    again = []
    for item in items:
        kept = first.setdefault(key(item), item)
        if kept is not item:
            again.append((kept, item))
    return list(first.values()), again
