"""Export of an offline mirror: the downloaded files under upstream host names."""

import itertools
import json
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from coconut_attr.annotations.caption_zip import fetch_member
from coconut_attr.annotations.records import LICENCES, ImageInfo, SegmentInfo, local_path
from coconut_attr.annotations.upstream import HUB
from coconut_attr.datasets import CocoFile, Dataset
from coconut_attr.errors import UserError
from coconut_attr.files.atomic import link_or_copy, part_of, sha256_of
from coconut_attr.settings import Settings

MARK: Final = "Made by `coconut-attr mirror export`"  # no folder is touched whose README lacks it
SUMS: Final = "SHA256SUMS"
GROUP_ROWS = 500
HUB_HOST: Final = urlsplit(HUB).netloc

_INTEGER, _TEXT = pa.int64(), pa.string()
_SEGMENT = pa.struct(
    {name: _INTEGER for name in ("id", "category_id", "iscrowd", "isthing", "area")}
)
SCHEMA: Final = pa.schema(
    {
        "mask": pa.struct({"bytes": pa.binary(), "path": _TEXT}),
        "segments_info": pa.struct(
            {"file_name": _TEXT, "image_id": _INTEGER, "segments_info": pa.list_(_SEGMENT)}
        ),
        "image_info": pa.struct(
            {
                "id": _INTEGER,
                "file_name": _TEXT,
                "height": _INTEGER,
                "width": _INTEGER,
                "coco_url": _TEXT,
                "license": _INTEGER,
            }
        ),
    }
)


@dataclass(frozen=True)
class MirrorImage:
    """A downloaded image.

    Attributes:
        sha256: of the photo when it was downloaded.
        mask: its panoptic PNG, if it has one.
        annotation_file: name of the file that its mask and segments were read from.
    """

    info: ImageInfo
    photo: Path
    sha256: str
    mask: Path | None
    segments: Sequence[SegmentInfo]
    annotation_file: str


@dataclass
class Exported:
    """The result of an export.

    Attributes:
        files: SHA-256 by path relative to the mirror.
        images: number of images by licence.
        left_out: reason by COCO id.
    """

    files: dict[str, str] = field(default_factory=dict)
    images: Counter[str] = field(default_factory=Counter)
    masks: int = 0
    captions: int = 0
    left_out: dict[int, str] = field(default_factory=dict)


