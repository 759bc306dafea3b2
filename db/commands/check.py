"""The command `coconut-attr check`."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.text import Text

from coconut_attr import terminal
from coconut_attr.datasets import DATASETS, get_dataset
from coconut_attr.errors import UserError, print_error, printable


def check(
    dataset: Annotated[str, typer.Argument(help=f"One of: {', '.join(DATASETS)}.")] = "val5k",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit with 0 even if there are findings.")
    ] = False,
) -> None:
    """Check that a dataset's photos, masks, annotations and counts fit together.

    Reads the database and the data folder (every mask is decoded, every photo hashed), contacts no
    other host, and writes the table `finding`. Exit code: 0 no findings, 1 findings, 2 the check
    could not be made.
    """
    try:
        entry = get_dataset(dataset)
        from coconut_attr.settings import settings
        from db import annotations
        from db.schema import open_existing
        from db.work.check import check_images, check_report, check_whole

        engine = open_existing(settings().sqlalchemy_url)
        annotations.require_images(engine, dataset)
        image_ids = annotations.image_ids(engine, dataset)
        size = settings().shard_size
        shards = [image_ids[start : start + size] for start in range(0, len(image_ids), size)]
        errors = Console(stderr=True)
        for shard in track(
            shards,
            f"checking {dataset}",
            console=errors,
            transient=True,
            disable=not errors.is_terminal,
        ):
            check_images(engine, entry, shard)
        check_whole(engine, entry)
    except UserError as error:
        print_error(error)
        raise typer.Exit(2) from None
    report = check_report(engine, dataset)
    if as_json:
        typer.echo(
            json.dumps({"dataset": dataset, "images": len(image_ids), "findings": report}, indent=2)
        )
    else:
        _show(dataset, len(image_ids), report)
    if report and not exit_zero:
        raise typer.Exit(1)


def _show(dataset: str, images: int, report: Sequence[dict[str, Any]]) -> None:
    console = terminal.console()
    if not report:
        console.print(f"{dataset}: {images:,} images checked, nothing found", highlight=False)
        return
    table = terminal.table(
        "finding",
        "how many",
        "images",
        "example",
        "what it means",
        "what to do",
        title=f"{dataset}: check",
    )
    for row in report:
        counts = (f"{row['findings']:,}", f"{row['images']:,}" if row["images"] else "")
        table.add_row(
            row["kind"], *counts, Text(printable(row["example"])), row["meaning"], row["remedy"]
        )
    console.print(table)
    total = sum(row["findings"] for row in report)
    console.print(
        f"{images:,} images checked, {total:,} findings (rows of the table `finding`)",
        highlight=False,
    )
