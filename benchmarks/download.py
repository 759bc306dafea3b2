"""Images a second: our downloader against img2dataset, from the same local server, in one run.

    COCONUT_ATTR_MIRROR=... python benchmarks/download.py

A separate process serves each photo of the mirror under COPIES names, with keep-alive, to THREADS
threads of one process of either program. Both store the originals without encoding them again.
img2dataset is installed in a virtual environment in the temporary folder. Two figures for each:

- total: from the start of the process to its end. Ours is one worker of `db.downloads` on a SQLite
  database that has the URLs, like img2dataset's list; `coconut-attr download` adds the start of a
  Prefect server if none runs.
- steady: images a second of the worker itself: ours from the first claim to the last stored row,
  img2dataset's by its own count.

Ours checks length, JPEG structure, pixel size and SHA-256 of every file, flushes it to the disk and
stores a row; img2dataset, as called here, does none of that. Neither decodes. The files of both are
compared with the originals.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from coconut_attr.datasets import get_dataset
from coconut_attr.settings import settings
from db import annotations, reference
from db.downloads import fetch_claimed, plan
from db.schema import open_database
from db.sql import sql

COPIES, THREADS, ROUNDS = 5, 16, 3
FOLDER = "images.cocodataset.org/val2017"
VENV = Path(tempfile.gettempdir()) / "coconut-attr-img2dataset"
IMG2DATASET = VENV / "bin" / "img2dataset"


def serve(root: Path) -> None:
    """Serve a folder with keep-alive until the process is stopped, and print the port."""

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            self.received = b""

        def data_received(self, data: bytes) -> None:
            *heads, self.received = (self.received + data).split(b"\r\n\r\n")
            for head in heads:
                body = (root / head.split(b" ", 2)[1].decode().lstrip("/")).read_bytes()
                answer = (
                    b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                    % len(body)
                )
                self.transport.write(answer + body)
                if b"connection: close" in head.lower():
                    self.transport.close()

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(
            Connection, "127.0.0.1", 0, backlog=512
        )
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


def ours() -> None:
    """Run one worker in this process, and print its images a second."""
    engine = open_database(settings().sqlalchemy_url)
    started = time.perf_counter()
    work = plan(engine, "val5k", settings())
    fetched = fetch_claimed(engine, get_dataset("val5k"), work, settings())["fetched"]
    print(fetched / (time.perf_counter() - started))


@contextmanager
def served(site: Path) -> Iterator[str]:
    command = [sys.executable, __file__, "--serve", str(site)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.terminate()


def make_site(site: Path) -> dict[str, str]:
    """Copy every photo of the mirror to COPIES names; return the SHA-256 by name."""
    (site / FOLDER).mkdir(parents=True)
    digests = {}
    for photo in sorted(Path(settings().mirror, FOLDER).glob("*.jpg")):
        digest = hashlib.sha256(photo.read_bytes()).hexdigest()
        for copy in range(COPIES):
            name = f"{copy}{photo.name}"
            shutil.copyfile(photo, site / FOLDER / name)
            digests[name] = digest
    return digests


def run_ours(folder: Path, site: Path, url: str, digests: dict[str, str]) -> tuple[float, float]:
    """Return the seconds of the complete command, and the images a second of the worker."""
    engine = open_database(f"sqlite:///{folder / 'coconut_attr.db'}")
    fields = {
        "title": "",
        "is_coconut": True,
        "licence": "",
        "expected_images": None,
        "expected_segments": None,
    }
    reference.sync_reference(engine, [{"name": "val5k", **fields}], [], [])
    rows = []
    for number, name in enumerate(digests):
        with Image.open(site / FOLDER / name) as photo:
            width, height = photo.size
        rows.append(
            {
                "dataset": "val5k",
                "coco_id": number,
                "file_name": name,
                "url": f"http://{FOLDER}/{name}",
                "licence": "",
                "width": width,
                "height": height,
                "split": "train",
            }
        )
    annotations.add_captions(engine, "val5k", rows, [])
    env = {
        **os.environ,
        "COCONUT_ATTR_DATA_DIR": str(folder),
        "COCONUT_ATTR_DATABASE_URL": "",
        "COCONUT_ATTR_MIRROR": url,
        "COCONUT_ATTR_DOWNLOAD_THREADS": str(THREADS),
    }
    started = time.perf_counter()
    result = subprocess.run(
        [sys.executable, __file__, "--ours"], env=env, check=True, capture_output=True, text=True
    )
    spent = time.perf_counter() - started
    stored = sql(
        engine,
        "SELECT i.path, i.sha256 FROM image i"
        " JOIN download d ON d.image_id = i.id AND state = 'done'",
    )
    assert {Path(row["path"]).name: row["sha256"] for row in stored} == digests
    assert all(digest(folder / row["path"]) == row["sha256"] for row in stored)
    engine.dispose()
    return spent, float(result.stdout)


def run_img2dataset(folder: Path, url: str, digests: dict[str, str]) -> tuple[float, float]:
    """Return the seconds of the complete command, and the images a second by its own count."""
    urls = folder / "urls.txt"
    urls.write_text("\n".join(f"{url}/{FOLDER}/{name}" for name in digests))
    options = {
        "url_list": str(urls),
        "output_folder": str(folder / "out"),
        "processes_count": "1",
        "thread_count": str(THREADS),
        "resize_mode": "no",
        "skip_reencode": "True",
        "disable_all_reencoding": "True",
    }
    command = [str(IMG2DATASET), *(f"--{name}={value}" for name, value in options.items())]
    started = time.perf_counter()
    subprocess.run(
        command,
        env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"},
        check=True,
        capture_output=True,
    )
    spent = time.perf_counter() - started
    counts = [json.loads(path.read_text()) for path in (folder / "out").glob("*_stats.json")]
    photos = sorted(digest(path) for path in (folder / "out").rglob("*.jpg"))
    assert photos == sorted(digests.values())
    return spent, len(photos) / sum(count["duration"] for count in counts)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def install() -> None:
    if not IMG2DATASET.exists():
        Console().print(f"installing img2dataset in {VENV}")
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(VENV / "bin" / "pip"), "install", "--quiet", "img2dataset"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve)
    if arguments.ours:
        return ours()

    install()
    figures: dict[str, list[tuple[float, float]]] = {"coconut_attr": [], "img2dataset": []}
    with tempfile.TemporaryDirectory() as name:
        site = Path(name) / "site"
        digests = make_site(site)
        with served(site) as url:
            for number in range(ROUNDS):  # alternate, so that other load of the machine hits both
                for which, measured in figures.items():
                    folder = Path(name) / f"{which}-{number}"
                    folder.mkdir()
                    run = run_img2dataset(folder, url, digests) if which == "img2dataset" else None
                    measured.append(run or run_ours(folder, site, url, digests))
                    shutil.rmtree(folder)
    images = len(digests)
    table = Table(
        "",
        "total, images/s",
        "steady, images/s",
        title=f"{images:,} images, {THREADS} threads, {ROUNDS} rounds",
    )
    for which, measured in figures.items():
        total, steady = zip(*((images / spent, rate) for spent, rate in measured), strict=True)
        table.add_row(
            which, *(" ".join(f"{value:,.0f}" for value in values) for values in (total, steady))
        )
    pairs = list(zip(figures["coconut_attr"], figures["img2dataset"], strict=True))
    ratios = ([b[0] / a[0] for a, b in pairs], [a[1] / b[1] for a, b in pairs])
    table.add_row("ratio", *(" ".join(f"{value:.2f}" for value in values) for values in ratios))
    table.add_row("median ratio", *(f"{statistics.median(values):.2f}" for values in ratios))
    Console().print(table)
    return None


if __name__ == "__main__":
    main()
