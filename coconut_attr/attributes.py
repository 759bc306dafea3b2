"""The 34 visual attributes in the order of every label vector, their states, and the splits."""

from typing import Final, Literal, get_args

State = Literal["present", "absent", "unknown"]
Source = Literal["panoptic", "pixels", "caption", "pancap", "model"]
SOURCES: Final[tuple[Source, ...]] = get_args(Source)  #: of evidence
Split = Literal["train", "val", "test"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "object": ("person", "vehicle", "animal", "furniture", "electronics", "food"),
    "visual": ("large", "small", "round", "square", "colorful", "bright", "dark"),
    "environment": ("outdoor", "indoor", "natural", "artificial"),
    "material": ("soft", "hard", "metal", "wood", "plastic", "fabric", "glass"),
    "state": ("moving", "static", "open", "closed"),
    "color": ("red", "blue", "green", "yellow", "black", "white"),
}
ATTRIBUTES: Final[tuple[str, ...]] = tuple(name for names in GROUPS.values() for name in names)
GROUP_OF: Final[dict[str, str]] = {name: group for group, names in GROUPS.items() for name in names}
INDEX: Final[dict[str, int]] = {name: index for index, name in enumerate(ATTRIBUTES)}

#: Attributes that the report does not list; they are ours.
OURS: Final[frozenset[str]] = frozenset(
    {"furniture", "square", "dark", "soft", "plastic", "glass", "yellow", "black"}
)

#: Codes of the states in a label vector (int8); training and metrics skip unknown cells.
CODES: Final[dict[str, int]] = {"present": 1, "absent": 0, "unknown": -1}
