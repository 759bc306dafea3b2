"""A real HTTP server for tests: serves a folder with ranges and listings, and misbehaves as it is told."""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Fault = Callable[[SimpleHTTPRequestHandler, bytes], bool]


@dataclass
class Site:
    """A served folder. `faults[path]` is a list of what goes wrong at the first requests for that path, in turn."""

    url: str
    requests: Counter = field(default_factory=Counter)
    faults: dict[str, list[Fault]] = field(default_factory=dict)


def status(code: int, **headers: str) -> Fault:
    """Answer with an error status."""

    def act(handler: SimpleHTTPRequestHandler, _content: bytes) -> bool:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    return act


def truncated(handler: SimpleHTTPRequestHandler, content: bytes) -> bool:
    """Promise the whole body, send half, and close."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True
    return True


def short(handler: SimpleHTTPRequestHandler, content: bytes) -> bool:
    """Send half of the body as if it were the whole."""
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


def _body(handler: SimpleHTTPRequestHandler, content: bytes) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
    return True


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
            faults = site.faults.get(self.path)
            if faults and faults.pop(0)(self, content):
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

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
