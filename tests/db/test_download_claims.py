"""Downloads recorded in the database: hostile servers, killed workers, workers that share work."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import Engine

from coconut_attr.settings import Settings
from db import downloads
from db.downloads import claim, plan, release
from db.sql import sql
from tests.support import web_server
from tests.support.downloads import FOLDER, WORKER, fetch, finished, stocked
from tests.support.team import wait_until
from tests.support.tiny_mirror import jpeg, write_mirror
from tests.support.web_server import serve

ROOT = Path(__file__).parents[2]


def assert_rows_tell_the_truth(engine: Engine, settings: Settings, mirror: Path) -> int:
    """Assert that every stored file is intact and every recorded one exists; count the records."""
    for file in (settings.data_dir / FOLDER).glob("*.jpg"):
        assert file.read_bytes() == (mirror / FOLDER / file.name).read_bytes()
    done = sql(engine, "SELECT path FROM image WHERE path IS NOT NULL")
    assert all((settings.data_dir / row["path"]).is_file() for row in done)
    return len(done)


@pytest.mark.parametrize("kind", ["generated", "real"])
def test_a_server_that_misbehaves_costs_no_image(
    kind: str, tmp_path: Path, configure, request
) -> None:
    real = kind == "real"
    mirror = (
        request.getfixturevalue("real_mirror")
        if real
        else write_mirror(tmp_path / "mirror", images=355)
    )
    names = sorted(file.name for file in (mirror / FOLDER).iterdir())
    gone = set(random.Random(1).sample(names, 7))
    chance = random.Random(30)
    faults = {
        "503": (0.10, web_server.status(503, Retry_After="0")),
        "truncated": (0.02, web_server.truncated),
        "reset": (0.01, web_server.reset),
        "stall": (0.01, web_server.stall),
        "wrong bytes": (0.005, web_server.wrong),
    }
    suffered: Counter[str] = Counter()

    def fault(path: str) -> web_server.Fault | None:
        if Path(path).name in gone:
            return web_server.status(404)
        if site.requests[path] > 4:  # nothing is beyond recovery
            return None
        (name,) = chance.choices([*faults, ""], [*(share for share, _ in faults.values()), 0.855])
        suffered[name] += 1
        return faults[name][1] if name else None

    with serve(mirror) as site:
        site.fault = fault
        settings = configure(mirror=site.url, read_timeout=1)
        engine = stocked(settings.sqlalchemy_url, mirror)
        assert fetch(engine, settings) == {"fetched": 355 - 7, "failed": 7}
        assert suffered.keys() == {*faults, ""}, suffered
        assert assert_rows_tell_the_truth(engine, settings, mirror) == 355 - 7
        (failure,) = downloads.download_failures(engine, "val5k")
        assert (failure["error_class"], failure["images"], failure["permanent"]) == (
            "HTTP 404",
            7,
            7,
        )
        failed = sql(
            engine,
            "SELECT file_name FROM image i JOIN download d ON d.image_id = i.id"
            " WHERE state = 'failed'",
        )
        assert {row["file_name"] for row in failed} == gone
        print(f"\n{kind}: {site.requests.total()} requests, {dict(suffered)}, 348 whole, 7 x 404")

        site.requests.clear()
        assert (
            fetch(engine, settings) == {}
        )  # permanent answers are not asked for again, nor is what is there
        assert not site.requests
        site.fault = lambda _path: None
        assert fetch(engine, settings, "failed") == {"fetched": 7}
        assert {Path(path).name for path in site.requests} == gone


def test_verify_reads_everything_again_and_notices_what_changed(tmp_path: Path, configure) -> None:
    mirror = write_mirror(tmp_path / "mirror")
    photo = "{}/{:012d}.jpg".format
    with serve(mirror) as site:
        settings = configure(mirror=site.url, retries=0, read_timeout=2)
        engine = stocked(settings.sqlalchemy_url, mirror)
        assert fetch(engine, settings, limit=5) == {"fetched": 5}
        assert fetch(engine, settings) == {"fetched": 19}
        row = sql(engine, "SELECT * FROM download WHERE image_id = 1")[0]
        assert (
            row["url"] == f"http://{photo(FOLDER, 1)}"
            and row["etag"]
            and row["verified_at"] is None
        )
        assert row["bytes"] == (mirror / photo(FOLDER, 1)).stat().st_size

        local = settings.data_dir / photo(FOLDER, 2)
        damaged = bytearray(local.read_bytes())
        damaged[-100] ^= 0xFF
        local.write_bytes(damaged)  # of the same length
        (mirror / photo(FOLDER, 3)).write_bytes(jpeg(99))
        (settings.data_dir / photo(FOLDER, 4)).unlink()
        (mirror / photo(FOLDER, 5)).unlink()
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE image SET rule_version = '1'")
        site.requests.clear()
        assert fetch(engine, settings) == {"fetched": 1}  # the lost one; lengths tell no more
        assert fetch(engine, settings, "verify") == {"kept": 22, "fetched": 2, "replaced": 1}
        assert site.requests.total() == 25
        assert (settings.data_dir / photo(FOLDER, 2)).read_bytes() == jpeg(2)
        assert (settings.data_dir / photo(FOLDER, 3)).read_bytes() == jpeg(99)
        anew = sql(engine, "SELECT id FROM image WHERE rule_version IS NULL")
        assert [row["id"] for row in anew] == [3]  # its labels were of another photo
        assert not sql(engine, "SELECT * FROM download WHERE verified_at IS NULL")
        gone = sql(engine, "SELECT state, error_class FROM download WHERE image_id = 5")[0]
        assert (gone["state"], gone["error_class"]) == (
            "done",
            "HTTP 404",
        )  # whole, though no longer upstream


def start(settings: Settings, workers: int = 1, **variables: object) -> list[subprocess.Popen[str]]:
    """Worker processes that have all come up."""
    values = {**settings.model_dump(exclude_none=True), **variables}
    env = {
        **os.environ,
        **{f"COCONUT_ATTR_{name.upper()}": str(value) for name, value in values.items()},
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
        )
        for _ in range(workers)
    ]
    for process in started:
        assert process.stdout and process.stdout.readline() == "ready\n"
    return started


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.server  # starts many processes
def test_a_worker_killed_at_any_moment_leaves_nothing_wrong(tmp_path: Path, configure) -> None:
    mirror = write_mirror(tmp_path / "mirror", images=400)
    with serve(mirror) as site:
        site.delay = 0.01
        settings = configure(mirror=site.url, download_threads=4, shard_size=40)
        engine = stocked(settings.sqlalchemy_url, mirror)
        done, moment = [], random.Random(3)
        for requests in (0, 5, 20, 40, 60, 80):
            until = site.requests.total() + requests
            (worker,) = start(settings)
            wait_until(lambda: site.requests.total() >= until, "requests", pause=0.001)  # noqa: B023
            time.sleep(moment.uniform(0, 0.02))
            kill(worker)
            done.append(assert_rows_tell_the_truth(engine, settings, mirror))
        assert done == sorted(done) and 0 < done[-1] < 400, done
        (worker,) = start(
            settings
        )  # at once: the claims of a dead process of this machine are given back
        finished(worker)
        assert assert_rows_tell_the_truth(engine, settings, mirror) == 400
        assert not list(settings.data_dir.rglob("*.part"))
        assert not sql(engine, "SELECT * FROM download_claim")


def test_four_workers_share_a_dataset_and_a_dead_one_gives_its_images_back(
    tmp_path: Path, configure, postgres_url: str
) -> None:
    mirror = write_mirror(tmp_path / "mirror", images=400)
    engine = stocked(postgres_url, mirror)
    with serve(mirror) as site:
        site.delay = 0.005
        settings = configure(
            mirror=site.url,
            database_url=postgres_url,
            download_threads=4,
            shard_size=30,
            lease=2,
            read_timeout=10,
        )
        shares = [finished(worker) for worker in start(settings, workers=4)]
        assert sum(shares) == 400 and all(shares), shares
        assert site.requests.total() == len(site.requests) == 400  # no image was fetched twice
        assert assert_rows_tell_the_truth(engine, settings, mirror) == 400
        print(f"\n4 workers on PostgreSQL: {shares} images, {site.requests.total()} requests")

        with engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM download")
            connection.exec_driver_sql("UPDATE image SET path = NULL")
        for file in (settings.data_dir / FOLDER).iterdir():
            file.unlink()
        site.requests.clear()
        dead, *others = start(settings, workers=2)
        wait_until(lambda: len(site.requests) >= 100, "requests", pause=0.01)
        kill(dead)
        shares = [finished(worker) for worker in others]
        assert assert_rows_tell_the_truth(engine, settings, mirror) == 400
        assert (
            site.requests.total() <= 400 + settings.download_threads
        )  # but for what the dead one had under way
        assert not sql(engine, "SELECT * FROM download_claim")
        print(f"one of 2 killed: {shares} images, {site.requests.total()} requests")


def test_an_image_is_claimed_by_one_until_the_lease_runs_out(
    store: Engine, tmp_path: Path, configure
) -> None:
    store.dispose()
    engine = stocked(
        store.url.render_as_string(hide_password=False), write_mirror(tmp_path / "mirror")
    )
    work = plan(engine, "val5k", configure())

    def ids(worker: str, images: int, lease: float = 60) -> list[int]:
        return [row["id"] for row in claim(engine, work, worker, images, lease)]

    assert ids("h/1/a", 10) == list(range(1, 11))
    assert ids("h/2/b", 10, lease=0.01) == list(range(11, 21))
    time.sleep(0.05)
    assert ids("h/3/c", 10) == list(range(11, 21))  # b's have run out
    assert ids("h/4/d", 10) == list(range(21, 25))
    release(engine, "h/1/a")
    assert ids("h/5/e", 30) == list(range(1, 11))
    assert ids("h/4/d", 30) == list(
        range(21, 25)
    )  # its own again, should the first answer have been lost
    engine.dispose()
