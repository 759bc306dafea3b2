"""The dashboard's pages on a large store, beside the same pages on the store that it was made from.

    python benchmarks/dashboard.py --scratch /tmp/large.db [--images 118000] [--rounds 5]

Repeats the images of the store that the settings name (SQLite, with a scored run) inside SQL: rows of every table are
inserted again under shifted ids, until there are so many images. The scratch file is made once and kept for further
runs of this benchmark; no result of the product comes from it.

Each page's function is run by Streamlit's own `AppTest`, with no browser: what is timed is queries, computations and
the building of all elements, not drawing. *First*: with empty caches. *Filter*: another query of the same page, as the
address gives it. Times are medians of `--rounds` runs in milliseconds, both stores in turn in one process; the ratio is
large to small.
"""

import argparse
import logging
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from coconut_attr import settings as settings_module
from coconut_attr.settings import settings
from db.counts import refresh_counts
from db.schema import open_database
from db.sql import sql

#: Filters of each page, as its address writes them; the first is the page as it opens.
PAGES = {
    "overview": [""],
    "coverage": ["", "groups=color", "split=val", "of=caption"],
    "labels": ["", "source=panoptic"],
    "attributes": ["", "sort=gain", "groups=object", "attribute=vehicle"],
    "runs": ["", "runs=1,2"],
    "explore": [
        "", "present=vehicle", "present=vehicle,red&absent=person", "split=val&present=food",
        "by=predictions&attribute=vehicle&kind=present", "by=predictions&attribute=red&kind=false present",
        "by=set&set=vehicle,red,outdoor", "image=5477",
    ],
    "predict": [""],
    "query": ["", "sql=SELECT * FROM attribute_accuracy LIMIT 50"],
}  # fmt: skip
SCRIPT = """
import streamlit as st
from dashboard import data
from dashboard.views import {page}
data.refresh()
{page}.page()
"""
#: Tables whose rows belong to an image, with the columns that come after `image_id`.
CHILDREN = ("download", "caption", "segment", "image_attribute", "attribute_evidence")


def enlarge(engine: Engine, images: int) -> None:
    """Repeat the images of a store's first dataset with their rows, until there are so many.

    Every repetition is one of all the original images; their ids are shifted by multiples of the largest.
    """
    first = sql(
        engine, "SELECT dataset, COUNT(*) AS n FROM image GROUP BY dataset ORDER BY n DESC LIMIT 1"
    )[0]
    largest = sql(
        engine, "SELECT MAX(id) AS id, MAX(coco_id) AS coco_id, COUNT(*) AS n FROM image"
    )[0]
    copies = -(-images // first["n"]) - 1
    names = {table: [row["name"] for row in sql(engine, f"SELECT name FROM pragma_table_info('{table}')")]
             for table in ("image", "prediction", *CHILDREN)}  # fmt: skip
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TEMP TABLE copy (k INTEGER PRIMARY KEY)")
        connection.exec_driver_sql(
            f"WITH RECURSIVE n (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < {copies}) "
            "INSERT INTO copy SELECT k FROM n"
        )
        shift = {"id": f"id + k * {largest['id']}", "image_id": f"image_id + k * {largest['id']}",
                 "coco_id": f"coco_id + k * {largest['coco_id']}"}  # fmt: skip
        for table, columns in names.items():
            values = ", ".join(shift.get(name, name) for name in columns)
            # CROSS JOIN keeps the order, copy by copy, so that rows are appended and not put in between.
            connection.exec_driver_sql(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM copy CROSS JOIN "
                f"(SELECT * FROM {table})"
            )
    refresh_counts(engine, first["dataset"])
    with engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")


def copy(source: Path, target: Path) -> None:
    """Copy a SQLite store with what is still in its write-ahead log."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


def use(url: str) -> None:
    """Let the pages read another store."""
    os.environ["COCONUT_ATTR_DATABASE_URL"] = url
    settings_module.settings.cache_clear()


def milliseconds(page: str, query: str) -> float:
    """The time that one run of a page takes with empty caches."""
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    st.cache_data.clear()
    test = AppTest.from_string(SCRIPT.format(page=page), default_timeout=120)
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        test.query_params[name] = value
    started = time.perf_counter()
    test.run()
    spent = 1000 * (time.perf_counter() - started)
    if test.exception:
        raise RuntimeError(f"{page}?{query}: {test.exception[0].value}")
    return spent


def main() -> None:
    sys.path[0] = str(
        Path(__file__).parent.parent
    )  # this file is not the package that the pages import
    logging.disable(logging.WARNING)  # Streamlit says at every element that there is no server
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scratch", type=Path, required=True, help="the large store; made if it is not there"
    )
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    console = Console()
    own = settings()
    source = own.data_dir / "coconut_attr.db"
    if not arguments.scratch.is_file():
        part = arguments.scratch.with_suffix(".part")
        copy(source, part)
        engine = open_database(f"sqlite:///{part}")
        started = time.perf_counter()
        enlarge(engine, arguments.images)
        engine.dispose()
        part.rename(arguments.scratch)
        console.print(f"{arguments.scratch} made in {time.perf_counter() - started:.0f} s")
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.db"
        copy(source, small)
        stores = [f"sqlite:///{small}", f"sqlite:///{arguments.scratch.absolute()}"]
        sizes = []
        for url in stores:
            engine = open_database(url)
            counts = "SELECT (SELECT COUNT(*) FROM image) AS images, (SELECT COUNT(*) FROM image_attribute) AS labels"
            sizes.append(sql(engine, counts)[0])
            engine.dispose()
        names = [f"{size['images']:,} images, {size['labels']:,} labels" for size in sizes]
        table = Table("page", "", *(f"{name}, ms" for name in names), "ratio")
        worst = 0.0
        for page, queries in PAGES.items():
            for place, query in enumerate(queries):
                times: list[list[float]] = [[], []]
                for round_ in range(arguments.rounds + 1):
                    for which, url in enumerate(stores):
                        use(url)
                        spent = milliseconds(page, query)
                        if round_:  # the first imports things and opens files
                            times[which].append(spent)
                one, other = (statistics.median(found) for found in times)
                worst = max(worst, other / one)
                what = query if place else "first"
                table.add_row(page, what, f"{one:.0f}", f"{other:.0f}", f"{other / one:.2f}")
        console.print(table)
        console.print(f"largest ratio: {worst:.2f}")


if __name__ == "__main__":
    main()
