"""COCO captions: one member of COCO's 241 MB annotation zip, fetched alone by HTTP range and cached."""

import json
import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path

import requests
from remotezip import RemoteIOError, RemoteZip

from coconut_attr.annotations.records import MALFORMED, Caption, ImageInfo, clean_text, image_info
from coconut_attr.annotations.upstream import is_url, mirrored
from coconut_attr.datasets import Dataset
from coconut_attr.errors import SourceError, UnreachableError
from coconut_attr.files.atomic import write_atomically
from coconut_attr.settings import Settings

MAX_BYTES = 2**30  # of a member: ten times COCO's largest caption file
#: What unpacking raises from a member that is not whole, or packed in a way that zipfile does not know.
DAMAGED = (zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError)


def fetch_member(dataset: Dataset, member: str, settings: Settings) -> Path:
    """The caption file, cached in the data folder.

    Raises:
        SourceError: the zip cannot be reached or has no such member.
    """
    cached = settings.data_dir / "annotations" / os.path.basename(member)
    if cached.is_file():
        return cached
    address = mirrored(dataset.caption_zip, settings)
    try:
        timeouts = (settings.connect_timeout, settings.read_timeout)
        with (
            RemoteZip(address, timeout=timeouts)
            if is_url(address)
            else zipfile.ZipFile(address) as archive
        ):
            if archive.getinfo(member).file_size > MAX_BYTES:
                raise SourceError(f"{member} in {address} would unpack to over {MAX_BYTES:,} bytes")
            content = archive.read(member)
    except KeyError as error:
        raise SourceError(f"{address} has no member {member}") from error
    except (OSError, zipfile.BadZipFile, RemoteIOError, requests.RequestException) as error:
        kind = UnreachableError if is_url(address) else SourceError
        raise kind(f"cannot read {member} in {address}: {error}") from error
    except DAMAGED as error:
        raise SourceError(f"{address} is damaged: {error}") from error
    write_atomically(cached, content)
    return cached


def read_member(path: Path, image_prefix: str) -> tuple[list[ImageInfo], list[Caption]]:
    """The images and captions of a COCO caption file.

    Raises:
        SourceError: the file is not of that form.
    """
    try:
        content = json.loads(path.read_bytes())
        images = [image_info(entry, image_prefix) for entry in content["images"]]
        captions = [
            Caption(int(entry["id"]), int(entry["image_id"]), clean_text(entry["caption"] or ""))
            for entry in content["annotations"]
        ]
    except MALFORMED as error:
        raise SourceError(
            f"{path} is not a COCO caption file ({error!r}); delete it to fetch it again"
        ) from error
    return images, captions
