"""Rows per second into the database: ours against the bare driver (executemany, COPY).

    python benchmarks/writes.py [--url postgresql+psycopg://...]

Repeats the labels and the evidence of the configured database for IMAGES images, and writes them
into a scratch database in shards of SHARD images, one transaction each: through
`db.labels.record_labels`, and by the bare driver into the same tables from prepared tuples. The
tables of the scratch database (a temporary SQLite file, or an empty one given by --url) are dropped
at the end.
"""

import argparse
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from coconut_attr.settings import settings
from db import bulk, models, reference, sql
from db.engine import connect
from db.labels import record_labels
from db.schema import downgrade, open_for_reading, upgrade

IMAGES, SHARD, ROUNDS = 5_000, 500, 3
TABLES = ("image_attribute", "attribute_evidence")
Rows = list[dict[str, Any]]


def real_rows() -> dict[str, list[Rows]]:
    """Return the rows of each table, by image."""
    source = open_for_reading(settings().sqlalchemy_url)
    rows_of: dict[str, list[Rows]] = {}
    for table in TABLES:
        images: dict[int, Rows] = {}
        for row in sql.sql(source, f"SELECT * FROM {table} ORDER BY image_id"):
            images.setdefault(row["image_id"], []).append(dict(row))
        rows_of[table] = list(images.values())
    return rows_of


def shards(real: dict[str, list[Rows]]) -> list[dict[str, Rows]]:
    """Return shards of rows for IMAGES images: the real rows, repeated under other ids."""

    def rows(table: str, start: int) -> Rows:
        return [
            {**row, "image_id": key}
            for key in range(start, start + SHARD)
            for row in real[table][key % len(real[table])]
        ]

    return [{table: rows(table, start) for table in TABLES} for start in range(1, IMAGES, SHARD)]


def prepare(engine: Engine) -> None:
    """Empty the database, and insert the images that the rows belong to."""
    downgrade(engine, "base")
    upgrade(engine)
    reference.sync_reference(
        engine,
        [
            {
                "name": "scratch",
                "title": "",
                "is_coconut": False,
                "licence": "",
                "expected_images": None,
                "expected_segments": None,
            }
        ],
        [{"id": k, "name": str(k), "group_name": "", "ours": False} for k in range(34)],
        [],
    )
    image = {
        "dataset": "scratch",
        "file_name": "",
        "url": "",
        "licence": "",
        "width": 1,
        "height": 1,
        "split": "train",
    }
    with engine.begin() as connection:
        bulk.upsert(
            connection,
            models.Image,
            [{**image, "id": k, "coco_id": k} for k in range(1, IMAGES + 1)],
        )


def ours(engine: Engine, data: list[dict[str, Rows]]) -> float:
    work = []
    for shard in data:
        labels: dict[int, Rows] = {}
        for row in shard["image_attribute"]:
            labels.setdefault(row["image_id"], []).append(row)
        work.append((labels, shard["attribute_evidence"]))
    started = time.perf_counter()
    for labels, evidence in work:
        record_labels(engine, "1", labels, evidence, [])
    return time.perf_counter() - started


def bare(engine: Engine, data: list[dict[str, Rows]]) -> float:
    work = [
        [
            (table, list(shard[table][0]), [tuple(row.values()) for row in shard[table]])
            for table in TABLES
        ]
        for shard in data
    ]
    started = time.perf_counter()
    if engine.dialect.name == "sqlite":
        lite = sqlite3.connect(engine.url.database, isolation_level=None)
        lite.execute("PRAGMA journal_mode=WAL")
        lite.execute("PRAGMA synchronous=NORMAL")
        lite.execute("PRAGMA foreign_keys=ON")
        for shard in work:
            lite.execute("BEGIN IMMEDIATE")
            for table, names, rows in shard:
                marks = ", ".join("?" * len(names))
                lite.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", rows)
            lite.execute("COMMIT")
        lite.close()
    else:
        url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url) as server:
            for shard in work:
                for table, names, rows in shard:
                    with server.cursor().copy(
                        f"COPY {table} ({', '.join(names)}) FROM STDIN"
                    ) as copy:
                        for row in rows:
                            copy.write_row(row)
                server.commit()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="an empty database; by default a temporary SQLite file")
    url = parser.parse_args().url
    data = shards(real_rows())
    rows = sum(len(shard[table]) for shard in data for table in TABLES)
    with tempfile.TemporaryDirectory() as folder:
        engine = connect(url or f"sqlite:///{Path(folder) / 'scratch.db'}")
        times = {"bare": float("inf"), "ours": float("inf")}
        for _ in range(ROUNDS):
            for call in (bare, ours):
                prepare(engine)
                times[call.__name__] = min(times[call.__name__], call(engine, data))
        downgrade(engine, "base")
        engine.dispose()
    table = Table(
        engine.dialect.name, "rows/s", "of bare", title=f"{rows:,} rows, {IMAGES:,} images"
    )
    for name, spent in times.items():
        table.add_row(name, f"{rows / spent:,.0f}", f"{times['bare'] / spent:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
