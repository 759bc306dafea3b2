"""The commands `coconut-attr runs`, and which run `predict` uses."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from coconut_attr import terminal
from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.cli import AsJson, predict_photos
from coconut_attr.datasets import DATASETS, get_dataset
from coconut_attr.errors import UserError, printable

if TYPE_CHECKING:
    from sqlalchemy import Engine, RowMapping

runs_commands = typer.Typer(
    help="Training runs: list, pin, name, note, archive.", invoke_without_command=True
)
RunNumber = Annotated[int, typer.Argument(help="Number of the run.", show_default=False)]
#: What scores are against.
AGAINST = {"eyes": "by eyes", "labels": "by labels"}


@runs_commands.callback()
def list_runs(
    context: typer.Context,
    dataset: Annotated[
        str, typer.Option(help=f"One of: {', '.join(DATASETS)}. Default: all.")
    ] = "",
    archived: Annotated[bool, typer.Option("--archived", help="Show archived runs too.")] = False,
) -> None:
    """List the runs of a dataset, newest first; `*` marks the one that all pages show.

    That is the pinned run, or without one the finished run with the highest val mAP.
    """
    if context.invoked_subcommand:
        return
    wanted = get_dataset(dataset).name if dataset else None
    from coconut_attr.settings import settings
    from db.runs import run_summaries, runs_to_show
    from db.schema import open_for_reading

    engine = open_for_reading(settings().sqlalchemy_url)
    shown = {row["run_id"] for row in runs_to_show(engine)}
    rows = [
        row
        for row in run_summaries(engine)
        if row["kind"] == "trained"
        and wanted in (None, row["trained_on"])
        and (archived or not row["archived"])
    ]
    if not rows:
        raise UserError("there is no such run; train one: coconut-attr train")
    table = terminal.slim_table(
        "run",
        "model, trained on",
        "epochs",
        "mAP by eyes",
        "mAP against labels",
        caption="* shown everywhere; below a score: 95 % interval, attributes counted, split",
    )
    for row in rows:
        table.add_row(*_line(engine, row, row["run_id"] in shown))
    terminal.console().print(table)


def _line(engine: "Engine", row: "RowMapping", shown: bool) -> list[str | Text]:
    from db.runs import run_scores

    state = [word for word in ("pinned", "archived") if row[word]] + [row["status"]] * (
        row["status"] != "finished"
    )
    number = "\n".join([f"{row['run_id']}{'*' * shown}", *state])
    words = [row["name"], f"{row['backbone']}", row["trained_on"], row["note"]]
    scores = []
    for against in ("eyes", "labels"):
        of_run = (
            run_scores(engine, row["run_id"], row["evaluated_on"], row["split"], against)
            if row["split"]
            else []
        )
        scores.append(_score(next((s for s in of_run if s["name"] == "map"), None), row))
    text = "\n".join(printable(word.splitlines()[0]) for word in words if word)
    return [number, Text(text), f"{row['epochs']}", *scores]


def _score(score: "RowMapping | None", row: "RowMapping") -> str:
    if score is None or score["value"] is None:
        return "–"
    where = row["split"] if row["evaluated_on"] == row["trained_on"] else row["evaluated_on"]
    if score["attributes"]:  # an older version did not store it
        where = f"{score['attributes']} of {len(ATTRIBUTES)}, {where}"
    return f"{score['value']:.3f}\n{score['low']:.3f} to {score['high']:.3f}\n{where}"


@runs_commands.command()
def pin(run: RunNumber) -> None:
    """Show this run of its dataset everywhere, in place of any other."""
    from db.runs import pin as pin_run

    pin_run(_engine(), run)
    typer.echo(f"run {run} is pinned")


@runs_commands.command()
def unpin(run: RunNumber) -> None:
    """Show the best run by val again."""
    _describe(run, pinned=False)
    typer.echo(f"run {run} is not pinned")


@runs_commands.command()
def name(
    run: RunNumber, text: Annotated[str, typer.Argument(help="Its name; empty: none.")] = ""
) -> None:
    """Name a run."""
    _describe(run, name=text or None)
    typer.echo(printable(f"run {run} is named {text}" if text else f"run {run} has no name"))


@runs_commands.command()
def note(
    run: RunNumber, text: Annotated[str, typer.Argument(help="The note; empty: none.")] = ""
) -> None:
    """Note something about a run, in place of an earlier note."""
    _describe(run, note=text or None)
    typer.echo(f"run {run} has {'this' if text else 'no'} note")


@runs_commands.command()
def archive(run: RunNumber) -> None:
    """Offer a run no longer; its scores and files stay."""
    _describe(run, archived=True)
    typer.echo(f"run {run} is archived")


@runs_commands.command()
def unarchive(run: RunNumber) -> None:
    """Offer an archived run again."""
    _describe(run, archived=False)
    typer.echo(f"run {run} is not archived")


def _describe(run: int, **columns: object) -> None:
    from db.runs import describe_run

    describe_run(_engine(), run, **columns)


def _engine() -> "Engine":
    from coconut_attr.settings import settings
    from db.schema import open_existing

    return open_existing(settings().sqlalchemy_url)


def predict(
    images: Annotated[
        list[str],
        typer.Argument(help="Files of photos, folders of them, or URLs.", show_default=False),
    ],
    run: Annotated[
        int | None,
        typer.Option(help="Run; by default the pinned one, else the best by val.", min=1),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint file, in place of a run's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Predict the attributes of photos; those above their threshold are called present.

    A threshold is half way between 0.5 and the attribute's share in train. A photo that cannot be
    read is named on stderr, the others are predicted, and the exit code is 1.
    """
    predict_photos(images, lambda: checkpoint or checkpoint_of(run), as_json)


def checkpoint_of(run: int | None) -> Path:
    """Return the checkpoint of a run, or of the run to show; without a database, the newest one.

    Raises:
        UserError: the run has none.
    """
    from coconut_attr.files.run_files import sync
    from coconut_attr.model.checkpoint import newest_checkpoint
    from coconut_attr.model.checkpoint_metadata import epoch_of
    from coconut_attr.settings import settings
    from db.engine import DatabaseUnavailable
    from db.runs import get_run, runs_to_show
    from db.schema import open_for_reading

    try:
        engine = open_for_reading(settings().sqlalchemy_url)
    except DatabaseUnavailable:
        if run is not None:
            raise
        return newest_checkpoint(settings())
    row = get_run(engine, run) if run is not None else next(iter(runs_to_show(engine)), None)
    if row is None and run is None:
        return newest_checkpoint(settings())
    if row is None or not row["checkpoint"]:
        raise UserError(f"there is no run {run} with a checkpoint; see: coconut-attr runs")
    path = settings().data_dir / row["checkpoint"]
    sync(settings(), path, epoch_of)
    return path
