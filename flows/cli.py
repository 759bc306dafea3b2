"""The commands `run`, `download`, `train` and `up`, added to `coconut-attr`.

Prefect and torch are imported when one is given.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from coconut_attr.annotations.upstream import HUB, mirrored, reachable
from coconut_attr.datasets import DATASETS, get_dataset
from coconut_attr.settings import SETTLED, settings
from db import runs

if TYPE_CHECKING:
    from flows.local import Stack

QUICK_IMAGES = 300


def register(app: typer.Typer) -> None:
    """Add this layer's commands to the command line."""
    app.command()(run)
    app.command()(download)
    app.command()(train)
    app.command()(up)


def run(
    dataset: Annotated[
        str, typer.Option(help=f"One of: {', '.join(DATASETS)}; by default what can be reached.")
    ] = "",
    limit: Annotated[int | None, typer.Option(help="Use this many images.", min=1)] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Image encoder; by default what has weights here.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs to train.", min=1)] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train even if nothing has changed.")
    ] = False,
) -> None:
    """Run the main job once: annotations, images, labels, training, evaluation, summary."""
    console = Console()
    chosen, why, limit = (
        (get_dataset(dataset).name, "as asked for", limit) if dataset else quick_start_data(limit)
    )
    console.print(f"[bold]dataset[/] {chosen} ({why})", highlight=False)
    with local_prefect(console):
        from flows.pipeline import pipeline
        from flows.summary import show

        show(
            chosen,
            pipeline(chosen, limit=limit, backbone=backbone, epochs=epochs, reuse=not retrain),
        )
    console.print("next: make up (Prefect UI, workers, dashboard)", highlight=False)


def download(
    dataset: Annotated[str, typer.Argument(help=f"One of: {', '.join(DATASETS)}.")] = "val5k",
    limit: Annotated[int | None, typer.Option(help="Stop at this many images.", min=1)] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try just the failed images, all of them.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Just read every file again, compare it, and fetch what differs."
        ),
    ] = False,
    refresh: Annotated[
        bool,
        typer.Option("--refresh", help="Read annotation files anew that upstream has changed."),
    ] = False,
) -> None:
    """Fetch a dataset's annotations, captions and images, and tell what failed and what to do about it.

    Without options: images that have not been tried or have lost their file, and those that failed for a cause that
    may pass (a silent host, 503); not those with a permanent answer (404, a wrong size), which --retry-failed tries.
    """
    get_dataset(dataset)  # a mistake is told before a server is started
    with local_prefect(Console()):
        from flows.download import download as download_flow
        from flows.summary import show_downloads

        download_flow(
            dataset, limit=limit, retry_failed=retry_failed, verify=verify, refresh=refresh
        )
        show_downloads(dataset)


def train(
    dataset: Annotated[str, typer.Argument(help=f"One of: {', '.join(DATASETS)}.")] = "val5k",
    profile: Annotated[
        str, typer.Option(help="Named settings: default, or report (the earlier run's).")
    ] = "default",
    backbone: Annotated[
        str | None, typer.Option(help="Image encoder; by default what has weights here.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs to train.", min=1)] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, order and augmentation.", min=0, max=2**32 - 1)
    ] = None,
    resume: Annotated[
        int | None,
        typer.Option(help="Go on with this interrupted run, by its own settings.", min=1),
    ] = None,
) -> None:
    """Train on a dataset (what is missing of it is fetched and labelled first), and score the run on the test split."""
    get_dataset(dataset)
    with local_prefect(Console()):
        from flows.database import engine
        from flows.summary import show
        from flows.train import train as train_flow

        run_id = train_flow(
            dataset, profile=profile, backbone=backbone, epochs=epochs, seed=seed, resume=resume
        )
        run_row = runs.get_run(engine(), run_id)
        show(
            run_row["dataset"] if run_row else dataset, run_id
        )  # a resumed run's dataset is its own


