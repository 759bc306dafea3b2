"""An offline mirror made from what is held: a folder under the upstream host names, for COCONUT_ATTR_MIRROR."""

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
from coconut_attr.datasets import Dataset
from coconut_attr.errors import UserError
from coconut_attr.files.atomic import link_or_copy, part_of, sha256_of
from coconut_attr.settings import Settings

MARK: Final = "Made by `coconut-attr mirror export`"  # only a folder whose README says so is ever written into
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
        "segments_info": pa.struct({"file_name": _TEXT, "image_id": _INTEGER, "segments_info": pa.list_(_SEGMENT)}),
        "image_info": pa.struct(
            {"id": _INTEGER, "file_name": _TEXT, "height": _INTEGER, "width": _INTEGER, "coco_url": _TEXT,
             "license": _INTEGER}
        ),
    }
)  # fmt: skip


@dataclass(frozen=True)
class MirrorImage:
    """A downloaded image: its record, its photo and the SHA-256 that it had then, its mask if it has one.

    `annotation_file` is the name of the file that its mask and segments were read from.
    """

    info: ImageInfo
    photo: Path
    sha256: str
    mask: Path | None
    segments: Sequence[SegmentInfo]
    annotation_file: str


@dataclass
class Exported:
    """What a mirror got: SHA-256 by path relative to it, and why images were left out, by COCO id."""

    files: dict[str, str] = field(default_factory=dict)
    images: Counter[str] = field(default_factory=Counter)  #: by licence
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
    """Write a dataset's images, masks and captions to a mirror folder; files that are there and equal stay.

    An image whose photo is not the downloaded one any more, or whose mask is missing, is left out.

    Args:
        images: in a fixed order, so that the same store gives the same files; those of one annotation file together.
        origins: where the annotations were read, for the README.
        things: ids of the categories that are things.

    Raises:
        UserError: the folder holds something else, or the dataset has no upstream.
        SourceError: the caption file cannot be had.
        OSError: a file cannot be written; what was written before stays, and another export goes on from it.
    """
    if not dataset.repos:
        raise UserError(f"{dataset.name} comes with the program: there is nothing to mirror")
    readme = to / "README.md"
    sections = _sections(to)
    if not readme.is_file():
        _write(readme, f"# Unfinished\n\n{MARK}, which did not end: run it again.\n")
    before = _read_sums(to)
    exported = Exported()
    held: set[int] = set()
    photos = _photos(images, dataset, to, exported, held)
    for source, group in itertools.groupby(photos, key=lambda image: _source(image, dataset)):
        if source:  # of the others, the photos are all that there is; the next step of the loop fetches them
            _shard(group, source, to, exported, things)
    _captions(dataset, held, to, settings, exported)

    ours = tuple(f"{HUB_HOST}/datasets/{repo}/" for repo, _ in dataset.repos)
    stale = {name for name in before if name not in exported.files and name.startswith(ours)}
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
    """The part of a mirror's README about each dataset; empty where there is no mirror yet.

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
    images: Iterable[MirrorImage], dataset: Dataset, to: Path, exported: Exported, held: set[int]
) -> Iterator[MirrorImage]:
    """Put photos into the mirror; yields the images whose photo is there, and adds their COCO ids to `held`."""
    for image in images:
        if reason := _photo(image, dataset, to, exported):
            exported.left_out[image.info.coco_id] = reason
            continue
        held.add(image.info.coco_id)
        exported.images[image.info.licence] += 1
        yield image


def _photo(image: MirrorImage, dataset: Dataset, to: Path, exported: Exported) -> str:
    """Put a photo into the mirror; returns why it cannot be there, or nothing."""
    target = local_path(image.info.url, dataset.image_hosts, to)
    try:
        if sha256_of(image.photo) != image.sha256:
            return "its photo is not the downloaded one any more"
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
    """The hub file that an image's annotation is of, or else the repository that it belongs to by its URL."""
    if not image.mask:
        return ""
    name = PurePosixPath(image.annotation_file)
    if name.suffix == ".parquet" and ".." not in name.parts:
        for repo, _ in dataset.repos:
            if name.is_relative_to(repo):
                return str(name)
    return next(
        (repo for repo, prefix in dataset.repos if image.info.url.startswith(prefix)),
        dataset.repos[0][0],
    )


def _shard(
    images: Iterator[MirrorImage],
    source: str,
    to: Path,
    exported: Exported,
    things: Collection[int],
) -> None:
    """Write a parquet file, a row group at a time, under its name on the hub, or under one of its own."""
    name = f"{HUB_HOST}/datasets/{source}"
    if not name.endswith(".parquet"):
        number = sum(other.startswith(name) for other in exported.files)
        name += f"/data/train-{number:05d}.parquet"
    with part_of(to / name) as part, pq.ParquetWriter(part, SCHEMA, use_dictionary=False) as writer:
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
        {"id": s.id, "category_id": s.category_id, "iscrowd": int(s.iscrowd), "area": s.area,
         "isthing": int(s.category_id in things)}
        for s in image.segments
    ]  # fmt: skip
    return {
        "mask": {"bytes": image.mask.read_bytes() if image.mask else b"", "path": name},
        "segments_info": {"file_name": name, "image_id": info.coco_id, "segments_info": segments},
        "image_info": {
            "id": info.coco_id, "file_name": info.file_name, "height": info.height, "width": info.width,
            "coco_url": info.url, "license": licences.get(info.licence, 0),
        },
    }  # fmt: skip


def _captions(
    dataset: Dataset, held: set[int], to: Path, settings: Settings, exported: Exported
) -> None:
    """Put the caption files into COCO's annotation zip: those of the images that the mirror holds, as they are."""
    parts = urlsplit(dataset.caption_zip)
    name = f"{parts.netloc}{parts.path}"
    members = _members(to / name)
    for member in dataset.caption_members:
        whole = fetch_member(dataset, member, settings).read_bytes()
        content = json.loads(whole)
        # Of an earlier export of another dataset, too: two datasets may share a caption file.
        wanted = held | {
            image["id"] for image in json.loads(members.get(member, b"{}")).get("images", ())
        }
        images = [image for image in content["images"] if image["id"] in wanted]
        captions = [caption for caption in content["annotations"] if caption["image_id"] in wanted]
        if (len(images), len(captions)) != (len(content["images"]), len(content["annotations"])):
            whole = json.dumps({**content, "images": images, "annotations": captions}).encode()
        members[member] = whole
        exported.captions += len(captions)
    with part_of(to / name) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, whole in sorted(members.items()):
            info = zipfile.ZipInfo(
                member
            )  # with a fixed time, so that equal captions make an equal file
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, whole)
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
            f"- Left out: {len(exported.left_out):,} images, see what `coconut-attr check {dataset.name}` says"
        )
    return "\n".join(lines)


def _readme(sections: dict[str, str]) -> str:
    parts = "\n\n".join(f"## {name}\n{text}" for name, text in sorted(sections.items()))
    return f"""# An offline mirror of upstream data

{MARK}. The folders bear the upstream host names: set `COCONUT_ATTR_MIRROR` to this folder,
or to the URL at which `coconut-attr mirror serve` (or any HTTP server with byte ranges and folder listings) serves it.
Photos and masks are byte for byte what was downloaded; the parquet files hold the columns that the product reads, the
caption files the captions of the photos that are here. `sha256sum -c {SUMS}` verifies everything.

{parts}
"""
