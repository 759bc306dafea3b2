"""Files of training runs: in the data folder, and in the image store if there is one, so that any machine goes on with
a run, scores it, and predicts by it.

A data folder may hold a file of an earlier epoch than the store, whose run another machine went on with, or of a later
one, while the store could not be reached: what is of the later epoch counts.
"""

from collections.abc import Callable
from pathlib import Path

from coconut_attr.files.atomic import write_atomically
from coconut_attr.files.object_store import object_store
from coconut_attr.settings import Settings

RUNS = "runs"  # the folder of all runs
#: The epoch that the content of a file is of; 0 if that cannot be read.
EpochOf = Callable[[bytes], int]


def upload(settings: Settings, path: Path) -> None:
    """Put a file of the data folder into the image store, if there is one.

    Raises:
        coconut_attr.files.object_store.ObjectStoreError, UnreachableError: as `ObjectStore`.
        OSError: it cannot be read.
    """
    if store := object_store(settings):
        store.write(_name(settings, path), path.read_bytes())


def delete(settings: Settings, path: Path) -> None:
    """Delete a file of a run, here and in the image store; errors as `upload`."""
    path.unlink(missing_ok=True)
    if store := object_store(settings):
        store.delete(_name(settings, path))


def newest(settings: Settings, path: Path, epoch_of: EpochOf) -> bytes | None:
    """The content of a file of the later epoch, None if it is neither here nor in the image store; errors as `upload`.

    Nothing is written: a reader's data folder and its key of the store may be read-only.
    """
    return _later(*_both(settings, path), epoch_of)


def sync(settings: Settings, path: Path, epoch_of: EpochOf) -> bool:
    """Have a file, of the later epoch, both here and in the image store; errors as `upload`.

    Returns:
        Whether there is one.
    """
    store = object_store(settings)
    if store is None:
        return path.is_file()
    here, there = _both(settings, path)
    content = _later(here, there, epoch_of)
    if content is None:
        return False
    if content != here:
        write_atomically(path, content)
    if content != there:
        store.write(_name(settings, path), content)
    return True


def _both(settings: Settings, path: Path) -> tuple[bytes | None, bytes | None]:
    store = object_store(settings)
    try:
        here = path.read_bytes()
    except FileNotFoundError:
        here = None
    return here, store.read(_name(settings, path)) if store else None


def _later(here: bytes | None, there: bytes | None, epoch_of: EpochOf) -> bytes | None:
    if here is None or there is None or here == there:
        return there if here is None else here
    return max(here, there, key=epoch_of)


def _name(settings: Settings, path: Path) -> str:
    return str(path.relative_to(settings.data_dir))
