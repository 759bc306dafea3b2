"""The command line. Commands of the store and of the flows are added by those layers, through entry points."""

import json
import sys
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import track
from rich.table import Table

from coconut_attr.attributes import ATTRIBUTES, GROUP_OF, GROUPS, OURS
from coconut_attr.errors import UserError
from coconut_attr.settings import settings

app = typer.Typer(
    help="COCONut attributes: visual-attribute labels from real annotations, and a model that predicts them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
PREDICT_BATCH = 32
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def attributes(as_json: AsJson = False) -> None:
    """List the 34 attributes in the order of the label vector."""
    if as_json:
        rows = [
            {"id": k, "name": name, "group": GROUP_OF[name], "ours": name in OURS}
            for k, name in enumerate(ATTRIBUTES)
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("group", "attributes", caption="* ours: the report does not name it")
    for group, names in GROUPS.items():
        table.add_row(group, ", ".join(name + ("*" if name in OURS else "") for name in names))
    Console().print(table)


@app.command("model-info")
def model_info(
    backbone: Annotated[str | None, typer.Option(help="One image encoder; by default all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count the model's parameters with each image encoder, and how many of them are frozen."""
    from coconut_attr.model.backbones.catalogue import BACKBONES
    from coconut_attr.model.backbones.registry import BackboneError
    from coconut_attr.model.network import AttributeModel, count_parameters

    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for name in [backbone] if backbone else BACKBONES:
        try:
            counts = count_parameters(AttributeModel(name, pretrained=False))
        except BackboneError as error:
            if backbone:
                raise
            missing.append(str(error))
            continue
        rows.append(
            {"backbone": name, **asdict(counts), "frozen_share": counts.frozen / counts.total}
        )
    if as_json:
        typer.echo(json.dumps(rows[0] if backbone else rows, indent=2))
        return
    table = Table(
        "backbone", "parameters", "trainable", "frozen", "frozen share", "tensors", "frozen tensors"
    )
    for row in rows:
        numbers = (f"{row[key]:,}" for key in ("total", "trainable", "frozen"))
        tensors = (str(row[key]) for key in ("tensors", "frozen_tensors"))
        table.add_row(row["backbone"], *numbers, f"{row['frozen_share']:.0%}", *tensors)
    Console().print(table)
    for message in missing:
        typer.echo(message, err=True)


@app.command()
def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            help="JPEG or PNG files, folders of them, or http(s) URLs.", show_default=False
        ),
    ],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint; by default the newest one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Predict the attributes of photos; those above their threshold, chosen on val, are called present.

    A photo that cannot be read is named, and the others are predicted; the exit code is 1 then.
    """
    from coconut_attr.files.photos import find_photos, read_photo

    photos = find_photos(images)
    from coconut_attr.model.checkpoint import load_checkpoint, newest_checkpoint
    from coconut_attr.model.predict import choose_device, predict_images

    device = choose_device(settings().device)
    loaded = load_checkpoint(checkpoint or newest_checkpoint(settings()), device)
    failed = False
    found: dict[str, list[float]] = {}
    for start in track(
        range(0, len(photos), PREDICT_BATCH), "photos", console=Console(stderr=True), transient=True
    ):
        batch = {}
        for name in photos[start : start + PREDICT_BATCH]:
            try:
                batch[name] = read_photo(name)
            except (UserError, OSError) as error:
                failed = True
                typer.echo(f"coconut-attr: {error}", err=True)
        if batch:
            rows = predict_images(loaded.model, list(batch.values()), device).tolist()
            found |= dict(zip(batch, rows, strict=True))
    limits = dict(zip(ATTRIBUTES, loaded.thresholds, strict=True))
    if as_json:
        content = [
            {"image": image, "run": loaded.run, "dataset": loaded.dataset,
             "probabilities": {name: round(p, 4) for name, p in zip(ATTRIBUTES, row, strict=True)},
             "present": [name for name, p in zip(ATTRIBUTES, row, strict=True) if p >= limits[name]]}
            for image, row in found.items()
        ]  # fmt: skip
        typer.echo(json.dumps(content, indent=2))
    else:
        for image, row in found.items():
            title = f"{image} (run {loaded.run} on {loaded.dataset})"
            Console().print(_probabilities(dict(zip(ATTRIBUTES, row, strict=True)), limits, title))
    if failed:
        raise typer.Exit(1)


def _probabilities(found: dict[str, float], limits: dict[str, float], title: str) -> Table:
    table = Table("group", "probability of each attribute (bold: present)", title=title)
    for group, names in GROUPS.items():
        ranked = sorted(names, key=lambda name: -found[name])
        words = (
            f"[bold]{n} {found[n]:.2f}[/]"
            if found[n] >= limits[n]
            else f"[dim]{n} {found[n]:.2f}[/]"
            for n in ranked
        )
        table.add_row(group, "  ".join(words))
    return table


def main() -> None:
    """Entry of `coconut-attr`: a mistake that the user can mend is told in one line, with exit code 1."""
    for entry in sorted(entry_points(group="coconut_attr.commands"), key=lambda entry: entry.name):
        entry.load()(app)
    try:
        app()
    except UserError as error:
        sys.exit(f"coconut-attr: {error}")
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(map(str, problem["loc"])).upper()
            print(f"coconut-attr: COCONUT_ATTR_{name}: {problem['msg']}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # a folder that cannot be written, a full disk
        sys.exit(f"coconut-attr: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
