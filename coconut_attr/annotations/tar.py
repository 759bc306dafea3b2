"""Masks in a tar beside one JSON, as the hub has coconut_val and coconut_large."""

import itertools
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from coconut_attr.annotations.hub import Shard, list_files, open_file
from coconut_attr.annotations.kaggle import BATCH, mask_name, parse_json
from coconut_attr.annotations.records import MALFORMED, OddRow, Row
from coconut_attr.errors import SourceError
from coconut_attr.findings import Finding
from coconut_attr.settings import Settings

TARS: Final = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class Archive:
    """A tar of masks on the hub or in a mirror, and the JSON that describes them."""

    tar: Shard
    json: Shard


def list_archives(repo: str, settings: Settings) -> list[Archive]:
    """Return the tars of a repository, in a fixed order.

    Raises:
        SourceError: the repository cannot be listed, or has no tar or not just one panoptic JSON.
    """
    files = list_files(repo, (*TARS, ".json"), settings)
    tars = [file for file in files if file.path.endswith(TARS)]
    jsons = [file for file in files if file.path.endswith(".json")]
    panoptic = [file for file in jsons if "panoptic" in file.path] or jsons
    if not tars or len(panoptic) != 1:
        raise SourceError(
            f"{repo} should hold a tar of masks and one panoptic JSON, but has {len(tars)} tars and"
            f" {len(panoptic)} JSONs: is the mirror (or the repository name) right?"
        )
    return [Archive(tar, panoptic[0]) for tar in tars]


def read_archive(archive: Archive, settings: Settings, skip: int = 0) -> Iterator[list[Row]]:
    """Yield the annotations of a tar's masks in the tar's order, then those without a mask.

    The tar is read once from its beginning, so it need not fit on the disk; rows to skip are
    passed over without being parsed.

    Raises:
        SourceError: the tar or its JSON cannot be read.
    """
    try:
        rows = _rows(archive, settings, skip)
        while batch := list(itertools.islice(rows, BATCH)):
            yield batch
    except (OSError, EOFError, tarfile.TarError, zlib.error, *MALFORMED) as error:
        raise SourceError(f"cannot read {archive.tar.address}: {error}") from error


def _rows(archive: Archive, settings: Settings, skip: int) -> Iterator[Row]:
    with open_file(archive.json, settings) as file:
        content = parse_json(file.read(), archive.json.name)
    entries: dict[str, Any] = {}
    for entry in content.annotations:
        entries.setdefault(mask_name(entry), entry)
    number = 0
    masks: set[str] = set()
    with (
        open_file(archive.tar, settings) as file,
        tarfile.open(fileobj=file, mode="r:*") as tar,
    ):
        for member in tar:
            name = PurePosixPath(member.name).name
            if not member.isfile() or not name.endswith(".png") or name.startswith("."):
                continue
            masks.add(name)
            number += 1
            if number <= skip:
                continue
            place = f"{archive.tar.name} row {number}"
            if name not in entries:
                yield OddRow(Finding("mask without annotation", f"{place}: {member.name}"))
                continue
            png = tar.extractfile(member)
            yield content.row(entries[name], place, png.read() if png else None, "no file")
    for entry in content.annotations:
        if mask_name(entry) not in masks:
            number += 1
            if number > skip:
                place = f"{archive.tar.name} row {number}"
                yield content.row(entry, place, None, "it is not in the tar")
