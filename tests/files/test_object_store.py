"""Machines with separate data folders share photos, masks and runs through an S3 server."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
import pytest
from prefect import flow
from s3fs import S3FileSystem

from coconut_attr.errors import UnreachableError
from coconut_attr.files import object_store as library
from coconut_attr.files.object_store import ObjectStore, ObjectStoreError
from coconut_attr.files.run_files import RUNS
from coconut_attr.model.checkpoint import FILE_NAME, newest_checkpoint, save_checkpoint
from coconut_attr.model.network import AttributeModel
from coconut_attr.settings import Settings
from db import annotations
from db.sql import sql
from db.work.check import check_images, check_whole
from db.work.export import export_images
from db.work.mirror import mirror_images
from flows.database import engine
from flows.download import download
from flows.evaluate import evaluate
from flows.extract import extract
from flows.local import ROOT
from flows.samples import load_samples
from flows.train import train
from tests.support.browser import chromium
from tests.support.dashboard import PAGES, assert_no_error, serving, visit
from tests.support.downloads import FOLDER, VAL5K, WORKER, fetch, finished, stocked
from tests.support.ports import free_port
from tests.support.s3 import PREFIX, S3, s3_server
from tests.support.tiny_mirror import jpeg, write_mirror
from tests.support.web_server import serve

MASKS = "annotations/val5k/panoptic"


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as running:
        yield running


@pytest.fixture
def s3(server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The server, with the writer's key in the environment."""
    for name, value in (server.place | server.writer).items():
        monkeypatch.setenv(name, value)
    library._opened.cache_clear()
    S3FileSystem.clear_instance_cache()
    return server


def own_photos(settings: Settings) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (settings.data_dir / FOLDER).glob("*.jpg")}


def test_two_workers_with_data_folders_of_their_own_share_a_download(
    s3: S3, tmp_path: Path, configure, postgres_url: str
) -> None:
    mirror = write_mirror(tmp_path / "mirror", images=60)
    originals = {f"{FOLDER}/{path.name}": path.read_bytes() for path in (mirror / FOLDER).iterdir()}
    engine = stocked(postgres_url, mirror)
    url = s3.bucket("shared")

    def machine(name: str) -> Settings:
        return configure(
            data_dir=tmp_path / name,
            database_url=postgres_url,
            image_store=url,
            mirror=site.url,
            download_threads=4,
            shard_size=10,
        )

    def worker(name: str) -> subprocess.Popen[str]:
        machine(name)
        waits = WORKER.replace("flush=True)", "flush=True); input()")
        return subprocess.Popen(
            [sys.executable, "-c", waits], stdin=PIPE, stdout=PIPE, text=True, cwd=ROOT
        )

    with serve(mirror) as site:
        site.delay = 0.02
        workers = [worker("one"), worker("two")]
        for process in workers:
            assert process.stdout and process.stdout.readline() == "ready\n"
        for process in workers:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        shares = [finished(process) for process in workers]
        assert sum(shares) == 60 and all(shares), shares
        assert site.requests.total() == len(site.requests) == 60  # each was fetched once
        assert s3.objects("shared") == originals
        assert (
            len(own_photos(machine("one"))) == shares[0]
            and len(own_photos(machine("two"))) == shares[1]
        )
        site.requests.clear()

        # What one machine has not in its folder, or has lost, is not lost.
        shutil.rmtree(tmp_path / "two")
        assert fetch(engine, machine("two")) == {}
        # After a worker died between upload and record, the next one, elsewhere, keeps its file.
        names = sorted(originals)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE image SET path = NULL, bytes = NULL; DELETE FROM download"
            )
        s3.client.delete_object(Bucket="shared", Key=f"{PREFIX}/{names[0]}")
        assert fetch(engine, machine("three")) == {"kept": 59, "fetched": 1}
        assert set(site.requests) == {f"/{names[0]}"}
        site.requests.clear()

        # A lost object is restored: from a data folder that has it, or else from upstream.
        for name in names[:2]:
            s3.client.delete_object(Bucket="shared", Key=f"{PREFIX}/{name}")
        (tmp_path / "three" / names[1]).unlink()
        assert fetch(engine, machine("three")) == {"kept": 1, "uploaded": 1, "fetched": 1}
        assert set(site.requests) == {f"/{names[1]}"}
        assert s3.objects("shared") == originals

        # Verifying finds a damaged object even if the folder's copy is intact, and vice versa.
        for name in names[:2]:
            damaged = originals[name][:-9] + bytes(7) + originals[name][-2:]
            s3.client.put_object(Bucket="shared", Key=f"{PREFIX}/{name}", Body=damaged)
        (tmp_path / "three" / names[1]).unlink()
        (tmp_path / "three" / names[2]).write_bytes(b"damaged")
        assert fetch(engine, machine("three")) == {}
        assert fetch(engine, machine("three"), "verify") == {
            "kept": 59,
            "uploaded": 1,
            "fetched": 1,
        }
        assert s3.objects("shared") == originals
        assert own_photos(machine("three")) == {
            Path(name).name: content for name, content in originals.items()
        }
    engine.dispose()


