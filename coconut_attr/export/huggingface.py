"""Labels and photos as a folder that Hugging Face `datasets` reads."""

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa

from coconut_attr.attributes import ATTRIBUTES, GROUP_OF
from coconut_attr.errors import UserError
from coconut_attr.export.parquet import CELLS, TableFile
from coconut_attr.export.records import (
    ABSENT,
    MARK,
    PRESENT,
    UNKNOWN,
    Counts,
    ExportHeader,
    ExportImage,
)
from coconut_attr.files.atomic import link_or_copy


def write_hf(header: ExportHeader, images: Iterable[ExportImage], to: Path) -> Counts:
    """Write a folder for `datasets.load_dataset("imagefolder", data_dir=...)` (datasets >= 3.4).

    It has data/<split>/<image file> (a hard link to the data folder if possible, else a copy),
    data/<split>/metadata.parquet (file_name, coco_id, captions, 34 int8 cells: 1, 0, null) and
    README.md. An earlier export in its place is replaced: see `check_target`.

    Raises:
        UserError: an image's file is missing.
        OSError: it cannot be written; nothing is left behind, and an earlier export stays.
    """
    # Parquet, not JSON lines: a column without a value has no type in JSON, and `datasets` refuses
    # splits whose types differ.
    schema = pa.schema(
        [
            pa.field("file_name", pa.string(), nullable=False),
            pa.field("coco_id", pa.int64(), nullable=False),
            pa.field("captions", pa.list_(pa.string())),
            *CELLS,
        ]
    )
    counts = Counts()
    to = to.resolve()
    with _part_folder(to) as part:
        with ExitStack() as stack:
            tables: dict[str, TableFile] = {}
            for image in images:
                counts.add(image)
                folder = part / "data" / image.split
                if image.split not in tables:
                    folder.mkdir(parents=True)
                    tables[image.split] = stack.enter_context(
                        TableFile(folder / "metadata.parquet", schema)
                    )
                name = Path(image.file_name).name
                if (folder / name).exists():  # file names need not be unique, COCO ids are
                    name = f"{image.coco_id}-{name}"
                _link(image, folder / name)
                row = {
                    "file_name": name,
                    "coco_id": image.coco_id,
                    "captions": list(image.captions),
                }
                tables[image.split].add({**row, **image.cells()})
        (part / "README.md").write_text(_card(header, counts), encoding="utf-8")
    return counts


def _link(image: ExportImage, target: Path) -> None:
    if image.file is None or not image.file.is_file():
        raise UserError(
            f"the file of image {image.coco_id}, {image.file}, is missing: restore it in the data"
            " folder, or use --format parquet, which needs no image files"
        )
    link_or_copy(image.file, target)


def _card(header: ExportHeader, counts: Counts) -> str:
    total = counts.images.total()
    splits = "\n".join(f"| {split} | {n:,} |" for split, n in sorted(counts.images.items()))
    rows = "\n".join(
        f"| {name} | {GROUP_OF[name]} | {counts.cells[name, PRESENT]:,} |"
        f" {counts.cells[name, ABSENT]:,} | {counts.cells[name, UNKNOWN]:,} |"
        for name in ATTRIBUTES
    )
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

**The labels are weak: rules made them, not people.** Dataset `{header.dataset}`,
rules `{header.rule_version}`.

{total:,} images; {counts.known_cells:,} of {total * len(ATTRIBUTES):,} cells are known.
A cell is 1 (present), 0 (absent) or null (unknown).
Null does not mean absent: leave such cells out of training and of scores.

Licence: {header.licence}. Each image has the licence of its source page.

```python
# datasets >= 3.4; it calls the split val "validation"
datasets.load_dataset("imagefolder", data_dir="this folder")
```

| split | images |
| --- | --- |
{splits}

| attribute | group | present | absent | unknown |
| --- | --- | --- | --- | --- |
{rows}
"""


def _beside(to: Path, ending: str) -> Path:
    return to.with_name(f".{to.name}.{uuid.uuid4().hex}.{ending}")


@contextmanager
def _part_folder(to: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `to`; on success it replaces `to`, else it is deleted."""
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
