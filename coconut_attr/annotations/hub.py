"""COCONut's parquet files on the Hugging Face hub or in a mirror, row by row."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi, RepoFile, hf_hub_url
from huggingface_hub.utils import build_hf_headers

from coconut_attr.annotations.records import MALFORMED
from coconut_attr.annotations.upstream import HUB, hub_endpoint, is_url, mirrored
from coconut_attr.annotations.version import Version, version_of
from coconut_attr.datasets import Dataset
from coconut_attr.errors import SourceError, UnreachableError
from coconut_attr.files.remote import RemoteFile, retrying, status_error
from coconut_attr.settings import Settings

COLUMNS = ("mask", "segments_info", "image_info")
BATCH = 200  # rows
BUFFER = 4 * 2**20  # bytes of a column chunk read at once; by default Arrow reads complete chunks
AHEAD = 2**20  # bytes read ahead of it from a host; what is ahead when the column changes is lost


@dataclass(frozen=True)
class Shard:
    """One parquet file.

    Attributes:
        path: its name within the repository.
        address: its path or URL.
    """

    repo: str
    path: str
    version: Version
    address: str

    @property
    def name(self) -> str:
        return f"{self.repo}/{self.path}"

    @property
    def local(self) -> Path | None:
        return None if is_url(self.address) else Path(self.address)


def list_shards(dataset: Dataset, settings: Settings) -> list[Shard]:
    """Return the parquet files of a dataset in a fixed order.

    They are those in the folder `data` of each repository, or if there are none, in any folder.

    Raises:
        SourceError: the hub (or mirror) cannot be reached, or has no parquet file of the dataset.
    """
    return [shard for repo in dataset.repos for shard in _parquet_files(repo, settings)]


def _parquet_files(repo: str, settings: Settings) -> list[Shard]:
    shards = list_files(repo, (".parquet",), settings)
    in_data = [shard for shard in shards if Path(shard.path).parent == Path("data")]
    if not shards:
        folder = mirrored(f"{HUB}/datasets/{repo}", settings)
        raise SourceError(
            f"no data/*.parquet under {folder}: is the mirror (or the repository name) right?"
        )
    return in_data or shards


def list_files(repo: str, suffixes: tuple[str, ...], settings: Settings) -> list[Shard]:
    """Return the files of a repository that end in one of some suffixes, by their paths.

    Raises:
        SourceError: the hub (or mirror) cannot be reached or listed.
    """
    return sorted(
        retrying(settings)(_list_repository, repo, suffixes, settings),
        key=lambda shard: shard.path,
    )


def _list_repository(repo: str, suffixes: tuple[str, ...], settings: Settings) -> list[Shard]:
    folder = mirrored(f"{HUB}/datasets/{repo}", settings)
    if not settings.mirror:
        folder = f"{hub_endpoint()}/datasets/{repo}"
    list_in = (
        _list_url if is_url(settings.mirror) else _list_folder if settings.mirror else _list_hub
    )
    try:
        return list_in(repo, folder, suffixes)
    except Exception as error:  # huggingface_hub, aiohttp and fsspec raise errors of their own
        message = f"cannot list {repo} at {folder}: {' '.join(str(error).split())}"
        response = getattr(error, "response", None)
        if response is None:
            kind = UnreachableError if is_url(folder) else SourceError
            raise kind(message) from error
        cause = status_error(folder, response.status_code, response.headers)
        if isinstance(cause, UnreachableError):
            raise UnreachableError(message, cause.pause) from error
        raise SourceError(f"{cause} ({message})") from error


def _list_hub(repo: str, _folder: str, suffixes: tuple[str, ...]) -> list[Shard]:
    endpoint = hub_endpoint()
    entries = HfApi(endpoint).list_repo_tree(repo, repo_type="dataset", recursive=True)
    return [
        Shard(
            repo,
            entry.path,
            Version(entry.size, entry.lfs.sha256 if entry.lfs else "", entry.blob_id),
            hf_hub_url(repo, entry.path, repo_type="dataset", endpoint=endpoint),
        )
        for entry in entries
        if isinstance(entry, RepoFile) and entry.path.endswith(suffixes)
    ]


def _list_url(repo: str, folder: str, suffixes: tuple[str, ...]) -> list[Shard]:
    filesystem = fsspec.filesystem("http", client_kwargs={"trust_env": True})  # proxies
    filesystem.invalidate_cache()  # a worker lives long, and the mirror may have changed
    urls = [url for suffix in suffixes for url in filesystem.glob(f"{folder}/**/*{suffix}")]
    return [
        Shard(repo, url.removeprefix(f"{folder}/"), version_of(filesystem.info(url)), url)
        for url in urls
    ]


def _list_folder(repo: str, folder: str, suffixes: tuple[str, ...]) -> list[Shard]:
    shards = []
    for path in Path(folder).rglob("*"):
        if not path.name.endswith(suffixes):
            continue
        stat = path.stat()
        version = version_of({"size": stat.st_size, "mtime": stat.st_mtime})
        shards.append(Shard(repo, path.relative_to(folder).as_posix(), version, str(path)))
    return shards


def read_shard(shard: Shard, settings: Settings, skip: int = 0) -> Iterator[list[Any]]:
    """Yield the rows of one parquet file in batches, dicts of COLUMNS; `rows.hub_row` parses one.

    Memory stays bounded however large the file's row groups are. A read that a network breaks is
    retried.

    Args:
        skip: rows that an earlier, interrupted reading stored; complete row groups of them are not
            read.

    Raises:
        SourceError: the file cannot be read, or lacks a column.
    """
    try:
        with open_file(shard, settings) as file:
            parquet = pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
            missing = [name for name in COLUMNS if name not in parquet.schema_arrow.names]
            if missing:
                raise SourceError(
                    f"{shard.address} has no column {', '.join(missing)}: not COCONut's format"
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
        raise SourceError(f"cannot read {shard.address}: {error}") from error


def open_file(shard: Shard, settings: Settings) -> BinaryIO:
    """Open a file of the hub or a mirror for reading at any place; broken reads are retried."""
    if not is_url(shard.address):
        return open(shard.address, "rb")
    headers = {} if settings.mirror else build_hf_headers(library_name="coconut-attr")
    return cast(BinaryIO, RemoteFile(shard.address, settings, AHEAD, headers))
