"""COCONut's parquet files on the Hugging Face hub (columns mask, segments_info, image_info), or in a mirror."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from coconut_attr.registry import Dataset
from coconut_attr.settings import Settings
from coconut_attr.sources.records import Panoptic, SegmentInfo, SourceError, UnreachableError, image_info
from coconut_attr.sources.upstream import hub_folder

COLUMNS = ("mask", "segments_info", "image_info")


@dataclass(frozen=True)
class Shard:
    """One parquet file; `path` is its name within the repository, `size` in bytes."""

    repo: str
    path: str
    size: int
    image_prefix: str

    @property
    def name(self) -> str:
        return f"{self.repo}/{self.path}"


def list_shards(dataset: Dataset, settings: Settings) -> list[Shard]:
    """The parquet files of a dataset, in a fixed order.

    Raises:
        SourceError: the hub (or mirror) cannot be reached, or holds no parquet file of it.
    """
    shards = []
    for repo, prefix in dataset.repos:
        filesystem, folder = hub_folder(repo, settings)
        try:
            found = filesystem.glob(f"{folder.rstrip('/')}/data/*.parquet", detail=True)
        except Exception as error:  # each filesystem behind fsspec raises errors of its own
            raise _unread(error, folder)(f"cannot list {dataset.name}'s annotations at {folder}: {error}") from error
        if not found:
            raise SourceError(f"no data/*.parquet under {folder}: is the mirror (or the repository name) right?")
        for path, detail in sorted(found.items()):
            name = path.split(f"{repo}/", 1)[1]
            shards.append(Shard(repo, name, int(detail["size"] or 0), prefix))
    return shards


def read_shard(shard: Shard, settings: Settings, skip: int = 0) -> Iterator[list[Panoptic]]:
    """The rows of one parquet file, a row group at a time, so that memory stays bounded.

    Args:
        skip: rows that an earlier, interrupted reading already stored.

    Raises:
        SourceError: the file cannot be read, lacks a column, or names a file outside its folder.
    """
    filesystem, folder = hub_folder(shard.repo, settings)
    address = f"{folder.rstrip('/')}/{shard.path}"
    try:
        with filesystem.open(address, "rb") as file:
            parquet = pq.ParquetFile(file)
            missing = [name for name in COLUMNS if name not in parquet.schema_arrow.names]
            if missing:
                raise SourceError(f"{address} has no column {', '.join(missing)}: not COCONut's format")
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                if skip >= rows:
                    skip -= rows
                    continue
                table = parquet.read_row_group(group, columns=list(COLUMNS)).slice(skip)
                skip = 0
                yield [_panoptic(row, shard.image_prefix) for row in table.to_pylist()]
    except (OSError, pa.ArrowException, KeyError, TypeError) as error:
        raise _unread(error, address)(f"cannot read {address}: {error}") from error


def _unread(error: Exception, address: str) -> type[SourceError]:
    """The kind of error: a network that fails may work again, anything else will not."""
    local = address.startswith("/") or isinstance(error, FileNotFoundError | pa.ArrowException | KeyError | TypeError)
    return SourceError if local else UnreachableError


def _panoptic(row: dict, image_prefix: str) -> Panoptic:
    return Panoptic(
        image=image_info(row["image_info"], image_prefix),
        mask_png=row["mask"]["bytes"],
        segments=tuple(
            SegmentInfo(int(s["id"]), int(s["category_id"]), bool(s["iscrowd"]), int(s["area"]))
            for s in row["segments_info"]["segments_info"]
        ),
    )
