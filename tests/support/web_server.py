"""A real HTTP server for tests: a folder with ranges and listings, and faults as configured."""

import hashlib
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Fault = Callable[[SimpleHTTPRequestHandler, bytes], bool]


@dataclass
class Site:
    """A served folder.

    Attributes:
        requests: GET requests by path.
        faults: what goes wrong at the first requests for a path, in turn.
        fault: what goes wrong at a request for a path otherwise.
        delay: seconds before each answer.
    """

    url: str
    requests: Counter = field(default_factory=Counter)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    fault: Callable[[str], Fault | None] = lambda _path: None
    delay: float = 0.0


def status(code: int, **headers: str) -> Fault:
    """Answer with an error status."""

    def act(handler: SimpleHTTPRequestHandler, _content: bytes) -> bool:
        handler.send_response_only(code)  # with no header of its own
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    return act


def truncated(handler: SimpleHTTPRequestHandler, content: bytes) -> bool:
    """Announce the complete body, send half, and close."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True
    return True


def short(handler: SimpleHTTPRequestHandler, content: bytes) -> bool:
    """Send half of the body as if it were complete."""
    return _body(handler, content[: len(content) // 2])


def wrong(handler: SimpleHTTPRequestHandler, _content: bytes) -> bool:
    """Send something that is no image."""
    return _body(handler, b"<html>maintenance</html>")


def reset(handler: SimpleHTTPRequestHandler, _content: bytes) -> bool:
    """Close the connection without an answer."""
    handler.close_connection = True
    handler.connection.close()
    return True


def stall(handler: SimpleHTTPRequestHandler, content: bytes) -> bool:
    """Send the head and nothing more until the client gives up."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.flush()
    handler.connection.recv(1)
    return True


def trickle(handler: SimpleHTTPRequestHandler, content: bytes) -> bool:
    """Send a byte every 50 ms."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    try:
        for byte in content:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.05)
    except OSError:
        handler.close_connection = True
    return True


def answer(content: bytes, **headers: str) -> Fault:
    """Answer with other content, or with headers that do not fit."""

    def act(handler: SimpleHTTPRequestHandler, _content: bytes) -> bool:
        return _body(handler, content, **headers)

    return act


def _body(handler: SimpleHTTPRequestHandler, content: bytes, **headers: str) -> bool:
    handler.send_response(200)
    for name, value in (
        {"Content_Length": str(len(content)), "ETag": _etag(content)} | headers
    ).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)
    return True


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request, client_address) -> None:
        """Ignore a client that closes its connection, as a killed process does."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve(folder: Path) -> Iterator[Site]:
    """Serve a folder on a free port of 127.0.0.1."""

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *args, **kwargs):
            super().__init__(*args, directory=str(folder), **kwargs)

        def log_message(self, *_args):
            pass

        def do_GET(self):
            site.requests[self.path] += 1
            path = Path(self.translate_path(self.path))
            if path.is_dir() or not path.is_file():
                return super().do_GET()
            content = path.read_bytes()
            time.sleep(site.delay)
            faults = site.faults.get(self.path)
            fault = faults.pop(0) if faults else site.fault(self.path)
            if fault and fault(self, content):
                return None
            if self.headers.get("If-None-Match") == _etag(content):
                self.send_response(304)
                self.end_headers()
                return None
            span = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if not span:
                return _body(self, content)
            first, last = span.groups()
            start = int(first) if first else len(content) - int(last)
            stop = min(int(last) + 1, len(content)) if first and last else len(content)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
            self.send_header("Content-Length", str(stop - start))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            self.wfile.write(content[start:stop])
            return None

    server = Server(("127.0.0.1", 0), Handler)
    site = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
