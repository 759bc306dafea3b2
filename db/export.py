"""The command `labels export`: labels of the store as files for other programs."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Engine, RowMapping

from coconut_attr.attributes import ATTRIBUTES, CODES
from coconut_attr.errors import UserError
from coconut_attr.export import (
    ExportHeader,
    ExportImage,
    ExportSegment,
    check_target,
    write_coco,
    write_hf,
    write_parquet,
)
from coconut_attr.image_store import bring_missing
from coconut_attr.registry import dataset as registered
from coconut_attr.settings import settings
from db import queries
from db.schema import open_for_reading

PAGE = 1000  # images read at once
KNOWN = ("present", "absent")


class Format(StrEnum):
    COCO = "coco"
    PARQUET = "parquet"
    HF = "hf"


class Split(StrEnum):
    TRAIN = "train"
    VAL = "val"
    TEST = "test"


WRITERS = {Format.COCO: write_coco, Format.PARQUET: write_parquet, Format.HF: write_hf}


def export(
    dataset: Annotated[str, typer.Argument(help="Dataset whose labels are wanted.", show_default=False)],
    file_format: Annotated[
        Format,
        typer.Option("--format", help="COCO-style JSON, a Parquet table, or a folder for Hugging Face datasets."),
    ],
    to: Annotated[Path, typer.Option(help="File (coco, parquet) or folder (hf) to write.")],
    split: Annotated[Split | None, typer.Option(help="Only this split; by default all.")] = None,
    states: Annotated[str, typer.Option(help="States to write; cells in other states become unknown.")] = ",".join(
        KNOWN
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> None:
    """Write the labels of a dataset to files."""
    wanted = {state.strip() for state in states.split(",")}
    if not wanted <= set(KNOWN):
        raise UserError(f"--states {states}: give present, absent or present,absent (unknown cells are left empty)")
    check_target(to, folder=file_format is Format.HF, force=force)
    engine = open_for_reading(settings().sqlalchemy_url)
    header = export_header(engine, dataset, split)
    images = export_images(
        engine,
        dataset,
        split,
        wanted,
        data_dir=settings().data_dir,
        photos=file_format is Format.HF,
        segments=file_format is Format.COCO,
        captions=file_format is Format.HF,
    )
    try:
        counts = WRITERS[file_format](header, images, to)
    except OSError as error:
        raise UserError(f"cannot write {to}: {error}; mend that, or choose another --to") from error
    total = counts.images.total()
    typer.echo(
        f"wrote {to} ({file_format}): {total:,} images, {counts.known:,} of {total * len(ATTRIBUTES):,} cells known;"
        f" {header.note}"
    )
    sizes = [row for row in queries.split_sizes(engine, dataset) if split in (None, row["split"])]
    if left := sum(row["images"] - row["labelled"] for row in sizes):
        typer.echo(f"{left:,} more images have no labels yet: they are left out")


def export_header(engine: Engine, dataset: str, split: str | None) -> ExportHeader:
    """What is said once of an export.

    Raises:
        UserError: there is no such dataset, or no label of it (or of that split) in the store.
    """
    row = queries.dataset_row(engine, dataset)
    if row is None:
        registered(dataset)  # tells those that there are
    versions = queries.label_versions(engine, dataset, split)
    if row is None or not versions:
        where = f"the {split} split of {dataset}" if split else dataset
        raise UserError(f"there are no labels of {where} yet; make them: coconut-attr run --dataset {dataset}")
    categories = [(c["id"], c["name"], c["isthing"]) for c in queries.categories(engine)]
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

    With `photos`, their files are brought from the image store if there is one; errors as `bring_missing`.
    """
    after = None
    while True:
        found = queries.label_page(engine, dataset, split, after, size=page, segments=segments, captions=captions)
        if photos:
            bring_missing(settings(), [(row["path"], row["bytes"]) for row in found.images if row["path"]])
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
    names = ("coco_id", "file_name", "split", "width", "height", "url", "licence", "sha256", "rule_version")
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
