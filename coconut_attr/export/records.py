"""Writers of label exports: COCO-style JSON, Parquet, and a folder that Hugging Face `datasets` reads.

They take images one by one and keep at most a page of them in memory. Nothing is there under its final name before it
is whole.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coconut_attr.attributes import ATTRIBUTES, CODES
from coconut_attr.errors import UserError

MARK = "coconut-attributes-export"  # tag of our dataset cards: only a folder with such a card is ever replaced
PRESENT, ABSENT, UNKNOWN = CODES["present"], CODES["absent"], CODES["unknown"]


@dataclass(frozen=True)
class ExportSegment:
    """A measured panoptic segment: area in pixels, bbox as x, y, width, height, rle as compressed COCO counts."""

    segment_id: int
    category_id: int
    iscrowd: bool
    area: int
    bbox: tuple[int, int, int, int]
    rle: str | None


@dataclass(frozen=True)
class ExportImage:
    """A labelled image.

    Attributes:
        file: where its JPEG or PNG lies, if it is there.
        states: the 34 cells in the order of `ATTRIBUTES`: 1 present, 0 absent, -1 unknown.
        confidences: 34 numbers from 0 to 1, None where the cell is unknown.
    """

    coco_id: int
    file_name: str
    split: str
    width: int
    height: int
    url: str
    licence: str
    sha256: str | None
    rule_version: str
    file: Path | None
    states: Sequence[int]
    confidences: Sequence[float | None]
    segments: Sequence[ExportSegment] = ()
    captions: Sequence[str] = ()

    def cells(self) -> dict[str, int | None]:
        """Each attribute's cell: 1, 0, or None where it is unknown."""
        pairs = zip(ATTRIBUTES, self.states, strict=True)
        return {name: None if state == UNKNOWN else state for name, state in pairs}


@dataclass(frozen=True)
class ExportHeader:
    """What is said once of an export; `rule_version` lists all versions that its labels were made with."""

    dataset: str
    title: str
    licence: str
    rule_version: str
    categories: Sequence[tuple[int, str, bool]] = ()  #: id, name, whether it is a thing

    @property
    def note(self) -> str:
        return f"attribute labels by rules {self.rule_version}; weak labels, not human"


@dataclass
class Counts:
    """What was written: images by split, and cells by attribute and state code."""

    images: Counter[str] = field(default_factory=Counter)
    cells: Counter[tuple[str, int]] = field(default_factory=Counter)

    def add(self, image: ExportImage) -> None:
        self.images[image.split] += 1
        self.cells.update(zip(ATTRIBUTES, image.states, strict=True))

    @property
    def known(self) -> int:
        return sum(n for (_, state), n in self.cells.items() if state != UNKNOWN)


def check_target(to: Path, *, folder: bool, force: bool) -> None:
    """Refuse a target that an export would overwrite, before any work is done.

    Args:
        folder: the export is a folder, not a file.
        force: an earlier file, or an earlier export folder, may be replaced.

    Raises:
        UserError: the target is of the other kind, or is not empty and may not be replaced.
    """
    again = "choose another --to, or add --force to replace it"
    if not folder:
        if to.is_dir():
            raise UserError(f"{to} is a folder: give the name of a file with --to")
        if to.exists() and to.stat().st_size and not force:
            raise UserError(f"{to} exists already: {again}")
        return
    if not to.exists():
        return
    if not to.is_dir():
        raise UserError(f"{to} is a file: give the name of a folder with --to")
    if any(to.iterdir()):
        # Replacing deletes what is there, so even --force takes nothing but what an earlier export wrote.
        card = to / "README.md"
        ours = {path.name for path in to.iterdir()} <= {"data", "README.md"}
        if not (ours and card.is_file() and MARK in card.read_text(errors="replace")):
            raise UserError(f"{to} holds other files than an earlier export: choose another --to")
        if not force:
            raise UserError(f"{to} exists already: {again}")
