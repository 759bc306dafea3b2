"""One piece of evidence for or against one attribute of one image."""

from dataclasses import dataclass
from typing import Literal

Source = Literal["panoptic", "pixels", "caption"]
Side = Literal["present", "absent"]


@dataclass(frozen=True)
class Evidence:
    """What one source says of one attribute.

    Attributes:
        state: what it speaks for.
        confidence: 0 to 1.
        detail: in words, for people.
        segment_id, caption_id: the COCO segment or caption that it was read from, where there is one.
    """

    attribute: str
    state: Side
    source: Source
    confidence: float
    detail: str
    segment_id: int | None = None
    caption_id: int | None = None
