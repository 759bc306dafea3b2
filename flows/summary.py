"""The summary of a run, as tables for a terminal and for the Prefect UI."""

from typing import Any

from rich.markup import escape
from rich.text import Text

from coconut_attr import terminal
from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.datasets import get_dataset
from coconut_attr.download.failures import hint
from coconut_attr.errors import printable
from coconut_attr.settings import settings
from db.downloads import download_failures
from db.runs import Against, run_scores
from db.sql import sql
from flows.database import engine
from flows.local import dashboard_url

Line = tuple[str, ...]


def scores(run_id: int, dataset: str, split: str = "test") -> list[Line]:
    """Return name, value, 95 % interval, baselines and n of a run's overall scores.

    Scores by eyes come first, where the split has judgements; mAP against labels is a by-line.
    """
    lines: list[Line] = []
    of_split = (engine(), run_id, dataset, split)
    targets: tuple[Against, ...] = ("eyes", "labels")
    for against in targets:
        rows = {row["name"]: row for row in run_scores(*of_split, against)}
        if not rows:
            continue
        suffix = f", {against_words(against, rows['map']['judged_by'])}"
        # Scores of an older version do not say how many.
        if (counted := rows["map"]["attributes"]) is not None:
            suffix = f" over {counted} of {len(ATTRIBUTES)} attributes{suffix}"
        n = f"{rows['map']['n']:,} cells, {rows['map']['images']:,} images"

        def value(name: str, rows: dict[str, Any] = rows) -> str:
            return _number(rows[name]["value"]) if name in rows else "–"

        baselines = f"prior {value('prior_map')}, linear probe {value('probe_map')}"
        if against == "labels" and lines:
            lines.append((f"mAP{suffix}", *_interval(rows["map"]), baselines, n))
            continue
        lines += [
            (f"mAP{suffix}", *_interval(rows["map"]), baselines, n),
            *_over_probe(rows, n),
            (
                "accuracy",
                *_interval(rows["accuracy"]),
                f"all absent {value('all_absent_accuracy')}, prior {value('prior_accuracy')}, "
                f"linear probe {value('probe_accuracy')}",
                n,
            ),
        ]
        if "balanced_accuracy" in rows:  # scores of an older version lack it
            probe = f"a constant 0.500, linear probe {value('probe_balanced_accuracy')}"
            balanced = _interval(rows["balanced_accuracy"])
            lines.append(("balanced accuracy", *balanced, probe, n))
    return lines


def against_words(against: str, judged_by: str | None) -> str:
    """Return what scores are against, in words."""
    if against == "labels":
        return "against our labels"
    who = {"human": "people", "ai": "an AI model", "both": "people and an AI model"}
    return f"by eyes ({who[judged_by or 'ai']})"


def _over_probe(rows: dict[str, Any], n: str) -> list[Line]:
    """Return the gain over the linear probe; empty if no attribute has both states."""
    gain = rows.get("map_over_probe")
    if gain is None or gain["value"] is None:
        return []
    interval = f"{gain['low']:+.3f} to {gain['high']:+.3f}"
    return [("mAP gain", f"{gain['value']:+.3f}", interval, "over the linear probe", n)]


def epochs(run_id: int) -> list[Line]:
    """Return epoch, loss, validation loss, accuracy and mAP of each epoch of a run."""
    rows = sql(engine(), "SELECT * FROM epoch_curve WHERE run_id = :run ORDER BY epoch", run=run_id)
    return [
        (str(row["epoch"]), *(_number(row[key]) for key in ("loss", "val_loss", "accuracy", "map")))
        for row in rows
    ]


