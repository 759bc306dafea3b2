"""A piece of evidence for or against one attribute of one image."""

from dataclasses import dataclass
from typing import Literal

from coconut_attr.attributes import Source

Side = Literal["present", "absent"]


@dataclass(frozen=True)
class Evidence:
    """What one source says about one attribute.

    Attributes:
        state: the state that it supports.
        confidence: 0 to 1.
        detail: the reason, in words.
        segment_id: the COCONut segment that it was read from, if any.
        caption_id: the COCO caption that it was read from, if any.
    """

    attribute: str
    state: Side
    source: Source
    confidence: float
    detail: str
    segment_id: int | None = None
    caption_id: int | None = None
