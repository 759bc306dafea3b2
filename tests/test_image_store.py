"""Machines with data folders of their own share photos and masks by an S3 server, which asks for keys."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from subprocess import PIPE

import boto3
import pytest
from prefect import flow
from s3fs import S3FileSystem

from coconut_attr import image_store as library
from coconut_attr.settings import Settings
from coconut_attr.sources.records import UnreachableError
from db import queries
from db.check import check_images, check_whole
from db.export import export_images
from db.mirror import mirror_images
from flows.download import download
from flows.extract import extract
from flows.local import ROOT
from flows.samples import load_samples
from flows.store import store
from tests.test_cli import free_port
from tests.test_download_workers import FOLDER, VAL5K, WORKER, fetch, finished, stocked
from tests.tiny_mirror import jpeg, write_mirror
from tests.web_server import serve

MASKS = "annotations/val5k/panoptic"
PREFIX = "team/images"
READ_ONLY = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


@dataclass
class S3:
    """An S3 server of its own process, and the keys of two accounts."""

    process: subprocess.Popen[bytes]
    place: dict[str, str]
    writer: dict[str, str]
    reader: dict[str, str]

    def bucket(self, name: str) -> str:
        """The URL of a folder in a new bucket."""
        self.client.create_bucket(Bucket=name)
        return f"s3://{name}/{PREFIX}"

    @cached_property
    def client(self):
        return _session(self.writer).client("s3", endpoint_url=self.place["AWS_ENDPOINT_URL"])

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Everything in a bucket, by its path in the folder."""
        keys = [item["Key"] for item in self.client.list_objects_v2(Bucket=bucket).get("Contents", [])]
        found = {key: self.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
        return {key.removeprefix(f"{PREFIX}/"): content for key, content in found.items()}


def _session(keys: dict[str, str]) -> boto3.session.Session:
    return boto3.session.Session(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1")


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    """moto's server; its first six requests, which make the accounts, need no key."""
    port = free_port()
    process = subprocess.Popen(
        [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "6"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        place = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
        nobody = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
        iam = _session(nobody).client("iam", endpoint_url=place["AWS_ENDPOINT_URL"])
        keys = []
        for name, rights in (("writer", ALL), ("reader", READ_ONLY)):
            iam.create_user(UserName=name)
            policy = json.dumps({"Version": "2012-10-17", "Statement": [rights]})
            iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy)
            key = iam.create_access_key(UserName=name)["AccessKey"]
            keys.append({"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]})
        yield S3(process, place, *keys)
    finally:
        process.kill()
        process.wait()


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
        return configure(data_dir=tmp_path / name, database_url=postgres_url, image_store=url, mirror=site.url,
                         download_threads=4, shard_size=10)  # fmt: skip

    def worker(name: str) -> subprocess.Popen[str]:
        machine(name)
        waits = WORKER.replace("flush=True)", "flush=True); input()")
        return subprocess.Popen([sys.executable, "-c", waits], stdin=PIPE, stdout=PIPE, text=True, cwd=ROOT)

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
        assert len(own_photos(machine("one"))) == shares[0] and len(own_photos(machine("two"))) == shares[1]
        site.requests.clear()

        # What one machine has not in its folder, or has lost, is not lost.
        shutil.rmtree(tmp_path / "two")
        assert fetch(engine, machine("two")) == {}
        # A worker that died between upload and record: the next one, on another machine, takes its file.
        names = sorted(originals)
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE image SET path = NULL, bytes = NULL; DELETE FROM download")
        s3.client.delete_object(Bucket="shared", Key=f"{PREFIX}/{names[0]}")
        assert fetch(engine, machine("three")) == {"kept": 59, "fetched": 1}
        assert set(site.requests) == {f"/{names[0]}"}
        site.requests.clear()

        # An object that is lost is noticed, and comes back: from a folder that has it, or else from upstream.
        for name in names[:2]:
            s3.client.delete_object(Bucket="shared", Key=f"{PREFIX}/{name}")
        (tmp_path / "three" / names[1]).unlink()
        assert fetch(engine, machine("three")) == {"kept": 1, "uploaded": 1, "fetched": 1}
        assert set(site.requests) == {f"/{names[1]}"}
        assert s3.objects("shared") == originals

        # One that is damaged is found by verifying, even where the folder's copy is whole, and the other way round.
        for name in names[:2]:
            damaged = originals[name][:-9] + bytes(7) + originals[name][-2:]
            s3.client.put_object(Bucket="shared", Key=f"{PREFIX}/{name}", Body=damaged)
        (tmp_path / "three" / names[1]).unlink()
        (tmp_path / "three" / names[2]).write_bytes(b"damaged")
        assert fetch(engine, machine("three")) == {}
        assert fetch(engine, machine("three"), "verify") == {"kept": 59, "uploaded": 1, "fetched": 1}
        assert s3.objects("shared") == originals
        assert own_photos(machine("three")) == {Path(name).name: content for name, content in originals.items()}
    engine.dispose()


def test_a_store_that_hangs_ends_the_run_and_the_next_one_completes_it(
    s3: S3, tmp_path: Path, configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = write_mirror(tmp_path / "mirror", images=60)
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    monkeypatch.setattr(S3FileSystem, "read_timeout", 2)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with serve(mirror) as site:
        site.delay = 0.05
        settings = configure(mirror=site.url, image_store=s3.bucket("hangs"), download_threads=4, body_timeout=2)
        engine = stocked(settings.sqlalchemy_url, mirror)

        def hang() -> None:
            while len(site.requests) < 20:
                time.sleep(0.01)
            s3.process.send_signal(signal.SIGSTOP)

        thread = threading.Thread(target=hang)
        thread.start()
        try:
            with pytest.raises(UnreachableError, match=r"image store s3://hangs/team/images does not answer .*again"):
                fetch(engine, settings)
        finally:
            thread.join()
            s3.process.send_signal(signal.SIGCONT)
        done = [row["path"] for row in queries.sql(engine, "SELECT path FROM image WHERE path IS NOT NULL")]
        assert 10 <= len(done) <= 25 and set(done) <= set(s3.objects("hangs"))
        assert not queries.sql(engine, "SELECT * FROM download WHERE state <> 'done'")
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
    assert whole == {str(path.relative_to(first.data_dir)): path.read_bytes()
                     for folder in (FOLDER, MASKS) for path in (first.data_dir / folder).iterdir()}  # fmt: skip
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
    assert not queries.sql(store(), "SELECT * FROM finding")

    # Others train, check, and export.
    third = machine("third")
    (third.data_dir / FOLDER).mkdir(parents=True)
    (third.data_dir / FOLDER / "000000000001.jpg").write_bytes(jpeg(1)[:100])
    load = flow(load_samples)  # as a flow's, its progress is shown
    paths = [path for split in ("train", "val", "test") for path in load("val5k", split)[1].paths]
    read = {path.name: path.read_bytes() for path in paths}
    assert read == {Path(path).name: content for path, content in whole.items() if path.endswith(".jpg")}
    s3.client.put_object(Bucket="late", Key=f"{PREFIX}/{MASKS}/orphan.png", Body=b"")
    ids = queries.image_ids(store(), "val5k")
    machine("fourth")
    assert check_images(store(), VAL5K, ids) == 8  # those without a mask
    check_whole(store(), VAL5K)
    orphans = queries.sql(store(), "SELECT detail FROM finding WHERE kind = 'mask without annotation'")
    assert [row["detail"] for row in orphans] == [f"{MASKS}/orphan.png"]
    machine("fifth")
    assert all(item.photo.is_file() and (not item.mask or item.mask.is_file()) for item in mirror_images(store(), ids))
    sixth = machine("sixth")
    found = export_images(store(), "val5k", None, {"present"}, data_dir=sixth.data_dir, photos=True)
    assert sum(bool(image.file and image.file.is_file()) for image in found) == 24

    # The dashboard shows them with a key that may only read, and writes nothing.
    seventh = machine("seventh")
    show = (
        f"from dashboard.photos import *; photo('{FOLDER}/000000000020.jpg');"
        f"print(overlaid('{FOLDER}/000000000001.jpg', '{MASKS}/000000000001.png').size)"
    )
    result = subprocess.run([sys.executable, "-c", show], env=os.environ | s3.reader, capture_output=True, text=True)
    assert result.stdout == "(64, 48)\n", result.stderr
    assert not seventh.data_dir.exists()


TELL = """
import sys
if sys.argv[1:]:
    sys.modules["s3fs"] = None
from coconut_attr.errors import UserError
from coconut_attr.image_store import image_store
from coconut_attr.settings import settings
try:
    image_store(settings()).write("photo", b"")
except UserError as error:
    print(error)
"""


def test_a_store_that_cannot_be_used_is_told_in_one_sentence(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    url = s3.bucket("there")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    nowhere = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    cases = [
        ({}, "s3://missing/x", "image store s3://missing/x cannot be used: The specified bucket does not exist"),
        (wrong, url, f"image store {url} cannot be used: The request signature we calculated does not match"),
        (none, url, f"image store {url} cannot be used: Unable to locate credentials; see to COCONUT_ATTR_IMAGE_STORE"),
        (s3.reader, url, f"image store {url} cannot be used: "),
        (nowhere, url, f"image store {url} does not answer as it should: Could not connect to the endpoint URL"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, url, f"image store {url} cannot be used: Invalid endpoint: nonsense"),
        ({}, "s4://x/y", "COCONUT_ATTR_IMAGE_STORE: Protocol not known: s4; give s3://BUCKET/PREFIX"),
        ({}, "/some/folder", "COCONUT_ATTR_IMAGE_STORE is a folder; share it as COCONUT_ATTR_DATA_DIR instead"),
        ({}, url, "run: pip install s3fs"),
    ]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TELL, *["without s3fs"] * ("pip install" in expected)],
            env={**os.environ, **changed, "COCONUT_ATTR_IMAGE_STORE": given}, stdout=PIPE, text=True,
        )
        for changed, given, expected in cases
    ]  # fmt: skip
    for process, (changed, _, expected) in zip(started, cases, strict=True):
        output, _ = process.communicate(timeout=60)
        assert expected in output and output.count("\n") == 1, output
        assert not any(value in output for name, value in (s3.writer | changed).items() if "SECRET" in name and value)
