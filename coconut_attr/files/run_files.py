"""Files of training runs, in the data folder and in the object store if one is set.

The object store lets any machine resume a run, score it, and predict with it. A data folder may
hold an older epoch than the object store (another machine resumed the run) or a newer one (the
object store was unreachable): the later epoch counts.
"""

from collections.abc import Callable
from pathlib import Path

from coconut_attr.files.atomic import write_atomically
from coconut_attr.files.object_store import object_store
from coconut_attr.settings import Settings

RUNS = "runs"  # the folder of all runs
#: Returns the epoch of a file's content; 0 if it cannot be read.
EpochOf = Callable[[bytes], int]


def upload(settings: Settings, path: Path) -> None:
    """Copy a file of the data folder to the object store, if one is set.

    Raises:
        coconut_attr.files.object_store.ObjectStoreError, UnreachableError: as `ObjectStore`.
        OSError: the file cannot be read.
    """
    if store := object_store(settings):
        store.write(_name(settings, path), path.read_bytes())


def delete(settings: Settings, path: Path) -> None:
    """Delete a run's file from the data folder and the object store; errors as `upload`."""
    path.unlink(missing_ok=True)
    if store := object_store(settings):
        store.delete(_name(settings, path))


def newest(settings: Settings, path: Path, epoch_of: EpochOf) -> bytes | None:
    """Return the newer content of a run's file, or None if no copy exists; errors as `upload`.

    Nothing is written: a reader's data folder and object store may be read-only.
    """
    return _newer(*_copies(settings, path), epoch_of)


def sync(settings: Settings, path: Path, epoch_of: EpochOf) -> bool:
    """Copy the newer version of a run's file to wherever it is missing or older.

    Errors as `upload`.

    Returns:
        Whether the file exists.
    """
    store = object_store(settings)
    if store is None:
        return path.is_file()
    local, remote = _copies(settings, path)
    content = _newer(local, remote, epoch_of)
    if content is None:
        return False
    if content != local:
        write_atomically(path, content)
    if content != remote:
        store.write(_name(settings, path), content)
    return True


def _copies(settings: Settings, path: Path) -> tuple[bytes | None, bytes | None]:
    """Return the content in the data folder and in the object store."""
    store = object_store(settings)
    try:
        local = path.read_bytes()
    except FileNotFoundError:
        local = None
    return local, store.read(_name(settings, path)) if store else None


def _newer(local: bytes | None, remote: bytes | None, epoch_of: EpochOf) -> bytes | None:
    if local is None or remote is None or local == remote:
        return remote if local is None else local
    return max(local, remote, key=epoch_of)


def _name(settings: Settings, path: Path) -> str:
    return str(path.relative_to(settings.data_dir))
