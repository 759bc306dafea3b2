"""A judgement: what somebody who looked at a photo says of one of its attributes."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, get_args

State = Literal["present", "absent", "unsure"]
STATES: Final[tuple[State, ...]] = get_args(State)
Kind = Literal["human", "ai"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
#: Codes of the states in a vector of truth (int8), as those of labels.
CODES: Final[dict[str, int]] = {"present": 1, "absent": 0, "unsure": -1}
GUIDELINE: Final = "2"  #: The version of GUIDELINE.md.


@dataclass(frozen=True)
class Origin:
    """Who judged, and how.

    Attributes:
        kind: `human`, or `ai` for a model. People's judgements come before those of models. None:
            not stated, only as a default while a file is read.
        guideline: version of the guideline; empty: another one, or none.
        chosen: how the image was chosen: `random`, or the name of a queue; empty: not stated.
        judged_at: in UTC.
    """

    annotator: str
    kind: Kind | None
    guideline: str
    chosen: str
    judged_at: datetime


@dataclass(frozen=True)
class Judgement:
    """A state of one attribute of one photo, and who judged it so."""

    coco_id: int
    attribute: str
    state: State
    origin: Origin


@dataclass
class Readings:
    """The judgements of a file, and a message for each of its rows that was skipped."""

    judgements: list[Judgement] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
