"""Write files that are either complete or absent."""

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
#: Suffix of temporary files that other programs write, such as pg_dump: we cannot hold a lock on
#: them, so `clear_leftovers` must not take them for a dead writer's.
UNLOCKED_SUFFIX = ".partial"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside it, flush it to disk, and rename it.

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
    """Create a locked file beside a path; the lock tells `clear_leftovers` that we are alive."""
    while True:
        file = _part_name(path).open("xb")
        with suppress(OSError):  # the filesystem has no locks; leftovers stay
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # `clear_leftovers` deleted it before we had the lock


def sync_folders(folders: Iterable[Path]) -> None:
    """Flush folders to disk, so that files renamed into them survive a power failure."""
    for folder in set(folders):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def clear_leftovers(folder: Path) -> int:
    """Delete temporary files under a folder whose writers are dead, and return how many.

    A live writer, even on another machine that shares the folder, holds a lock on its file.
    """
    deleted = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            if not (name.startswith(".") and name.endswith(SUFFIX)):
                continue
            path = Path(parent, name)
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                    deleted += 1
            except OSError:  # locked, renamed in the meantime, or another user's
                continue
    return deleted


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` on success.

    `clear_leftovers` ignores it, so a backup can be written inside a data folder. An existing file
    with equal content stays untouched, its modification time included.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _part_name(path, UNLOCKED_SUFFIX)
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
    """Create `target` as a hard link to a file, or as a copy if links are not possible.

    Raises:
        FileExistsError: the target exists.
        OSError: the file cannot be read or the target cannot be written.
    """
    try:
        os.link(source.resolve(), target)
    except FileExistsError:
        raise
    except OSError:  # another disk, or a filesystem without hard links
        shutil.copyfile(source, target)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
