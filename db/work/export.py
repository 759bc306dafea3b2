"""The command `labels export`: labels of the store as files for other programs."""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine, RowMapping

from coconut_attr.attributes import ATTRIBUTES, CODES
from coconut_attr.datasets import get_dataset
from coconut_attr.errors import UserError
from coconut_attr.export.records import ExportHeader, ExportImage, ExportSegment
from coconut_attr.files.object_store import fetch_missing
from coconut_attr.settings import settings
from db import reference
from db.labels import label_page, label_versions

PAGE = 1000  # images read at once


def export_header(engine: Engine, dataset: str, split: str | None) -> ExportHeader:
    """What is said once of an export.

    Raises:
        UserError: there is no such dataset, or no label of it (or of that split) in the store.
    """
    row = reference.dataset_row(engine, dataset)
    if row is None:
        get_dataset(dataset)  # tells those that there are
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
    photos: bool = False,
    segments: bool = False,
    captions: bool = False,
    page: int = PAGE,
) -> Iterator[ExportImage]:
    """The labelled images of a dataset by COCO id, read page by page; cells in other states than these are unknown.

    With `photos`, their files are brought from the image store if there is one; errors as `fetch_missing`.
    """
    after = None
    while True:
        found = label_page(
            engine, dataset, split, after, size=page, segments=segments, captions=captions
        )
        if photos:
            fetch_missing(
                settings(), [(row["path"], row["bytes"]) for row in found.images if row["path"]]
            )
        for row in found.images:
            key = row["id"]
            yield _image(row, found.labels[key], found.segments.get(key, []), found.captions.get(key, []), states,
                         data_dir)  # fmt: skip
        if len(found.images) < page:
            return
        after = found.images[-1]["coco_id"]


def _image(
    row: RowMapping,
    labels: list[RowMapping],
    segments: list[RowMapping],
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
        segments=[
            ExportSegment(
                segment_id=s["segment_id"],
                category_id=s["category_id"],
                iscrowd=s["iscrowd"],
                area=s["area"],
                bbox=(s["bbox_x"], s["bbox_y"], s["bbox_width"], s["bbox_height"]),
                rle=s["rle"],
            )
            for s in segments
        ],
        captions=[caption["text"] for caption in captions],
    )
