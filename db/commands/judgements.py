"""The commands `coconut-attr judgements`."""

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from coconut_attr import terminal
from coconut_attr.datasets import DATASETS, get_dataset
from coconut_attr.errors import UserError, printable

if TYPE_CHECKING:
    from coconut_attr.judgements.records import Origin, Readings

judgements_commands = typer.Typer(
    help="What people or AI models who looked at photos say of their attributes.",
    no_args_is_help=True,
)
SHOWN = 5  # rows and images that a message names
COUNTS = ("n", "alike", "opposite")
DatasetName = Annotated[str, typer.Option(help=f"One of: {', '.join(DATASETS)}.")]


@judgements_commands.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="File of judgements.", show_default=False)],
    dataset: DatasetName = "val5k",
    annotator: Annotated[
        str, typer.Option(help="Who judged; a CSV may have a column for it.")
    ] = "",
    kind: Annotated[
        Literal["human", "ai"] | None,
        typer.Option(help="Whether people or an AI model judged; a CSV may have a column for it."),
    ] = None,
    form: Annotated[
        Literal["csv", "ovad", "coco"],
        typer.Option("--format", help="csv, OVAD's JSON, or COCO instance JSON."),
    ] = "csv",
    guideline: Annotated[str, typer.Option(help="Version of the guideline.")] = "",
    chosen: Annotated[
        str, typer.Option(help="How the images were chosen: random, or a queue's name.")
    ] = "",
    judged_at: Annotated[
        datetime | None, typer.Option(help="When, in UTC; by default the file's time.")
    ] = None,
    exhaustive: Annotated[
        bool,
        typer.Option(help="coco: every object has a box, so what no box shows is absent."),
    ] = False,
) -> None:
    """Add judgements of a dataset's images; stored ones stay, the newest of an annotator counts.

    Importing a file again adds nothing. Rows that cannot be used are named on stderr, the others
    are added, and the exit code is 1.
    """
    name = get_dataset(dataset).name
    if form != "csv" and not (annotator and kind):
        raise UserError(f"a file of format {form} does not say who judged: add --annotator, --kind")
    if exhaustive and form != "coco":
        raise UserError("--exhaustive is for --format coco")
    if not os.path.isfile(file):  # also for a name that is too long for the system
        raise UserError(f"{file} is not a file")
    from coconut_attr.judgements.records import Origin
    from coconut_attr.settings import settings
    from db.annotations import require_images
    from db.judgements import add_judgements
    from db.schema import open_existing

    at = judged_at or datetime.fromtimestamp(int(file.stat().st_mtime), UTC)
    origin = Origin(annotator, kind, guideline, chosen, at.replace(tzinfo=UTC))
    readings = _read(file, form, origin, exhaustive)
    engine = open_existing(settings().sqlalchemy_url)
    require_images(engine, name)
    added = add_judgements(engine, name, readings.judgements)
    typer.echo(f"{name}: {added.new:,} judgements added, {added.stored:,} were stored already")
    _name(added.missing, f"judged images are not in {name}")
    contradicting = [
        f"image {judgement.coco_id} {judgement.attribute}: {judgement.state}"
        f" by {judgement.origin.annotator}"
        for judgement in added.contradicting
    ]
    _name(contradicting, "skipped: the same annotator judged otherwise at the same time")
    _name(readings.skipped, "rows skipped")
    if readings.skipped or contradicting:
        raise typer.Exit(1)


def _read(file: Path, form: str, origin: "Origin", exhaustive: bool) -> "Readings":
    from coconut_attr.judgements.files import read_coco, read_csv, read_ovad

    if form == "csv":
        return read_csv(file, origin)
    if form == "ovad":
        return read_ovad(file, origin)
    from coconut_attr.labels.rules import load_rules

    return read_coco(file, origin, load_rules().rules.category, exhaustive=exhaustive)


def _name(items: list[int] | list[str], what: str) -> None:
    """Print the number of some items on stderr, and the first of them."""
    if items:
        rest = ", ..." if len(items) > SHOWN else ""
        some = "; ".join(map(str, items[:SHOWN]))
        typer.echo(printable(f"{len(items):,} {what}: {some}{rest}"), err=True)


@judgements_commands.command()
def export(
    file: Annotated[Path, typer.Argument(help="CSV to write.", show_default=False)],
    dataset: DatasetName = "val5k",
) -> None:
    """Write all judgements of a dataset's images as CSV, which `judgements import` takes."""
    name = get_dataset(dataset).name
    from coconut_attr.files.atomic import part_of
    from coconut_attr.judgements.files import write_csv
    from coconut_attr.settings import settings
    from db.judgements import all_judgements
    from db.schema import open_for_reading

    rows = all_judgements(open_for_reading(settings().sqlalchemy_url), name)
    if not rows:
        raise UserError(f"no image of {name} is judged")
    with part_of(file) as part, part.open("w", encoding="utf-8", newline="") as text:
        write_csv(text, rows)
    typer.echo(f"{file}: {len(rows):,} judgements of {name}")


@judgements_commands.command()
def agreement(dataset: DatasetName = "val5k") -> None:
    """Show how annotators agree: Cohen's kappa of each pair, by attribute.

    The states are present, absent and unsure; opposite: present by one, absent by the other.
    """
    name = get_dataset(dataset).name
    from coconut_attr.judgements.agreement import pair_agreements
    from coconut_attr.settings import settings
    from db.judgements import latest_judgements
    from db.schema import open_for_reading

    rows = latest_judgements(open_for_reading(settings().sqlalchemy_url), name)
    agreements = pair_agreements(rows)
    if not agreements:
        raise UserError(f"no two annotators have judged the same image of {name}")
    kinds = {row["annotator"]: row["kind"] for row in rows}
    for pair in dict.fromkeys(row.annotators for row in agreements):
        table = terminal.table(
            "attribute",
            *("images", "alike", "share", "opposite", "kappa"),
            title=printable(" and ".join(f"{who} ({kinds[who]})" for who in pair)),
        )
        of_pair = [row for row in agreements if row.annotators == pair]
        for row in of_pair:
            table.add_row(
                row.attribute, *_cells(row.n, row.alike, row.opposite), _number(row.kappa)
            )
        n, alike, opposite = (sum(getattr(r, k) for r in of_pair) for k in COUNTS)
        defined = [row.kappa for row in of_pair if not math.isnan(row.kappa)]
        mean = sum(defined) / len(defined) if defined else math.nan
        table.add_section()
        table.add_row("all", *_cells(n, alike, opposite), f"mean {_number(mean)}")
        terminal.console().print(table)


def _cells(n: int, alike: int, opposite: int) -> list[str]:
    return [f"{n:,}", f"{alike:,}", f"{alike / n:.1%}", f"{opposite:,}"]


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
