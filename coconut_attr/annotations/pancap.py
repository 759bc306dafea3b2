"""COCONut-PanCap: texts with phrases about segments, as in `<6: grey ramp platform>`.

Most texts use `<id: phrase>` with segment ids. About 4 % use `<id>phrase>` with ids one lower, and
some mix both. `parse` decides by the segments that exist.
"""

import lzma
import re
import shutil
import tarfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from coconut_attr.annotations.hub import list_files, open_file
from coconut_attr.annotations.records import clean_text
from coconut_attr.annotations.tar import TARS
from coconut_attr.datasets import PANCAP_REPOS
from coconut_attr.errors import SourceError
from coconut_attr.files.atomic import write_atomically
from coconut_attr.findings import Finding
from coconut_attr.settings import Settings

CHUNK = 8 * 2**20  # bytes of a remote file read at once
MAX_BYTES = 2**20  # of one text; the longest genuine ones have a few thousand
DAMAGED = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError)

_IDS = r"[0-9]{1,9}(?:(?:[\s,;&]|and\b)+[0-9]{1,9})*"
_TAG = re.compile(rf"<\s*({_IDS})\s*([:>])([^<>]*)(?:>|</[^<>]*>)")
_OPENING = re.compile(r"<\s*[0-9]")


@dataclass(frozen=True)
class Phrase:
    """A phrase, and the ids of those of its segments that exist."""

    segment_ids: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class PanCapText:
    """The text of an image."""

    coco_id: int
    text: str


def parse(text: str, segment_ids: Collection[int]) -> tuple[list[Phrase], list[Finding]]:
    """Parse the phrases of a text; return them and findings about what could not be used.

    Args:
        segment_ids: ids of the image's segments, by its segments_info.

    Returns:
        At least a phrase or a finding.
    """
    tags = [match for match in _TAG.finditer(text) if match[3].strip()]
    ids_of = {tag: [int(number) for number in re.findall("[0-9]+", tag[1])] for tag in tags}
    offsets = {}
    for syntax in ":>":
        ids = {number for tag in tags if tag[2] == syntax for number in ids_of[tag]}
        offsets[syntax] = _offset(ids, segment_ids, lower=syntax == ">")

    phrases, unfit = [], []
    for tag in tags:
        shifted = [number + offsets[tag[2]] for number in ids_of[tag]]
        unfit += [
            number
            for number, shift in zip(ids_of[tag], shifted, strict=True)
            if shift not in segment_ids
        ]
        if fitting := tuple(dict.fromkeys(k for k in shifted if k in segment_ids)):
            phrases.append(Phrase(fitting, " ".join(tag[3].split())))

    findings = []
    starts = {tag.start() for tag in tags}
    unread = [match.start() for match in _OPENING.finditer(text) if match.start() not in starts]
    if unread:
        excerpt = text[unread[0] : unread[0] + 40]
        findings.append(Finding("pancap tag not read", f"{len(unread)} tags: {excerpt!r}"))
    if unfit:
        total = sum(map(len, ids_of.values()))
        examples = ", ".join(map(str, unfit[:5]))
        detail = f"{len(unfit)} of {total} ids of the text: {examples}"
        findings.append(Finding("pancap id without segment", detail))
    if not tags and not unread:
        findings.append(Finding("pancap text without tag", f"{len(text):,} characters"))
    return phrases, findings


def _offset(ids: set[int], segment_ids: Collection[int], *, lower: bool) -> int:
    """Return 1 if the ids of a syntax are one lower than the segments', else 0.

    Args:
        lower: whether the syntax usually has lower ids. The other one has them only if id 0 occurs:
            a single wrong id must not shift a text whose ids fit.
    """
    fitting = [sum(number + offset in segment_ids for number in ids) for offset in (0, 1)]
    if lower:
        return 0 if fitting[0] > fitting[1] else 1
    return 1 if 0 in ids and fitting[1] > fitting[0] else 0


def read_texts(settings: Settings, *, refresh: bool = False) -> Iterator[PanCapText | Finding]:
    """Yield the texts of the source that the setting `pancap` names, and findings about its files.

    Args:
        refresh: fetch the hub's files again, even if they are in the data folder.

    Raises:
        SourceError: the source does not exist, holds no text, or is damaged.
        UnreachableError: the hub does not answer, after all retries.
    """
    seen: set[int] = set()
    for name, content in _members(settings, refresh):
        number = re.search("[0-9]{1,12}$", PurePosixPath(name).stem)
        if number is None:
            yield Finding("pancap text not read", f"{name}: its name ends in no image id")
        elif len(content) > MAX_BYTES:
            yield Finding("pancap text not read", f"{name}: longer than {MAX_BYTES:,} bytes")
        elif int(number[0]) in seen:
            yield Finding("duplicate pancap text", f"{name}: the first text of the image is used")
        else:
            seen.add(int(number[0]))
            yield PanCapText(int(number[0]), clean_text(content.decode(errors="replace")))
    if not seen:
        raise SourceError(f"COCONUT_ATTR_PANCAP={settings.pancap}: no .txt with an image id in it")


def _members(settings: Settings, refresh: bool) -> Iterator[tuple[str, bytes]]:
    """Yield name and content (at most MAX_BYTES + 1) of every .txt in the source."""
    source = settings.pancap
    if source in PANCAP_REPOS:
        paths = _hub_tars(PANCAP_REPOS[source], settings, refresh)
    elif (folder := Path(source)).is_dir():
        paths = sorted(path for path in folder.rglob("*") if path.name.endswith((*TARS, ".txt")))
    elif folder.is_file():
        paths = [folder]
    else:
        raise SourceError(
            f"COCONUT_ATTR_PANCAP={source} is no folder and no file; name one, or {_choices()}"
        )
    for path in paths:
        try:
            with path.open("rb") as file:
                if path.suffix == ".txt":
                    yield path.name, file.read(MAX_BYTES + 1)
                else:
                    yield from _tar_members(file)
        except DAMAGED as error:
            hint = "; to fetch it again: coconut-attr download DATASET --refresh"
            raise SourceError(
                f"cannot read {path}: {error}{hint if source in PANCAP_REPOS else ''}"
            ) from error


def _tar_members(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".txt"):
                content = archive.extractfile(member)
                yield member.name, content.read(MAX_BYTES + 1) if content else b""


def _hub_tars(repo: str, settings: Settings, refresh: bool) -> list[Path]:
    """Return the tar files of a hub repository, fetched into the data folder if they are remote."""
    cache = settings.data_dir / "annotations" / "pancap" / repo.partition("/")[2]
    if cache.is_dir() and not refresh:
        return sorted(cache.iterdir())
    tars = list_files(repo, TARS, settings)
    if not tars:
        raise SourceError(f"{repo} has no .tar: is the mirror (or HF_ENDPOINT) right?")
    local = [tar.local for tar in tars if tar.local]
    if local:
        return local
    part = cache.with_name(f"{cache.name}.part")  # renamed when it has all files
    shutil.rmtree(part, ignore_errors=True)
    for tar in tars:
        with open_file(tar, settings) as file:
            chunks = iter(partial(file.read, CHUNK), b"")  # a broken read repeats only its chunk
            write_atomically(part / tar.path.replace("/", "_"), b"".join(chunks))
    shutil.rmtree(cache, ignore_errors=True)
    part.rename(cache)
    return sorted(cache.iterdir())


def _choices() -> str:
    return ", or ".join(f"{name} ({repo})" for name, repo in PANCAP_REPOS.items())
