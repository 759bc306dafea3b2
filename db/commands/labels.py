"""The commands `coconut-attr labels`."""

import math
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from coconut_attr.attributes import ATTRIBUTES, SOURCES
from coconut_attr.datasets import get_dataset
from coconut_attr.errors import UserError
from db.commands.export import export

if TYPE_CHECKING:
    from coconut_attr.evaluation.intervals import Interval
    from coconut_attr.labels.gold.agreement import Agreement
    from db.labels import States

labels_commands = typer.Typer(
    help="Attribute labels: their accuracy, and exports.", no_args_is_help=True
)


labels_commands.command()(export)


@labels_commands.command()
def report(
    dataset: Annotated[str, typer.Argument(help="Dataset with images of the gold set.")] = "val5k",
    part: Annotated[
        str,
        typer.Option(
            help="Part of the gold set: dev (40 images, used to write the rules) or test (20)."
        ),
    ] = "dev",
    source: Annotated[
        str, typer.Option(help="Labels to show by attribute: combined, or those of one source.")
    ] = "combined",
) -> None:
    """Measure the stored labels against the gold set: by source with evidence, by attribute."""
    if source not in (*SOURCES, "combined"):
        raise UserError(f"unknown source {source!r}; choose one of: combined, {', '.join(SOURCES)}")
    if part not in ("dev", "test"):
        raise UserError(f"unknown part {part!r} of the gold set; choose dev or test")
    name = get_dataset(dataset).name
    from coconut_attr.labels.gold.agreement import agree, load_gold
    from coconut_attr.settings import settings
    from db.labels import combined_labels, source_labels
    from db.schema import open_for_reading

    engine = open_for_reading(settings().sqlalchemy_url)
    gold = load_gold(part)  # type: ignore[arg-type]
    labels = combined_labels(engine, name, list(gold))
    if not labels:
        raise UserError(
            f"no labelled image of {name} is in the gold set; to label it: coconut-attr run"
        )
    gold = {coco_id: states for coco_id, states in gold.items() if coco_id in labels}
    console = Console()
    console.print(
        f"{name}: {len(gold)} images of the gold set's {part} part, "
        f"{len(gold) * len(ATTRIBUTES):,} cells"
    )
    table = Table(
        "source",
        "known cells",
        "present: right",
        "macro",
        "absent: right",
        "macro",
        "recall of present",
        caption="95 % intervals: bootstrap over images, or Wilson's if that is wider",
    )
    by_source = {**source_labels(engine, name, list(gold)), "combined": labels}
    for origin, states in by_source.items():
        if states:
            table.add_row(origin, *_summary(states, gold))
    table.add_section()
    table.add_row("one state for all", *_baselines(gold))
    console.print(table)
    table = Table(
        "attribute", "known", "present: right", "absent: right", "recall of present", title=source
    )
    for row in agree(by_source[source], gold):
        table.add_row(row.attribute, f"{row.known:.0%}", *_cells(row))
    console.print(table)


def _summary(states: "States", gold: "States") -> list[str]:
    from coconut_attr.labels.gold.agreement import agree, intervals, overall

    row, interval = overall(agree(states, gold)), intervals(states, gold)
    return [
        f"{row.coverage:.1%}",
        f"{_share(row.present_micro, interval['present_micro'])} of {row.present}",
        _share(row.present_macro, interval["present_macro"]),
        f"{_share(row.absent_micro, interval['absent_micro'])} of {row.absent}",
        _share(row.absent_macro, interval["absent_macro"]),
        _share(row.recall_macro, interval["recall_macro"]),
    ]


def _baselines(gold: "States") -> list[str]:
    """Return the scores of calling every cell present, and of calling every cell absent."""
    from coconut_attr.labels.gold.agreement import agree, overall

    present, absent = (
        overall(agree(dict.fromkeys(gold, [state] * len(ATTRIBUTES)), gold)) for state in (1, 0)
    )
    return [
        _share(present.coverage),
        f"{_share(present.present_micro)} of {present.present}",
        _share(present.present_macro),
        f"{_share(absent.absent_micro)} of {absent.absent}",
        _share(absent.absent_macro),
        _share(present.recall_macro),
    ]


def _cells(row: "Agreement") -> list[str]:
    return [
        f"{row.present_right} of {row.present}",
        f"{row.absent_right} of {row.absent}",
        _share(row.recall),
    ]


def _share(value: float, interval: "Interval | None" = None) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.1%}" + (
        f" ({interval[0]:.1%} to {interval[1]:.1%})"
        if interval and interval[0] <= interval[1]
        else ""
    )
