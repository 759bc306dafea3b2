"""Attribute extraction: the evidence of all sources about an image, and the labels it leads to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coconut_attr.annotations.records import Caption, SegmentInfo
from coconut_attr.attributes import ATTRIBUTES, State
from coconut_attr.files.images import TRANSPARENT, decode
from coconut_attr.files.near_duplicates import perceptual_hash
from coconut_attr.findings import Finding
from coconut_attr.labels.captions import CaptionReader
from coconut_attr.labels.evidence import Evidence
from coconut_attr.labels.pancap import PanCapReader
from coconut_attr.labels.panoptic import (
    MaskMeasures,
    Segment,
    annotation_problems,
    measure,
    panoptic_evidence,
    read_mask,
)
from coconut_attr.labels.pixels import SegmentColor, measure_pixels, pixel_evidence
from coconut_attr.labels.rules import Rules
from coconut_attr.labels.signals import Signals, measure_signals

#: Opposing evidence whose confidences differ by less than this leaves a label unknown.
TIE = 0.1


@dataclass(frozen=True)
class Label:
    """The state that the evidence about an attribute of an image combines to.

    `conflict` says that there was evidence for both states.
    """

    attribute: str
    state: State
    confidence: float
    conflict: bool


@dataclass(frozen=True)
class Extraction:
    """The result for one image.

    Attributes:
        segments: the measured segments of its mask.
        colors: their colours by segment id.
        segment_attributes: attributes of segments, as a COCONut-PanCap text states them.
        evidence: of all sources.
        labels: what the evidence combines to, one for each attribute in their order.
        signals: the evidence as the label model takes it.
        findings: the parts of its annotation that could not be used.
        perceptual_hash: of its photo, see `coconut_attr.files.near_duplicates`.
    """

    segments: list[Segment]
    colors: dict[int, SegmentColor]
    segment_attributes: list[Evidence]
    evidence: list[Evidence]
    labels: list[Label]
    signals: Signals
    findings: list[Finding]
    perceptual_hash: str


class Extractor:
    """Extracts evidence and labels by one set of rules; built once, used for many images."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._captions = CaptionReader(rules)
        self._pancap = PanCapReader(rules, rules.pancap) if rules.pancap else None
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
        pancap: str | None = None,
    ) -> Extraction:
        """Extract the evidence and labels of an image.

        A mask or caption that cannot be used is skipped and becomes a finding.

        Args:
            photo: path of its JPEG or PNG.
            mask: path of its panoptic PNG; None if it has no mask.
            infos: segments_info of the mask.
            captions: the captions of the image.
            pancap: its COCONut-PanCap text, if any.

        Raises:
            coconut_attr.files.images.ImageError: the photo is damaged or incomplete.
            OSError: the photo cannot be read.
        """
        image = decode(photo)
        pixels = image.width * image.height
        rgb = np.asarray(image)
        findings: list[Finding] = []
        if TRANSPARENT in image.info:
            findings.append(Finding("transparent pixels", "labelled as shown on white"))
        ids: np.ndarray | None = None
        measures = MaskMeasures([], [])
        if mask is not None:
            mask_ids = read_mask(mask, (image.height, image.width))
            if isinstance(mask_ids, Finding):
                findings.append(mask_ids)
            else:
                ids = mask_ids
                measures = measure(ids, infos, self._things, rgb)
        segments = measures.segments
        findings += annotation_problems(infos, measures, self._categories)
        readable, unreadable = self._captions.readable(captions)
        findings += unreadable

        measured = measure_pixels(image, ids, segments, self.rules.pixels)
        evidence = panoptic_evidence(segments, pixels, self.rules)
        evidence += pixel_evidence(measured, segments, pixels, self.rules)
        evidence += self._captions.evidence(readable)
        attributes: list[Evidence] = []
        if self._pancap and pancap is not None:
            segment_ids = {info.id for info in infos}
            attributes, more, unfit = self._pancap.evidence(pancap, segment_ids, segments, pixels)
            evidence += more
            findings += unfit
        labels = combine(evidence)
        states = [label.state for label in labels]
        return Extraction(
            segments,
            measured.segments,
            attributes,
            evidence,
            labels,
            measure_signals(evidence, states, measured, has_mask=ids is not None),
            findings,
            perceptual_hash(image),
        )


def combine(evidence: Sequence[Evidence]) -> list[Label]:
    """Combine evidence into 34 labels.

    A state's confidence is that of its most confident piece. The state with more confidence wins;
    a near tie (`TIE`) is unknown.
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
