"""Commands about labels, added to `coconut-attr labels`."""

import math
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from coconut_attr.attributes import ATTRIBUTES, CODES, INDEX
from coconut_attr.errors import UserError
from coconut_attr.evidence import Evidence
from coconut_attr.extract import combine
from coconut_attr.gold import Agreement, agree, intervals, load_gold, overall
from coconut_attr.intervals import Interval
from coconut_attr.registry import dataset as registered
from coconut_attr.settings import settings
from db.export import export
from db.queries import evidence_of, labels_of
from db.schema import open_for_reading

labels_commands = typer.Typer(help="Attribute labels: how right they are, and exports.", no_args_is_help=True)
labels_commands.command()(export)
SOURCES = ("panoptic", "pixels", "caption")
States = dict[int, list[int]]


def combined_labels(engine: Engine, dataset: str, coco_ids: list[int]) -> States:
    """COCO image id -> the 34 states (1, 0, -1) that are stored for it."""
    found: States = {}
    for row in labels_of(engine, dataset, coco_ids):
        states = found.setdefault(row["coco_id"], [-1] * len(ATTRIBUTES))
        states[INDEX[row["attribute"]]] = CODES[row["state"]]
    return found


def source_labels(engine: Engine, dataset: str, coco_ids: list[int]) -> dict[str, States]:
    """The labels that each source would give alone, from the stored evidence."""
    pieces: dict[tuple[str, int], list[Evidence]] = {}
    for row in evidence_of(engine, dataset, coco_ids):
        piece = Evidence(row["attribute"], row["state"], row["source"], row["confidence"], row["detail"])
        pieces.setdefault((row["source"], row["coco_id"]), []).append(piece)
    found: dict[str, States] = {source: {} for source in SOURCES}
    for (source, coco_id), evidence in pieces.items():
        found[source][coco_id] = [CODES[label.state] for label in combine(evidence)]
    return found


@labels_commands.command()
def report(
    dataset: Annotated[str, typer.Argument(help="Dataset that holds gold images.")] = "val5k",
    part: Annotated[
        str, typer.Option(help="Part of the gold set: dev (40 images, the rules were set on it) or test (20).")
    ] = "dev",
    source: Annotated[
        str, typer.Option(help="Whose labels to show by attribute: combined, or one source's.")
    ] = "combined",
) -> None:
    """Measure the stored labels against the gold set, for each source and combined, and for each attribute."""
    if source not in (*SOURCES, "combined"):
        raise UserError(f"unknown source {source!r}; choose one of: combined, {', '.join(SOURCES)}")
    if part not in ("dev", "test"):
        raise UserError(f"unknown part {part!r} of the gold set; choose one of: dev, test")
    engine = open_for_reading(settings().sqlalchemy_url)
    gold = load_gold(part)  # type: ignore[arg-type]
    name = registered(dataset).name
    labels = combined_labels(engine, name, list(gold))
    if not labels:
        raise UserError(f"no labelled image of {name} is in the gold set; to label it: coconut-attr run")
    gold = {coco_id: states for coco_id, states in gold.items() if coco_id in labels}
    console = Console()
    console.print(f"{name}: {len(gold)} images of the gold set's {part} part, {len(gold) * len(ATTRIBUTES):,} cells")
    table = Table("source", "known cells", "present: right", "macro", "absent: right", "macro", "recall of present",
                  caption="95 % intervals: bootstrap over images, and Wilson's where that is wider")  # fmt: skip
    found = {**source_labels(engine, name, list(gold)), "combined": labels}
    for key, states in found.items():
        table.add_row(key, *_summary(states, gold))
    table.add_section()
    table.add_row("one state for all", *_baselines(gold))
    console.print(table)
    table = Table("attribute", "known", "present: right", "absent: right", "recall of present", title=source)
    for row in agree(found[source], gold):
        table.add_row(row.attribute, f"{row.known:.0%}", *_cells(row))
    console.print(table)


def _summary(states: States, gold: States) -> list[str]:
    row, interval = overall(agree(states, gold)), intervals(states, gold)
    return [
        f"{row.coverage:.1%}",
        f"{_share(row.present_micro, interval['present_micro'])} of {row.present}",
        _share(row.present_macro, interval["present_macro"]),
        f"{_share(row.absent_micro, interval['absent_micro'])} of {row.absent}",
        _share(row.absent_macro, interval["absent_macro"]),
        _share(row.recall_macro, interval["recall_macro"]),
    ]


def _baselines(gold: States) -> list[str]:
    """What calling every cell present reaches, and what calling every cell absent does."""
    present, absent = (overall(agree(dict.fromkeys(gold, [state] * len(ATTRIBUTES)), gold)) for state in (1, 0))
    return [
        _share(present.coverage),
        f"{_share(present.present_micro)} of {present.present}",
        _share(present.present_macro),
        f"{_share(absent.absent_micro)} of {absent.absent}",
        _share(absent.absent_macro),
        _share(present.recall_macro),
    ]


def _cells(row: Agreement) -> list[str]:
    return [f"{row.present_right} of {row.present}", f"{row.absent_right} of {row.absent}", _share(row.recall)]


def _share(value: float, interval: Interval | None = None) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.1%}" + (
        f" ({interval[0]:.1%} to {interval[1]:.1%})" if interval and interval[0] <= interval[1] else ""
    )
