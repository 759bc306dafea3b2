"""Writers of label exports: COCO-style JSON, Parquet, and a folder that Hugging Face `datasets` reads.

They take images one by one and keep at most a page of them in memory. Nothing is there under its final name before it
is whole.
"""

import json
import os
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coconut_attr.attributes import ATTRIBUTES, CODES, GROUP_OF, INDEX
from coconut_attr.errors import UserError
from coconut_attr.files import link_or_copy, part_of
from coconut_attr.sources.records import LICENCES

ROWS = 1000  # rows of a Parquet row group
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


def write_coco(header: ExportHeader, images: Iterable[ExportImage], to: Path) -> Counts:
    """Write one COCO-style JSON file, which `pycocotools.coco.COCO` loads.

    Images carry `attributes` ({name: 1 or 0}, unknown ones left out); annotations are the panoptic segments, with a
    run-length `segmentation` where the segment has one. Annotation ids count from 1; `segment_id` is the mask's.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    counts = Counts()
    licences = {url: number for number, url in LICENCES.items()}
    annotation_id = 0
    # COCO keeps images and annotations in two lists: the second one is spooled to disk while the first is written.
    with (
        part_of(to) as part,
        part.open("w", encoding="utf-8") as file,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=to.parent) as spool,
    ):
        info = {"description": f"{header.title}: {header.note}", "dataset": header.dataset, "licence": header.licence,
                "rule_version": header.rule_version}  # fmt: skip
        attributes = [{"id": k, "name": name, "group": GROUP_OF[name]} for name, k in INDEX.items()]
        categories = [{"id": key, "name": name, "isthing": int(thing)} for key, name, thing in header.categories]
        for key, value in (("info", info), ("attributes", attributes), ("categories", categories)):
            file.write(f"{'{' if key == 'info' else ''}{json.dumps(key)}: {json.dumps(value)},\n")
        file.write('"images": [')
        for number, image in enumerate(images):
            counts.add(image)
            entry = {
                "id": image.coco_id, "file_name": image.file_name, "width": image.width, "height": image.height,
                "coco_url": image.url, "license": _licence_id(licences, image.licence), "split": image.split,
                "attributes": {name: cell for name, cell in image.cells().items() if cell is not None},
            }  # fmt: skip
            file.write(("," if number else "") + "\n" + json.dumps(entry))
            for segment in image.segments:
                annotation_id += 1
                spool.write(("," if annotation_id > 1 else "") + "\n")
                spool.write(json.dumps(_annotation(annotation_id, image, segment)))
        file.write('\n],\n"annotations": [')
        spool.seek(0)
        shutil.copyfileobj(spool, file)
        names = [{"id": number, "name": url or "not stated", "url": url} for url, number in licences.items()]
        file.write(f'\n],\n"licenses": {json.dumps(names)}}}\n')
    return counts


def _licence_id(licences: dict[str, int], url: str) -> int:
    """COCO's number of a licence; others are numbered after COCO's, and 0 is: not stated."""
    return licences.setdefault(url, max(licences.values()) + 1 if url else 0)


def _annotation(number: int, image: ExportImage, segment: ExportSegment) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": number, "image_id": image.coco_id, "category_id": segment.category_id, "area": segment.area,
        "bbox": list(segment.bbox), "iscrowd": int(segment.iscrowd), "segment_id": segment.segment_id,
    }  # fmt: skip
    if segment.rle:
        entry["segmentation"] = {"size": [image.height, image.width], "counts": segment.rle}
    return entry


_CELLS = [pa.field(name, pa.int8()) for name in ATTRIBUTES]
_TABLE = [
    pa.field("coco_id", pa.int64(), nullable=False),
    *(pa.field(name, pa.string(), nullable=False) for name in ("file_name", "split")),
    *(pa.field(name, pa.int32(), nullable=False) for name in ("width", "height")),
    *(pa.field(name, pa.string()) for name in ("url", "licence", "sha256", "rule_version")),
    *_CELLS,
    *(pa.field(f"{name}_confidence", pa.float32()) for name in ATTRIBUTES),
]


def write_parquet(header: ExportHeader, images: Iterable[ExportImage], to: Path) -> Counts:
    """Write one Parquet file with a row for each image.

    Columns: coco_id, file_name, split, width, height, url, licence, sha256, rule_version; 34 int8 cells (1, 0, null:
    unknown); 34 float32 `<name>_confidence`, null where the cell is. The schema's metadata has dataset, title, licence,
    rule_version, note, and `attributes`: the 34 names in order, as JSON.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    counts = Counts()
    metadata = {
        "dataset": header.dataset, "title": header.title, "licence": header.licence,
        "rule_version": header.rule_version, "note": header.note, "attributes": json.dumps(ATTRIBUTES),
    }  # fmt: skip
    plain = [item.name for item in _TABLE[: -2 * len(ATTRIBUTES)]]
    with part_of(to) as part, _Table(part, pa.schema(_TABLE, metadata=metadata)) as table:
        for image in images:
            counts.add(image)
            sure = {f"{name}_confidence": c for name, c in zip(ATTRIBUTES, image.confidences, strict=True)}
            table.add({**{name: getattr(image, name) for name in plain}, **image.cells(), **sure})
    return counts


