"""What the export writers take: one record per image, a header, and running counts.

The writers read images one by one, so an export needs the memory of one page of images. They write
under a temporary name and rename at the end, so a file under its final name is complete.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coconut_attr.attributes import ATTRIBUTES, CODES
from coconut_attr.errors import UserError

#: Tag in our dataset cards. `check_target` only lets a folder with such a card be replaced.
MARK = "coconut-attributes-export"
PRESENT, ABSENT, UNKNOWN = CODES["present"], CODES["absent"], CODES["unknown"]


@dataclass(frozen=True)
class ExportSegment:
    """A panoptic segment; `rle` is its mask as compressed COCO run-length counts.

    It is empty if the panoptic PNG cannot be read.
    """

    segment_id: int
    category_id: int
    iscrowd: bool
    rle: str


@dataclass(frozen=True)
class ExportImage:
    """A labelled image.

    Attributes:
        file: path of its JPEG or PNG, or None if it was not downloaded.
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
        """Return each attribute's cell: 1, 0, or None if unknown."""
        pairs = zip(ATTRIBUTES, self.states, strict=True)
        return {name: None if state == UNKNOWN else state for name, state in pairs}


@dataclass(frozen=True)
class ExportHeader:
    """What an export states once; `rule_version` lists every version behind its labels."""

    dataset: str
    title: str
    licence: str
    rule_version: str
    categories: Sequence[tuple[int, str, bool]] = ()  #: id, name, whether it is a thing

    @property
    def note(self) -> str:
        """Return one sentence on what the labels are and are not."""
        return f"attribute labels by rules {self.rule_version}; weak labels, not human"


@dataclass
class Counts:
    """What was written: images by split, cells by attribute and state code.

    `unmasked` counts the segments that were left out because their mask cannot be read.
    """

    images: Counter[str] = field(default_factory=Counter)
    cells: Counter[tuple[str, int]] = field(default_factory=Counter)
    unmasked: int = 0

    def add(self, image: ExportImage) -> None:
        """Count an image and its 34 cells."""
        self.images[image.split] += 1
        self.cells.update(zip(ATTRIBUTES, image.states, strict=True))

    @property
    def known_cells(self) -> int:
        """Return the number of cells that are present or absent."""
        return sum(n for (_, state), n in self.cells.items() if state != UNKNOWN)


def check_target(to: Path, *, folder: bool, force: bool) -> None:
    """Raise before any work is done if an export would overwrite something else.

    Args:
        folder: the export is a folder, not a file.
        force: allow replacing an earlier file or an earlier export folder.

    Raises:
        UserError: the target is of the other kind, or exists and may not be replaced.
    """
    advice = "choose another --to, or add --force to replace it"
    if not folder:
        if to.is_dir():
            raise UserError(f"{to} is a folder: give the name of a file with --to")
        if to.exists() and to.stat().st_size and not force:
            raise UserError(f"{to} exists already: {advice}")
        return
    if not to.exists():
        return
    if not to.is_dir():
        raise UserError(f"{to} is a file: give the name of a folder with --to")
    if any(to.iterdir()):
        # Replacing deletes the folder, so even --force only accepts what an earlier export wrote.
        card = to / "README.md"
        ours = {path.name for path in to.iterdir()} <= {"data", "README.md"}
        if not (ours and card.is_file() and MARK in card.read_text(errors="replace")):
            raise UserError(f"{to} holds files that no export wrote: choose another --to")
        if not force:
            raise UserError(f"{to} exists already: {advice}")
