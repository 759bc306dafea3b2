"""What a download would fetch: files, bytes, requests and disk, and whether each host answers."""

import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coconut_attr.annotations.caption_zip import AHEAD, cached_member, member_size
from coconut_attr.annotations.files import annotation_files
from coconut_attr.annotations.hub import BUFFER
from coconut_attr.annotations.upstream import answers, hub_endpoint, is_url, mirrored
from coconut_attr.datasets import Dataset
from coconut_attr.errors import SourceError
from coconut_attr.settings import Settings

#: Mean size of a COCO photo in bytes: train2017.zip has 118,287 photos in 18 GiB.
PHOTO_BYTES = 163_000


@dataclass(frozen=True)
class Part:
    """One kind of file that a download fetches.

    Attributes:
        files: how many are fetched; those already in the data folder are not.
        bytes: of these files; for photos estimated from PHOTO_BYTES.
        requests: how many it takes, about.
        error: why the figures are not known; empty if they are.
    """

    what: str
    files: int = 0
    bytes: int = 0
    requests: int = 0
    error: str = ""


@dataclass(frozen=True)
class DryRun:
    """A download that is not made.

    Attributes:
        hosts: whether each host answers, by its address.
        disk: bytes that the data folder will grow by, about.
        free: bytes that are free there.
    """

    parts: list[Part]
    hosts: dict[str, bool]
    free: int

    @property
    def disk(self) -> int:
        return sum(part.bytes for part in self.parts)

    @property
    def possible(self) -> bool:
        """Return whether every host answers, every file is listed, and the disk is large enough."""
        complete = all(self.hosts.values()) and not any(part.error for part in self.parts)
        return complete and self.disk < self.free


def dry_run(dataset: Dataset, settings: Settings, limit: int | None = None) -> DryRun:
    """Return what a download of a dataset would fetch, with few requests of its own.

    Args:
        limit: count this many photos at most; annotation files are counted in full.
    """
    hosts = {address: answers(address, settings) for address in _hosts(dataset, settings)}
    silent = [address for address, answered in hosts.items() if not answered]
    parts = [_annotations(dataset, settings, silent), _coco_files(dataset, settings, silent)]
    parts.append(_photos(dataset, settings, limit))
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    return DryRun(parts, hosts, shutil.disk_usage(folder).free)


def _hosts(dataset: Dataset, settings: Settings) -> list[str]:
    if settings.mirror or not dataset.repos:
        return [settings.mirror] if is_url(settings.mirror) and dataset.repos else []
    hub = [] if settings.annotations_dir else [hub_endpoint()]
    return hub + [f"http://{host}" for host in dataset.image_hosts]


def _annotations(dataset: Dataset, settings: Settings, silent: list[str]) -> Part:
    what = "annotations (parquet)"
    hub = settings.mirror or hub_endpoint()
    if hub in silent:
        return Part(what, error=f"{hub} does not answer")
    try:
        files = annotation_files(dataset, settings)
    except SourceError as error:
        return Part(what, error=str(error))
    sizes = [file.version.size for file in files]
    return Part(what, len(sizes), sum(sizes), sum(math.ceil(size / BUFFER) + 2 for size in sizes))


def _coco_files(dataset: Dataset, settings: Settings, silent: list[str]) -> Part:
    what = "captions and licences (members of COCO's zips)"
    files = [
        file for file in dataset.coco_files if not cached_member(file.member, settings).is_file()
    ]
    if files and silent:
        return Part(what, error=f"{silent[-1]} does not answer")
    try:
        sizes = [member_size(file.archive, file.member, settings) for file in files]
    except SourceError as error:
        return Part(what, error=str(error))
    return Part(what, len(sizes), sum(sizes), sum(math.ceil(size / AHEAD) + 3 for size in sizes))


def _photos(dataset: Dataset, settings: Settings, limit: int | None) -> Part:
    urls = [file.photos for file in dataset.coco_files]
    stored = _count(settings.data_dir / url.split("://")[1] for url in urls)
    total = dataset.expected_images or 0
    if settings.mirror and not is_url(settings.mirror):
        total = _count(Path(mirrored(url, settings)) for url in urls)
    missing = max(0, (total if limit is None else min(limit, total)) - stored)
    return Part(f"photos ({stored:,} are stored)", missing, missing * PHOTO_BYTES, missing)


def _count(folders: Iterable[Path]) -> int:
    return sum(1 for folder in folders for _ in folder.glob("*.jpg"))
