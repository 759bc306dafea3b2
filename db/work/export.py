"""Read labels, segments and captions from the database for the export writers."""

from collections.abc import Container, Iterator
from pathlib import Path

from sqlalchemy import Engine, RowMapping

from coconut_attr.annotations.records import SegmentInfo
from coconut_attr.attributes import ATTRIBUTES, CODES
from coconut_attr.datasets import get_dataset
from coconut_attr.errors import UserError
from coconut_attr.export.records import ExportHeader, ExportImage, ExportSegment
from coconut_attr.files.object_store import fetch_missing
from coconut_attr.findings import Finding
from coconut_attr.labels.panoptic import measure, read_mask
from coconut_attr.settings import settings
from db import reference
from db.labels import label_page, label_versions

PAGE = 1000  # images read at once


def export_header(engine: Engine, dataset: str, split: str | None) -> ExportHeader:
    """Return what an export states once.

    Raises:
        UserError: the dataset is unknown, or it (or that split) has no labels in the database.
    """
    row = reference.dataset_row(engine, dataset)
    if row is None:
        get_dataset(dataset)  # its error names the datasets to choose from
    versions = label_versions(engine, dataset, split)
    if row is None or not versions:
        where = f"the {split} split of {dataset}" if split else dataset
        raise UserError(
            f"there are no labels of {where} yet; make them: coconut-attr run --dataset {dataset}"
        )
    categories = [(c["id"], c["name"], c["isthing"]) for c in reference.categories(engine)]
    return ExportHeader(dataset, row["title"], row["licence"], ", ".join(versions), categories)


def export_images(
    engine: Engine,
    dataset: str,
    split: str | None,
    states: set[str],
    *,
    data_dir: Path,
    only: Container[int] | None = None,
    photos: bool = False,
    segments: bool = False,
    captions: bool = False,
    page: int = PAGE,
) -> Iterator[ExportImage]:
    """Yield the labelled images of a dataset by COCO id, read page by page.

    Args:
        states: cells in other states become unknown.
        only: COCO ids of the images to yield; by default all.
        photos: fetch the photos' files from the object store if one is set.
        segments, captions: read those too.

    Raises:
        coconut_attr.files.object_store.ObjectStoreError, UnreachableError: as `fetch_missing`.
    """
    after = None
    while True:
        labelled = label_page(
            engine, dataset, split, after, size=page, segments=segments, captions=captions
        )
        wanted = [row for row in labelled.images if only is None or row["coco_id"] in only]
        files: list[tuple[str, int | None]] = []
        if photos:
            files += [(row["path"], row["bytes"]) for row in wanted if row["path"]]
        if segments:
            files += [(row["mask_path"], None) for row in wanted if row["mask_path"]]
        fetch_missing(settings(), files)
        for row in wanted:
            image_id = row["id"]
            yield _image(
                row,
                labelled.labels[image_id],
                _segments(row, labelled.segments.get(image_id, []), data_dir),
                labelled.captions.get(image_id, []),
                states,
                data_dir,
            )
        if len(labelled.images) < page:
            return
        after = labelled.images[-1]["coco_id"]


def _segments(row: RowMapping, segments: list[RowMapping], data_dir: Path) -> list[ExportSegment]:
    """Return an image's segments with their masks.

    The database holds the masks of things only; those of stuff are read from the panoptic PNG.
    """
    masks = {s["segment_id"]: s["rle"] for s in segments if s["rle"]}
    missing = [
        SegmentInfo(s["segment_id"], s["category_id"], s["iscrowd"], s["area"])
        for s in segments
        if not s["rle"]
    ]
    if missing and row["mask_path"]:
        ids = read_mask(data_dir / row["mask_path"], (row["height"], row["width"]))
        if not isinstance(ids, Finding):
            categories = frozenset(info.category_id for info in missing)
            masks |= {s.id: s.rle for s in measure(ids, missing, categories).segments}
    return [
        ExportSegment(
            segment_id=s["segment_id"],
            category_id=s["category_id"],
            iscrowd=s["iscrowd"],
            rle=masks.get(s["segment_id"], ""),
        )
        for s in segments
    ]


def _image(
    row: RowMapping,
    labels: list[RowMapping],
    segments: list[ExportSegment],
    captions: list[RowMapping],
    states: set[str],
    data_dir: Path,
) -> ExportImage:
    codes = [CODES["unknown"]] * len(ATTRIBUTES)
    confidences: list[float | None] = [None] * len(ATTRIBUTES)
    for label in labels:
        if label["state"] in states:
            codes[label["attribute_id"]] = CODES[label["state"]]
            confidences[label["attribute_id"]] = label["confidence"]
    names = (
        "coco_id",
        "file_name",
        "split",
        "width",
        "height",
        "url",
        "licence",
        "sha256",
        "rule_version",
    )
    return ExportImage(
        **{name: row[name] for name in names},
        file=data_dir / row["path"] if row["path"] else None,
        states=codes,
        confidences=confidences,
        segments=segments,
        captions=[caption["text"] for caption in captions],
    )
