"""An exported mirror gives the same images, masks, segments and captions as its source."""

import hashlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner

from coconut_attr.errors import UserError
from coconut_attr.export.mirror_server import mirror_server
from db import sql
from db.commands.mirror import mirror_commands
from flows.database import engine
from flows.download import download
from tests.support import tiny_mirror as tiny

PHOTOS = "images.cocodataset.org/val2017"
ZIP = "images.cocodataset.org/annotations/annotations_trainval2017.zip"
pytestmark = pytest.mark.usefixtures("prefect_server")


def export(folder: Path, *more: str) -> str:
    result = CliRunner().invoke(
        mirror_commands, ["export", str(folder), *more], catch_exceptions=False
    )
    return result.output


@pytest.fixture
def served():
    """Serves a folder as `mirror serve` does; gives its URL."""
    servers = []

    def start(folder: Path) -> str:
        server = mirror_server(folder, 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def content(data_dir: Path) -> dict[str, object]:
    """All that a download leaves, but for where the annotations were read and when."""
    image = "coco_id, file_name, url, licence, width, height, split, path, sha256, bytes, mask_path"
    by_image = "SELECT i.coco_id, t.* FROM {} t JOIN image i ON i.id = t.image_id ORDER BY 1, 3"
    rows = {
        "image": sql.sql(engine(), f"SELECT {image} FROM image ORDER BY coco_id"),
        **{table: sql.sql(engine(), by_image.format(table)) for table in ("segment", "caption")},
    }
    found: dict[str, object] = {
        name: [{key: value for key, value in row.items() if key != "image_id"} for row in table]
        for name, table in rows.items()
    }
    for folder in ("annotations/val5k/panoptic", PHOTOS):
        found[folder] = {
            path.name: path.read_bytes() for path in sorted((data_dir / folder).iterdir())
        }
    return found


def test_a_round_trip_through_a_folder_and_a_server(
    tiny_mirror: Path, tmp_path: Path, configure, served
) -> None:
    settings = configure(mirror=tiny_mirror)
    (
        tiny_mirror / PHOTOS / "000000000024.jpg"
    ).unlink()  # one that cannot be downloaded is not in the export
    download("val5k")
    folder = tmp_path / "export"
    assert "holds 23 photos, 16 masks and 23 captions of val5k" in export(folder)
    with engine().begin() as connection:
        connection.exec_driver_sql("DELETE FROM image WHERE coco_id = 24")
    before = content(settings.data_dir)
    assert len(before["image"]) == len(before[PHOTOS]) == 23

    for number, mirror in enumerate((folder, served(folder))):
        settings = configure(mirror=mirror, data_dir=tmp_path / f"data{number}")
        assert download("val5k") == {"images": 23, "downloaded": 23, "failed": 0}
        assert content(settings.data_dir) == before

    lines = (folder / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert sums.keys() == files - {"README.md", "SHA256SUMS"}
    assert all(
        hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        for name, digest in sums.items()
    )
    (shard,) = folder.rglob("*.parquet")
    assert (
        shard.name == "train-00000-of-00001.parquet"
    )  # as upstream: a store made from the one knows the other's
    readme = (folder / "README.md").read_text()
    assert f"Masks read from: mirror {tiny_mirror}" in readme
    assert "23 x http://creativecommons.org/licenses/by/2.0/" in readme


@pytest.mark.parametrize("name", ["~a", "a?b#c%20d[1]*'e\"é 照片"])
def test_folders_may_have_any_name(
    name: str, tiny_mirror: Path, tmp_path: Path, configure, served
) -> None:
    mirror = tiny_mirror.rename(tmp_path / f"mirror {name}")
    settings = configure(mirror=mirror, data_dir=tmp_path / f"data {name}")
    download("val5k")
    before = content(settings.data_dir)
    folder = tmp_path / f"export {name}"
    assert shlex.quote(str(folder)) in export(folder)
    for number, place in enumerate((folder, served(folder))):
        settings = configure(mirror=place, data_dir=tmp_path / f"data{number} {name}")
        download("val5k")
        assert content(settings.data_dir) == before
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {f"{kind} {name}" for kind in ("mirror", "data", "export", "data0", "data1")}


def test_an_export_goes_on_and_follows_the_store(
    tiny_mirror: Path, tmp_path: Path, configure
) -> None:
    settings = configure(mirror=tiny_mirror)
    download("val5k")
    folder = tmp_path / "export"
    export(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    export(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before

    copy = folder / PHOTOS / "000000000002.jpg"
    copy.unlink()
    copy.write_bytes(b"damaged")  # in the mirror: put right again
    (settings.data_dir / PHOTOS / "000000000003.jpg").unlink()  # in the data folder: not handed on
    (settings.data_dir / PHOTOS / "000000000004.jpg").write_bytes(tiny.jpeg(99))
    (folder / PHOTOS / "000000000005.jpg").unlink()  # as if the export had been interrupted
    (folder / "SHA256SUMS").unlink()
    output = export(folder)
    assert "holds 22 photos, 14 masks" in output
    assert "left out: image 3, its photo cannot be read" in output
    assert "left out: image 4, its photo has changed since the download" in output
    assert copy.read_bytes() == tiny.jpeg(2)
    assert (folder / PHOTOS / "000000000005.jpg").read_bytes() == tiny.jpeg(5)
    assert f"{PHOTOS}/000000000003.jpg" not in (folder / "SHA256SUMS").read_text()

    for target, dataset, message in (
        (tiny_mirror, "val5k", "holds other files than an earlier mirror export"),
        (copy, "val5k", "is a file: give the name of a folder"),
        (tmp_path / "new", "sample", "the database holds no image of sample"),
        (tmp_path / "new", "x", "unknown dataset 'x'"),
    ):
        with pytest.raises(UserError, match=message):
            export(target, "--dataset", dataset)
    assert not (tmp_path / "new").exists()


def test_datasets_share_a_folder(tiny_mirror: Path, tmp_path: Path, configure) -> None:
    repos = tiny_mirror / "huggingface.co" / "datasets" / "xdeng77"
    shutil.copytree(repos / "relabeled_coco_val", repos / "coconut_s")
    with zipfile.ZipFile(tiny_mirror / ZIP, "a") as archive:
        archive.writestr("annotations/captions_train2017.json", archive.read(tiny.CAPTIONS))
    configure(mirror=tiny_mirror)
    folder = tmp_path / "export"
    for dataset, limit in (("coconut-s", 3), ("val5k", 20)):
        download(dataset, limit=limit)
        export(folder, "--dataset", dataset)
    lines = (folder / "README.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("## ")] == ["## coconut-s", "## val5k"]
    with zipfile.ZipFile(folder / ZIP) as archive:
        counts = {
            name: len(json.loads(archive.read(name))["images"]) for name in archive.namelist()
        }
    assert counts == {
        "annotations/captions_train2017.json": 3,
        "annotations/captions_val2017.json": 20,
    }
    sums = (folder / "SHA256SUMS").read_text()
    assert sums.count(".parquet") == len(list(folder.rglob("*.parquet"))) == 2
    configure(mirror=folder, data_dir=tmp_path / "other")
    assert download("coconut-s") == {"images": 3, "downloaded": 3, "failed": 0}
    assert download("val5k") == {"images": 20, "downloaded": 20, "failed": 0}


def test_the_server_serves_ranges_and_listings_and_nothing_else(tmp_path: Path, served) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "x.bin").write_bytes(bytes(range(100)))
    (root / "a" / ".x.part").write_bytes(b"unfinished")
    (tmp_path / "secret").write_text("secret")
    (root / "link").symlink_to(tmp_path / "secret")
    url = served(root)
    session = requests.Session()

    def get(path: str, method: str = "GET", **headers: str) -> requests.Response:
        return session.request(
            method, url + path, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    whole = get("/a/x.bin")
    assert (whole.status_code, whole.content) == (200, bytes(range(100)))
    tag = whole.headers["ETag"]
    for span, expected in {
        "0-9": range(10),
        "90-": range(90, 100),
        "-5": range(95, 100),
        "95-500": range(95, 100),
    }.items():
        part = get("/a/x.bin", Range=f"bytes={span}")
        assert (part.status_code, part.content) == (206, bytes(expected))
        assert part.headers["Content-Range"] == f"bytes {expected[0]}-{expected[-1]}/100"
    assert get("/a/x.bin", Range="bytes=100-").status_code == 416
    assert (
        get("/a/x.bin", Range="bytes=0-1,5-6").status_code == 200
    )  # several ranges: the whole, as HTTP allows
    assert get("/a/x.bin", Range="bytes=0-9", If_Range=tag).status_code == 206
    assert get("/a/x.bin", Range="bytes=0-9", If_Range='"old"').status_code == 200
    head = get("/a/x.bin", "HEAD")
    assert (head.headers["Content-Length"], head.headers["Accept-Ranges"], head.content) == (
        "100",
        "bytes",
        b"",
    )
    assert 'href="x.bin"' in get("/a/").text
    for path in ("/a/.x.part", "/link", "/none"):
        assert get(path).status_code == 404
    assert get("/a/x.bin", "PUT").status_code == 501
    assert (root / "a" / "x.bin").read_bytes() == bytes(range(100))
    port = int(url.rsplit(":", 1)[1])
    for path in (b"/../secret", b"/%2e%2e/secret", b"//secret", b"/a/..%2f..%2fsecret"):
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = raw.makefile("rb").read()
        assert answer.split()[1] == b"404"
        assert b"\r\nsecret" not in answer
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.2", port)) != 0  # another address of this machine
    with pytest.raises(UserError, match="cannot serve on 127.0.0.1:.*choose another --port"):
        mirror_server(root, port)


def test_the_command_serves_until_it_is_stopped(tmp_path: Path) -> None:
    program = "from coconut_attr.cli import main; main()"
    command = [sys.executable, "-u", "-c", program, "mirror", "serve", str(tmp_path), "--port", "0"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ},
    ) as process:
        line = process.stdout.readline()
        url = line.split()[0].removeprefix("COCONUT_ATTR_MIRROR=")
        assert requests.get(url, timeout=60).status_code == 200
        process.send_signal(2)
        assert process.wait(600) == 0
