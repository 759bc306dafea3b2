"""A small stand-in for the Hugging Face hub: listings by page, files by range, and its bad days."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.web_server import Fault

SHA256 = "ab" * 32
PAGE = 2


@dataclass
class Hub:
    """A running stand-in.

    Attributes:
        endpoint: its address, for HF_ENDPOINT.
        token: the account that it wants; empty: none.
        cdn: address of another host to which file reads are redirected; empty: none.
        faults: what goes wrong at the next listings ("tree") and reads ("file"), in turn.
        requests: kind, host and Authorization header of each request.
    """

    endpoint: str = ""
    token: str = ""
    cdn: str = ""
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)

    def count(self, kind: str) -> int:
        return sum(request[0] == kind for request in self.requests)


def _begin_range(handler: BaseHTTPRequestHandler, content: bytes) -> bytes:
    """Send the head of the range that is asked for; return its bytes."""
    first, last = map(int, re.findall(r"\d+", handler.headers["Range"]))
    part = content[first : last + 1]
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(part)))
    handler.end_headers()
    return part


def broken_range(handler: BaseHTTPRequestHandler, content: bytes) -> bool:
    """Send the head of a range and half of its bytes, and close the connection."""
    part = _begin_range(handler, content)
    handler.wfile.write(part[: len(part) // 2])
    handler.close_connection = True
    return True


def stalled_range(handler: BaseHTTPRequestHandler, content: bytes) -> bool:
    """Send the head of a range, and nothing more until the client gives up."""
    _begin_range(handler, content)
    handler.wfile.flush()
    handler.connection.recv(1)
    handler.close_connection = True
    return True


@contextmanager
def serve_hub(folder: Path) -> Iterator[Hub]:
    """Serve the dataset repositories in a folder (OWNER/NAME/...) under the hub's addresses."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args):
            pass

        def answer(self, status: int, content: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_HEAD(self):
            self.do_GET()

        def suffers(self, kind: str, content: bytes = b"") -> bool:
            """Note the request; return whether a fault or a missing account has answered it."""
            account = self.headers.get("Authorization", "")
            host = self.headers["Host"]
            hub.requests.append((kind, host, account))
            faults = hub.faults.get(kind)
            if faults and faults.pop(0)(self, content):
                return True
            if hub.token and host in hub.endpoint and account != f"Bearer {hub.token}":
                self.answer(401, b"{}", X_Error_Code="RepoNotFound")
                return True
            return False

        def do_GET(self):
            url = urlsplit(unquote(self.path))
            if tree := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/main/?(.*)", url.path):
                if not self.suffers("tree"):
                    self.tree(url.path, folder / tree[1], tree[2], parse_qs(url.query))
            elif file := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/(.*)", url.path):
                content = (folder / file[1] / file[2]).read_bytes()
                if not self.suffers("file", content):
                    self.file(content)
            else:
                self.answer(404, b"{}")

        def file(self, content: bytes) -> None:
            if hub.cdn and self.headers["Host"] not in hub.cdn:
                self.answer(302, b"", Location=hub.cdn + self.path)
                return
            self.wfile.write(_begin_range(self, content))

        def tree(self, path: str, repo: Path, under: str, query: dict[str, list[str]]) -> None:
            if not (repo / under).is_dir():
                self.answer(404, b"{}", X_Error_Code="EntryNotFound")
                return
            deep = query.get("recursive", ["false"])[0].lower()
            items = sorted(
                (repo / under).rglob("*") if deep == "true" else (repo / under).iterdir()
            )
            start = int(query.get("cursor", ["0"])[0])
            entries = []
            for item in items[start : start + PAGE]:
                entry = {
                    "path": str(item.relative_to(repo)),
                    "oid": "0" * 40,
                    "size": 0,
                    "type": "directory",
                }
                if item.is_file():
                    size = item.stat().st_size
                    lfs = {"oid": SHA256, "size": size, "pointerSize": 130}
                    entry |= {"type": "file", "size": size, "lfs": lfs}
                entries.append(entry)
            more = {}
            if start + PAGE < len(items):
                address = (
                    f"http://{self.headers['Host']}{path}?recursive={deep}&cursor={start + PAGE}"
                )
                more = {"Link": f'<{address}>; rel="next"'}
            self.answer(200, json.dumps(entries).encode(), **more)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
