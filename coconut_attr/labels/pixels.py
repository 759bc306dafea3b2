"""Pixels: colour names, lightness and colourfulness of an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageColor
from skimage.color import deltaE_ciede2000, rgb2lab

from coconut_attr.labels.evidence import Evidence
from coconut_attr.labels.panoptic import Segment
from coconut_attr.labels.rules import PixelRules, Rules

LEVELS = 32  # colour names are looked up in a table of 32 x 32 x 32 RGB cells
SIDE = 240  # pixels of the longer side at which an image is measured


@cache
def _table(
    prototypes: tuple[tuple[str, tuple[str, ...]], ...],
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The nearest prototype's name, by CIEDE2000, of each RGB cell: uint8 [32, 32, 32], and the names."""
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
    """The colour name of each pixel, as an index into the names.

    Args:
        rgb: uint8 [height, width, 3].

    Returns:
        uint8 [height, width], and the names.
    """
    prototypes = {
        name: color.prototypes for name, color in rules.colors.items()
    } | rules.other_colors
    table, names = _table(tuple((name, tuple(colors)) for name, colors in prototypes.items()))
    cells = rgb // (256 // LEVELS)
    return table[cells[..., 0], cells[..., 1], cells[..., 2]], names


@dataclass(frozen=True)
class SegmentColor:
    """Colour of one segment: CIELAB of its mean, the name that most of its pixels bear, and their share of it.

    A segment that vanishes at the reduced size has no name and a share of 0.
    """

    lab: tuple[float, float, float]
    name: str | None
    share: float


@dataclass(frozen=True)
class Pixels:
    """What was measured of an image's pixels; see `measure_pixels`."""

    shares: dict[str, float]
    lightness: float
    colorfulness: float
    segments: dict[int, SegmentColor]


def measure_pixels(
    image: Image.Image, ids: np.ndarray | None, segments: Sequence[Segment], rules: PixelRules
) -> Pixels:
    """Measure an image, and name the colours of each of its segments, at a reduced size.

    Args:
        image: RGB.
        ids: segment ids uint32 [height, width] of `coconut_attr.labels.panoptic.decode_mask`, if there is a mask.
        segments: of `coconut_attr.labels.panoptic.measure`, with their mean colours.
    """
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    rgb = np.asarray(small)
    named, names = name_pixels(rgb, rules)
    lab = rgb2lab(rgb)
    counts = np.bincount(named.ravel(), minlength=len(names))
    return Pixels(
        shares=dict(zip(names, counts / counts.sum(), strict=True)),
        lightness=float(lab[..., 0].mean()),
        colorfulness=colorfulness(rgb),
        segments={}
        if ids is None
        else _segment_colors(_shrink(ids, rgb.shape[:2]), segments, named, names),
    )


def _shrink(ids: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Nearest-neighbour reduction: segment ids must not be mixed."""
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
    index[values[index] != ids] = (
        0  # a segment that segments_info does not name counts as unlabelled
    )
    table = np.bincount((index * len(names) + named).ravel(), minlength=len(values) * len(names))
    table = table.reshape(len(values), len(names))
    best, areas = table.argmax(1), table.sum(1)
    found = {
        int(values[k]): (names[best[k]], float(table[k, best[k]] / areas[k]))
        for k in np.flatnonzero(areas)
    }
    measured = [segment for segment in segments if segment.mean_rgb is not None]
    labs = rgb2lab(np.array([segment.mean_rgb for segment in measured]).reshape(-1, 3) / 255)
    return {
        segment.id: SegmentColor(
            (float(lab[0]), float(lab[1]), float(lab[2])), *found.get(segment.id, (None, 0.0))
        )
        for segment, lab in zip(measured, labs, strict=True)
    }


def colorfulness(rgb: np.ndarray) -> float:
    """Hasler and Suesstrunk's M3 (SPIE 2003): sigma_rgyb + 0.3 mu_rgyb over the two opponent colour axes.

    Args:
        rgb: uint8 [height, width, 3].
    """
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    rg, yb = r - g, (r + g) / 2 - b
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def pixel_evidence(
    measured: Pixels, segments: Sequence[Segment], pixels: int, rules: Rules
) -> list[Evidence]:
    """What the pixels of an image say of its colours, its lightness and its colourfulness.

    Args:
        measured: of `measure_pixels`.
        segments: of `coconut_attr.labels.panoptic.measure`; a large enough one that is mostly of one colour speaks for it.
        pixels: pixels of the image.
    """
    policy = rules.pixels
    light_detail = f"mean L* {measured.lightness:.0f}"
    light, vivid, shares = measured.lightness, measured.colorfulness, measured.shares
    lightness = policy.lightness
    decided = [
        *((name, shares[name] >= color.present, shares[name] <= color.absent, f"{shares[name]:.1%} of the image")
          for name, color in policy.colors.items()),
        ("bright", light >= lightness.bright_present, light <= lightness.bright_absent, light_detail),
        ("dark", light <= lightness.dark_present, light >= lightness.dark_absent, light_detail),
        ("colorful", vivid >= policy.colorfulness.present, vivid <= policy.colorfulness.absent,
         f"colourfulness {vivid:.0f}"),
    ]  # fmt: skip
    found = {
        attribute: Evidence(
            attribute, "present" if is_present else "absent", "pixels", policy.confidence, detail
        )
        for attribute, is_present, is_absent, detail in decided
        if is_present or is_absent
    }
    for segment in sorted(segments, key=lambda s: s.area):
        color = measured.segments.get(segment.id)
        large = segment.area >= policy.segment_area * pixels
        if large and color and color.name in policy.colors and color.share >= policy.segment_share:
            detail = f"{color.share:.0%} of a segment of {segment.area / pixels:.1%} of the image"
            confidence = policy.segment_confidence
            found[color.name] = Evidence(
                color.name, "present", "pixels", confidence, detail, segment_id=segment.id
            )
    return list(found.values())
