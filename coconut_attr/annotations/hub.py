"""COCONut's parquet files on the Hugging Face hub (columns mask, segments_info, image_info), or in a mirror."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coconut_attr.annotations.records import MALFORMED
from coconut_attr.annotations.upstream import hub_folder, is_url
from coconut_attr.annotations.version import Version, version_of
from coconut_attr.datasets import Dataset
from coconut_attr.errors import SourceError, UnreachableError
from coconut_attr.settings import Settings

COLUMNS = ("mask", "segments_info", "image_info")
BATCH = 200  # rows
BUFFER = (
    4 * 2**20
)  # bytes of a column chunk that are read at once: without it Arrow reads each chunk whole
AHEAD = (
    2**20
)  # bytes that are read ahead of it from another host: more would be dropped when the column changes


@dataclass(frozen=True)
class Shard:
    """One parquet file; `path` is its name within the repository, `local` its path if it is on this machine."""

    repo: str
    path: str
    version: Version
    local: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.repo}/{self.path}"


def list_shards(dataset: Dataset, settings: Settings) -> list[Shard]:
    """The parquet files of a dataset, in a fixed order: those in `data`, or if there are none, in any folder.

    Raises:
        SourceError: the hub (or mirror) cannot be reached, or holds no parquet file of it.
    """
    shards = []
    for repo in dataset.repos:
        filesystem, folder = hub_folder(repo, settings)
        folder = folder.rstrip("/")
        try:
            filesystem.invalidate_cache()  # a worker lives long, and upstream may have changed
            found: dict[str, dict[str, Any]] = {}
            for pattern in ("data/*.parquet", "**/*.parquet"):
                found = found or filesystem.glob(f"{folder}/{pattern}", detail=True)
            if is_url(folder):  # a listing has no sizes: they are asked for
                found = {path: filesystem.info(path) for path in found}
        except Exception as error:  # each filesystem behind fsspec raises errors of its own
            raise _unread(error, folder)(
                f"cannot list {dataset.name}'s annotations at {folder}: {error}"
            ) from error
        if not found:
            raise SourceError(
                f"no data/*.parquet under {folder}: is the mirror (or the repository name) right?"
            )
        for path, detail in sorted(found.items()):
            name = path.split(f"{repo}/", 1)[1]
            local = Path(path) if folder.startswith("/") else None
            shards.append(Shard(repo, name, version_of(detail), local))
    return shards


def read_shard(shard: Shard, settings: Settings, skip: int = 0) -> Iterator[list[Any]]:
    """Yield the rows of one parquet file in batches, as dicts of COLUMNS; `rows.hub_row` parses one.

    Memory stays bounded however large the file's row groups are.

    Args:
        skip: rows that an earlier, interrupted reading already stored; whole row groups of them are not read.

    Raises:
        SourceError: the file cannot be read, or lacks a column.
    """
    filesystem, folder = hub_folder(shard.repo, settings)
    address = f"{folder.rstrip('/')}/{shard.path}"
    try:
        with filesystem.open(address, "rb", block_size=AHEAD) as file:
            parquet = pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
            missing = [name for name in COLUMNS if name not in parquet.schema_arrow.names]
            if missing:
                raise SourceError(
                    f"{address} has no column {', '.join(missing)}: not COCONut's format"
                )
            groups = list(range(parquet.num_row_groups))
            while groups and skip >= parquet.metadata.row_group(groups[0]).num_rows:
                skip -= parquet.metadata.row_group(groups.pop(0)).num_rows
            for batch in parquet.iter_batches(BATCH, groups, list(COLUMNS), use_threads=False):
                rows = batch.slice(skip).to_pylist()
                skip = max(0, skip - batch.num_rows)
                if rows:
                    yield rows
    except (OSError, pa.ArrowException, *MALFORMED) as error:
        raise _unread(error, address)(f"cannot read {address}: {error}") from error


def _unread(error: Exception, address: str) -> type[SourceError]:
    """The kind of error: a network that fails may work again, anything else will not."""
    local = address.startswith("/") or isinstance(
        error, (FileNotFoundError, pa.ArrowException, *MALFORMED)
    )
    return SourceError if local else UnreachableError
