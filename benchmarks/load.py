"""A writer at full speed, SQL readers and dashboard sessions: each alone, then all together.

    COCONUT_ATTR_MIRROR=... coconut-attr run
    python benchmarks/load.py [--url postgresql://...] [--pause 1]

Works on a copy of the configured database (which needs a scored run): a temporary SQLite file, or
an empty database given by --url, which is emptied again at the end. Each load is a process, and
works without pauses unless --pause gives readers and sessions some:

- extract: two threads, as in the flow, label all images of val5k again and again with the flow's
  own task. The labels of a shard are deleted first, so that all rows are written.
- write: `record_labels` alone with the same rows, without reading photos.
- readers: threads, each with a read-only connection, run the queries of README and dashboard.
- sessions: websockets to a real `streamlit run`, as a browser opens them; each opens each page
  and waits until the page is done. Nothing is rendered.

Prints units per second and latencies of each load, alone and together, and every error's text.
"""

import argparse
import asyncio
import itertools
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import requests
from rich.console import Console
from rich.table import Table

from coconut_attr.labels.label_model import load_label_model
from coconut_attr.settings import settings, sqlalchemy_form
from db import annotations, bulk, counts, runs
from db.admin.copy import copy_database
from db.admin.integrity import row_counts
from db.labels import label_page, record_labels, unjudged_labels
from db.models import AttributeEvidence, ImageAttribute, Segment
from db.progress import list_progress
from db.schema import downgrade, open_database, open_for_reading
from db.sql import sql

ROOT = Path(__file__).parent.parent
UNITS = {"extract": "images", "write": "images", "readers": "queries", "sessions": "pages"}
TABLES = ("image_attribute", "attribute_evidence")
DATASET, SHARD, WRITERS = "val5k", 25, 2
PAGES = [
    "overview",
    "coverage",
    "labels?source=panoptic",
    "attributes?attribute=vehicle",
    "runs",
    "explore?present=vehicle,red",
    "explore?by=set&set=vehicle,red,outdoor",
    "sql?sql=SELECT%20*%20FROM%20run_summary",
]
NO_DATABASE = {
    "Nothing to show yet",
    "The attribute database cannot be read",
}  # headings in place of a page
TIMEOUT = 120.0  # seconds for a page
START = 5.0  # seconds from the order to a load until it begins, so that all begin together


@dataclass
class Done:
    """The result of a load: units of work, the seconds of each call, and errors by their text."""

    units: int = 0
    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


def repeat(
    workers: int,
    begin: float,
    seconds: float,
    pause: float,
    work: Callable[[int], Callable[[], int]],
) -> Done:
    """Repeat some work on threads.

    Args:
        work: returns the function that a thread, by its number, repeats, and which returns the
            units done.
    """
    done, lock = Done(), threading.Lock()

    def loop(number: int) -> None:
        call = work(number)
        time.sleep(max(0.0, begin - time.time()))
        while time.time() < begin + seconds:
            started = time.perf_counter()
            try:
                units, error = call(), ""
            except Exception as problem:
                units, error = 0, f"{type(problem).__name__}: {problem}"[:300]
            with lock:
                done.units += units if time.time() < begin + seconds else 0
                done.seconds.append(time.perf_counter() - started)
                done.errors.update([error] if error else [])
            time.sleep(pause)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(loop, range(workers)))
    return done


def shards() -> list[list[int]]:
    from flows.database import engine

    ids = annotations.image_ids(engine(), DATASET)
    return [ids[start : start + SHARD] for start in range(0, len(ids), SHARD)]


def clear(image_ids: list[int]) -> None:
    """Delete the labels of a shard."""
    from flows.database import engine

    with engine().begin() as connection:
        for model in (ImageAttribute, AttributeEvidence):
            bulk.replace_rows(connection, model, image_ids, [])


def extract(begin: float, seconds: float) -> Done:
    from prefect.logging import disable_run_logger

    from coconut_attr.labels.rules import load_rules
    from flows.extract import label_images

    todo = itertools.cycle(shards())  # thread-safe: its `next` is one step of the interpreter
    version = load_rules().version

    def label() -> int:
        shard = next(todo)
        clear(shard)
        return label_images.fn(DATASET, shard, version)

    with disable_run_logger():  # there is no run
        return repeat(WRITERS, begin, seconds, 0, lambda number: label)


