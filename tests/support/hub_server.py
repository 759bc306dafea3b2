"""A small stand-in for the Hugging Face hub: a repository's file tree, some entries a page, and its files by range."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

SHA256 = "ab" * 32
PAGE = 2


@contextmanager
def serve_hub(folder: Path) -> Iterator[str]:
    """Serve the dataset repositories in a folder (OWNER/NAME/...) under the hub's addresses; gives the endpoint."""

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

        def do_GET(self):
            url = urlsplit(unquote(self.path))
            if tree := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/main/?(.*)", url.path):
                self.tree(url.path, folder / tree[1], tree[2], parse_qs(url.query))
            elif file := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/(.*)", url.path):
                content = (folder / file[1] / file[2]).read_bytes()
                start, stop = map(
                    int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups()
                )
                self.answer(
                    206,
                    content[start : stop + 1],
                    Content_Range=f"bytes {start}-{stop}/{len(content)}",
                )
            elif re.fullmatch(r"/api/datasets/[^/]+/[^/]+", url.path):
                self.answer(200, json.dumps({"id": "x", "sha": "0" * 40, "siblings": []}).encode())
            else:
                self.answer(404, b"{}")

        def tree(self, path: str, repo: Path, under: str, query: dict[str, list[str]]) -> None:
            if not (repo / under).is_dir():
                self.answer(404, b"{}", X_Error_Code="EntryNotFound")
                return
            deep = query.get("recursive", ["false"])[0].lower()
            found = sorted(
                (repo / under).rglob("*") if deep == "true" else (repo / under).iterdir()
            )
            start = int(query.get("cursor", ["0"])[0])
            entries = []
            for item in found[start : start + PAGE]:
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
            if start + PAGE < len(found):
                address = (
                    f"http://{self.headers['Host']}{path}?recursive={deep}&cursor={start + PAGE}"
                )
                more = {"Link": f'<{address}>; rel="next"'}
            self.answer(200, json.dumps(entries).encode(), **more)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