@contextmanager
def local_prefect(console: Console) -> Iterator[None]:
    """A Prefect server with the deployments, the one that is there or one for this command alone."""
    from prefect.logging.handlers import APILogHandler

    from db.engine import connect
    from db.schema import current_revision
    from flows.local import quiet_console, stack

    current_revision(
        connect(settings().sqlalchemy_url)
    )  # a mistake is told before a server is started
    with stack(settings().data_dir / "logs") as processes:
        start_local(processes, console)
        quiet_console(progress=not sys.stderr.isatty())
        try:
            yield
        finally:
            APILogHandler().flush()  # before the server stops: afterwards it would be tried for a minute


def quick_start_data(limit: int | None) -> tuple[str, str, int | None]:
    """Dataset, reason and image limit of the quick start. A named deployment never falls back like this."""
    if settings().mirror:
        mirrored(HUB, settings())  # tells at once if there is no such folder
        return "val5k", f"from COCONUT_ATTR_MIRROR={settings().mirror}", limit
    if settings().annotations_dir or reachable(settings()):
        return (
            "val5k",
            f"from the upstream hosts, at most {limit or QUICK_IMAGES} images",
            limit or QUICK_IMAGES,
        )
    Console().print(
        "[bold red]The upstream hosts cannot be reached and COCONUT_ATTR_MIRROR is not set: the photographs of the "
        "scikit-image wheel stand in. THESE ARE NOT COCONut RESULTS.[/]"
    )
    return "sample", "NOT COCONut", limit


def start_local(processes: "Stack", console: Console) -> None:
    """Start what is missing of server, work pools and deployments."""
    from flows.local import api_url, healthy, launch_server, wait_for

    # Children run in the project's folder, whatever folder (and its .env) this command was given in.
    given = settings().model_dump(
        include=settings().model_fields_set | {"data_dir"}, exclude_none=True
    )
    os.environ |= {f"COCONUT_ATTR_{name.upper()}": str(value) for name, value in given.items()} | {
        SETTLED: "1"
    }
    os.environ["PREFECT_API_URL"] = url = api_url()
    started = launch_server(processes, settings().data_dir)
    from flows import deployments  # imports torch, which takes seconds: the server starts meanwhile

    wait_for(processes, lambda: healthy(f"{url}/health"), 120, f"the Prefect server at {url}")
    console.print(f"[bold]Prefect[/] {'started' if started else 'found'} at {url}", highlight=False)
    deployments.register()


def up() -> None:
    """Prefect server and UI, workers and the dashboard, until Ctrl-C."""
    from flows.local import HOST, ROOT, api_url, healthy, prefect, require_free, stack, wait_for

    console = Console()
    port = settings().dashboard_port
    url = f"http://{HOST}:{port}"
    require_free(port, "set COCONUT_ATTR_DASHBOARD_PORT")
    with stack(settings().data_dir / "logs") as processes:
        start_local(processes, console)
        for pool in ("cpu", "gpu"):
            processes.start(
                f"worker-{pool}",
                *prefect("worker", "start", "--pool", pool, "--name", f"local-{pool}"),
            )
        processes.start(
            "dashboard", sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboard" / "app.py"),
            "--server.address", HOST, "--server.port", str(port), "--server.headless", "true",
        )  # fmt: skip
        wait_for(processes, lambda: healthy(f"{url}/_stcore/health"), 60, f"the dashboard at {url}")
        console.print(f"[bold]Prefect UI[/] {api_url().removesuffix('/api')}", highlight=False)
        console.print(f"[bold]dashboard[/]  {url}", highlight=False)
        console.print(f"[bold]logs[/]       {processes.log_dir}", highlight=False)
        console.print(
            "queue the real job in another terminal: prefect deployment run train/val5k",
            highlight=False,
        )
        console.print("Ctrl-C stops everything", highlight=False)
        try:
            while True:
                processes.check()
                time.sleep(1)
        except KeyboardInterrupt:
            console.print("stopping")
