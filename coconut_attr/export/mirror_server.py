"""A read-only HTTP server for a mirror folder, with byte ranges and folder listings."""

import io
import os
import re
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

from coconut_attr.errors import UserError

HOST = "127.0.0.1"
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class _Part(io.RawIOBase):
    """The next `left` bytes of a file."""

    def __init__(self, file: BinaryIO, left: int) -> None:
        self._file, self._left = file, left

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(content)
        return content

    def close(self) -> None:
        self._file.close()
        super().close()


class MirrorHandler(SimpleHTTPRequestHandler):
    """GET and HEAD of files and folders under one root, except hidden files and links out of it."""

    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True  # head and body are two writes: the second would be delayed
    timeout = 60  # seconds until an idle connection is closed
    root: Path

    def translate_path(self, path: str) -> str:
        target = Path(super().translate_path(path)).resolve()
        inside = target.is_relative_to(self.root)
        if not inside or any(p.startswith(".") for p in target.relative_to(self.root).parts):
            return str(self.root / ".none")
        return str(target)

    def send_head(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return super().send_head()
        try:
            file = path.open("rb")
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        stat = os.fstat(file.fileno())
        etag = f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"'
        start, stop = 0, stat.st_size
        requested = RANGE.fullmatch(self.headers.get("Range", ""))
        ranged = bool(
            requested and any(requested.groups()) and self.headers.get("If-Range", etag) == etag
        )
        if requested and ranged:
            first, last = requested.groups()
            start = int(first) if first else max(0, stop - int(last))
            stop = min(stop, int(last) + 1) if first and last else stop
            if start >= stop:
                file.close()
                self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                self.send_header("Content-Range", f"bytes */{stat.st_size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
        self.send_response(HTTPStatus.PARTIAL_CONTENT if ranged else HTTPStatus.OK)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Length", str(stop - start))
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{stat.st_size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", self.date_time_string(int(stat.st_mtime)))
        self.send_header("ETag", etag)
        self.end_headers()
        file.seek(start)
        return _Part(file, stop - start)

    def copyfile(self, source, outputfile) -> None:
        try:
            super().copyfile(source, outputfile)
        except ConnectionError:  # the client has closed it
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a reader sends thousands of requests."""


def mirror_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of a folder on 127.0.0.1, ready for `serve_forever`; port 0 is any free one.

    Raises:
        UserError: the folder does not exist, or the port is taken.
    """
    if not os.path.isdir(folder):  # pathlib raises for a name that no folder can have
        raise UserError(f"{folder} is not a folder")

    class Handler(MirrorHandler):
        root = folder.resolve()

        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, directory=str(self.root), **kwargs)

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise UserError(
            f"cannot serve on {HOST}:{port}: {error.strerror}; choose another --port"
        ) from error
    server.daemon_threads = True
    return server