def facts(dataset: str, run_id: int) -> list[Line]:
    """Return name and value of a run's data, model and files."""
    (data,) = sql(
        engine(), "SELECT * FROM dataset_summary WHERE dataset = :dataset", dataset=dataset
    )
    (states,) = sql(
        engine(),
        "SELECT SUM(present) AS present, SUM(absent) AS absent, SUM(unknown) AS unknown"
        " FROM dataset_coverage WHERE dataset = :dataset",
        dataset=dataset,
    )
    origins = sql(
        engine(),
        "SELECT DISTINCT origin FROM annotation_file WHERE dataset = :dataset",
        dataset=dataset,
    )
    (run,) = sql(engine(), "SELECT * FROM run WHERE id = :run", run=run_id)
    sources = "; ".join(_source(row["origin"]) for row in origins)
    images = [f"{data[key]:,} {key}" for key in ("downloaded", "failed")]
    frozen = run["total_parameters"] - run["trainable_parameters"]
    return [
        ("dataset", get_dataset(dataset).title),
        ("masks from", sources or "nowhere: captions and pixels only"),
        ("images", ", ".join([*images, f"{data['with_mask']:,} with a mask"])),
        ("labels", ", ".join(f"{states[key]:,} {key}" for key in ("present", "absent", "unknown"))),
        (
            "model",
            f"{run['backbone']}: {run['total_parameters']:,} parameters, {frozen:,} of them frozen",
        ),
        ("run", f"{run_id}, best epoch {run['best_epoch']}"),
        ("database", engine().url.render_as_string(hide_password=True)),
        ("checkpoint", str(settings().data_dir / run["checkpoint"])),
    ]


def show(dataset: str, run_id: int) -> None:
    """Print the summary of a run."""
    console = terminal.console()
    table = terminal.table("epoch", "loss", "val loss", "val accuracy", "val mAP", title="Training")
    for line in epochs(run_id):
        table.add_row(*line)
    console.print(table)
    show_scores(run_id, dataset)
    for name, value in facts(dataset, run_id):
        console.print(f"[bold]{name:<12}[/]{escape(value)}", soft_wrap=True, highlight=False)
    if not get_dataset(dataset).is_coconut:
        console.print(NOT_COCONUT, style="bold red")


def show_scores(run_id: int, dataset: str, split: str = "test") -> None:
    """Print the overall scores of a run on a split."""
    table = terminal.table(*_headers(split), title=f"Scores on the {split} split")
    for line in scores(run_id, dataset, split):
        table.add_row(*line)
    terminal.console().print(table)


def _headers(split: str) -> Line:
    return (f"{split} split", "value", "95 % interval", "trivial baselines", "n")


def show_downloads(dataset: str) -> None:
    """Print how many images of a dataset are stored, and why the others failed."""
    console = terminal.console()
    (data,) = sql(
        engine(), "SELECT * FROM dataset_summary WHERE dataset = :dataset", dataset=dataset
    )
    console.print(
        f"{dataset}: {data['downloaded']:,} of {data['images']:,} images are there, "
        f"{data['failed']:,} failed"
    )
    failures = download_failures(engine(), dataset)
    if failures:
        table = terminal.table(
            "cause",
            "images",
            "of them permanent",
            "what to do",
            "example",
            title="Failed downloads",
        )
        for row in failures:
            cells = (
                row["error_class"],
                f"{row['images']:,}",
                f"{row['permanent']:,}",
                hint(row["error_class"]),
            )
            table.add_row(*cells, Text(printable(row["example"])))
        console.print(table)
        console.print(
            f"to try all of them again: coconut-attr download {dataset} --retry-failed",
            highlight=False,
        )


NOT_COCONUT = (
    "THESE ARE NOT COCONut RESULTS: the dataset `sample` is the photographs of the scikit-image "
    "wheel, a stand-in for machines that reach neither a mirror nor the upstream hosts."
)


def markdown(dataset: str, run_id: int) -> str:
    """Return the summary of a run as Markdown."""
    parts = [] if get_dataset(dataset).is_coconut else [f"**{NOT_COCONUT}**"]
    parts += [
        _markdown_table(_headers("test"), scores(run_id, dataset)),
        _markdown_table(("epoch", "loss", "val loss", "val accuracy", "val mAP"), epochs(run_id)),
        "\n".join(f"- {name}: {value}" for name, value in facts(dataset, run_id)),
        f"[Curves and settings of the run]({dashboard_url()}/runs?runs={run_id}) on the dashboard",
    ]
    return "\n\n".join(parts)


def _markdown_table(header: Line, lines: list[Line]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ("---",) * len(header), *lines])


def _source(origin: str) -> str:
    return (
        f"{origin} (COCONut's own only if the mirror's are)"
        if origin.startswith("mirror")
        else origin
    )


def _interval(row: Any) -> Line:
    return _number(row["value"]), f"{_number(row['low'])} to {_number(row['high'])}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
