"""The command line. Commands of the store and of the flows are added by those layers, through entry points."""

import json
import sys
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from coconut_attr.attributes import ATTRIBUTES, GROUP_OF, GROUPS, OURS
from coconut_attr.errors import UserError
from coconut_attr.settings import settings

app = typer.Typer(
    help="COCONut attributes: visual-attribute labels from real annotations, and a model that predicts them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def attributes(as_json: AsJson = False) -> None:
    """List the 34 attributes in the order of the label vector."""
    if as_json:
        rows = [
            {"id": k, "name": name, "group": GROUP_OF[name], "ours": name in OURS} for k, name in enumerate(ATTRIBUTES)
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("group", "attributes", caption="* ours: the report does not name it")
    for group, names in GROUPS.items():
        table.add_row(group, ", ".join(name + ("*" if name in OURS else "") for name in names))
    Console().print(table)


@app.command("model-info")
def model_info(
    backbone: Annotated[str, typer.Option(help="Image encoder: resnet50, efficientnet_lite0, vit_b_16.")] = "resnet50",
    as_json: AsJson = False,
) -> None:
    """Count the model's parameters; the default is the report's model."""
    from coconut_attr.model import AttributeModel, count_parameters

    counts = asdict(count_parameters(AttributeModel(backbone, pretrained=False)))
    if as_json:
        typer.echo(json.dumps({"backbone": backbone, **counts}, indent=2))
        return
    table = Table("backbone", backbone)
    for name, value in counts.items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    Console().print(table)


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="JPEG or PNG files.", show_default=False)],
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint; by default the newest one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Predict the attributes of image files; those above their threshold, chosen on val, are called present."""
    for image in images:
        if not image.is_file():
            raise UserError(f"{image} is not a file")
    from coconut_attr.checkpoint import load_checkpoint, newest_checkpoint
    from coconut_attr.predict import choose_device, predict_images

    device = choose_device(settings().device)
    loaded = load_checkpoint(checkpoint or newest_checkpoint(settings().data_dir), device)
    rows = predict_images(loaded.model, images, device)
    limits = dict(zip(ATTRIBUTES, loaded.thresholds, strict=True))
    if as_json:
        content = [
            {"image": str(image), "run": loaded.run, "dataset": loaded.dataset,
             "probabilities": {name: round(float(p), 4) for name, p in zip(ATTRIBUTES, row, strict=True)},
             "present": [name for name, p in zip(ATTRIBUTES, row, strict=True) if p >= limits[name]]}
            for image, row in zip(images, rows, strict=True)
        ]  # fmt: skip
        typer.echo(json.dumps(content, indent=2))
        return
    console = Console()
    for image, row in zip(images, rows, strict=True):
        found = dict(zip(ATTRIBUTES, row, strict=True))
        table = Table("group", "probability of each attribute", title=f"{image} (run {loaded.run} on {loaded.dataset})")
        for group, names in GROUPS.items():
            ranked = sorted(names, key=lambda name: -found[name])
            words = (
                f"[bold]{n} {found[n]:.2f}[/]" if found[n] >= limits[n] else f"[dim]{n} {found[n]:.2f}[/]"
                for n in ranked
            )
            table.add_row(group, "  ".join(words))
        console.print(table)


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
    except KeyboardInterrupt:
        sys.exit(130)
