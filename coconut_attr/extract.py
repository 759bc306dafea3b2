"""Attribute extraction: the evidence of every source about one image, and the label it comes to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coconut_attr.attributes import ATTRIBUTES, State
from coconut_attr.captions import CaptionReader
from coconut_attr.evidence import Evidence
from coconut_attr.images import ImageError, decode
from coconut_attr.panoptic import Segment, decode_mask, measure, panoptic_evidence
from coconut_attr.pixels import SegmentColor, measure_pixels, pixel_evidence
from coconut_attr.rules import Rules
from coconut_attr.sources.records import Caption, SegmentInfo

#: Opposite evidence this close in confidence leaves a label unknown.
TIE = 0.1


@dataclass(frozen=True)
class Label:
    """The state of one attribute of one image. `conflict`: some evidence spoke for the other state."""

    attribute: str
    state: State
    confidence: float
    conflict: bool


@dataclass(frozen=True)
class Extraction:
    """All that was found in one image: its segments with their colours by id, the evidence, the 34 labels in order."""

    segments: list[Segment]
    colors: dict[int, SegmentColor]
    evidence: list[Evidence]
    labels: list[Label]


class Extractor:
    """Extracts labels by one set of rules."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._captions = CaptionReader(rules)
        self._things = frozenset(category.id for category in rules.category.values() if category.thing)

    def extract(
        self, photo: Path, mask: Path | None, infos: Sequence[SegmentInfo], captions: Sequence[Caption]
    ) -> Extraction:
        """Evidence and labels of one image.

        Args:
            photo: its JPEG or PNG file.
            mask: its panoptic PNG, or None if it has none.
            infos: the segments_info that belong to the mask.

        Raises:
            coconut_attr.images.ImageError: a file is not a whole image, or mask and photo differ in size.
            OSError: a file cannot be read.
        """
        image = decode(photo)
        ids: np.ndarray | None = None
        segments: list[Segment] = []
        evidence: list[Evidence] = []
        if mask is not None:
            ids = decode_mask(mask.read_bytes())
            if ids.shape != image.size[::-1]:
                raise ImageError(f"{mask}: {ids.shape[::-1]} pixels, its photo has {image.size}")
            segments = measure(ids, infos, self._things, np.asarray(image))
            evidence += panoptic_evidence(segments, int(np.count_nonzero(ids)), ids.size, self.rules)
        measured = measure_pixels(image, ids, segments, self.rules.pixels)
        evidence += pixel_evidence(measured, segments, image.width * image.height, self.rules)
        evidence += self._captions.evidence(captions)
        return Extraction(segments, measured.segments, evidence, combine(evidence))


def combine(evidence: Sequence[Evidence]) -> list[Label]:
    """The 34 labels that evidence comes to: the surer side decides, and a near tie stays unknown.

    The confidence of a side is that of its best piece; a side is heard at all if one piece speaks for it.
    """
    best: dict[str, dict[str, float]] = {attribute: {} for attribute in ATTRIBUTES}
    for piece in evidence:
        sides = best[piece.attribute]
        sides[piece.state] = max(piece.confidence, sides.get(piece.state, 0.0))
    labels = []
    for attribute, sides in best.items():
        present, absent = sides.get("present", 0.0), sides.get("absent", 0.0)
        conflict = bool(present and absent)
        if not sides or (conflict and abs(present - absent) < TIE):
            labels.append(Label(attribute, "unknown", 0.0, conflict))
        else:
            state: State = "present" if present > absent else "absent"
            labels.append(Label(attribute, state, max(present, absent), conflict))
    return labels
