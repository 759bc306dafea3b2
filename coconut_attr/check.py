"""Integrity of a dataset: what in its annotations, masks, photos and counts does not fit together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coconut_attr.annotations import kaggle
from coconut_attr.annotations.records import SegmentInfo
from coconut_attr.datasets import Dataset
from coconut_attr.files.atomic import sha256_of
from coconut_attr.files.object_store import object_store
from coconut_attr.findings import Finding
from coconut_attr.labels.panoptic import MaskMeasures, annotation_problems, measure, read_mask
from coconut_attr.settings import Settings


def check_annotation(
    mask: Path, infos: Sequence[SegmentInfo], shape: tuple[int, int], categories: Iterable[int]
) -> list[Finding]:
    """What does not fit in the panoptic annotation of one image; a mask that cannot be used is not looked into.

    Args:
        mask: its panoptic PNG.
        infos: its segments_info, with different ids.
        shape: height and width of the image in pixels.
        categories: ids of the categories that there are.
    """
    ids = read_mask(mask, shape)
    if isinstance(ids, Finding):
        return [ids, *annotation_problems(infos, MaskMeasures([], []), categories)]
    measured = measure(ids, infos, frozenset())
    problems = annotation_problems(infos, measured, categories)
    areas = {segment.id: segment.area for segment in measured.segments}
    for info in infos:
        name = f"segment {info.id} (category {info.category_id})"
        if info.id not in areas:
            problems.append(
                Finding("segment not in mask", f"{name}, {info.area} pixels by segments_info")
            )
        elif areas[info.id] != info.area:
            both = f"{info.area} pixels by segments_info, {areas[info.id]} in the mask"
            problems.append(Finding("segment area differs", f"{name}: {both}"))
    return problems


def check_photo(photo: Path, sha256: str | None) -> list[Finding]:
    """Whether a downloaded photo is there and has the content that was downloaded."""
    try:
        found = sha256_of(photo)
    except OSError as error:
        return [Finding("image file missing", str(error))]
    if found != sha256:
        return [
            Finding(
                "image file changed",
                f"{photo}: SHA-256 {found[:12]}..., downloaded as {str(sha256)[:12]}...",
            )
        ]
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


def check_dataset(dataset: Dataset, held: Held, settings: Settings) -> list[Finding]:
    """What does not fit in a dataset as a whole: its counts, its annotation files, masks that nothing names, and what
    the image store (if there is one) lacks although it is here.

    Raises:
        SourceError: the Kaggle-layout folder of the settings is not one.
    """
    problems = [
        Finding(f"{what} count differs", f"{found:,} {what}s, upstream states {expected:,}")
        for what, found, expected in (
            ("image", held.images, dataset.expected_images),
            ("segment", held.segments, dataset.expected_segments),
        )
        if expected is not None and abs(found - expected) >= _precision(expected)
    ]
    problems += [Finding("annotation file unfinished", name) for name in held.unfinished]
    folder, store = dataset.mask_folder, object_store(settings)
    masks = store.sizes(folder) if store else (settings.data_dir / folder).glob("*.png")
    if store:
        photos = store.sizes_of(held.photos)
        lacking = held.masks.difference(masks) | {
            path for path, size in held.photos.items() if photos.get(path) != size
        }
        here = sorted(path for path in lacking if (settings.data_dir / path).is_file())
        problems += [Finding("not in the image store", path) for path in here]
    files = {f"{folder}/{Path(mask).name}" for mask in masks}
    unnamed = sorted(files - held.masks)
    if settings.annotations_dir and dataset.repos:
        unnamed += kaggle.unnamed_masks(settings.annotations_dir, dataset)
    return problems + [Finding("mask without annotation", name) for name in unnamed]


def _precision(expected: int) -> int:
    """Unit of the last digit of a stated count: upstream rounds those of ten thousand and more (67K, 1.54M)."""
    unit = 1
    while expected >= 10_000 and expected % (10 * unit) == 0:
        unit *= 10
    return unit
