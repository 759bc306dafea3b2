"""TODO."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.errors import UserError
from coconut_attr.export.coco import write_coco
from coconut_attr.export.huggingface import write_hf
from coconut_attr.export.parquet import write_parquet
from coconut_attr.export.records import check_target
from coconut_attr.settings import settings
from db.counts import split_sizes
from db.schema import open_for_reading
from db.work.export import export_header, export_images

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
    dataset: Annotated[
        str, typer.Argument(help="Dataset whose labels are wanted.", show_default=False)
    ],
    file_format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="COCO-style JSON, a Parquet table, or a folder for Hugging Face datasets.",
        ),
    ],
    to: Annotated[Path, typer.Option(help="File (coco, parquet) or folder (hf) to write.")],
    split: Annotated[Split | None, typer.Option(help="Only this split; by default all.")] = None,
    states: Annotated[
        str, typer.Option(help="States to write; cells in other states become unknown.")
    ] = ",".join(KNOWN),
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> None:
    """Write the labels of a dataset to files."""
    wanted = {state.strip() for state in states.split(",")}
    if not wanted <= set(KNOWN):
        raise UserError(
            f"--states {states}: give present, absent or present,absent (unknown cells are left empty)"
        )
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
    sizes = [row for row in split_sizes(engine, dataset) if split in (None, row["split"])]
    if left := sum(row["images"] - row["labelled"] for row in sizes):
        typer.echo(f"{left:,} more images have no labels yet: they are left out")
