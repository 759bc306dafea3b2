"""COCONut-PanCap: attributes of the segments that a text describes, and evidence from them."""

import re
from collections.abc import Collection, Sequence

from coconut_attr.annotations.pancap import parse
from coconut_attr.findings import Finding
from coconut_attr.labels.captions import CaptionReader
from coconut_attr.labels.evidence import Evidence
from coconut_attr.labels.panoptic import Segment
from coconut_attr.labels.rules import PanCapRules, Rules


class PanCapReader:
    """Finds the attributes of segments in COCONut-PanCap texts; built once for a set of rules.

    Args:
        rules: all rules.
        pancap: their section `pancap`.
    """

    def __init__(self, rules: Rules, pancap: PanCapRules) -> None:
        self.rules = pancap
        self._things = {category.id for category in rules.category.values() if category.thing}
        words = rules.caption.lexicon | self.rules.lexicon
        lexicon = {attribute: words.get(attribute, []) for attribute in self.rules.attributes}
        caption_rules = rules.caption.model_copy(update={"lexicon": lexicon, "categories": {}})
        self._reader = CaptionReader(rules.model_copy(update={"caption": caption_rules}))
        stops = "|".join(map(re.escape, self.rules.other_object))
        self._other_object = re.compile(rf"\b(?:{stops})\b", re.IGNORECASE)

    def read(self, phrase: str) -> dict[str, str]:
        """Return the attributes that a phrase gives its segment: name -> the words that say so."""
        own = phrase
        if (stop := self._other_object.search(phrase)) and phrase[: stop.start()].strip():
            own = phrase[: stop.end()]  # including the word: "riding" says that something moves
        return {
            attribute: words
            for attribute, (state, words) in self._reader.read(own).items()
            if state == "present" and attribute in self.rules.attributes
        }

    def evidence(
        self, text: str, segment_ids: Collection[int], segments: Sequence[Segment], pixels: int
    ) -> tuple[list[Evidence], list[Evidence], list[Finding]]:
        """Read a text.

        Args:
            segment_ids: ids of the image's segments, by its segments_info.
            segments: from `panoptic.measure`; phrases about segments without a pixel are skipped.
            pixels: number of pixels of the image.

        Returns:
            The attributes of segments, one for each segment and attribute; the evidence about the
            image that follows from them, one for each attribute; and findings.
        """
        phrases, findings = parse(text, segment_ids)
        by_id = {segment.id: segment for segment in segments}
        attributes: dict[tuple[int, str], Evidence] = {}
        evidence: dict[str, Evidence] = {}
        areas: dict[str, float] = {}
        for phrase in phrases:
            described = [by_id[k] for k in phrase.segment_ids if k in by_id]
            described.sort(key=lambda segment: -segment.area)
            shared = len(phrase.segment_ids) > 1
            confidence = self.rules.shared_confidence if shared else self.rules.confidence
            for attribute, words in self.read(phrase.text).items():
                detail = f'"{words}" in "{phrase.text}"'
                pieces = [
                    Evidence(attribute, "present", "pancap", confidence, detail, segment.id)
                    for segment in described
                ]
                for piece in pieces:
                    key = (piece.segment_id or 0, attribute)
                    if key not in attributes or attributes[key].confidence < confidence:
                        attributes[key] = piece
                chosen = self._visible(attribute, described, pixels)
                if chosen is None:
                    continue
                piece, area = pieces[chosen], described[chosen].area
                best = evidence.get(attribute)
                if best is None or (best.confidence, areas[attribute]) < (confidence, area):
                    evidence[attribute], areas[attribute] = piece, area
        return list(attributes.values()), list(evidence.values()), findings

    def _visible(self, attribute: str, segments: Sequence[Segment], pixels: int) -> int | None:
        """Return the index of the segment that makes an attribute present in the image, or None.

        Args:
            segments: the segments of one phrase, the largest first.
        """
        if not segments:
            return None
        if attribute in ("large", "small"):
            things = [k for k, s in enumerate(segments) if s.category_id in self._things]
            if not things:
                return None
            chosen = things[0] if attribute == "large" else things[-1]
            share, rules = segments[chosen].area / pixels, self.rules
            fits = share >= rules.large_min if attribute == "large" else share <= rules.small_max
            return chosen if fits else None
        return 0 if sum(s.area for s in segments) >= self.rules.min_area * pixels else None
