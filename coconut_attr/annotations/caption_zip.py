"""Single members of COCO's annotation zips (241 MB), read by HTTP range and cached."""

import logging
import lzma
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from coconut_attr.annotations.upstream import is_url, mirrored
from coconut_attr.errors import SourceError
from coconut_attr.files.atomic import write_atomically
from coconut_attr.files.remote import RangesNotSupportedError, RemoteFile, fetch_complete
from coconut_attr.settings import Settings

MAX_BYTES = 2**30  # of a member: ten times COCO's largest caption file
AHEAD = 4 * 2**20  # bytes of each request
#: Raised by zipfile for a member that is damaged, or compressed by an unknown method.
DAMAGED = (zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError)

logger = logging.getLogger(__name__)


def fetch_member(archive_url: str, member: str, settings: Settings) -> Path:
    """Return the path of a member of one of COCO's annotation zips, cached in the data folder.

    A server without byte ranges is asked for the complete zip, which is not stored.

    Raises:
        SourceError: the zip cannot be reached or read, or has no such member.
    """
    cached = cached_member(member, settings)
    if cached.is_file():
        return cached
    address = mirrored(archive_url, settings)
    cached.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _open(address, cached.parent, settings) as file, zipfile.ZipFile(file) as archive:
            if archive.getinfo(member).file_size > MAX_BYTES:
                raise SourceError(f"{member} in {address} would unpack to over {MAX_BYTES:,} bytes")
            content = archive.read(member)
    except KeyError as error:
        raise SourceError(f"{address} has no member {member}") from error
    except FileNotFoundError as error:
        raise SourceError(f"there is no {address}: is the mirror right?") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise SourceError(f"cannot read {member} in {address}: {error}") from error
    except DAMAGED as error:
        raise SourceError(f"{address} is damaged: {error}") from error
    write_atomically(cached, content)
    return cached


def cached_member(member: str, settings: Settings) -> Path:
    """Return the path at which a member is cached in the data folder."""
    return settings.data_dir / "annotations" / os.path.basename(member)


def member_size(archive_url: str, member: str, settings: Settings) -> int:
    """Return the bytes that `fetch_member` would fetch: of the member, or of the complete zip.

    Raises:
        SourceError: the zip cannot be reached or read, or has no such member.
    """
    address = mirrored(archive_url, settings)
    try:
        with (
            (
                RemoteFile(address, settings, 2**16)
                if is_url(address)
                else Path(address).open("rb")
            ) as file,
            zipfile.ZipFile(cast(BinaryIO, file)) as archive,
        ):
            return archive.getinfo(member).compress_size
    except RangesNotSupportedError as error:
        return error.size
    except KeyError as error:
        raise SourceError(f"{address} has no member {member}") from error
    except (OSError, zipfile.BadZipFile, *DAMAGED) as error:
        raise SourceError(f"cannot find {member} in {address}: {error}") from error


@contextmanager
def _open(address: str, folder: Path, settings: Settings) -> Iterator[BinaryIO]:
    if not is_url(address):
        with open(address, "rb") as file:
            yield file
        return
    try:
        remote = RemoteFile(address, settings, AHEAD)
    except RangesNotSupportedError:
        logger.warning("%s is answered without byte ranges: the complete zip is fetched", address)
        with tempfile.TemporaryFile(dir=folder) as copy:
            fetch_complete(address, copy, settings)
            yield copy
    else:
        with remote:
            yield cast(BinaryIO, remote)
