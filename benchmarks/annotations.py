"""Time and memory of reading annotations at the size of COCONut-S: our reader and pyarrow alone.

    COCONUT_ATTR_MIRROR=... python benchmarks/annotations.py [--rows 118000] [--group 1000]

Writes a temporary parquet that repeats the rows of the mirror's val5k with the most segments, 12.7
a row as in COCONut-S, in row groups of --group rows (the hub's files have 1,000). Each reader reads
it in a separate process. `decode` only decodes each row group, `rows` makes Python objects of it;
both hold one row group at a time. Prints rows a second, their ratio, peak memory, and what the
reader added to it.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from coconut_attr.annotations.files import annotation_files
from coconut_attr.annotations.hub import COLUMNS, list_shards
from coconut_attr.datasets import get_dataset
from coconut_attr.settings import Settings, settings

SEGMENTS_A_ROW = 12.7
VAL5K = get_dataset("val5k")


def real_rows() -> pa.Table:
    """Return the rows with the most segments, SEGMENTS_A_ROW of them on average."""
    (shard,) = list_shards(VAL5K, settings())
    if shard.local is None:
        raise SystemExit("set COCONUT_ATTR_MIRROR to a folder")
    table = pq.read_table(shard.local)
    counts = [len(row["segments_info"]) for row in table["segments_info"].to_pylist()]
    order = sorted(range(len(counts)), key=lambda k: -counts[k])
    totals = itertools.accumulate(counts[k] for k in order)
    return table.take(
        order[: sum(total / k >= SEGMENTS_A_ROW for k, total in enumerate(totals, 1))]
    )


def write(path: Path, rows: int, group: int) -> None:
    """Write the rows repeatedly, without dictionaries, which would store repeated masks once."""
    real = real_rows()
    path.parent.mkdir(parents=True)
    with pq.ParquetWriter(path, real.schema, use_dictionary=False) as writer:
        for start in range(0, rows, group):
            picked = [k % len(real) for k in range(start, min(rows, start + group))]
            writer.write_table(real.take(picked), row_group_size=group)


def ours(mirror: Path) -> Iterator[tuple[int, int]]:
    local = Settings(mirror=str(mirror))
    for file in annotation_files(VAL5K, local):
        for batch in file.read(0):
            yield len(batch), sum(len(annotation.segments) for annotation in batch)


def tables(mirror: Path) -> Iterator[pa.Table]:
    (path,) = mirror.rglob("*.parquet")
    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        yield file.read_row_group(group, columns=list(COLUMNS))


def decode(mirror: Path) -> Iterator[tuple[int, int]]:
    for table in tables(mirror):
        yield len(table), 0


def rows(mirror: Path) -> Iterator[tuple[int, int]]:
    for table in tables(mirror):
        records = table.to_pylist()
        yield len(records), sum(len(row["segments_info"]["segments_info"]) for row in records)


READERS = {"ours": ours, "rows": rows, "decode": decode}


def peak() -> float:
    """Return the peak memory of this process in MiB on Linux (getrusage counts its parent)."""
    (line,) = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) / 1024


def child(reader: str, mirror: Path) -> None:
    before, started, counts, segments = peak(), time.perf_counter(), 0, 0
    for n, m in READERS[reader](mirror):
        counts, segments = counts + n, segments + m
    measured = {
        "rows": counts,
        "segments": segments,
        "seconds": time.perf_counter() - started,
        "peak": peak(),
        "added": peak() - before,
    }
    print(json.dumps(measured))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=118_000)
    parser.add_argument("--group", type=int, default=1_000)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], Path(arguments.child[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = (
            Path(folder) / "huggingface.co" / "datasets" / VAL5K.repos[0] / "data" / "train.parquet"
        )
        write(path, arguments.rows, arguments.group)
        group = pq.ParquetFile(path).metadata.row_group(0).total_byte_size / 2**20
        measured = {}
        for reader in READERS:
            command = [sys.executable, __file__, "--child", reader, folder]
            measured[reader] = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout
            )
        title = f"{path.stat().st_size / 2**20:,.0f} MiB, row groups of {group:,.0f} MiB"
    title += f", {measured['ours']['rows']:,} rows, {measured['ours']['segments']:,} segments"
    table = Table("reader", "rows/s", "of decode", "peak MiB", "added MiB", title=title)
    for reader, row in measured.items():
        speed, of = row["rows"] / row["seconds"], measured["decode"]["seconds"] / row["seconds"]
        table.add_row(
            reader, f"{speed:,.0f}", f"{of:.2f}", f"{row['peak']:,.0f}", f"{row['added']:,.0f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
