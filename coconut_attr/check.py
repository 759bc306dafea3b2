"""Integrity of a dataset: do its annotations, masks, photos and counts fit together?"""

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

#: Upstream rounds its counts of segments, and counts crowds and void in its own way.
ROUNDED = 0.03


def check_annotation(
    mask: Path, infos: Sequence[SegmentInfo], shape: tuple[int, int], categories: Iterable[int]
) -> list[Finding]:
    """Return the findings about one image's panoptic annotation.

    An unusable mask is a finding itself; nothing else is then measured in it.

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
    findings = annotation_problems(infos, measured, categories)
    areas = {segment.id: segment.area for segment in measured.segments}
    for info in infos:
        name = f"segment {info.id} (category {info.category_id})"
        if info.id not in areas:
            stated = "" if info.area is None else f", {info.area} pixels by segments_info"
            findings.append(Finding("segment not in mask", f"{name}{stated}"))
        elif info.area not in {None, areas[info.id]}:
            both = f"{info.area} pixels by segments_info, {areas[info.id]} in the mask"
            findings.append(Finding("segment area differs", f"{name}: {both}"))
    return findings


def check_photo(photo: Path, sha256: str | None) -> list[Finding]:
    """Return the findings about a photo: its file is missing or has other content."""
    try:
        digest = sha256_of(photo)
    except OSError as error:
        return [Finding("image file missing", str(error))]
    if digest != sha256:
        both = f"SHA-256 {digest[:12]}..., downloaded as {str(sha256)[:12]}..."
        return [Finding("image file changed", f"{photo}: {both}")]
    return []


@dataclass(frozen=True)
class StoredDataset:
    """What a database and a data folder hold of a dataset.

    Attributes:
        masks: paths of the images' masks, relative to the data folder.
        shared_masks: those of them that two images have.
        photos: bytes of the downloaded photos, by their relative paths.
        unfinished: names of annotation files that were not read to their end.
    """

    images: int
    segments: int
    masks: frozenset[str]
    photos: Mapping[str, int]
    shared_masks: Sequence[str] = ()
    unfinished: Sequence[str] = ()


def check_dataset(dataset: Dataset, stored: StoredDataset, settings: Settings) -> list[Finding]:
    """Return the findings about a dataset as a whole: its counts, annotation files and masks.

    With an object store, also the files that are here and not there.

    Raises:
        SourceError: the Kaggle-layout folder of the settings is not one.
    """
    findings = _count_findings("image", stored.images, dataset.expected_images, 0.0)
    findings += _count_findings("segment", stored.segments, dataset.expected_segments, ROUNDED)
    findings += [Finding("annotation file unfinished", name) for name in stored.unfinished]
    findings += [Finding("mask of two images", path) for path in stored.shared_masks]
    folder, store = dataset.mask_folder, object_store(settings)
    masks = store.sizes(folder) if store else (settings.data_dir / folder).glob("*.png")
    if store:
        photos = store.sizes_of(stored.photos)
        lacking = stored.masks.difference(masks) | {
            path for path, size in stored.photos.items() if photos.get(path) != size
        }
        local = sorted(path for path in lacking if (settings.data_dir / path).is_file())
        findings += [Finding("not in the image store", path) for path in local]
    files = {f"{folder}/{Path(mask).name}" for mask in masks}
    unnamed = sorted(files - stored.masks)
    if settings.annotations_dir and dataset.has_masks:
        unnamed += kaggle.unnamed_masks(settings.annotations_dir, dataset)
    return findings + [Finding("mask without annotation", name) for name in unnamed]


def _unit(expected: int) -> int:
    """Return the unit of a count's last digit: upstream rounds 10,000 and more (67K, 1.54M)."""
    unit = 1
    while expected >= 10_000 and expected % (10 * unit) == 0:
        unit *= 10
    return unit


def _count_findings(what: str, count: int, expected: int | None, tolerance: float) -> list[Finding]:
    """Return the finding that a count is not what upstream states, up to upstream's rounding."""
    if expected is None or abs(count - expected) < max(_unit(expected), tolerance * expected):
        return []
    about = "about " if tolerance or _unit(expected) > 1 else ""
    detail = f"{count:,} {what}s, upstream states {about}{expected:,}"
    return [Finding(f"{what} count differs", detail)]
