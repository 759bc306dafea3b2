"""The integrity of a dataset of the store: checked shard by shard, kept as findings, and told by a command."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import Engine

from coconut_attr.check import KINDS, Held, check_annotation, check_dataset, check_photo
from coconut_attr.errors import UserError
from coconut_attr.evidence import Problem
from coconut_attr.registry import DATASETS, Dataset
from coconut_attr.registry import dataset as registered
from coconut_attr.rules import load_rules
from coconut_attr.settings import settings
from db import queries
from db import store as writes
from db.engine import connect
from db.images import images_at_hand
from db.schema import open_for_reading

STAGES = ("annotations", "captions", "check")  #: the check finds itself what extraction leaves out


def check_images(engine: Engine, dataset: Dataset, image_ids: Sequence[int]) -> int:
    """Check some images and store what was found, in place of what was before; returns how many findings."""
    categories = [category.id for category in load_rules().rules.category.values()]
    findings = [
        {"image_id": item.image["id"], "kind": problem.kind, "detail": problem.detail}
        for item in images_at_hand(engine, image_ids)
        for problem in _image_problems(dataset, item, categories)
    ]
    writes.record_findings(engine, dataset.name, "check", image_ids, findings)
    return len(findings)


def _image_problems(dataset: Dataset, item: queries.Annotated, categories: Sequence[int]) -> list[Problem]:
    image, data_dir = item.image, settings().data_dir
    problems = []
    if image["state"] == "done":
        problems += check_photo(data_dir / image["path"], image["sha256"])
    elif image["state"] == "failed":
        problems.append(Problem("annotation without image", f"{image['error_class']}: {image['error']}"))
    else:
        problems.append(Problem("image not asked for", "its photo has not been tried"))
    if image["mask_path"]:
        shape = (image["height"], image["width"])
        problems += check_annotation(data_dir / image["mask_path"], item.infos, shape, categories)
    elif dataset.repos:
        problems.append(Problem("image without annotation", "known by its captions alone"))
    return problems


def check_whole(engine: Engine, dataset: Dataset) -> int:
    """Check the counts and files of a dataset and store what was found; returns how many findings.

    Raises:
        coconut_attr.sources.records.SourceError: the Kaggle-layout folder of the settings is not one.
    """
    summary = queries.sql(
        engine, "SELECT images, segments FROM dataset_summary WHERE dataset = :dataset", dataset=dataset.name
    )
    files = queries.annotation_files(engine, dataset.name)
    held = Held(
        images=summary[0]["images"] if summary else 0,
        segments=summary[0]["segments"] if summary else 0,
        masks=frozenset(queries.mask_paths(engine, dataset.name)),
        photos=queries.photo_bytes(engine, dataset.name),
        unfinished=tuple(name for name, row in files.items() if not row["complete"]),
    )
    problems = check_dataset(dataset, held, settings())
    rows = [{"image_id": None, "kind": problem.kind, "detail": problem.detail} for problem in problems]
    writes.record_findings(engine, dataset.name, "check", None, rows)
    return len(rows)


def check_report(engine: Engine, dataset: str) -> list[dict[str, Any]]:
    """The findings of a dataset: `stage`, `kind`, `findings`, `images`, `example`, `meaning`, `remedy`."""
    return [
        {**row, "meaning": KINDS[row["kind"]][0], "remedy": KINDS[row["kind"]][1].replace("DATASET", dataset)}
        for row in queries.findings(engine, dataset, STAGES)
    ]


def check(
    dataset: Annotated[str, typer.Argument(help=f"One of: {', '.join(DATASETS)}.")] = "val5k",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit with 0 even if there are findings.")] = False,
) -> None:
    """Check that a dataset's photos, masks, annotations and counts fit together.

    Reads what the store and the data folder hold (every mask is decoded, every photo hashed), asks no other host, and
    keeps what it finds in the table `finding`. Exit code: 0 nothing found, 1 findings, 2 the check could not be made.
    """
    try:
        entry = registered(dataset)
        engine = _open_existing()
        image_ids = queries.image_ids(engine, dataset)
        if not image_ids:
            raise UserError(f"the store holds no image of {dataset}; run: coconut-attr download {dataset}")
        size = settings().shard_size
        shards = [image_ids[start : start + size] for start in range(0, len(image_ids), size)]
        errors = Console(stderr=True)
        for shard in track(
            shards, f"checking {dataset}", console=errors, transient=True, disable=not errors.is_terminal
        ):
            check_images(engine, entry, shard)
        check_whole(engine, entry)
    except UserError as error:
        print(f"coconut-attr: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    report = check_report(engine, dataset)
    if as_json:
        typer.echo(json.dumps({"dataset": dataset, "images": len(image_ids), "findings": report}, indent=2))
    else:
        _show(dataset, len(image_ids), report)
    if report and not exit_zero:
        raise typer.Exit(1)


def _open_existing() -> Engine:
    """The store for writing; one that does not exist is told, and not made.

    Raises:
        db.engine.StoreError: it cannot be opened, or has another schema.
    """
    open_for_reading(settings().sqlalchemy_url).dispose()
    return connect(settings().sqlalchemy_url)


def _show(dataset: str, images: int, report: Sequence[dict[str, Any]]) -> None:
    console = Console()
    if not report:
        console.print(f"{dataset}: {images:,} images checked, nothing found", highlight=False)
        return
    table = Table("finding", "how many", "images", "example", "what it means", "what to do", title=f"{dataset}: check")
    for row in report:
        counts = (f"{row['findings']:,}", f"{row['images']:,}" if row["images"] else "")
        table.add_row(row["kind"], *counts, row["example"], row["meaning"], row["remedy"])
    console.print(table)
    total = sum(row["findings"] for row in report)
    console.print(f"{images:,} images checked, {total:,} findings (rows of the table `finding`)", highlight=False)
