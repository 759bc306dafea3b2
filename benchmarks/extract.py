"""Segment areas of panoptic PNGs: ours against a panopticapi-style reference and against PNG decoding alone.

    COCONUT_ATTR_MIRROR=... python benchmarks/extract.py

The reference makes a boolean mask for each segment over the rgb2id array. Both see the same masks in one run, and their
areas are checked to be equal. Prints images per second and the ratios.
"""

import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from coconut_attr.annotations import annotation_files
from coconut_attr.panoptic import decode_mask, measure
from coconut_attr.registry import dataset
from coconut_attr.settings import settings
from coconut_attr.sources.records import Panoptic

ROUNDS = 3


def decode_only(item: Panoptic) -> dict[int, int]:
    np.asarray(Image.open(io.BytesIO(item.mask_png)))
    return {}


def reference(item: Panoptic) -> dict[int, int]:
    rgb = np.asarray(Image.open(io.BytesIO(item.mask_png)), dtype=np.uint32)
    ids = rgb[:, :, 0] + 256 * rgb[:, :, 1] + 256 * 256 * rgb[:, :, 2]
    return {segment.id: int((ids == segment.id).sum()) for segment in item.segments}


def ours(item: Panoptic) -> dict[int, int]:
    return {s.id: s.area for s in measure(decode_mask(item.mask_png), item.segments, frozenset())}


def seconds(call: Callable[[Panoptic], dict[int, int]], items: list[Panoptic]) -> float:
    """The best of some rounds, which disturbs least."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for item in items:
            call(item)
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    items = [
        item for file in annotation_files(dataset("val5k"), settings()) for batch in file.read(0) for item in batch
    ]
    assert all(ours(item) == reference(item) for item in items)
    times = {call.__name__: seconds(call, items) for call in (reference, ours, decode_only)}
    table = Table("", "images/s", "of reference", "of decoding", title=f"{len(items)} masks; ours measures boxes too")
    for name, spent in times.items():
        ratios = (f"{times['reference'] / spent:.2f}", f"{times['decode_only'] / spent:.2f}")
        table.add_row(name, f"{len(items) / spent:.0f}", *ratios)
    Console().print(table)


if __name__ == "__main__":
    main()
