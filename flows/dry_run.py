"""The output of `coconut-attr download --dry-run`."""

from rich.filesize import decimal
from rich.markup import escape

from coconut_attr import terminal
from coconut_attr.datasets import Dataset
from coconut_attr.download.dry_run import dry_run
from coconut_attr.settings import settings


def show_dry_run(dataset: Dataset, limit: int | None) -> bool:
    """Print what a download would fetch; return whether it could be made now."""
    planned = dry_run(dataset, settings(), limit)
    table = terminal.table(
        "to fetch", "files", "size", "requests", title=f"{dataset.name}: nothing is fetched"
    )
    for part in planned.parts:
        if part.error:
            table.add_row(part.what, "?", "?", escape(part.error))
        else:
            table.add_row(
                part.what, f"{part.files:,}", decimal(part.bytes), f"about {part.requests:,}"
            )
    console = terminal.console()
    console.print(table)
    for address, answered in planned.hosts.items():
        console.print(f"{address} {'answers' if answered else 'DOES NOT ANSWER'}", highlight=False)
    enough = "" if planned.disk < planned.free else ": TOO LITTLE"
    console.print(
        f"disk: about {decimal(planned.disk)} in {escape(str(settings().data_dir))}, where"
        f" {decimal(planned.free)} are free{enough}",
        highlight=False,
    )
    return planned.possible