def test_a_prefix_may_have_any_name(s3: S3) -> None:
    s3.client.create_bucket(Bucket="names")
    for name in ("a b", "a?b", "a#b", "a%20b", "a[1]*", "~a", "a'b\"c", "é 照片", "a+b&c=d"):
        store = ObjectStore(f"s3://names/{name}", 2, 20)
        store.write("x/y z.png", b"1")
        assert store.read("x/y z.png") == b"1" and store.sizes("x") == {"x/y z.png": 1}
        listing = s3.client.list_objects_v2(Bucket="names")["Contents"]
        assert [item["Key"] for item in listing] == [f"{name}/x/y z.png"]
        store.delete("x/y z.png")
    with pytest.raises(ObjectStoreError, match='has "::" in it'):
        ObjectStore("s3://names/a::b", 2, 20)


def test_a_store_that_hangs_ends_the_run_and_the_next_one_completes_it(
    s3: S3, tmp_path: Path, configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = write_mirror(tmp_path / "mirror", images=60)
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    monkeypatch.setattr(S3FileSystem, "read_timeout", 2)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with serve(mirror) as site:
        site.delay = 0.05
        settings = configure(
            mirror=site.url, image_store=s3.bucket("hangs"), download_threads=4, body_timeout=2
        )
        engine = stocked(settings.sqlalchemy_url, mirror)

        def hang() -> None:
            while len(site.requests) < 20:
                time.sleep(0.01)
            s3.process.send_signal(signal.SIGSTOP)

        thread = threading.Thread(target=hang)
        thread.start()
        try:
            with pytest.raises(
                UnreachableError,
                match=r"object store s3://hangs/team/images does not answer .*again",
            ):
                fetch(engine, settings)
        finally:
            thread.join()
            s3.process.send_signal(signal.SIGCONT)
        done = [row["path"] for row in sql(engine, "SELECT path FROM image WHERE path IS NOT NULL")]
        assert 10 <= len(done) <= 25 and set(done) <= set(s3.objects("hangs"))
        assert not sql(engine, "SELECT * FROM download WHERE state <> 'done'")
        again = fetch(engine, settings)
        assert again["kept"] + again["fetched"] == 60 - len(done)
        assert site.requests.total() <= 60 + settings.download_threads
        assert len(s3.objects("hangs")) == 60
        engine.dispose()


@pytest.mark.usefixtures("prefect_server")
def test_another_machine_reads_photos_and_masks_without_upstream(
    s3: S3, tmp_path: Path, tiny_mirror: Path, configure, postgres_url: str
) -> None:
    # Downloaded before there was an image store: the next run puts all into it.
    first = configure(mirror=tiny_mirror, database_url=postgres_url)
    download("val5k")
    url = s3.bucket("late")
    first = configure(image_store=url)
    assert download("val5k")["downloaded"] == 24
    whole = s3.objects("late")
    assert whole == {
        str(path.relative_to(first.data_dir)): path.read_bytes()
        for folder in (FOLDER, MASKS)
        for path in (first.data_dir / folder).iterdir()
    }
    assert len(whole) == 24 + 16

    def machine(name: str) -> Settings:
        return configure(data_dir=tmp_path / name, mirror=tmp_path / "nowhere")

    # Another one labels; a mask that it has is not trusted, as upstream may have replaced it.
    second = machine("second")
    mask = second.data_dir / MASKS / "000000000001.png"
    mask.parent.mkdir(parents=True)
    mask.write_bytes(b"an earlier one")
    assert extract("val5k") == 24
    assert {path: (second.data_dir / path).read_bytes() for path in whole} == whole
    assert not sql(engine(), "SELECT * FROM finding")

    # Others train, check, and export.
    third = machine("third")
    (third.data_dir / FOLDER).mkdir(parents=True)
    (third.data_dir / FOLDER / "000000000001.jpg").write_bytes(jpeg(1)[:100])
    load = flow(load_samples)  # as a flow's, its progress is shown
    paths = [path for split in ("train", "val", "test") for path in load("val5k", split).paths]
    read = {path.name: path.read_bytes() for path in paths}
    assert read == {
        Path(path).name: content for path, content in whole.items() if path.endswith(".jpg")
    }
    s3.client.put_object(Bucket="late", Key=f"{PREFIX}/{MASKS}/orphan.png", Body=b"")
    ids = annotations.image_ids(engine(), "val5k")
    machine("fourth")
    assert check_images(engine(), VAL5K, ids) == 8  # those without a mask
    check_whole(engine(), VAL5K)
    # An object that is lost is found by a machine that has the file.
    lost = [f"{MASKS}/000000000002.png", f"{FOLDER}/000000000003.jpg"]
    for name in lost:
        s3.client.delete_object(Bucket="late", Key=f"{PREFIX}/{name}")
    check_whole(engine(), VAL5K)
    lacking = sql(
        engine(), "SELECT detail FROM finding WHERE kind = 'not in the image store' ORDER BY detail"
    )
    assert [row["detail"] for row in lacking] == lost
    configure(mirror=tiny_mirror)
    assert download("val5k")["downloaded"] == 24
    check_whole(engine(), VAL5K)
    assert s3.objects("late").keys() == {*whole, f"{MASKS}/orphan.png"}
    assert not sql(engine(), "SELECT * FROM finding WHERE kind = 'not in the image store'")
    orphans = sql(engine(), "SELECT detail FROM finding WHERE kind = 'mask without annotation'")
    assert [row["detail"] for row in orphans] == [f"{MASKS}/orphan.png"]
    machine("fifth")
    assert all(
        item.photo.is_file() and (not item.mask or item.mask.is_file())
        for item in mirror_images(engine(), ids)
    )
    sixth = machine("sixth")
    found = export_images(
        engine(), "val5k", None, {"present"}, data_dir=sixth.data_dir, photos=True
    )
    assert sum(bool(image.file and image.file.is_file()) for image in found) == 24

    # The dashboard shows them with a key that may only read, and writes nothing.
    seventh = machine("seventh")
    show = (
        f"from dashboard.parts.photos import *; photo('{FOLDER}/000000000020.jpg');"
        f"print(draw_segments('{FOLDER}/000000000001.jpg', '{MASKS}/000000000001.png').size)"
    )
    result = subprocess.run(
        [sys.executable, "-c", show], env=os.environ | s3.reader, capture_output=True, text=True
    )
    assert result.stdout == "(64, 48)\n", result.stderr
    assert not seventh.data_dir.exists()


@pytest.mark.waits(90)
@pytest.mark.usefixtures("prefect_server")
def test_a_run_of_one_machine_is_scored_and_predicts_on_others(
    s3: S3,
    tmp_path: Path,
    tiny_mirror: Path,
    configure,
    postgres_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = configure(
        mirror=tiny_mirror, database_url=postgres_url, image_store=s3.bucket("runs"), body_timeout=2
    )
    download("val5k")
    extract("val5k")
    settled = threading.Event()

    def stop_for_an_epoch() -> None:
        while not sql(engine(), "SELECT * FROM epoch_metric WHERE run_id = 2"):
            time.sleep(0.01)
        s3.process.send_signal(signal.SIGSTOP)
        while not settled.wait(0.01) and "is stored on this machine only" not in caplog.text:
            pass
        s3.process.send_signal(signal.SIGCONT)

    thread = threading.Thread(target=stop_for_an_epoch)
    thread.start()
    try:
        run = train("val5k", "report", backbone="efficientnet_lite0", epochs=3, batch_size=8)
    finally:
        settled.set()
        thread.join()
    assert (
        "of run 2 is stored on this machine only, so far: the object store s3://runs/team/images"
        in caplog.text
    )
    best = f"{RUNS}/{run}/{FILE_NAME}"
    trained = (first.data_dir / best).read_bytes()
    stored = s3.objects("runs")
    assert [name for name in stored if name.startswith(RUNS)] == [best] and stored[best] == trained

    def scores() -> list[Any]:
        query = (
            "SELECT name, value FROM run_metric"
            " WHERE run_id = :run AND name IN ('map', 'accuracy') ORDER BY name"
        )
        return sql(engine(), query, run=run)

    def earlier(epoch: int) -> bytes:
        path = tmp_path / "earlier"
        model = AttributeModel("efficientnet_lite0", pretrained=False)
        save_checkpoint(
            path, model, run=run, dataset="val5k", epoch=epoch, thresholds=np.full(34, 0.5)
        )
        return path.read_bytes()

    # A machine or the object store has an earlier epoch; or the store lost it; or it is junk.
    expected = scores()
    second = configure(data_dir=tmp_path / "second")
    (second.data_dir / best).parent.mkdir(parents=True)
    (second.data_dir / best).write_bytes(earlier(0))
    s3.client.put_object(
        Bucket="runs", Key=f"{PREFIX}/{RUNS}/99/{FILE_NAME}", Body=b"of an older store"
    )
    time.sleep(1.1)  # S3 tells whole seconds
    for content in (trained, earlier(0), b"damaged"):
        s3.client.put_object(Bucket="runs", Key=f"{PREFIX}/{best}", Body=content)
        assert newest_checkpoint(second) == second.data_dir / best
        assert (second.data_dir / best).read_bytes() == s3.objects("runs")[best] == trained
    s3.client.delete_object(Bucket="runs", Key=f"{PREFIX}/{best}")
    assert evaluate("val5k", run) == run
    assert s3.objects("runs")[best] == trained and scores() == expected

    # The command line and the dashboard need a key that may only read.
    (tmp_path / "photo.jpg").write_bytes(jpeg(3))
    third = configure(data_dir=tmp_path / "third")
    command = [
        Path(sys.executable).with_name("coconut-attr"),
        "predict",
        tmp_path / "photo.jpg",
        "--json",
    ]
    result = subprocess.run(command, env=os.environ | s3.reader, capture_output=True, text=True)
    (told,) = json.loads(result.stdout)
    assert told["run"] == run and (third.data_dir / best).read_bytes() == trained
    fourth = tmp_path / "fourth"
    configured = {
        name: value for name, value in os.environ.items() if name.startswith("COCONUT_ATTR_")
    }
    with (
        chromium() as browser,
        serving(fourth, **configured | {"COCONUT_ATTR_DATA_DIR": str(fourth)} | s3.reader) as url,
    ):
        page = browser.new_page()
        visit(page, f"{url}/predict", PAGES["predict"])
        page.locator("input[type=file]").set_input_files(tmp_path / "photo.jpg")
        page.get_by_text("Called present", exact=True).wait_for()
        assert_no_error(page)
    assert not fourth.exists()


TELL = """
import sys
if sys.argv[1:]:
    sys.modules["s3fs"] = None
from coconut_attr.errors import UserError
from coconut_attr.files.object_store import object_store
from coconut_attr.settings import settings
try:
    object_store(settings()).write("photo", b"")
except UserError as error:
    print(error)
"""


def test_a_store_that_cannot_be_used_is_told_in_one_sentence(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = s3.bucket("there")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    nowhere = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    none = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    cases = [
        (
            {},
            "s3://missing/x",
            "object store s3://missing/x cannot be used: The specified bucket does not exist",
        ),
        (
            wrong,
            url,
            f"object store {url} cannot be used: The request signature we calculated",
        ),
        (
            none,
            url,
            f"object store {url} cannot be used: Unable to locate credentials; check COCONUT_ATTR",
        ),
        (s3.reader, url, f"object store {url} cannot be used: "),
        (
            nowhere,
            url,
            f"object store {url} does not answer as it should: Could not connect to the endpoint",
        ),
        (
            {"AWS_ENDPOINT_URL": "nonsense"},
            url,
            f"object store {url} cannot be used: Invalid endpoint: nonsense",
        ),
        (
            {},
            "s4://x/y",
            "COCONUT_ATTR_IMAGE_STORE: Protocol not known: s4; give s3://BUCKET/PREFIX",
        ),
        (
            {},
            "/some/folder",
            "COCONUT_ATTR_IMAGE_STORE is a folder; share it as COCONUT_ATTR_DATA_DIR instead",
        ),
        ({}, url, "pip install -c constraints.txt -e '.[s3]'"),
    ]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TELL, *["without s3fs"] * ("pip install" in expected)],
            env={**os.environ, **changed, "COCONUT_ATTR_IMAGE_STORE": given},
            stdout=PIPE,
            text=True,
        )
        for changed, given, expected in cases
    ]
    for process, (changed, _, expected) in zip(started, cases, strict=True):
        output, _ = process.communicate(timeout=600)
        assert expected in output and output.count("\n") == 1, output
        assert not any(
            value in output
            for name, value in (s3.writer | changed).items()
            if "SECRET" in name and value
        )
