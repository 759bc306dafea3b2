"""The command `status`, and all commands of this layer, for `coconut-attr`."""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from coconut_attr import terminal
from db.commands.check import check
from db.commands.database import db_commands
from db.commands.judgements import judgements_commands
from db.commands.labels import labels_commands
from db.commands.mirror import mirror_commands
from db.commands.runs import AGAINST, predict, runs_commands

if TYPE_CHECKING:
    from sqlalchemy import RowMapping


def register(app: typer.Typer) -> None:
    """Add this layer's commands to the command line."""
    app.command()(predict)
    app.command()(status)
    app.command()(check)
    app.add_typer(db_commands, name="db")
    app.add_typer(judgements_commands, name="judgements")
    app.add_typer(labels_commands, name="labels")
    app.add_typer(mirror_commands, name="mirror")
    app.add_typer(runs_commands, name="runs")


def status(
    runs: Annotated[int, typer.Option(help="Runs to show, newest first.", min=1)] = 5,
) -> None:
    """Show the datasets and runs of the database. Runs whose process has died are set to failed."""
    from coconut_attr.settings import settings
    from db.engine import connect, display_url
    from db.lease import fail_abandoned
    from db.runs import runs_to_show
    from db.schema import open_for_reading
    from db.sql import DatabaseError, sql

    engine = open_for_reading(settings().sqlalchemy_url)
    with suppress(DatabaseError):  # an account that may only read
        fail_abandoned(connect(settings().sqlalchemy_url))
    console = terminal.console()
    console.print(f"database: {display_url(engine)}", soft_wrap=True, markup=False)
    counts = ("images", "downloaded", "failed", "with mask", "captions", "segments", "labelled")
    datasets = terminal.slim_table("dataset", *counts)
    for row in sql(engine, "SELECT * FROM dataset_summary WHERE images > 0 ORDER BY dataset"):
        numbers = (f"{row[header.replace(' ', '_')]:,}" for header in counts)
        datasets.add_row(row["dataset"] + ("" if row["is_coconut"] else " (not COCONut)"), *numbers)
    console.print(datasets)
    shown = {row["run_id"] for row in runs_to_show(engine)}
    table = terminal.slim_table(
        "run", "model, trained on", "scored on", "accuracy, 95 %", "mAP, 95 %"
    )
    table.columns[1].min_width = len("efficientnet_lite0")
    query = """
        SELECT * FROM run_summary
        WHERE run_id IN (SELECT id FROM run ORDER BY id DESC LIMIT :runs)
        ORDER BY run_id DESC, evaluated_on, split"""
    for row in sql(engine, query, runs=runs):
        scored = row["split"] is not None
        table.add_row(
            f"{row['run_id']}{'*' * (row['run_id'] in shown)}\n{row['status']}",
            f"{row['backbone']}\n{row['trained_on']}"
            + ("" if row["kind"] == "trained" else f" ({row['kind']})"),
            f"{row['evaluated_on']} {row['split']}\n{AGAINST[row['against']]}\n"
            f"{row['decisions'] or 0:,} cells"
            if scored
            else "",
            _with_interval(row, "accuracy", "all absent", "all_absent_accuracy") if scored else "",
            _with_interval(row, "map", "prior", "prior_map") + _counted(row) if scored else "",
        )
    table.caption = "* shown everywhere: the pinned run, or the best by val (coconut-attr runs)"
    console.print(table)


def _with_interval(row: "RowMapping", name: str, baseline: str, of_baseline: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return f"{_number(row[name])}\n{interval}\n{baseline} {_number(row[of_baseline])}"


def _counted(row: "RowMapping") -> str:
    """Say over how many attributes the mAP is the mean, where that is stored."""
    counted = row["map_attributes"]
    return "" if counted is None else f"\nof {counted} attributes"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
