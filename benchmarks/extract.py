"""Measure the speed of segment areas and mean colours: ours, a reference, and PNG decoding alone.

    COCONUT_ATTR_MIRROR=... python benchmarks/extract.py

The reference works as panopticapi does: a boolean mask for each segment over the rgb2id array. Both
read the same masks and decoded photos in one run; their areas and colours are checked to be equal.
Ours also measures boxes. Prints images per second and the ratios.
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
Measures = dict[int, tuple[int, tuple[float, ...]]]  # area and mean colour by segment id


@dataclass(frozen=True)
class Item:
    annotation: Panoptic
    photo: np.ndarray


def decode_only(item: Item) -> Measures:
    np.asarray(Image.open(io.BytesIO(item.annotation.mask_png)))
    return {}


def reference(item: Item) -> Measures:
    rgb = np.asarray(Image.open(io.BytesIO(item.annotation.mask_png)), dtype=np.uint32)
    ids = rgb[:, :, 0] + 256 * rgb[:, :, 1] + 256 * 256 * rgb[:, :, 2]
    measures = {}
    for segment in item.annotation.segments:
        mask = ids == segment.id
        measures[segment.id] = (int(mask.sum()), tuple(item.photo[mask].mean(axis=0).tolist()))
    return measures


def ours(item: Item) -> Measures:
    ids = decode_mask(item.annotation.mask_png)
    segments = measure(ids, item.annotation.segments, frozenset(), item.photo).segments
    return {segment.id: (segment.area, segment.mean_rgb or ()) for segment in segments}


def same(one: Measures, other: Measures) -> bool:
    """Compare: equal areas, and mean colours equal up to the rounding of sums."""
    return {k: area for k, (area, _) in one.items()} == {
        k: area for k, (area, _) in other.items()
    } and all(np.allclose(color, other[k][1], rtol=0, atol=1e-9) for k, (_, color) in one.items())


def masks_with_photos() -> list[Item]:
    """Return every mask of val5k with its photo, downloaded if it is not in the data folder."""
    dataset = get_dataset("val5k")
    annotations = [
        a for file in annotation_files(dataset, settings()) for batch in file.read(0) for a in batch
    ]
    wanted = [
        Wanted(k, a.image.url, a.image.width, a.image.height) for k, a in enumerate(annotations)
    ]
    return [
        Item(annotations[outcome.image_id], np.asarray(decode(settings().data_dir / outcome.path)))
        for outcome in download(wanted, dataset, settings())
        if outcome.path
    ]


def main() -> None:
    items = masks_with_photos()
    assert all(same(ours(item), reference(item)) for item in items)
    times: dict[str, float] = {}
    calls: tuple[Callable[[Item], Measures], ...] = (reference, ours, decode_only)
    # Taking turns and the best round of each: other load on the machine hits all alike.
    for _ in range(ROUNDS):
        for call in calls:
            started = time.perf_counter()
            for item in items:
                call(item)
            seconds = time.perf_counter() - started
            times[call.__name__] = min(seconds, times.get(call.__name__, seconds))
    segments = sum(len(item.annotation.segments) for item in items)
    table = Table(
        "",
        "images/s",
        "of reference",
        "of decoding",
        title=f"{len(items)} masks, {segments} segments",
    )
    for name, seconds in times.items():
        ratios = (f"{times['reference'] / seconds:.2f}", f"{times['decode_only'] / seconds:.2f}")
        table.add_row(name, f"{len(items) / seconds:.0f}", *ratios)
    Console().print(table)


if __name__ == "__main__":
    main()
