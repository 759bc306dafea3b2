"""The labelling rules of rules.toml, validated when they are loaded."""

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from coconut_attr.attributes import GROUPS, INDEX
from coconut_attr.errors import UserError
from coconut_attr.settings import settings

Share = Field(ge=0, le=1)


class RulesError(UserError):
    """The rules file is not valid; the message says where and why."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _attributes(names: list[str]) -> list[str]:
    unknown = [name for name in names if name not in INDEX]
    if unknown:
        raise ValueError(f"not among the 34 attributes: {', '.join(unknown)}")
    return names


class Category(_Strict):
    """What a segment of a COCO panoptic category says about its image."""

    id: int
    thing: bool
    present: list[str]
    maybe: list[str] = []

    _check = field_validator("present", "maybe")(_attributes)


class PanopticRules(_Strict):
    """Thresholds of the panoptic source; areas are shares of the image, 0 to 1."""

    present_confidence: float = Share
    absent_confidence: float = Share
    min_area: float = Share
    min_area_attributes: list[str]
    exhaustive: list[str]
    max_unlabelled: float = Share
    exclusive: list[list[str]]
    absent_implies: dict[str, str]
    large_present: float = Share
    large_absent: float = Share
    small_present: float = Share
    small_absent: float = Share

    _check = field_validator("min_area_attributes", "exhaustive")(_attributes)


class Lightness(_Strict):
    """Thresholds on the mean CIELAB L* of an image."""

    bright_present: float
    bright_absent: float
    dark_present: float
    dark_absent: float


class Colorfulness(_Strict):
    """Thresholds on Hasler and Suesstrunk's colourfulness."""

    present: float
    absent: float


class Color(_Strict):
    """A colour attribute: thresholds as shares of the image, prototypes as `#rrggbb`."""

    present: float = Share
    absent: float = Share
    prototypes: list[str]


class PixelRules(_Strict):
    """Colours and thresholds of the pixel source."""

    confidence: float = Share
    segment_share: float = Share
    segment_area: float = Share
    segment_confidence: float = Share
    colors: dict[str, Color]
    other_colors: dict[str, list[str]]
    lightness: Lightness
    colorfulness: Colorfulness

    @field_validator("colors")
    @classmethod
    def _all_colors(cls, colors: dict[str, Color]) -> dict[str, Color]:
        if set(colors) != set(GROUPS["color"]):
            raise ValueError(f"must be the colours of the attributes: {', '.join(GROUPS['color'])}")
        return colors


class Silence(_Strict):
    """Attributes that are absent if none of at least `min_captions` captions names them."""

    attributes: list[str]
    min_captions: int = Field(ge=1)
    confidence: float = Share

    _check = field_validator("attributes")(_attributes)


class CaptionRules(_Strict):
    """Words and phrases of the caption source."""

    max_length: int = Field(ge=1)
    min_english: float = Share
    confidence: float = Share
    negated_confidence: float = Share
    agreement: float = Share
    negations: list[str]
    negation_scope: int = Field(ge=0)
    negation_ends: list[str]
    exclusive: list[list[str]]
    silence: Silence
    categories: dict[str, list[str]]
    phrases: dict[str, list[str]]
    lexicon: dict[str, list[str]]

    @model_validator(mode="after")
    def _names(self) -> "CaptionRules":
        _attributes(list(self.lexicon))
        for names in self.phrases.values():
            _attributes(names)
        return self


class PanCapRules(_Strict):
    """Weights and words of the COCONut-PanCap source."""

    attributes: list[str]
    confidence: float = Share
    shared_confidence: float = Share
    min_area: float = Share
    large_min: float = Share
    small_max: float = Share
    other_object: list[str] = Field(min_length=1)
    lexicon: dict[str, list[str]]

    _check = field_validator("attributes")(_attributes)

    @field_validator("lexicon")
    @classmethod
    def _names(cls, lexicon: dict[str, list[str]]) -> dict[str, list[str]]:
        _attributes(list(lexicon))
        return lexicon


class Rules(_Strict):
    """The rules of all sources."""

    version: str
    panoptic: PanopticRules
    category: dict[str, Category]
    pixels: PixelRules
    caption: CaptionRules
    pancap: PanCapRules | None = None  # without the section PanCap texts are not read

    @model_validator(mode="after")
    def _categories(self) -> "Rules":
        if len({category.id for category in self.category.values()}) != len(self.category):
            raise ValueError("two categories share an id")
        unknown = [name for name in self.caption.categories if name not in self.category]
        if unknown:
            raise ValueError(f"caption.categories names no category: {', '.join(unknown)}")
        return self


@dataclass(frozen=True)
class LoadedRules:
    """Rules with their version: the file's `version` and the first 8 hex digits of its SHA-256."""

    rules: Rules
    version: str


def load_rules(path: Path | None = None) -> LoadedRules:
    """Load and validate a rules file.

    Args:
        path: default: COCONUT_ATTR_RULES_FILE, or the package's rules.toml.

    Raises:
        RulesError: not TOML, or a field is missing, unknown or out of range.
    """
    return _load(
        path
        or settings().rules_file
        or Path(str(resources.files("coconut_attr.labels") / "rules.toml"))
    )


@cache
def _load(source: Path) -> LoadedRules:
    try:
        # An editor's byte order mark or line ends do not make other rules.
        text = source.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        rules = Rules.model_validate(tomllib.loads(text))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RulesError(f"{source}: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()
        )
        raise RulesError(f"{source}: {problems}") from error
    return LoadedRules(rules, f"{rules.version}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")
