"""Files by relative path in an object store that machines share; data folders cache its photos.

Without COCONUT_ATTR_IMAGE_STORE there is no object store, and files lie in the data folder only.
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
#: A file's path relative to the data folder, and its size in bytes (None: not known).
File = tuple[str, int | None]
LARGE = 2**26  # bytes; a larger file, such as a checkpoint, may take longer to write


class ObjectStoreError(UserError):
    """The object store cannot be used; the message says what, where and what to do."""


class ObjectStore:
    """An object store, through fsspec. Its methods may be called from many threads.

    Raises:
        ObjectStoreError: it cannot be used with this configuration. All methods raise it.
        UnreachableError: it does not answer, or wrongly. All methods raise it.
    """

    def __init__(self, url: str, threads: int, write_timeout: float) -> None:
        self.threads = threads
        if "::" in url:  # fsspec reads it as a chain of file systems
            raise ObjectStoreError('COCONUT_ATTR_IMAGE_STORE has "::" in it: choose another prefix')
        try:
            # A cached listing would miss what other machines write.
            self.fs, self.root = url_to_fs(url.rstrip("/"), use_listings_cache=False)
        except ImportError as error:
            raise ObjectStoreError(
                f"COCONUT_ATTR_IMAGE_STORE: {error}; for s3:// run:"
                " pip install -c constraints.txt -e '.[s3]'"
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
        self.sizes("none")  # fails for a missing bucket, which read() could take for a missing file

    def read(self, path: str) -> bytes | None:
        """Return the content of a file; None if it does not exist."""
        with self._errors():
            try:
                return self.fs.cat_file(f"{self.root}/{path}")
            except FileNotFoundError:
                return None

    def write(self, path: str, content: bytes) -> None:
        """Write a file completely, or leave it as it was."""
        # Without a timeout s3fs waits for ever for a server's "100 Continue".
        timeout = self.write_timeout * (1 + len(content) // LARGE)
        with self._errors():
            self.fs.pipe_file(
                f"{self.root}/{path}",
                content,
                **({"timeout": timeout} if self.fs.async_impl else {}),
            )

    def modified(self, path: str) -> datetime:
        """Return the time at which a file was last written."""
        with self._errors():
            return self.fs.modified(f"{self.root}/{path}")

    def delete(self, path: str) -> None:
        """Delete a file if it exists."""
        with self._errors():
            # Keys without the right to delete must not fail where there is nothing to delete.
            if self.fs.exists(f"{self.root}/{path}"):
                self.fs.rm_file(f"{self.root}/{path}")

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size in bytes of every file under a folder by path, from one listing."""
        with self._errors():
            files = self.fs.find(f"{self.root}/{folder}", detail=True)
        return {name.removeprefix(f"{self.root}/"): info["size"] for name, info in files.items()}

    def sizes_of(self, paths: Iterable[str]) -> dict[str, int]:
        """Return the size in bytes of every file in the folders of these paths, by path."""
        folders = {str(Path(path).parent) for path in paths}
        return {name: size for folder in folders for name, size in self.sizes(folder).items()}

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield the function's result for each item, in order, computed in several threads."""
        with ThreadPoolExecutor(self.threads, thread_name_prefix="object-store") as pool:
            yield from pool.map(function, items)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each filesystem behind fsspec raises errors of its own
            message = str(error) or type(error).__name__
            misconfigured = isinstance(error, FileNotFoundError | PermissionError | ValueError)
            if misconfigured or "Credentials" in type(error).__name__:
                raise ObjectStoreError(
                    f"the object store {self.name} cannot be used: {message}; check"
                    " COCONUT_ATTR_IMAGE_STORE, the keys and the endpoint (for s3:"
                    " AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
                ) from error
            raise UnreachableError(
                f"the object store {self.name} does not answer as it should: {message}; check it"
                " and the network, and run again: finished work is stored"
            ) from error


def object_store(settings: Settings) -> ObjectStore | None:
    """Return the configured object store, or None; errors as `ObjectStore`."""
    if not settings.image_store:
        return None
    return _opened(settings.image_store, settings.download_threads, settings.body_timeout)


_opened = cache(ObjectStore)


def missing_locally(settings: Settings, files: Iterable[File]) -> list[File]:
    """Return the files to fetch before they can be read; empty without an object store.

    They are missing in the data folder, of another size, or of unknown size, as a mask is, which
    may have been replaced.
    """
    if not settings.image_store:
        return []
    return [file for file in files if file[1] is None or not _is_local(settings, file)]


def _is_local(settings: Settings, file: File) -> bool:
    try:
        return (settings.data_dir / file[0]).stat().st_size == file[1]
    except FileNotFoundError:
        return False


def fetch_files(settings: Settings, files: Iterable[File]) -> Iterator[str]:
    """Fetch files from the object store into the data folder in parallel, and yield each path.

    A file that the object store lacks is left out without an error: its reader reports it.

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

    return store.map(fetch, files)


def fetch_missing(settings: Settings, files: Iterable[File]) -> None:
    """Fetch into the data folder the files that only the object store has; as `fetch_files`."""
    if missing := missing_locally(settings, files):
        list(fetch_files(settings, missing))


def read_file(settings: Settings, path: str) -> bytes:
    """Return the content of a photo or mask without storing it: the data folder may be read-only.

    Raises:
        ObjectStoreError, UnreachableError: as `ObjectStore`.
        OSError: neither the data folder nor the object store has it, or it cannot be read.
    """
    try:
        return (settings.data_dir / path).read_bytes()
    except FileNotFoundError:
        store = object_store(settings)
        content = store.read(path) if store else None
        if content is None:
            raise
        return content
