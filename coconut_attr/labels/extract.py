"""Attribute extraction: the evidence of every source about one image, and the label it comes to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coconut_attr.annotations.records import Caption, SegmentInfo
from coconut_attr.attributes import ATTRIBUTES, State
from coconut_attr.files.images import decode
from coconut_attr.findings import Finding
from coconut_attr.labels.captions import CaptionReader
from coconut_attr.labels.evidence import Evidence
from coconut_attr.labels.panoptic import (
    Measured,
    Segment,
    measure,
    panoptic_evidence,
    read_mask,
    unusable,
)
from coconut_attr.labels.pixels import SegmentColor, measure_pixels, pixel_evidence
from coconut_attr.labels.rules import Rules

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
    """All that was found in one image: its segments with their colours by id, the evidence, the 34 labels in order.

    `problems` tells what of its mask and captions was left out.
    """

    segments: list[Segment]
    colors: dict[int, SegmentColor]
    evidence: list[Evidence]
    labels: list[Label]
    problems: list[Finding]


class Extractor:
    """Extracts labels by one set of rules."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._captions = CaptionReader(rules)
        self._categories = {category.id for category in rules.category.values()}
        self._things = frozenset(
            category.id for category in rules.category.values() if category.thing
        )

    def extract(
        self,
        photo: Path,
        mask: Path | None,
        infos: Sequence[SegmentInfo],
        captions: Sequence[Caption],
    ) -> Extraction:
        """Evidence and labels of one image. A mask or a caption that cannot be used is left out, as a problem.

        Args:
            photo: its JPEG or PNG file.
            mask: its panoptic PNG, or None if it has none.
            infos: the segments_info that belong to the mask.

        Raises:
            coconut_attr.files.images.ImageError: the photo is not a whole image.
            OSError: the photo cannot be read.
        """
        image = decode(photo)
        pixels = image.width * image.height
        rgb = np.asarray(image)
        problems: list[Finding] = []
        ids: np.ndarray | None = None
        measured = Measured([], [])
        if mask is not None:
            found_mask = read_mask(mask, (image.height, image.width))
            if isinstance(found_mask, Finding):
                problems.append(found_mask)
            else:
                ids = found_mask
                measured = measure(ids, infos, self._things, rgb)
        problems += unusable(infos, measured, self._categories)
        readable, unread = self._captions.readable(captions)
        problems += unread

        found = measure_pixels(image, ids, measured.segments, self.rules.pixels)
        evidence = panoptic_evidence(measured.segments, pixels, self.rules)
        evidence += pixel_evidence(found, measured.segments, pixels, self.rules)
        evidence += self._captions.evidence(readable)
        return Extraction(measured.segments, found.segments, evidence, combine(evidence), problems)


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
