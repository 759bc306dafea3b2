"""Panoptic masks: decode the PNG, measure its segments, and collect evidence from them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from coconut_attr.annotations.records import SegmentInfo
from coconut_attr.files.images import ImageError, read_image
from coconut_attr.findings import Finding
from coconut_attr.labels.evidence import Evidence, Side
from coconut_attr.labels.rules import Rules


@dataclass(frozen=True)
class Segment:
    """A segment, measured in the mask.

    Attributes:
        id: R + 256 G + 65536 B of its colour in the mask.
        area: pixels in the mask. `SegmentInfo.area` is what segments_info states.
        bbox: x, y, width, height in pixels, as in COCO.
        mean_rgb: mean sRGB of its pixels in the photo, 0 to 255; None without a photo.
        rle: compressed COCO run-length counts (pycocotools.mask) of a thing, empty for stuff.
    """

    id: int
    category_id: int
    iscrowd: bool
    area: int
    bbox: tuple[int, int, int, int]
    mean_rgb: tuple[float, float, float] | None = None
    rle: str = ""


@dataclass(frozen=True)
class MaskMeasures:
    """The segments that segments_info names, and the ids in the mask that it does not name."""

    segments: list[Segment]
    unnamed: list[int]


def decode_mask(png: bytes) -> np.ndarray:
    """Decode the segment ids of a panoptic PNG.

    Returns:
        uint32 array [height, width]; 0 is unlabelled.

    Raises:
        ImageError: not a complete PNG, or not RGB (a palette or grey mask has lost the ids).
    """

    def use(image: Image.Image) -> np.ndarray:
        if image.mode not in {"RGB", "RGBA"}:
            raise ImageError(f"panoptic mask of mode {image.mode}; COCO's are RGB")
        # Pillow stores both modes in four bytes a pixel: one little-endian number.
        packed = image.tobytes("raw", "RGBX" if image.mode == "RGB" else "RGBA")
        return np.frombuffer(packed, "<u4").reshape(image.size[::-1]) & 0xFFFFFF

    return read_image(png, use, name="panoptic mask", formats=("PNG",))


def measure(
    ids: np.ndarray,
    infos: Sequence[SegmentInfo],
    things: frozenset[int],
    rgb: np.ndarray | None = None,
) -> MaskMeasures:
    """Measure the segments of a mask that segments_info names.

    Args:
        ids: uint32 [height, width] from `decode_mask`.
        infos: segments_info of the image; entries without a pixel in the mask are skipped.
        things: category ids whose segments get a run-length encoding.
        rgb: the photo, uint8 [height, width, 3].
    """
    width = ids.shape[1]
    flat = ids.ravel()
    # Masks are runs of equal ids. Summing over a few thousand runs is faster than over all pixels.
    begins = np.empty(flat.size, dtype=bool)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[::width] = True  # a run ends with its row
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=flat.size)
    rows, columns = np.divmod(starts, width)

    run_ids = flat[starts]
    order = np.argsort(run_ids, kind="stable")  # groups the runs of a segment, top to bottom
    first = np.flatnonzero(np.diff(run_ids[order], prepend=np.int64(-1)))
    index = {int(value): k for k, value in enumerate(run_ids[order[first]])}
    last = np.append(first[1:], len(order)) - 1
    areas = np.add.reduceat(lengths[order], first)
    top, bottom = rows[order[first]], rows[order[last]]
    left = np.minimum.reduceat(columns[order], first)
    right = np.maximum.reduceat((columns + lengths)[order], first)
    means = None
    if rgb is not None:
        sums = np.add.reduceat(rgb.reshape(-1, 3), starts, axis=0, dtype=np.uint32)
        means = np.add.reduceat(sums[order], first, axis=0, dtype=np.int64) / areas[:, None]

    segments = []
    for info in infos:
        k = index.get(info.id)
        if k is None:
            continue
        bbox = (int(left[k]), int(top[k]), int(right[k] - left[k]), int(bottom[k] - top[k] + 1))
        mean = (
            None if means is None else (float(means[k, 0]), float(means[k, 1]), float(means[k, 2]))
        )
        rle = _encode(ids, info.id, bbox) if info.category_id in things else ""
        segments.append(
            Segment(info.id, info.category_id, info.iscrowd, int(areas[k]), bbox, mean, rle)
        )
    return MaskMeasures(segments, sorted(index.keys() - {0} - {info.id for info in infos}))


def _encode(ids: np.ndarray, segment_id: int, bbox: tuple[int, int, int, int]) -> str:
    """Encode a segment as COCO's compressed run-length counts; only its box is compared."""
    x, y, width, height = bbox
    mask = np.zeros(ids.shape, dtype=np.uint8, order="F")
    mask[y : y + height, x : x + width] = ids[y : y + height, x : x + width] == segment_id
    return coco_mask.encode(mask)["counts"].decode()


