"""The commands `coconut-attr labels`."""

import math
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from coconut_attr import terminal
from coconut_attr.attributes import ATTRIBUTES, SOURCES
from coconut_attr.datasets import get_dataset
from coconut_attr.errors import UserError
from db.commands.export import export
from db.commands.fit import fit

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from coconut_attr.evaluation.intervals import Interval
    from coconut_attr.judgements.label_agreement import Agreement
    from db.labels import States

#: Who judged, by kind.
JUDGES = {"ai": "an AI model", "human": "people"}

labels_commands = typer.Typer(
    help="Attribute labels: their accuracy, and exports.", no_args_is_help=True
)


labels_commands.command()(export)
labels_commands.command()(fit)


@labels_commands.command()
def report(
    dataset: Annotated[str, typer.Argument(help="Dataset with judged images.")] = "val5k",
    part: Annotated[
        str,
        typer.Option(
            help="Judged images of train and val (dev, on which rules are tuned), or of test."
        ),
    ] = "dev",
    source: Annotated[
        str, typer.Option(help="Labels to show by attribute: combined, or those of one source.")
    ] = "combined",
) -> None:
    """Measure the stored labels against judgements: by source with evidence, by attribute."""
    if source not in (*SOURCES, "combined"):
        raise UserError(f"unknown source {source!r}; choose one of: combined, {', '.join(SOURCES)}")
    if part not in ("dev", "test"):
        raise UserError(f"unknown part {part!r}; choose dev or test")
    name = get_dataset(dataset).name
    from coconut_attr.judgements.label_agreement import agree
    from coconut_attr.labels.label_model import load_label_model
    from coconut_attr.settings import settings
    from db.judgements import kinds_of_truth, truth_of_part
    from db.labels import source_labels, unjudged_states
    from db.schema import open_for_reading

    engine = open_for_reading(settings().sqlalchemy_url)
    truth = truth_of_part(engine, name, part)  # type: ignore[arg-type]
    if not truth:
        raise UserError(
            f"no image of the {part} part of {name} is judged; to add judgements:"
            " coconut-attr judgements import"
        )
    labels = unjudged_states(engine, name, list(truth), load_label_model())
    if not labels:
        raise UserError(
            f"no judged image of the {part} part of {name} is labelled; to label it:"
            " coconut-attr run"
        )
    truth = {coco_id: states for coco_id, states in truth.items() if coco_id in labels}
    judges = " and ".join(JUDGES[kind] for kind in sorted(kinds_of_truth(engine, name, part)))  # type: ignore[arg-type]
    console = terminal.console()
    console.print(
        f"{name}: {len(truth)} images of the {part} part, judged by {judges}, "
        f"{len(truth) * len(ATTRIBUTES):,} cells"
    )
    table = terminal.table(
        "source",
        "known cells",
        "present: right",
        "macro",
        "absent: right",
        "macro",
        "recall of present",
        caption="95 % intervals: bootstrap over images, or Wilson's if that is wider",
    )
    by_source = {**source_labels(engine, name, list(truth)), "combined": labels}
    for origin, states in by_source.items():
        if states:
            table.add_row(origin, *_summary(states, truth))
    table.add_section()
    table.add_row("one state for all", *_baselines(truth))
    console.print(table)
    _print_estimates(console, engine, name, truth, part)
    table = terminal.table(
        "attribute", "known", "present: right", "absent: right", "recall of present", title=source
    )
    for row in agree(by_source[source], truth):
        table.add_row(row.attribute, f"{row.known:.0%}", *_cells(row))
    console.print(table)


def _print_estimates(
    console: Console, engine: "Engine", dataset: str, truth: "States", part: str
) -> None:
    """Print how right the label model's probabilities are."""
    import numpy as np

    from coconut_attr.evaluation.scores import evaluate
    from coconut_attr.labels.label_model import load_label_model
    from db.labels import unjudged_labels

    labels = unjudged_labels(engine, dataset, list(truth), load_label_model())
    rows = {coco_id: [p for p, _ in row if p is not None] for coco_id, row in labels.items()}
    rows = {coco_id: row for coco_id, row in rows.items() if len(row) == len(ATTRIBUTES)}
    if not rows:
        console.print("labels of an older version have no probabilities; run extract again")
        return
    states = np.array([truth[coco_id] for coco_id in rows], np.int8)
    known = states >= 0
    prior = (states == 1).sum(0) / np.maximum(1, known.sum(0))
    scores = evaluate(states, np.array(list(rows.values()), float), prior).overall
    names = {
        "map": "mAP",
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced accuracy",
        "ece": "calibration error",
    }
    figures = ", ".join(
        f"{title} {scores[name].value:.3f} ({scores[name].low:.3f} to {scores[name].high:.3f})"
        for name, title in names.items()
    )
    console.print(
        f"probabilities of the combined labels, n = {scores['map'].n:,} cells, mAP over "
        f"{scores['map'].attributes} of {len(ATTRIBUTES)} attributes: {figures}; "
        f"constant {scores['prior_map'].value:.3f} mAP, majority "
        f"{scores['prior_accuracy'].value:.3f} accuracy",
        soft_wrap=True,
        highlight=False,
    )
    if part == "dev":
        console.print("the label model that is shipped was fitted on these images")


def _summary(states: "States", truth: "States") -> list[str]:
    from coconut_attr.judgements.label_agreement import agree, intervals, overall

    row, interval = overall(agree(states, truth)), intervals(states, truth)
    return [
        f"{row.coverage:.1%}",
        f"{_share(row.present_micro, interval['present_micro'])} of {row.present}",
        _share(row.present_macro, interval["present_macro"]),
        f"{_share(row.absent_micro, interval['absent_micro'])} of {row.absent}",
        _share(row.absent_macro, interval["absent_macro"]),
        _share(row.recall_macro, interval["recall_macro"]),
    ]


def _baselines(truth: "States") -> list[str]:
    """Return the scores of calling every cell present, and of calling every cell absent."""
    from coconut_attr.judgements.label_agreement import agree, overall

    present, absent = (
        overall(agree(dict.fromkeys(truth, [state] * len(ATTRIBUTES)), truth)) for state in (1, 0)
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
