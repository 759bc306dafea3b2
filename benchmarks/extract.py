"""Area and mean colour of the segments of panoptic PNGs: ours against a reference and against PNG decoding alone.

    COCONUT_ATTR_MIRROR=... python benchmarks/extract.py

The reference works as panopticapi does: a boolean mask for each segment over the rgb2id array. Both see the same masks
and the same decoded photos in one run, and their areas and colours are checked to be equal; ours measures boxes too.
Prints images per second and the ratios.
"""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from coconut_attr.annotations.files import annotation_files
from coconut_attr.annotations.records import Panoptic
from coconut_attr.datasets import get_dataset
from coconut_attr.download.download import download
from coconut_attr.download.queue import Wanted
from coconut_attr.files.images import decode
from coconut_attr.labels.panoptic import decode_mask, measure
from coconut_attr.settings import settings

ROUNDS = 5
Measured = dict[int, tuple[int, tuple[float, ...]]]


@dataclass(frozen=True)
class Item:
    annotation: Panoptic
    photo: np.ndarray


def decode_only(item: Item) -> Measured:
    np.asarray(Image.open(io.BytesIO(item.annotation.mask_png)))
    return {}


def reference(item: Item) -> Measured:
    rgb = np.asarray(Image.open(io.BytesIO(item.annotation.mask_png)), dtype=np.uint32)
    ids = rgb[:, :, 0] + 256 * rgb[:, :, 1] + 256 * 256 * rgb[:, :, 2]
    found = {}
    for segment in item.annotation.segments:
        mask = ids == segment.id
        found[segment.id] = (int(mask.sum()), tuple(item.photo[mask].mean(axis=0).tolist()))
    return found


def ours(item: Item) -> Measured:
    found = measure(
        decode_mask(item.annotation.mask_png), item.annotation.segments, frozenset(), item.photo
    )
    return {segment.id: (segment.area, segment.mean_rgb or ()) for segment in found.segments}


def same(one: Measured, other: Measured) -> bool:
    """Equal areas, and mean colours equal but for the last bits of a sum."""
    return {k: area for k, (area, _) in one.items()} == {
        k: area for k, (area, _) in other.items()
    } and all(np.allclose(color, other[k][1], rtol=0, atol=1e-9) for k, (_, color) in one.items())


def masks_with_photos() -> list[Item]:
    """Every mask of val5k, and its photo (fetched if it is not in the data folder)."""
    entry = get_dataset("val5k")
    annotations = [
        a for file in annotation_files(entry, settings()) for batch in file.read(0) for a in batch
    ]
    wanted = [
        Wanted(k, a.image.url, a.image.width, a.image.height) for k, a in enumerate(annotations)
    ]
    return [
        Item(annotations[outcome.image_id], np.asarray(decode(settings().data_dir / outcome.path)))
        for outcome in download(wanted, entry, settings())
        if outcome.path
    ]


def main() -> None:
    items = masks_with_photos()
    assert all(same(ours(item), reference(item)) for item in items)
    times: dict[str, float] = {}
    calls: tuple[Callable[[Item], Measured], ...] = (reference, ours, decode_only)
    for _ in range(
        ROUNDS
    ):  # in turn, and the best of each: what else the machine does hits all alike
        for call in calls:
            started = time.perf_counter()
            for item in items:
                call(item)
            spent = time.perf_counter() - started
            times[call.__name__] = min(spent, times.get(call.__name__, spent))
    segments = sum(len(item.annotation.segments) for item in items)
    table = Table(
        "",
        "images/s",
        "of reference",
        "of decoding",
        title=f"{len(items)} masks, {segments} segments",
    )
    for name, spent in times.items():
        ratios = (f"{times['reference'] / spent:.2f}", f"{times['decode_only'] / spent:.2f}")
        table.add_row(name, f"{len(items) / spent:.0f}", *ratios)
    Console().print(table)


if __name__ == "__main__":
    main()
