"""The command `labels export`: write labels to files for other programs."""

import csv
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.errors import UserError, printable
from coconut_attr.export.records import check_target

KNOWN_STATES = ("present", "absent")


class Format(StrEnum):
    """File formats of exports."""

    COCO = "coco"
    PARQUET = "parquet"
    HF = "hf"


class Split(StrEnum):
    """Splits of a dataset."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def export(
    dataset: Annotated[
        str, typer.Argument(help="Dataset whose labels to write.", show_default=False)
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
    images: Annotated[
        Path | None,
        typer.Option(
            help="Only the images that the column coco_id of this CSV names; Explore writes such."
        ),
    ] = None,
    states: Annotated[
        str, typer.Option(help="States to write; cells in other states become unknown.")
    ] = ",".join(KNOWN_STATES),
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> None:
    """Write the labels of a dataset to files."""
    chosen_states = {state.strip() for state in states.split(",")}
    if not chosen_states <= set(KNOWN_STATES):
        raise UserError(
            f"--states {states}: give present, absent or present,absent "
            "(unknown cells are left empty)"
        )
    only = None if images is None else read_ids(images)
    check_target(to, folder=file_format is Format.HF, force=force)
    from coconut_attr.export.coco import write_coco
    from coconut_attr.export.huggingface import write_hf
    from coconut_attr.export.parquet import write_parquet
    from coconut_attr.settings import settings
    from db.counts import split_sizes
    from db.schema import open_for_reading
    from db.work.export import export_header, export_images

    write = {Format.COCO: write_coco, Format.PARQUET: write_parquet, Format.HF: write_hf}
    engine = open_for_reading(settings().sqlalchemy_url)
    header = export_header(engine, dataset, split)
    exported = export_images(
        engine,
        dataset,
        split,
        chosen_states,
        only=only,
        data_dir=settings().data_dir,
        photos=file_format is Format.HF,
        segments=file_format is Format.COCO,
        captions=file_format is Format.HF,
    )
    try:
        counts = write[file_format](header, exported, to)
    except OSError as error:
        raise UserError(f"cannot write {to}: {error}; fix that, or choose another --to") from error
    total = counts.images.total()
    typer.echo(
        f"wrote {printable(str(to))} ({file_format}): {total:,} images,"
        f" {counts.known_cells:,} of {total * len(ATTRIBUTES):,} cells known; {header.note}"
    )
    if counts.unmasked:
        typer.echo(
            f"left out {counts.unmasked:,} segments whose mask file is missing or unreadable;"
            f" to name them: coconut-attr check {dataset}"
        )
    if only is not None:
        if missing := len(only) - total:
            typer.echo(
                f"{missing:,} images of {printable(str(images))} have no labels in {dataset}"
            )
        return
    sizes = [row for row in split_sizes(engine, dataset) if split in (None, row["split"])]
    if unlabelled := sum(row["images"] - row["labelled"] for row in sizes):
        typer.echo(f"left out {unlabelled:,} images that have no labels yet")


def read_ids(file: Path) -> frozenset[int]:
    """Read the column `coco_id` of a CSV file.

    Raises:
        UserError: the file cannot be read, has no such column, or a value that is no number.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            if "coco_id" not in (rows.fieldnames or ()):
                raise UserError(f"{file} has no column coco_id; the page Explore writes such files")
            ids = [row["coco_id"] or "" for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {file}: {error}") from error
    for number, value in enumerate(ids, start=2):
        if not value.isdecimal():
            raise UserError(f"{file}, line {number}: {value[:40]!r} is no coco_id")
    return frozenset(map(int, ids))