def export_mirror(
    dataset: Dataset,
    images: Iterable[MirrorImage],
    origins: Sequence[str],
    to: Path,
    settings: Settings,
    things: Collection[int],
) -> Exported:
    """Write a dataset's images, masks and captions to a mirror folder; equal files stay.

    An image is left out if its photo has changed since the download, or its mask is missing.

    Args:
        images: in a fixed order, so that a database always gives the same files, and grouped by
            annotation file.
        origins: where the annotations were read, for the README.
        things: ids of the categories that are things.

    Raises:
        UserError: the folder holds something else, or the dataset has no upstream.
        SourceError: the caption file cannot be fetched or read.
        OSError: a file cannot be written. Files written before stay, and another export resumes.
    """
    if not dataset.has_masks:
        raise UserError(f"{dataset.name} comes with the program: there is nothing to mirror")
    if dataset.has_objects365:
        raise UserError(f"{dataset.name} has photos of Objects365, which a mirror cannot hold")
    readme = to / "README.md"
    sections = _sections(to)
    if not readme.is_file():
        _write(readme, f"# Unfinished\n\n{MARK}, which was interrupted: run it again.\n")
    before = _read_sums(to)
    exported = Exported()
    exported_ids: set[int] = set()
    photos = _photos(images, dataset, to, exported, exported_ids)
    for source, group in itertools.groupby(photos, key=lambda image: _source(image, dataset)):
        if source:  # the others have no mask: groupby still copies their photos when it skips them
            _shard(group, source, to, exported, things)
    _captions(dataset, exported_ids, to, settings, exported)

    shards = tuple(f"{HUB_HOST}/datasets/{repo}/" for repo in dataset.repos)
    stale = {name for name in before if name not in exported.files and name.startswith(shards)}
    for name in stale:
        (to / name).unlink(missing_ok=True)
    sums = {
        name: digest
        for name, digest in before.items()
        if name not in stale and (to / name).is_file()
    }
    sums |= exported.files
    lines = (f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    _write(to / SUMS, "".join(lines))
    sections[dataset.name] = _section(dataset, exported, origins)
    _write(readme, _readme(sections))
    return exported


def _sections(to: Path) -> dict[str, str]:
    """Return the part of a mirror's README about each dataset; empty if there is no mirror yet.

    Raises:
        UserError: the folder holds something else.
    """
    if to.exists() and not to.is_dir():
        raise UserError(f"{to} is a file: give the name of a folder")
    readme = to / "README.md"
    if readme.is_file() and MARK in (text := readme.read_text(errors="replace")):
        parts = text.split("\n## ")[1:]
        return {part.split("\n", 1)[0]: part.split("\n", 1)[1].strip() for part in parts}
    if to.is_dir() and any(to.iterdir()):
        raise UserError(
            f"{to} holds other files than an earlier mirror export: choose another folder"
        )
    return {}


def _write(path: Path, text: str) -> None:
    with part_of(path) as part:
        part.write_text(text)


def _read_sums(to: Path) -> dict[str, str]:
    with suppress(FileNotFoundError):
        lines = (to / SUMS).read_text().splitlines()
        return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    return {}


def _photos(
    images: Iterable[MirrorImage],
    dataset: Dataset,
    to: Path,
    exported: Exported,
    exported_ids: set[int],
) -> Iterator[MirrorImage]:
    """Copy photos into the mirror, and yield the images whose photo could be copied."""
    for image in images:
        if reason := _photo(image, dataset, to, exported):
            exported.left_out[image.info.coco_id] = reason
            continue
        exported_ids.add(image.info.coco_id)
        exported.images[image.info.licence] += 1
        yield image


def _photo(image: MirrorImage, dataset: Dataset, to: Path, exported: Exported) -> str:
    """Copy a photo into the mirror; return the reason if it cannot be, or else an empty string."""
    target = local_path(image.info.url, dataset.image_hosts, to)
    try:
        if sha256_of(image.photo) != image.sha256:
            return "its photo has changed since the download"
    except OSError as error:
        return f"its photo cannot be read: {error.strerror}"
    if image.mask and not image.mask.is_file():
        return "its mask is missing"
    if not (
        target.is_file() and (target.samefile(image.photo) or sha256_of(target) == image.sha256)
    ):
        with part_of(target) as part:
            link_or_copy(image.photo, part)
    exported.files[target.relative_to(to).as_posix()] = image.sha256
    return ""


def _source(image: MirrorImage, dataset: Dataset) -> str:
    """Return the hub file that holds an image's annotation, or else the dataset's repository."""
    if not image.mask:
        return ""
    name = PurePosixPath(image.annotation_file)
    if name.suffix == ".parquet" and ".." not in name.parts:
        for repo in dataset.repos:
            if name.is_relative_to(repo):
                return str(name)
    return dataset.repos[0]


def _shard(
    images: Iterator[MirrorImage],
    source: str,
    to: Path,
    exported: Exported,
    things: Collection[int],
) -> None:
    """Write a parquet file by row groups, under its name on the hub or under a new one."""
    name = f"{HUB_HOST}/datasets/{source}"
    if not name.endswith(".parquet"):
        number = sum(other.startswith(name) for other in exported.files)
        name += f"/data/train-{number:05d}.parquet"
    with (  # opened here, because Arrow reads some paths as URLs
        part_of(to / name) as part,
        part.open("wb") as file,
        pq.ParquetWriter(file, SCHEMA, use_dictionary=False) as writer,
    ):
        while group := list(itertools.islice(images, GROUP_ROWS)):
            writer.write_table(
                pa.Table.from_pylist([_row(image, things) for image in group], schema=SCHEMA)
            )
            exported.masks += len(group)
    exported.files[name] = sha256_of(to / name)


def _row(image: MirrorImage, things: Collection[int]) -> dict[str, Any]:
    info = image.info
    name = PurePosixPath(info.file_name).with_suffix(".png").name
    licences = {url: number for number, url in LICENCES.items()}
    segments = [
        {
            "id": s.id,
            "category_id": s.category_id,
            "iscrowd": int(s.iscrowd),
            "area": s.area,
            "isthing": int(s.category_id in things),
        }
        for s in image.segments
    ]
    return {
        "mask": {"bytes": image.mask.read_bytes() if image.mask else b"", "path": name},
        "segments_info": {"file_name": name, "image_id": info.coco_id, "segments_info": segments},
        "image_info": {
            "id": info.coco_id,
            "file_name": info.file_name,
            "height": info.height,
            "width": info.width,
            "coco_url": info.url,
            "license": licences.get(info.licence, 0),
        },
    }


def _captions(
    dataset: Dataset, exported_ids: set[int], to: Path, settings: Settings, exported: Exported
) -> None:
    """Write COCO's annotation zip with the captions of the mirror's images, otherwise unchanged."""
    for archive, files in itertools.groupby(dataset.coco_files, key=lambda file: file.archive):
        _coco_archive(archive, list(files), exported_ids, to, settings, exported)


def _coco_archive(
    url: str,
    files: Sequence[CocoFile],
    exported_ids: set[int],
    to: Path,
    settings: Settings,
    exported: Exported,
) -> None:
    """Write one of COCO's zips, and in its files only the mirror's images and their captions."""
    parts = urlsplit(url)
    name = f"{parts.netloc}{parts.path}"
    members = _members(to / name)
    for file in files:
        document = fetch_member(file.archive, file.member, settings).read_bytes()
        content = json.loads(document)
        # Keep the captions of an earlier export: two datasets may share a caption file.
        before = json.loads(members.get(file.member, b"{}")).get("images", ())
        wanted = exported_ids | {image["id"] for image in before}
        captions = content.get("annotations", [])
        part_of_file = {
            "images": [image for image in content["images"] if image["id"] in wanted],
            "annotations": [caption for caption in captions if caption["image_id"] in wanted],
        }
        if len(part_of_file["images"]) != len(content["images"]):
            document = json.dumps({**content, **part_of_file}).encode()
        members[file.member] = document
        exported.captions += len(part_of_file["annotations"])
    with part_of(to / name) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, document in sorted(members.items()):
            info = zipfile.ZipInfo(member)  # its fixed time makes equal captions an equal file
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, document)
    exported.files[name] = sha256_of(to / name)


