"""Files by their relative path in an object store that machines share: of photos and masks each data folder is a cache.

Without COCONUT_ATTR_IMAGE_STORE there is no such store, and files lie in the data folder alone.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TypeVar

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from coconut_attr.errors import UnreachableError, UserError
from coconut_attr.files.atomic import write_atomically
from coconut_attr.settings import Settings

T = TypeVar("T")
R = TypeVar("R")
#: A file's path relative to the data folder, and its bytes; None where they are not known.
File = tuple[str, int | None]
LONG = 2**26  # bytes; what is longer, as checkpoints are, may take longer to write


class ObjectStoreError(UserError):
    """The image store cannot be used; the message says what, where and what to do."""


class ObjectStore:
    """An object store, by fsspec. Its methods may be called from many threads.

    Raises:
        ObjectStoreError: it cannot be used as it is set up; so do all methods.
        UnreachableError: it does not answer, or not as it should; so do all methods.
    """

    def __init__(self, url: str, threads: int, write_timeout: float) -> None:
        self.threads = threads
        try:
            # Other machines write, too: a listing that is kept would not tell of it.
            self.fs, self.root = url_to_fs(url.rstrip("/"), use_listings_cache=False)
        except ImportError as error:
            raise ObjectStoreError(
                f"COCONUT_ATTR_IMAGE_STORE: {error}; for s3:// run: pip install -c constraints.txt -e '.[s3]'"
            ) from error
        except ValueError as error:
            raise ObjectStoreError(
                f"COCONUT_ATTR_IMAGE_STORE: {error}; give s3://BUCKET/PREFIX"
            ) from error
        if isinstance(self.fs, LocalFileSystem):
            raise ObjectStoreError(
                "COCONUT_ATTR_IMAGE_STORE is a folder; share it as COCONUT_ATTR_DATA_DIR instead"
            )
        self.write_timeout = write_timeout
        self.name = self.fs.unstrip_protocol(self.root)
        self.sizes("none")  # tells a missing bucket from a missing photo

    def read(self, path: str) -> bytes | None:
        """The content of a file, or None if there is none."""
        with self._errors():
            try:
                return self.fs.cat_file(f"{self.root}/{path}")
            except FileNotFoundError:
                return None

    def write(self, path: str, content: bytes) -> None:
        """Write a file: it is there whole, or as it was."""
        # s3fs waits without end for a server's leave to send a body ("100 Continue").
        timeout = self.write_timeout * (1 + len(content) // LONG)
        with self._errors():
            self.fs.pipe_file(
                f"{self.root}/{path}",
                content,
                **({"timeout": timeout} if self.fs.async_impl else {}),
            )

    def modified(self, path: str) -> datetime:
        """When a file was written last."""
        with self._errors():
            return self.fs.modified(f"{self.root}/{path}")

    def delete(self, path: str) -> None:
        """Delete a file, if it is there."""
        with self._errors():
            if self.fs.exists(
                f"{self.root}/{path}"
            ):  # a key that may not delete is told only where it matters
                self.fs.rm_file(f"{self.root}/{path}")

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of all files under a folder by their paths, from one listing."""
        with self._errors():
            found = self.fs.find(f"{self.root}/{folder}", detail=True)
        return {name.removeprefix(f"{self.root}/"): info["size"] for name, info in found.items()}

    def sizes_of(self, paths: Iterable[str]) -> dict[str, int]:
        """Bytes of those of some files that are there, and of what else is in their folders."""
        return {name: size for folder in {str(Path(path).parent) for path in paths}
                for name, size in self.sizes(folder).items()}  # fmt: skip

    def each(self, act: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """What `act` gives for each item, in order; several are under way at a time."""
        with ThreadPoolExecutor(self.threads, thread_name_prefix="image-store") as pool:
            yield from pool.map(act, items)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each filesystem behind fsspec raises errors of its own
            what = str(error) or type(error).__name__
            mend = isinstance(error, FileNotFoundError | PermissionError | ValueError)
            if mend or "Credentials" in type(error).__name__:
                raise ObjectStoreError(
                    f"the image store {self.name} cannot be used: {what}; see to COCONUT_ATTR_IMAGE_STORE, the keys"
                    " and the endpoint (for s3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
                ) from error
            raise UnreachableError(
                f"the image store {self.name} does not answer as it should: {what}; see to it and to the network, and"
                " run again: what is done is kept"
            ) from error


def object_store(settings: Settings) -> ObjectStore | None:
    """The image store of the settings, if there is one; errors as `ObjectStore`."""
    if not settings.image_store:
        return None
    return _opened(settings.image_store, settings.download_threads, settings.body_timeout)


_opened = cache(ObjectStore)


def missing_locally(settings: Settings, files: Iterable[File]) -> list[File]:
    """Those files that have to be fetched from the image store before they are read: nothing where there is none.

    They are missing in the data folder, of another size, or of unknown size: a mask may have been replaced.
    """
    return (
        [file for file in files if file[1] is None or not _is_here(settings, file)]
        if settings.image_store
        else []
    )


def _is_here(settings: Settings, file: File) -> bool:
    try:
        return (settings.data_dir / file[0]).stat().st_size == file[1]
    except FileNotFoundError:
        return False


def bring(settings: Settings, files: Iterable[File]) -> Iterator[str]:
    """Fetch files from the image store into the data folder, in parallel; yields their paths as they are there.

    What the store lacks stays as it is: who reads it finds that out.

    Raises:
        ObjectStoreError, UnreachableError: as `ObjectStore`.
        OSError: the data folder cannot be written.
    """
    store = object_store(settings)
    assert store is not None

    def fetch(file: File) -> str:
        path = settings.data_dir / file[0]
        content = store.read(file[0])
        if content is not None and not (path.is_file() and path.read_bytes() == content):
            write_atomically(path, content)
        return file[0]

    return store.each(fetch, files)


def fetch_missing(settings: Settings, files: Iterable[File]) -> None:
    """Have files in the data folder that only the image store may have; errors as `bring`."""
    if missing := missing_locally(settings, files):
        list(bring(settings, missing))


def read_file(settings: Settings, path: str) -> bytes:
    """The content of a photo or mask, without keeping it: a reader's data folder may be read-only.

    Raises:
        ObjectStoreError, UnreachableError: as `ObjectStore`.
        OSError: it is neither here nor in the image store, or cannot be read.
    """
    try:
        return (settings.data_dir / path).read_bytes()
    except FileNotFoundError:
        store = object_store(settings)
        content = store.read(path) if store else None
        if content is None:
            raise
        return content
