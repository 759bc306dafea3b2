"""Files that are either whole or not there."""

import fcntl
import filecmp
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".part"
UNSWEPT = ".partial"  # what others write, pg_dump for one, cannot be locked here as its writer's


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside it, flush it to the disk, and rename it.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _part_name(path: Path, suffix: str = SUFFIX) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}{suffix}")


def _temporary(path: Path) -> BinaryIO:
    """A new file beside a path, locked: that tells `clear_leftovers` that its writer is alive."""
    while True:
        file = _part_name(path).open("xb")
        with suppress(OSError):  # a filesystem without locks: its leftovers stay
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # cleared before it was locked


def sync_folders(folders: Iterable[Path]) -> None:
    """Flush the names in some folders to the disk, so that files renamed into them outlast a loss of power."""
    for folder in set(folders):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def clear_leftovers(folder: Path) -> int:
    """Delete the temporary files under a folder whose writers are dead; returns how many it deleted.

    A writer that lives, be it on another machine that shares the folder, holds a lock on its file.
    """
    cleared = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            if not (name.startswith(".") and name.endswith(SUFFIX)):
                continue
            path = Path(parent, name)
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                    cleared += 1
            except OSError:  # its writer is at work or has just renamed it, or it is another user's
                continue
    return cleared


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """The name of a temporary file beside `path`; what is written there takes that name when all went well.

    `clear_leftovers` leaves it alone, so that a backup may be made in a data folder. A file that is there and equal
    stays as it is, its time too.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _part_name(path, UNSWEPT)
    try:
        yield temporary
        if path.is_file() and filecmp.cmp(temporary, path, shallow=False):
            temporary.unlink()
            return
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target`, which is not there, a hard link to a file, or a copy where that cannot be.

    Raises:
        FileExistsError: it is there.
        OSError: the file cannot be read, or the target not be written.
    """
    try:
        os.link(source.resolve(), target)
    except FileExistsError:
        raise
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