def _members(path: Path) -> dict[str, bytes]:
    if not path.is_file():
        return {}
    with zipfile.ZipFile(path) as archive:
        return {member: archive.read(member) for member in archive.namelist()}


def _section(dataset: Dataset, exported: Exported, origins: Sequence[str]) -> str:
    licences = "\n".join(
        f"  - {n:,} x {url or 'not stated'}" for url, n in sorted(exported.images.items())
    )
    lines = [
        f"{dataset.title}: {exported.images.total():,} photos, {exported.masks:,} panoptic masks, "
        f"{exported.captions:,} captions.",
        "",
        *(f"- Masks read from: {origin}" for origin in origins),
        f"- Photos and captions: {', '.join(dataset.image_hosts)}",
        f"- {dataset.licence}",
        f"- Licences of the photos:\n{licences}",
    ]
    if exported.left_out:
        lines.append(
            f"- Left out: {len(exported.left_out):,} images: `coconut-attr check {dataset.name}`"
        )
    return "\n".join(lines)


def _readme(sections: dict[str, str]) -> str:
    parts = "\n\n".join(f"## {name}\n{text}" for name, text in sorted(sections.items()))
    return f"""# An offline mirror of upstream data

{MARK}. The folders are named after the upstream hosts: set `COCONUT_ATTR_MIRROR`
to this folder, or to the URL at which `coconut-attr mirror serve` (or any HTTP server with byte
ranges and folder listings) serves it. Photos and masks are byte for byte what was downloaded. The
parquet files hold the columns that coconut-attr reads, the caption files the captions of the photos
here. `sha256sum -c {SUMS}` verifies every file.

{parts}
"""
