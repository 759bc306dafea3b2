"""Signals: the evidence about an image as numbers, from which the label model estimates labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from coconut_attr.attributes import ATTRIBUTES, INDEX, State
from coconut_attr.labels.evidence import Evidence

if TYPE_CHECKING:
    from coconut_attr.labels.pixels import PixelMeasures  # scikit-image takes a second to import

#: Of each attribute: the most confident piece of evidence by source and state (0 without one), its
#: measure in pixels, whether the image has a mask, and the state that the evidence combines to.
CELL_SIGNALS: Final = (
    "panoptic present",
    "panoptic absent",
    "text present",
    "text absent",
    "pixels present",
    "pixels absent",
    "measure",
    "mask",
    "combined present",
    "combined absent",
)
#: Attributes that pixels measure, and how: value at which a measure is 0, and its scale.
_COLORS: Final = ("red", "blue", "green", "yellow", "black", "white")
_MEASURED: Final = (*_COLORS, "bright", "colorful")
#: Of the whole image, for every attribute: what the evidence says of all attributes (confidence
#: for present less confidence for absent, of panoptic and text), the mask, and the measures.
IMAGE_SIGNALS: Final = (
    *(f"evidence of {attribute}" for attribute in ATTRIBUTES),
    "image mask",
    *(f"measure of {attribute}" for attribute in _MEASURED),
)
# PanCap texts and captions are both human-checked texts. No judged image has a PanCap text yet, so
# a weight of its own could not be fitted.
_KIND: Final = {"panoptic": "panoptic", "caption": "text", "pancap": "text", "pixels": "pixels"}
_COLUMN: Final = {name: column for column, name in enumerate(CELL_SIGNALS)}


@dataclass(frozen=True, eq=False)
class Signals:
    """The signals of an image.

    Attributes:
        cells: float64 [34, len(CELL_SIGNALS)].
        image: float64 [len(IMAGE_SIGNALS)].
    """

    cells: np.ndarray
    image: np.ndarray


def measure_signals(
    evidence: Iterable[Evidence],
    combined: Sequence[State],
    measures: "PixelMeasures",
    *,
    has_mask: bool,
) -> Signals:
    """Turn the evidence about an image into signals.

    Args:
        combined: the state that the evidence of each attribute combines to, in their order.
        has_mask: whether its panoptic mask could be read.
    """
    cells = np.zeros((len(ATTRIBUTES), len(CELL_SIGNALS)))
    for piece in evidence:
        cell = INDEX[piece.attribute], _COLUMN[f"{_KIND[piece.source]} {piece.state}"]
        cells[cell] = max(cells[cell], piece.confidence)
    of_pixels = _pixel_signals(measures)
    for attribute, value in of_pixels.items():
        cells[INDEX[attribute], _COLUMN["measure"]] = value
    cells[:, _COLUMN["mask"]] = has_mask
    for k, state in enumerate(combined):
        if state != "unknown":
            cells[k, _COLUMN[f"combined {state}"]] = 1
    panoptic_and_text = cells[:, 0] - cells[:, 1] + cells[:, 2] - cells[:, 3]
    image = [*panoptic_and_text, has_mask, *(of_pixels[name] / 2 for name in _MEASURED)]
    return Signals(cells, np.array(image, float))


def _pixel_signals(measures: "PixelMeasures") -> dict[str, float]:
    """Scale what was measured in the pixels to about -3 to 3, with 0 where labels are in doubt."""
    signals = {
        color: np.log(measures.shares[color] + 0.005) - np.log(0.03 + 0.005) for color in _COLORS
    }
    signals["bright"] = (measures.lightness - 55) / 12
    signals["dark"] = -signals["bright"]
    signals["colorful"] = (measures.colorfulness - 45) / 20
    return {name: float(np.clip(value, -3, 3)) for name, value in signals.items()}
