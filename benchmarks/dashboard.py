"""The dashboard's pages on a large database, beside the same pages on the one it was made from.

    python benchmarks/dashboard.py --scratch /tmp/large.db [--images 118000] [--rounds 5]

The large database repeats the images of the database that the settings name (SQLite, with a scored
run): SQL inserts the rows of every table again under shifted ids, until there are enough images.
The scratch file is made once and reused by later runs. No result of the product comes from it.

Streamlit's own `AppTest` runs each page's function, without a browser: the times cover queries,
computations and building all elements, not drawing. *first*: the page as it opens. The other rows
are queries of the same page, as its address gives them. Caches are empty each time. Times are
medians of `--rounds` runs in milliseconds, with both databases in turn in one process; the ratio
is large to small.
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

#: Queries of each page, as its address writes them; the first is the page as it opens.
PAGES = {
    "overview": [""],
    "coverage": ["", "groups=color", "split=val", "of=caption"],
    "labels": ["", "source=panoptic"],
    "attributes": ["", "sort=gain", "groups=object", "attribute=vehicle"],
    "runs": ["", "runs=1,2"],
    "explore": [
        "",
        "present=vehicle",
        "present=vehicle,red&absent=person",
        "split=val&present=food",
        "by=predictions&attribute=vehicle&kind=present",
        "by=predictions&attribute=red&kind=false present",
        "by=set&set=vehicle,red,outdoor",
        "image=5477",
    ],
    "predict": [""],
    "query": ["", "sql=SELECT * FROM attribute_accuracy LIMIT 50"],
}
SCRIPT = """
from dashboard import data
from dashboard.views import {page}
data.refresh()
{page}.page()
"""
#: Tables whose rows belong to an image.
TABLES = (
    "image",
    "prediction",
    "download",
    "caption",
    "segment",
    "image_attribute",
    "attribute_evidence",
)


def enlarge(engine: Engine, images: int) -> None:
    """Repeat the images of the largest dataset, with their rows, until there are so many.

    Each repetition copies all of the original images, with ids shifted by multiples of the
    largest id.
    """
    dataset = sql(
        engine, "SELECT dataset, COUNT(*) AS n FROM image GROUP BY dataset ORDER BY n DESC LIMIT 1"
    )[0]
    largest = sql(engine, "SELECT MAX(id) AS id, MAX(coco_id) AS coco_id FROM image")[0]
    copies = -(-images // dataset["n"]) - 1
    shifted = {
        "id": f"id + k * {largest['id']}",
        "image_id": f"image_id + k * {largest['id']}",
        "coco_id": f"coco_id + k * {largest['coco_id']}",
    }
    # Read before the transaction begins, which locks the database.
    columns_of = {
        table: [
            row["name"] for row in sql(engine, f"SELECT name FROM pragma_table_info('{table}')")
        ]
        for table in TABLES
    }
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TEMP TABLE copy (k INTEGER PRIMARY KEY)")
        connection.exec_driver_sql(
            f"WITH RECURSIVE n (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < {copies}) "
            "INSERT INTO copy SELECT k FROM n"
        )
        for table, columns in columns_of.items():
            values = ", ".join(shifted.get(name, name) for name in columns)
            # CROSS JOIN keeps the order, copy by copy: rows are appended, not put in between.
            connection.exec_driver_sql(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM copy CROSS JOIN "
                f"(SELECT * FROM {table})"
            )
    refresh_counts(engine, dataset["dataset"])
    with engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")


def copy(source: Path, target: Path) -> None:
    """Copy a SQLite database with what is still in its write-ahead log."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


def make_large(source: Path, target: Path, images: int) -> None:
    """Make the large database; an interrupted one leaves only a `.part` file."""
    part = target.with_suffix(".part")
    copy(source, part)
    engine = open_database(f"sqlite:///{part}")
    enlarge(engine, images)
    engine.dispose()
    part.rename(target)


def describe(url: str) -> str:
    """Return how many images and labels a database has; migrate it if it is older."""
    engine = open_database(url)
    (counts,) = sql(
        engine,
        "SELECT (SELECT COUNT(*) FROM image) AS images, "
        "(SELECT COUNT(*) FROM image_attribute) AS labels",
    )
    engine.dispose()
    return f"{counts['images']:,} images, {counts['labels']:,} labels"


def use(url: str) -> None:
    """Make the pages read another database."""
    os.environ["COCONUT_ATTR_DATABASE_URL"] = url
    settings_module.settings.cache_clear()


def milliseconds(page: str, query: str) -> float:
    """Time one run of a page with empty caches."""
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


def medians(page: str, query: str, urls: list[str], rounds: int) -> list[float]:
    """Return a page's median time on each database."""
    times: list[list[float]] = [[] for _url in urls]
    for round_ in range(rounds + 1):
        for place, url in enumerate(urls):
            use(url)
            spent = milliseconds(page, query)
            if round_:  # the first imports modules and opens files
                times[place].append(spent)
    return [statistics.median(spent) for spent in times]


def main() -> None:
    """Print a table of all pages, and the largest ratio."""
    # Python put this file's folder first, where the file itself hides the package `dashboard`.
    sys.path[0] = str(Path(__file__).parent.parent)
    logging.disable(logging.WARNING)  # Streamlit warns at every element that there is no server
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scratch", type=Path, required=True, help="the large database; made if it is missing"
    )
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    console = Console()
    source = settings().data_dir / "coconut_attr.db"
    if not arguments.scratch.is_file():
        started = time.perf_counter()
        make_large(source, arguments.scratch, arguments.images)
        console.print(f"{arguments.scratch} made in {time.perf_counter() - started:.0f} s")
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.db"
        copy(source, small)
        urls = [f"sqlite:///{small}", f"sqlite:///{arguments.scratch.absolute()}"]
        table = Table("page", "", *(f"{describe(url)}, ms" for url in urls), "ratio")
        ratios = []
        for page, queries in PAGES.items():
            for query in queries:
                one, other = medians(page, query, urls, arguments.rounds)
                ratios.append(other / one)
                table.add_row(
                    page, query or "first", f"{one:.0f}", f"{other:.0f}", f"{other / one:.2f}"
                )
        console.print(table)
        console.print(f"largest ratio: {max(ratios):.2f}")


if __name__ == "__main__":
    main()
