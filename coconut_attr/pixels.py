"""Pixels: colour names, lightness and colourfulness of an image."""

from functools import cache

import numpy as np
from PIL import Image, ImageColor
from skimage.color import deltaE_ciede2000, rgb2lab

from coconut_attr.evidence import Evidence
from coconut_attr.rules import PixelRules, Rules

LEVELS = 32  # colour names are looked up in a table of 32 x 32 x 32 RGB cells
SIDE = 160  # pixels of the longer side at which an image is measured


@cache
def _table(prototypes: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The nearest prototype's name, by CIEDE2000, of each RGB cell: uint8 [32, 32, 32], and the names."""
    names = tuple(name for name, _ in prototypes)
    axis = (np.arange(LEVELS) + 0.5) / LEVELS
    cells = rgb2lab(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3))
    distances = []
    for _, colors in prototypes:
        labs = rgb2lab(np.array([ImageColor.getrgb(color) for color in colors]) / 255)
        distances.append(np.min([deltaE_ciede2000(cells, np.broadcast_to(lab, cells.shape)) for lab in labs], axis=0))
    return np.argmin(distances, axis=0).astype(np.uint8).reshape(LEVELS, LEVELS, LEVELS), names


def color_shares(rgb: np.ndarray, rules: PixelRules) -> dict[str, float]:
    """Share of an image's pixels that bear each colour name.

    Args:
        rgb: uint8 [height, width, 3].
    """
    prototypes = {name: color.prototypes for name, color in rules.colors.items()} | rules.other_colors
    table, names = _table(tuple((name, tuple(colors)) for name, colors in prototypes.items()))
    cells = rgb // (256 // LEVELS)
    counts = np.bincount(table[cells[..., 0], cells[..., 1], cells[..., 2]].ravel(), minlength=len(names))
    return dict(zip(names, counts / counts.sum(), strict=True))


def colorfulness(rgb: np.ndarray) -> float:
    """Hasler and Suesstrunk's M3 (SPIE 2003): sigma_rgyb + 0.3 mu_rgyb over the two opponent colour axes.

    Args:
        rgb: uint8 [height, width, 3].
    """
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    rg, yb = r - g, (r + g) / 2 - b
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def pixel_evidence(image: Image.Image, rules: Rules) -> list[Evidence]:
    """What the pixels of an RGB image say of its colours, its lightness and its colourfulness."""
    policy = rules.pixels
    image = image.copy()
    image.thumbnail((SIDE, SIDE))
    rgb = np.asarray(image)
    shares = color_shares(rgb, policy)
    light = float(rgb2lab(rgb)[..., 0].mean())
    vivid = colorfulness(rgb)
    light_detail = f"mean L* {light:.0f}"
    lightness = policy.lightness
    measured = [
        *((name, shares[name] >= color.present, shares[name] <= color.absent, f"{shares[name]:.1%} of the image")
          for name, color in policy.colors.items()),
        ("bright", light >= lightness.bright_present, light <= lightness.bright_absent, light_detail),
        ("dark", light <= lightness.dark_present, light >= lightness.dark_absent, light_detail),
        ("colorful", vivid >= policy.colorfulness.present, vivid <= policy.colorfulness.absent,
         f"colourfulness {vivid:.0f}"),
    ]  # fmt: skip
    return [
        Evidence(attribute, "present" if is_present else "absent", "pixels", policy.confidence, detail)
        for attribute, is_present, is_absent, detail in measured
        if is_present or is_absent
    ]