def panoptic_evidence(segments: Sequence[Segment], pixels: int, rules: Rules) -> list[Evidence]:
    """Collect evidence from the categories and sizes of an image's segments.

    Segments of an unknown category give none.

    Args:
        segments: from `measure`.
        pixels: number of pixels of the image.
    """
    policy = rules.panoptic
    labelled = 0
    name_of = {category.id: name for name, category in rules.category.items()}
    present: dict[str, tuple[Segment, str]] = {}
    possible: set[str] = set()
    for segment in sorted(segments, key=lambda s: -s.area):
        name = name_of.get(segment.category_id)
        if name is None:
            continue
        labelled += segment.area
        category = rules.category[name]
        possible.update(category.present, category.maybe)
        too_small = segment.area < policy.min_area * pixels
        for attribute in category.present:
            if not (too_small and attribute in policy.min_area_attributes):
                present.setdefault(attribute, (segment, name))

    evidence = [
        Evidence(
            attribute, "present", "panoptic", policy.present_confidence, name, segment_id=segment.id
        )
        for attribute, (segment, name) in present.items()
    ]
    if segments and labelled >= (1 - policy.max_unlabelled) * pixels:
        absent = {
            a: "no segment of such a category" for a in policy.exhaustive if a not in possible
        }
        for pair in policy.exclusive:
            for one, other in (pair, pair[::-1]):
                if one in present and other not in present:
                    absent[other] = f"{present[one][1]} speaks for {one}"
        evidence += [
            Evidence(a, "absent", "panoptic", policy.absent_confidence, why)
            for a, why in absent.items()
        ]
        evidence += [
            Evidence(
                implied,
                "present",
                "panoptic",
                policy.absent_confidence,
                f"nothing that may be {attribute}",
            )
            for attribute, implied in policy.absent_implies.items()
            if attribute in absent and implied not in present
        ]
    return evidence + _size_evidence(segments, pixels, rules)


def _size_evidence(segments: Sequence[Segment], pixels: int, rules: Rules) -> list[Evidence]:
    """Decide `large` and `small` by the areas of the largest and the smallest countable object."""
    policy = rules.panoptic
    things = {category.id for category in rules.category.values() if category.thing}
    objects = sorted(
        (s for s in segments if s.category_id in things and not s.iscrowd), key=lambda s: s.area
    )
    if not objects:
        return []
    smallest, largest = objects[0], objects[-1]
    small, large = smallest.area / pixels, largest.area / pixels
    evidence = []
    for attribute, segment, share, is_present, is_absent in (
        ("large", largest, large, large >= policy.large_present, large <= policy.large_absent),
        ("small", smallest, small, small <= policy.small_present, small >= policy.small_absent),
    ):
        if is_present or is_absent:
            state: Side = "present" if is_present else "absent"
            confidence = policy.present_confidence if is_present else policy.absent_confidence
            detail = f"{share:.1%} of the image"
            evidence.append(
                Evidence(attribute, state, "panoptic", confidence, detail, segment_id=segment.id)
            )
    return evidence


def read_mask(mask: Path, shape: tuple[int, int]) -> np.ndarray | Finding:
    """Read a panoptic PNG; return its ids [height, width], or a finding if they cannot be used.

    Args:
        mask: path of the PNG.
        shape: height and width of its photo, which the mask must have too.
    """
    try:
        ids = decode_mask(mask.read_bytes())
    except (ImageError, OSError) as error:
        return Finding("mask not read", str(error))
    if ids.shape != shape:
        sizes = f"{ids.shape[1]} x {ids.shape[0]} pixels, its image has {shape[1]} x {shape[0]}"
        return Finding("mask size differs", sizes)
    return ids


def annotation_problems(
    infos: Iterable[SegmentInfo], measures: MaskMeasures, categories: Iterable[int]
) -> list[Finding]:
    """Return the segments of an annotation that cannot be used, and why.

    Args:
        infos: segments_info of the image.
        measures: from `measure`.
        categories: ids of the categories that the rules know.
    """
    findings = []
    if measures.unnamed:
        examples = ", ".join(map(str, measures.unnamed[:5]))
        detail = f"{len(measures.unnamed)} ids of the mask: {examples}"
        findings.append(Finding("ids not in segments_info", detail))
    unknown = sorted({info.category_id for info in infos}.difference(categories))
    return findings + [
        Finding("unknown category", f"category {c} is none of the rules' categories")
        for c in unknown
    ]
