"""Labels as one Parquet file, a row for each image."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.export.records import Counts, ExportHeader, ExportImage
from coconut_attr.files.atomic import part_of

ROWS = 1000  # rows of a Parquet row group
#: A column for each attribute: 1 present, 0 absent, null unknown.
CELLS = [pa.field(name, pa.int8()) for name in ATTRIBUTES]

_TABLE = [
    pa.field("coco_id", pa.int64(), nullable=False),
    *(pa.field(name, pa.string(), nullable=False) for name in ("file_name", "split")),
    *(pa.field(name, pa.int32(), nullable=False) for name in ("width", "height")),
    *(pa.field(name, pa.string()) for name in ("url", "licence", "sha256", "rule_version")),
    *CELLS,
    *(pa.field(f"{name}_confidence", pa.float32()) for name in ATTRIBUTES),
]


def write_parquet(header: ExportHeader, images: Iterable[ExportImage], to: Path) -> Counts:
    """Write one Parquet file with a row for each image.

    Columns: coco_id, file_name, split, width, height, url, licence, sha256, rule_version; 34 int8
    cells (1, 0, null for unknown); 34 float32 `<name>_confidence`, null where the cell is null. The
    schema's metadata has dataset, title, licence, rule_version, note, and `attributes`: the 34
    names in order, as JSON.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    counts = Counts()
    metadata = {
        "dataset": header.dataset,
        "title": header.title,
        "licence": header.licence,
        "rule_version": header.rule_version,
        "note": header.note,
        "attributes": json.dumps(ATTRIBUTES),
    }
    image_columns = [column.name for column in _TABLE[: -2 * len(ATTRIBUTES)]]
    with part_of(to) as part, TableFile(part, pa.schema(_TABLE, metadata=metadata)) as table:
        for image in images:
            counts.add(image)
            confidences = {
                f"{name}_confidence": confidence
                for name, confidence in zip(ATTRIBUTES, image.confidences, strict=True)
            }
            row = {name: getattr(image, name) for name in image_columns}
            table.add(row | image.cells() | confidences)
    return counts


class TableFile:
    """A Parquet file written row by row in row groups of `ROWS`; a context manager."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema)
        self._schema = schema
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; keys are the schema's column names."""
        self._rows.append(row)
        if len(self._rows) == ROWS:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def __enter__(self) -> "TableFile":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._rows:
            self._flush()
        self._writer.close()
