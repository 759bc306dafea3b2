"""Pixels: evidence from colour names, lightness and colourfulness."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageColor
from skimage.color import deltaE_ciede2000, rgb2lab

from coconut_attr.labels.evidence import Evidence, Side
from coconut_attr.labels.panoptic import Segment
from coconut_attr.labels.rules import PixelRules, Rules

LEVELS = 32  # colour names are looked up in a table of 32 x 32 x 32 RGB cells
SIDE = 240  # images are measured with their longer side reduced to this many pixels


@cache
def _table(
    prototypes: tuple[tuple[str, tuple[str, ...]], ...],
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the nearest prototype of each RGB cell by CIEDE2000.

    Returns:
        uint8 [32, 32, 32], indices into the names; and the names.
    """
    names = tuple(name for name, _ in prototypes)
    axis = (np.arange(LEVELS) + 0.5) / LEVELS
    cells = rgb2lab(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3))
    distances = []
    for _, colors in prototypes:
        labs = rgb2lab(np.array([ImageColor.getrgb(color) for color in colors]) / 255)
        distances.append(
            np.min(
                [deltaE_ciede2000(cells, np.broadcast_to(lab, cells.shape)) for lab in labs], axis=0
            )
        )
    return np.argmin(distances, axis=0).astype(np.uint8).reshape(LEVELS, LEVELS, LEVELS), names


def name_pixels(rgb: np.ndarray, rules: PixelRules) -> tuple[np.ndarray, tuple[str, ...]]:
    """Name the colour of each pixel.

    Args:
        rgb: uint8 [height, width, 3].

    Returns:
        uint8 [height, width], indices into the names; and the names.
    """
    prototypes = {
        name: color.prototypes for name, color in rules.colors.items()
    } | rules.other_colors
    table, names = _table(tuple((name, tuple(colors)) for name, colors in prototypes.items()))
    cells = rgb // (256 // LEVELS)
    return table[cells[..., 0], cells[..., 1], cells[..., 2]], names


@dataclass(frozen=True)
class SegmentColor:
    """The colour of a segment.

    Attributes:
        lab: CIELAB of its mean sRGB.
        name: the most frequent colour name of its pixels; None if it vanishes at the reduced size.
        share: share of its pixels that have this name, 0 to 1.
    """

    lab: tuple[float, float, float]
    name: str | None
    share: float


@dataclass(frozen=True)
class PixelMeasures:
    """The colours of an image.

    Attributes:
        shares: share of the image's pixels by colour name, 0 to 1.
        lightness: mean CIELAB L*, 0 to 100.
        colorfulness: Hasler and Suesstrunk's M3.
        segments: colours by segment id.
    """

    shares: dict[str, float]
    lightness: float
    colorfulness: float
    segments: dict[int, SegmentColor]


def measure_pixels(
    image: Image.Image, ids: np.ndarray | None, segments: Sequence[Segment], rules: PixelRules
) -> PixelMeasures:
    """Measure the colours of an image and of its segments at a reduced size.

    Args:
        image: RGB.
        ids: segment ids uint32 [height, width] from `panoptic.decode_mask`; None without a mask.
        segments: from `panoptic.measure`, with their mean colours.
    """
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    rgb = np.asarray(small)
    named, names = name_pixels(rgb, rules)
    lab = rgb2lab(rgb)
    counts = np.bincount(named.ravel(), minlength=len(names))
    return PixelMeasures(
        shares=dict(zip(names, counts / counts.sum(), strict=True)),
        lightness=float(lab[..., 0].mean()),
        colorfulness=colorfulness(rgb),
        segments={}
        if ids is None
        else _segment_colors(_shrink(ids, rgb.shape[:2]), segments, named, names),
    )


def _shrink(ids: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize by nearest neighbour: interpolation would make ids that no segment has."""
    rows, columns = (
        ((np.arange(n) + 0.5) * full / n).astype(int)
        for n, full in zip(shape, ids.shape, strict=True)
    )
    return ids[np.ix_(rows, columns)]


def _segment_colors(
    ids: np.ndarray, segments: Sequence[Segment], named: np.ndarray, names: tuple[str, ...]
) -> dict[int, SegmentColor]:
    values = np.array(sorted({0, *(segment.id for segment in segments)}), dtype=ids.dtype)
    index = np.searchsorted(values, ids).clip(max=len(values) - 1)
    index[values[index] != ids] = 0  # ids that segments_info does not name count as unlabelled
    table = np.bincount((index * len(names) + named).ravel(), minlength=len(values) * len(names))
    table = table.reshape(len(values), len(names))
    best, areas = table.argmax(1), table.sum(1)
    dominant = {
        int(values[k]): (names[best[k]], float(table[k, best[k]] / areas[k]))
        for k in np.flatnonzero(areas)
    }
    measured = [segment for segment in segments if segment.mean_rgb is not None]
    labs = rgb2lab(np.array([segment.mean_rgb for segment in measured]).reshape(-1, 3) / 255)
    return {
        segment.id: SegmentColor(
            (float(lab[0]), float(lab[1]), float(lab[2])), *dominant.get(segment.id, (None, 0.0))
        )
        for segment, lab in zip(measured, labs, strict=True)
    }


def colorfulness(rgb: np.ndarray) -> float:
    """Return Hasler and Suesstrunk's M3 (SPIE 2003): sigma_rgyb + 0.3 mu_rgyb.

    Args:
        rgb: uint8 [height, width, 3].
    """
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    rg, yb = r - g, (r + g) / 2 - b
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def pixel_evidence(
    measures: PixelMeasures, segments: Sequence[Segment], pixels: int, rules: Rules
) -> list[Evidence]:
    """Collect evidence about colours, lightness and colourfulness from an image's pixels.

    Args:
        measures: from `measure_pixels`.
        segments: from `panoptic.measure`; large ones that are mostly of one colour support it.
        pixels: number of pixels of the image.
    """
    policy = rules.pixels
    evidence: dict[str, Evidence] = {}

    def decide(attribute: str, is_present: bool, is_absent: bool, detail: str) -> None:
        if is_present or is_absent:
            state: Side = "present" if is_present else "absent"
            evidence[attribute] = Evidence(attribute, state, "pixels", policy.confidence, detail)

    for name, color in policy.colors.items():
        share = measures.shares[name]
        decide(name, share >= color.present, share <= color.absent, f"{share:.1%} of the image")
    light, lightness = measures.lightness, policy.lightness
    detail = f"mean L* {light:.0f}"
    decide("bright", light >= lightness.bright_present, light <= lightness.bright_absent, detail)
    decide("dark", light <= lightness.dark_present, light >= lightness.dark_absent, detail)
    vivid, vividness = measures.colorfulness, policy.colorfulness
    detail = f"colourfulness {vivid:.0f}"
    decide("colorful", vivid >= vividness.present, vivid <= vividness.absent, detail)
    for segment in sorted(segments, key=lambda s: s.area):
        dominant = measures.segments.get(segment.id)
        if (
            segment.area >= policy.segment_area * pixels
            and dominant
            and dominant.name in policy.colors
            and dominant.share >= policy.segment_share
        ):
            name, confidence = dominant.name, policy.segment_confidence
            area = segment.area / pixels
            detail = f"{dominant.share:.0%} of a segment of {area:.1%} of the image"
            evidence[name] = Evidence(name, "present", "pixels", confidence, detail, segment.id)
    return list(evidence.values())