def write(begin: float, seconds: float) -> Done:
    from coconut_attr.labels.rules import load_rules
    from flows.database import engine

    version = load_rules().version
    columns = [column.name for column in bulk.table_of(Segment).columns]
    work = []
    for shard in shards():
        rows = {
            table: [
                dict(row)
                for row in sql(engine(), f"SELECT * FROM {table} WHERE image_id IN :ids", ids=shard)
            ]
            for table in ("image_attribute", "attribute_evidence", "segment")
        }
        labels: dict[int, list[dict[str, Any]]] = {key: [] for key in shard}
        for row in rows["image_attribute"]:
            labels[row["image_id"]].append(row)
        measured = [{name: row[name] for name in columns} for row in rows["segment"]]
        work.append((shard, labels, rows["attribute_evidence"], measured))
    todo = itertools.cycle(work)

    def record() -> int:
        shard, labels, evidence, segments = next(todo)
        clear(shard)
        record_labels(engine(), version, labels, evidence, segments)
        return len(shard)

    return repeat(WRITERS, begin, seconds, 0, lambda number: record)


def readers(begin: float, seconds: float, count: int, pause: float) -> Done:
    by_hand = re.findall(
        r"^> (SELECT.*?;)$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    source = open_for_reading(settings().sqlalchemy_url)
    run = runs.newest_run(source, DATASET)
    ids = sorted(annotations.coco_ids(source, DATASET))
    source.dispose()
    assert by_hand and run
    run_id = run["id"]
    asked: list[Callable[[Any], Any]] = [
        *(lambda engine, query=query: sql(engine, query) for query in by_hand),
        counts.table_counts,
        counts.dataset_summaries,
        runs.run_summaries,
        runs.epoch_curves,
        list_progress,
        lambda engine: counts.coverage(engine, DATASET),
        lambda engine: annotations.findings(engine, DATASET),
        lambda engine: runs.attribute_scores(engine, run_id, DATASET, "test"),
        lambda engine: unjudged_labels(engine, DATASET, random.sample(ids, 40), load_label_model()),
        lambda engine: label_page(
            engine, DATASET, None, random.choice(ids), size=20, segments=True
        ),
    ]

    engines = [open_for_reading(settings().sqlalchemy_url) for _ in range(count)]

    def reader(number: int) -> Callable[[], int]:
        turn = itertools.cycle(asked[number % len(asked) :] + asked[: number % len(asked)])

        def ask() -> int:
            next(turn)(engines[number])
            return 1

        return ask

    done = repeat(count, begin, seconds, pause, reader)
    for engine in engines:
        engine.dispose()
    return done


def sessions(begin: float, seconds: float, count: int, pause: float, port: int) -> Done:
    from streamlit.proto.Alert_pb2 import Alert
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.asyncio.client import connect as open_socket

    done = Done()

    def problem(message: ForwardMsg) -> str:
        """Return the text of an error that a message brings to the page; empty if it is none."""
        element = message.delta.new_element
        kind = element.WhichOneof("type")
        if kind == "exception":
            return f"{element.exception.type}: {element.exception.message}"
        if kind == "alert" and element.alert.format == Alert.ERROR:
            return element.alert.body
        return (
            element.heading.body
            if kind == "heading" and element.heading.body in NO_DATABASE
            else ""
        )

    async def render(line: Any, page: str) -> None:
        name, _, query = page.partition("?")
        order = BackMsg()
        order.rerun_script.page_name, order.rerun_script.query_string = name, query
        await line.send(order.SerializeToString())
        elements = 0
        while True:
            message = ForwardMsg.FromString(await line.recv())
            elements += message.WhichOneof("type") in ("delta", "ref_hash")
            if text := problem(message):
                done.errors[f"{page}: {text}"[:300]] += 1
            if message.WhichOneof("type") == "script_finished":
                if message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                    done.errors[f"{page}: compile error"] += 1
                if message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY and elements:
                    return

    async def session(number: int) -> None:
        turn = itertools.cycle(PAGES[number % len(PAGES) :] + PAGES[: number % len(PAGES)])
        address = f"ws://127.0.0.1:{port}/_stcore/stream"
        async with open_socket(
            address, subprotocols=["streamlit"], max_size=None, ping_timeout=None
        ) as line:
            await asyncio.sleep(max(0.0, begin - time.time()))
            while time.time() < begin + seconds:
                page, started = next(turn), time.perf_counter()
                try:
                    await asyncio.wait_for(render(line, page), TIMEOUT)
                except TimeoutError:
                    done.errors[f"{page}: not done after {TIMEOUT:.0f} s"] += 1
                done.units += time.time() < begin + seconds
                done.seconds.append(time.perf_counter() - started)
                await asyncio.sleep(pause)

    async def all_sessions() -> None:
        for result in await asyncio.gather(
            *(session(number) for number in range(count)), return_exceptions=True
        ):
            if isinstance(result, BaseException):
                done.errors[f"{type(result).__name__}: {result}"[:300]] += 1

    asyncio.run(all_sessions())
    return done


@contextmanager
def dashboard(port: int, log: Path) -> Iterator[None]:
    """Run the dashboard as `coconut-attr up` starts it."""
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(ROOT / "dashboard" / "app.py"),
        "--server.headless",
        "true",
        "--server.address",
        "127.0.0.1",
        "--server.port",
        str(port),
    ]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output) as server,
    ):
        try:
            for _ in range(240):
                with suppress(requests.ConnectionError):
                    if requests.get(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).ok:
                        break
                time.sleep(0.25)
            yield
        finally:
            server.terminate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def table_of(
    alone: dict[str, Done], together: list[dict[str, Done]], seconds: float, title: str
) -> Table:
    table = Table(
        "load",
        "beside",
        "alone",
        "together",
        "ratio",
        "p50 alone",
        "together",
        "p95 alone",
        "together",
        "errors",
        title=title,
    )
    for found in together:
        for name, done in found.items():
            one, others = alone[name], [other for other in found if other != name]
            rates = (f"{units / seconds:,.1f} {UNITS[name]}/s" for units in (one.units, done.units))
            table.add_row(
                name,
                ", ".join(others),
                *rates,
                f"{done.units / max(1, one.units):.2f}",
                *(f"{percentile(load, share):.3f} s" for share in (50, 95) for load in (one, done)),
                str(one.errors.total() + done.errors.total()),
            )
    return table