def write_hf(header: ExportHeader, images: Iterable[ExportImage], to: Path) -> Counts:
    """Write a folder for `datasets.load_dataset("imagefolder", data_dir=...)` (datasets 3.4 or newer).

    It has data/<split>/<image file> (a hard link to the data folder where that can be, else a copy),
    data/<split>/metadata.parquet (file_name, coco_id, captions, 34 int8 cells: 1, 0, null), and README.md.
    An earlier export there is replaced: see `check_target`.

    Raises:
        UserError: an image's file is not there.
        OSError: it cannot be written; nothing is left behind, and an earlier export stays.
    """
    # Parquet, not JSON lines: an attribute that is unknown in all of a split has no type in JSON, and `datasets`
    # refuses splits whose types differ.
    schema = pa.schema(
        [
            pa.field("file_name", pa.string(), nullable=False),
            pa.field("coco_id", pa.int64(), nullable=False),
            pa.field("captions", pa.list_(pa.string())),
            *_CELLS,
        ]
    )
    counts = Counts()
    to = to.resolve()
    with _part_folder(to) as part:
        with ExitStack() as stack:
            tables: dict[str, _Table] = {}
            for image in images:
                counts.add(image)
                folder = part / "data" / image.split
                if image.split not in tables:
                    folder.mkdir(parents=True)
                    tables[image.split] = stack.enter_context(_Table(folder / "metadata.parquet", schema))
                name = Path(image.file_name).name
                _link(image, folder / name)
                row = {"file_name": name, "coco_id": image.coco_id, "captions": list(image.captions)}
                tables[image.split].add({**row, **image.cells()})
        (part / "README.md").write_text(_card(header, counts), encoding="utf-8")
    return counts


def _link(image: ExportImage, target: Path) -> None:
    if image.file is None or not image.file.is_file():
        raise UserError(
            f"the file of image {image.coco_id}, {image.file}, is missing: restore it in the data folder, or use"
            " --format parquet, which needs no image files"
        )
    link_or_copy(image.file, target)


def _card(header: ExportHeader, counts: Counts) -> str:
    total = counts.images.total()
    splits = "\n".join(f"| {split} | {n:,} |" for split, n in sorted(counts.images.items()))
    rows = "\n".join(
        f"| {name} | {GROUP_OF[name]} | " + " | ".join(f"{counts.cells[name, s]:,}" for s in (PRESENT, ABSENT, UNKNOWN))
        + " |"
        for name in ATTRIBUTES
    )  # fmt: skip
    return f"""---
pretty_name: {json.dumps(f"{header.title}: 34 visual attributes")}
license: other
license_name: see-below
task_categories:
- image-classification
tags:
- weak-labels
- visual-attributes
- multi-label-image-classification
- coco
- {MARK}
---
# {header.title}: 34 visual attributes

**The labels are weak: rules made them, not people.** Dataset `{header.dataset}`; rules `{header.rule_version}`.

{total:,} images; {counts.known:,} of {total * len(ATTRIBUTES):,} cells are known. A cell is 1 (present), 0 (absent) or
null (unknown): null is not absent, so leave such cells out of training and of scores.

Licence: {header.licence}. Each image has the licence of its source page.

```python
datasets.load_dataset("imagefolder", data_dir="this folder")  # datasets 3.4 or newer; the split val is "validation"
```

| split | images |
| --- | --- |
{splits}

| attribute | group | present | absent | unknown |
| --- | --- | --- | --- | --- |
{rows}
"""


class _Table:
    """A Parquet file that is written row by row, in row groups of `ROWS`; a context manager that closes it."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema)
        self._schema = schema
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == ROWS:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def __enter__(self) -> "_Table":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._rows:
            self._flush()
        self._writer.close()


def _beside(to: Path, ending: str) -> Path:
    return to.with_name(f".{to.name}.{uuid.uuid4().hex}.{ending}")


@contextmanager
def _part_folder(to: Path) -> Iterator[Path]:
    """A temporary folder beside `to`, which takes that name, in place of an earlier folder, when all went well."""
    part, old = _beside(to, "part"), _beside(to, "old")
    part.mkdir(parents=True)
    try:
        yield part
        if to.exists():
            os.replace(to, old)
        try:
            os.replace(part, to)
        except BaseException:
            if old.exists():
                os.replace(old, to)
            raise
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
