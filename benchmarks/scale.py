"""Extraction at the size of COCONut-S: 118,000 images with 1.5 million segments.

    python benchmarks/scale.py --url sqlite:///scale.db [--url postgresql+psycopg://...]

Repeats the masked images of the configured database under other COCO ids, in one or more empty
scratch databases, which stay for other benchmarks (no result of the product reads them). Decodes,
measures and labels every repeated image from its files, and writes the labels to each database in
turn. Prints, for each tenth, milliseconds per image of extraction and rows per second of each
database, then sizes and peak memory.
"""

import argparse
import itertools
import resource
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text

from coconut_attr.annotations.splits import split_of
from coconut_attr.labels.extract import Extractor
from coconut_attr.labels.label_model import labels_version, load_label_model
from coconut_attr.labels.rules import load_rules
from coconut_attr.settings import settings
from db import annotations, downloads
from db.labels import (
    AnnotatedImage,
    annotated_images,
    evidence_rows,
    images_to_label,
    label_rows,
    record_labels,
    segment_rows,
)
from db.schema import open_database, open_for_reading
from db.sql import Rows as SqlRows
from db.sql import sql
from db.work.extract import extract_image
from flows.database import write_reference

DATASET = "coconut-s"
SHARD = 500
SEGMENTS_AN_IMAGE = 12.7  # of COCONut-S; images with few segments are left out to reach it
FIRST_ID = 10_000_000  # above COCO's own
Rows = list[dict[str, Any]]


def originals() -> list[AnnotatedImage]:
    """Return masked images that have SEGMENTS_AN_IMAGE on average."""
    source = open_for_reading(settings().sqlalchemy_url)
    query = "SELECT id FROM image WHERE mask_path IS NOT NULL AND path IS NOT NULL"
    items = annotated_images(source, [row["id"] for row in sql(source, query)])
    items.sort(key=lambda item: -len(item.segments))
    totals = itertools.accumulate(len(item.segments) for item in items)
    return items[: sum(total / k >= SEGMENTS_AN_IMAGE for k, total in enumerate(totals, 1))]


def batches(items: list[AnnotatedImage], images: int) -> Iterator[tuple[Rows, Rows, Rows, Rows]]:
    """Yield rows of images, segments, captions and downloads, a shard at a time."""
    for start in range(0, images, SHARD):
        picked = [
            (FIRST_ID + k, items[k % len(items)]) for k in range(start, min(images, start + SHARD))
        ]
        yield (
            [
                {
                    "dataset": DATASET,
                    "coco_id": key,
                    "file_name": item.image["path"],
                    "url": "",
                    "licence": "",
                    "width": 640,
                    "height": 480,
                    "split": split_of(key),
                    "mask_path": item.image["mask_path"],
                }
                for key, item in picked
            ],
            [
                {**segment, "coco_id": key}
                for key, item in picked
                for segment in _plain(item.segments)
            ],
            [
                {**caption, "coco_id": key}
                for key, item in picked
                for caption in _plain(item.captions)
            ],
            [{"coco_id": key, "path": item.image["path"]} for key, item in picked],
        )


def _plain(rows: SqlRows) -> Rows:
    return [{name: value for name, value in row.items() if name != "image_id"} for row in rows]


def annotate(engine: Engine, items: list[AnnotatedImage], images: int) -> float:
    """Store the repeated annotations, captions and downloads; return the seconds it took."""
    started = time.perf_counter()
    write_reference(engine)
    captions: Rows = []
    done: Rows = []
    for k, (image_rows, segment_rows_, caption_rows, download_rows) in enumerate(
        batches(items, images)
    ):
        annotations.add_panoptic(
            engine,
            DATASET,
            image_rows,
            segment_rows_,
            file="scratch",
            origin="repeated",
            rows_before=k * SHARD,
            rows_done=k * SHARD + len(image_rows),
        )
        captions += caption_rows
        done += download_rows
    annotations.add_captions(engine, DATASET, [], captions)
    keys = {row["coco_id"]: row["id"] for row in sql(engine, "SELECT coco_id, id FROM image")}
    outcome = {
        "state": "done",
        "attempts": 1,
        "seconds": 0.0,
        "error_class": None,
        "error": None,
        "sha256": "",
        "bytes": 0,
    }
    for start in range(0, len(done), SHARD):
        part = done[start : start + SHARD]
        downloads.record_downloads(
            engine,
            [{**outcome, "image_id": keys[row["coco_id"]], "path": row["path"]} for row in part],
        )
    return time.perf_counter() - started


def size(engine: Engine) -> int:
    """Return the bytes of a database."""
    query = "SELECT pg_database_size(current_database())"
    if engine.dialect.name == "sqlite":
        query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    with engine.connect() as connection:
        return connection.execute(text(query)).scalar_one()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--url", action="append", required=True, help="an empty scratch database; may be repeated"
    )
    parser.add_argument("--images", type=int, default=118_000)
    arguments = parser.parse_args()
    console = Console()
    items = originals()
    engines = [open_database(url) for url in arguments.url]
    names = [engine.dialect.name for engine in engines]
    for engine in engines:
        if sql(engine, "SELECT 1 FROM image LIMIT 1"):
            parser.error(f"{engine.url.render_as_string()} is not empty")
        spent = annotate(engine, items, arguments.images)
        console.print(
            f"{engine.dialect.name}: annotations, captions and downloads stored in {spent:.0f} s"
        )

    rules = load_rules()
    extractor = Extractor(rules.rules)
    model = load_label_model()
    version = labels_version(rules, model)
    image_ids = images_to_label(engines[0], DATASET, version)
    table = Table(
        "images", "extraction ms/image", *(f"{name} rows/s" for name in names), "peak memory"
    )
    tenth = max(SHARD, len(image_ids) // 10)
    for start in range(0, len(image_ids), tenth):
        reading, writing, rows = 0.0, dict.fromkeys(names, 0.0), 0
        part = image_ids[start : start + tenth]
        for begin in range(0, len(part), SHARD):
            began = time.perf_counter()
            labels: dict[int, Rows] = {}
            evidence: Rows = []
            segments: Rows = []
            for item in annotated_images(engines[0], part[begin : begin + SHARD]):
                found, key = extract_image(extractor, item), item.image["id"]
                labels[key] = label_rows(key, found, model, None)
                evidence += evidence_rows(key, found)
                segments += segment_rows(key, found)
            reading += time.perf_counter() - began
            rows += sum(map(len, labels.values())) + len(evidence) + len(segments)
            for name, engine in zip(names, engines, strict=True):
                began = time.perf_counter()
                record_labels(engine, version, labels, evidence, segments)
                writing[name] += time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        speeds = (f"{rows / writing[name]:,.0f}" for name in names)
        table.add_row(
            f"{start + len(part):,}",
            f"{1000 * reading / len(part):.1f}",
            *speeds,
            f"{peak:.2f} GiB",
        )
        console.print(
            f"{start + len(part):,} images: {1000 * reading / len(part):.1f} ms/image",
            highlight=False,
        )
    console.print(table)
    for engine in engines:
        counts = sql(engine, "SELECT COUNT(*) AS n FROM segment")[0]["n"]
        console.print(
            f"{engine.dialect.name}: {size(engine) / 2**20:,.0f} MiB, {counts:,} segments"
        )


if __name__ == "__main__":
    main()
