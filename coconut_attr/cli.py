"""The command line; db and flows add their commands through the entry point group.

The group is `coconut_attr.commands`: this layer must not import those above it. Whatever takes long
to import is imported by the functions that need it: help and mistakes are answered at once.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from importlib.metadata import entry_points, version
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from coconut_attr import terminal
from coconut_attr.attributes import ATTRIBUTES, GROUP_OF, GROUPS, OURS
from coconut_attr.datasets import DATASETS
from coconut_attr.errors import UserError, print_error, printable
from coconut_attr.files.proxies import prepare_proxies
from coconut_attr.model.backbones.names import BACKBONES, BackboneError, check_backbone

app = typer.Typer(
    help="COCONut attributes: visual-attribute labels from real annotations, and a model that "
    "predicts them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PREDICT_BATCH = 32
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_version(wanted: bool) -> None:
    """Print the program's name and version, and end."""
    if wanted:
        typer.echo(f"coconut-attributes {version('coconut-attributes')}")
        raise typer.Exit


@app.callback()
def common_options(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


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
    table = terminal.table("group", "attributes", caption="* ours: the report does not name it")
    for group, names in GROUPS.items():
        table.add_row(group, ", ".join(name + ("*" if name in OURS else "") for name in names))
    terminal.console().print(table)


@app.command("model-info")
def model_info(
    backbone: Annotated[
        str | None,
        typer.Option(
            help="One image encoder; by default all.", autocompletion=terminal.completion(BACKBONES)
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count the model's parameters with each image encoder, and how many of them are frozen."""
    if backbone:
        check_backbone(backbone)
    import torch

    from coconut_attr.model.network import AttributeModel, count_parameters

    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for name in [backbone] if backbone else BACKBONES:
        try:
            with torch.device("meta"):  # counting needs no values, which take long to initialise
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
    headers = ("backbone", "parameters", "trainable", "frozen", "frozen share", "tensors (frozen)")
    table = terminal.slim_table(*headers)
    for row in rows:
        numbers = (f"{row[key]:,}" for key in ("total", "trainable", "frozen"))
        tensors = f"{row['tensors']} ({row['frozen_tensors']})"
        table.add_row(row["backbone"], *numbers, f"{row['frozen_share']:.0%}", tensors)
    terminal.console().print(table)
    for message in missing:
        typer.echo(message, err=True)


def predict_photos(
    images: list[str], choose_checkpoint: Callable[[], Path], as_json: bool = False
) -> None:
    """Print the probabilities of photos: the command `predict` without its choice of a run.

    Args:
        images: files, folders, URLs.
        choose_checkpoint: called when there is a photo to predict.

    Raises:
        typer.Exit: a photo could not be read.
    """
    from coconut_attr.files.photos import find_photos, read_photo

    found = find_photos(images)
    for message in (*found.left_out, *found.failures):
        _warn(message)
    from coconut_attr.files.images import TRANSPARENT
    from coconut_attr.model.checkpoint import load_checkpoint
    from coconut_attr.model.predict import choose_device, predict_images
    from coconut_attr.settings import settings

    device = choose_device(settings().device)
    loaded = load_checkpoint(choose_checkpoint(), device)
    if loaded.dataset in DATASETS and not DATASETS[loaded.dataset].is_coconut:
        _warn(
            f"run {loaded.run} was trained on stand-in photos ({loaded.dataset}): its predictions "
            "say nothing about COCONut"
        )
    failed = bool(found.failures)
    predictions: dict[str, dict[str, float]] = {}
    for start in track(
        range(0, len(found.photos), PREDICT_BATCH),
        "photos",
        console=Console(stderr=True),
        transient=True,
    ):
        batch = {}
        for name in found.photos[start : start + PREDICT_BATCH]:
            try:
                batch[name] = read_photo(name)
            except (UserError, OSError) as error:
                failed = True
                _warn(str(error))
                continue
            if TRANSPARENT in batch[name].info:
                _warn(f"{name}: transparent pixels are shown on white")
        if batch:
            rows = predict_images(loaded.model, list(batch.values()), device).tolist()
            for name, row in zip(batch, rows, strict=True):
                predictions[name] = dict(zip(ATTRIBUTES, row, strict=True))
    thresholds = dict(zip(ATTRIBUTES, loaded.thresholds, strict=True))
    if as_json:
        content = [
            {
                "image": image,
                "run": loaded.run,
                "dataset": loaded.dataset,
                "probabilities": {name: round(p, 4) for name, p in by_name.items()},
                "present": [name for name, p in by_name.items() if p >= thresholds[name]],
            }
            for image, by_name in predictions.items()
        ]
        typer.echo(json.dumps(content, indent=2))
    else:
        for image, by_name in predictions.items():
            title = f"{printable(image)} (run {loaded.run} on {loaded.dataset})"
            terminal.console().print(_probabilities(by_name, thresholds, title))
    if failed:
        raise typer.Exit(1)


def _warn(message: str) -> None:
    typer.echo(f"coconut-attr: {printable(message)}", err=True)


def _probabilities(by_name: dict[str, float], thresholds: dict[str, float], title: str) -> Table:
    table = terminal.table(
        "group", "present", "absent", title=Text(title, "italic"), caption="with its probability"
    )
    for group, names in GROUPS.items():
        words: dict[bool, list[str]] = {True: [], False: []}
        for name in sorted(names, key=lambda name: -by_name[name]):
            words[by_name[name] >= thresholds[name]].append(f"{name} {by_name[name]:.2f}")
        table.add_row(group, "  ".join(words[True]), "  ".join(words[False]))
    return table


@cache
def all_commands() -> typer.Typer:
    """Return the command line with the commands of all layers."""
    for entry in sorted(entry_points(group="coconut_attr.commands"), key=lambda entry: entry.name):
        entry.load()(app)
    return app


def main() -> None:
    """Run `coconut-attr`; an error that the user can fix is one line on stderr and exit code 1."""
    # A name that the terminal's encoding lacks must not end a batch.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        prepare_proxies()
        all_commands()()
    except (UserError, OSError) as error:  # OSError: a folder that cannot be written, a full disk
        print_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
