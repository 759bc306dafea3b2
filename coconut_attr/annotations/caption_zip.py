"""COCO captions: one member of COCO's 241 MB annotation zip, fetched alone by HTTP range and cached."""

import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path

import requests
from remotezip import RemoteIOError, RemoteZip

from coconut_attr.annotations.upstream import is_url, mirrored
from coconut_attr.errors import SourceError, UnreachableError
from coconut_attr.files.atomic import write_atomically
from coconut_attr.settings import Settings

MAX_BYTES = 2**30  # of a member: ten times COCO's largest caption file
#: What unpacking raises from a member that is not whole, or packed in a way that zipfile does not know.
DAMAGED = (zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError)


def fetch_member(archive_url: str, member: str, settings: Settings) -> Path:
    """Return the path of a member of one of COCO's annotation zips, cached in the data folder.

    Raises:
        SourceError: the zip cannot be reached or has no such member.
    """
    cached = settings.data_dir / "annotations" / os.path.basename(member)
    if cached.is_file():
        return cached
    address = mirrored(archive_url, settings)
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