def percentile(done: Done, share: int) -> float:
    return float(np.percentile(done.seconds or [float("nan")], share))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="an empty database; by default a temporary SQLite file")
    parser.add_argument("--seconds", type=float, default=20, help="of each phase")
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument(
        "--pause", type=float, default=0, help="seconds that readers and sessions think between two"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "scratch.db"
        target = open_database(sqlalchemy_form(options.url or f"sqlite:///{file}"))
        source = open_for_reading(settings().sqlalchemy_url)
        copied = copy_database(source, target)
        source.dispose()
        # Read by the processes that are started from here on.
        os.environ["COCONUT_ATTR_DATABASE_URL"] = target.url.render_as_string(hide_password=False)
        os.environ["COCONUT_ATTR_DATA_DIR"] = str(settings().data_dir.absolute())
        os.environ["PYTHONPATH"] = str(ROOT)
        port, spawn = free_port(), get_context("spawn")
        loads: dict[str, tuple[Callable[..., Done], tuple[Any, ...]]] = {
            "extract": (extract, ()),
            "write": (write, ()),
            "readers": (readers, (options.readers, options.pause)),
            "sessions": (sessions, (options.sessions, options.pause, port)),
        }
        with dashboard(port, Path(name) / "log"), ExitStack() as stack:
            pools = {
                name: stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn))
                for name in loads
            }

            def phase(*names: str, seconds: float = options.seconds) -> dict[str, Done]:
                begin = time.time() + START
                begun = {
                    name: pools[name].submit(loads[name][0], begin, seconds, *loads[name][1])
                    for name in names
                }
                return {name: run.result() for name, run in begun.items()}

            warm = [
                phase(name, seconds=2) for name in loads
            ]  # the first of each imports things and fills caches
            alone = {name: done for name in loads for done in phase(name).values()}
            together = [phase(writer, "readers", "sessions") for writer in ("extract", "write")]
        kind = target.dialect.name
        title = (
            f"{kind}: {options.readers} readers, {options.sessions} sessions, "
            f"pause {options.pause:g} s, "
            f"{os.cpu_count()} cores"
        )
        Console(width=150).print(table_of(alone, together, options.seconds, title))
        if kind == "sqlite":
            log = file.with_name(f"{file.name}-wal")
            print(f"write-ahead log at the end: {log.stat().st_size / 1e6:.0f} MB")
        errors = sum(
            (done.errors for found in (*warm, alone, *together) for done in found.values()),
            Counter(),
        )
        for text, times in errors.most_common():
            print(f"{times} x {text}")
        with target.connect() as connection:
            assert {table: row_counts(connection)[table] for table in TABLES} == {
                t: copied[t].rows for t in TABLES
            }
        print(f"errors: {errors.total()}; as many labels and pieces of evidence as before")
        downgrade(target, "base")
        target.dispose()


if __name__ == "__main__":
    main()
