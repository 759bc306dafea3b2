"""Extraction on Dask workers, which are processes of their own."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from coconut_attr.errors import UserError
from coconut_attr.labels.rules import RulesError
from db import labels
from db.progress import list_progress
from db.sql import sql
from flows.check import check
from flows.database import engine
from flows.download import download
from flows.extract import extract, label_images
from flows.shards import DaskError
from tests.support.ports import free_port

pytestmark = pytest.mark.usefixtures("prefect_server")

TABLES = {
    "image": "id, rule_version",
    "image_attribute": "*",
    "attribute_evidence": "*",
    "segment": "*",
    "finding": "dataset, image_id, stage, kind, detail",
}
WAITING = "SELECT COUNT(DISTINCT pid) AS n FROM pg_locks WHERE NOT granted"


@contextmanager
def dask(workers: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Start a scheduler and workers with this process's environment; return address and workers."""
    port, quiet = free_port(), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    address, local = (
        f"tcp://127.0.0.1:{port}",
        ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"],
    )
    program = [sys.executable, "-m", "dask"]
    processes = [subprocess.Popen([*program, "scheduler", "--port", str(port), *local], **quiet)]
    for _ in range(workers):
        command = [*program, "worker", address, "--nthreads", "1", "--no-nanny", *local]
        processes.append(
            subprocess.Popen(command, env={**os.environ, "COCONUT_ATTR_DASK": ""}, **quiet)
        )
    try:
        from distributed import Client

        with Client(address, timeout=600, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=600)
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def kill_in_the_middle(
    engine: Engine, victim: subprocess.Popen[bytes], armed: threading.Event
) -> None:
    """Kill a worker when both have computed labels and wait to write them."""
    with engine.connect() as holder:
        holder.exec_driver_sql("LOCK TABLE image_attribute IN EXCLUSIVE MODE")
        armed.set()
        while sql(engine, WAITING)[0]["n"] < 2:
            time.sleep(0.05)
        victim.kill()
        victim.wait()


def everything() -> dict[str, list[str]]:
    """Return all rows that extraction and check write."""
    return {
        table: sorted(str(dict(row)) for row in sql(engine(), f"SELECT {columns} FROM {table}"))
        for table, columns in TABLES.items()
    }


def test_a_killed_worker_leaves_the_labels_that_threads_make(
    tiny_mirror: Path, configure, postgres_url: str
) -> None:
    settings = configure(mirror=tiny_mirror, database_url=postgres_url, shard_size=2)
    download("val5k")
    (settings.data_dir / "annotations/val5k/panoptic/000000000007.png").write_bytes(b"damaged")
    engine = create_engine(postgres_url)
    empty = everything()
    with dask(workers=2) as (address, workers):
        configure(dask=address)
        armed = threading.Event()
        threading.Thread(
            target=kill_in_the_middle, args=(engine, workers[0], armed), daemon=True
        ).start()
        assert armed.wait(600)
        assert extract("val5k") == 24
        assert [worker.poll() is None for worker in workers] == [False, True]
        (progress,) = (row for row in list_progress(engine) if row["what"] == "val5k labels")
        assert (progress["state"], progress["done"]) == ("finished", 24)
        found = check("val5k")
        on_dask = everything()
    assert on_dask != empty and len(on_dask["image_attribute"]) == 24 * 34

    with engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE image_attribute, attribute_evidence, finding")
        connection.exec_driver_sql("UPDATE image SET rule_version = NULL")
        connection.exec_driver_sql(
            "UPDATE segment SET area = NULL, bbox_x = NULL, bbox_y = NULL, bbox_width = NULL,"
            " bbox_height = NULL, mean_l = NULL,"
            " mean_a = NULL, mean_b = NULL, color = NULL, rle = NULL"
        )
    configure(dask="")
    assert everything() == empty
    assert (extract("val5k"), check("val5k")) == (24, found)
    assert everything() == on_dask

    with pytest.raises(RulesError, match="this worker has the rules .*, the flow has 0-other"):
        label_images.fn("val5k", [1], "0-other")
    with pytest.raises(labels.OtherDatabaseError, match="1 of 2 images are not in postgresql"):
        labels.annotated_images(engine, [1, 999])
    engine.dispose()


def test_a_dask_scheduler_that_cannot_be_used_is_refused_with_the_remedy(
    tiny_mirror: Path, configure, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(mirror=tiny_mirror, dask="tcp://127.0.0.1:1")
    download("val5k")
    for flow in (extract, check):
        with pytest.raises(
            UserError, match=r"cannot write to a SQLite file.*set COCONUT_ATTR_DATABASE_URL"
        ):
            flow("val5k")
    configure(database_url=postgres_url)
    monkeypatch.setattr("flows.shards.CONNECT_SECONDS", 0.5)
    for address in (f"tcp://127.0.0.1:{free_port()}", "nonsense://x", "tcp://127.0.0.1:port"):
        configure(dask=address)
        with pytest.raises(
            DaskError,
            match=rf"no Dask scheduler answers at {address} .*start it with: dask scheduler",
        ):
            extract("val5k")
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with pytest.raises(DaskError, match=r"pip install .*\[dask\]"):
        extract("val5k")
