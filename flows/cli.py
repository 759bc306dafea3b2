"""The commands `run`, `download`, `extract`, `train`, `evaluate` and `up` of `coconut-attr`.

Prefect, torch, SQLAlchemy and the settings take long to import, so the functions that need them do.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.markup import escape

from coconut_attr import terminal
from coconut_attr.attributes import SPLITS, Split
from coconut_attr.datasets import DATASETS, get_dataset
from coconut_attr.errors import UserError
from coconut_attr.model.backbones.names import BACKBONES
from coconut_attr.training.config import AUTO, PROFILES
from coconut_attr.training.config import profile as named_profile

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from flows.local import Stack

QUICK_IMAGES = 300
DatasetArgument = Annotated[
    str,
    typer.Argument(
        help=f"One of: {', '.join(DATASETS)}.", autocompletion=terminal.completion(DATASETS)
    ),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="Image encoder; by default what has weights here.",
        autocompletion=terminal.completion([AUTO, *BACKBONES]),
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Epochs to train.", min=1)]


def register(app: typer.Typer) -> None:
    """Add this layer's commands to the command line."""
    app.command()(run)
    app.command()(download)
    app.command()(extract)
    app.command()(train)
    app.command()(evaluate)
    app.command()(up)


def run(
    dataset: Annotated[
        str,
        typer.Option(
            help=f"One of: {', '.join(DATASETS)}. Default: what can be reached.",
            autocompletion=terminal.completion(DATASETS),
        ),
    ] = "",
    limit: Annotated[int | None, typer.Option(help="Use this many images.", min=1)] = None,
    backbone: Backbone = None,
    epochs: Epochs = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train even if nothing has changed.")
    ] = False,
) -> None:
    """Run the main job once: annotations, images, labels, training, evaluation, summary."""
    console = terminal.console()
    named_profile("default", backbone=backbone)  # a mistake is reported before a server starts
    if dataset:
        name, reason = get_dataset(dataset).name, "as asked for"
    else:
        name, reason, limit = quick_start_data(limit)
    console.print(f"[bold]dataset[/] {name} ({reason})", highlight=False)
    with local_prefect(console):
        from flows.pipeline import pipeline
        from flows.summary import show

        show(name, pipeline(name, limit, backbone=backbone, epochs=epochs, reuse=not retrain))
    console.print("next: make up (Prefect UI, workers, dashboard)", highlight=False)


def download(
    dataset: DatasetArgument = "val5k",
    limit: Annotated[int | None, typer.Option(help="Stop at this many images.", min=1)] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Only try all failed images again.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Only compare every file with its checksum; fetch what differs."
        ),
    ] = False,
    refresh: Annotated[
        bool,
        typer.Option("--refresh", help="Read annotation files again that upstream has changed."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Fetch nothing: print sizes, requests, disk and hosts."),
    ] = False,
) -> None:
    """Fetch a dataset's annotations, captions and images; list the failures and their remedies.

    Without options, it fetches images that are new, whose file is missing, or that failed for a
    transient cause (a silent host, 503). --retry-failed also fetches those that failed for good
    (404, a wrong size). The exit code is 1 if an image of the dataset has failed.
    """
    if dry_run:
        from flows.dry_run import show_dry_run

        raise typer.Exit(0 if show_dry_run(get_dataset(dataset), limit) else 1)
    check_download(dataset, retry_failed=retry_failed, verify=verify)
    with local_prefect(terminal.console()):
        from flows.download import download as download_flow
        from flows.summary import show_downloads

        counts = download_flow(
            dataset, limit=limit, retry_failed=retry_failed, verify=verify, refresh=refresh
        )
        show_downloads(dataset)
    if counts["failed"]:
        raise typer.Exit(1)


def check_download(dataset: str, *, retry_failed: bool, verify: bool) -> None:
    """Check before a server starts that there is something to fetch.

    Raises:
        UserError: an unknown name, options that exclude each other, hosts that may not be asked, or
            no image to try again.
    """
    entry = get_dataset(dataset)
    from coconut_attr.download.fetcher import require_image_hosts
    from coconut_attr.download.queue import mode_of
    from coconut_attr.settings import settings
    from db.downloads import pending, plan

    mode = mode_of(retry_failed=retry_failed, verify=verify)
    if mode == "new":
        require_image_hosts(entry, settings())
        return
    with database() as engine:
        if not pending(engine, plan(engine, dataset, settings(), mode)):
            state = "failed" if retry_failed else "been downloaded"
            raise UserError(f"no image of {dataset} has {state}; see: coconut-attr status")


def extract(dataset: DatasetArgument = "val5k") -> None:
    """Label the images that have no labels by the current rules and label model."""
    get_dataset(dataset)
    from db.annotations import require_images

    with database() as engine:
        require_images(engine, dataset)
    with local_prefect(terminal.console()):
        from flows.extract import extract as extract_flow

        labelled = extract_flow(dataset)
    typer.echo(f"{dataset}: {labelled:,} images labelled")


def train(
    dataset: Annotated[
        str | None,
        typer.Argument(
            help=f"One of: {', '.join(DATASETS)}; by default val5k.",
            autocompletion=terminal.completion(DATASETS),
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="Named settings: default (by default), or report (the earlier run's).",
            autocompletion=terminal.completion(PROFILES),
        ),
    ] = None,
    backbone: Backbone = None,
    epochs: Epochs = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of weights, order and augmentation.", min=0, max=2**32 - 1),
    ] = None,
    resume: Annotated[
        int | None,
        typer.Option(help="Resume this interrupted run, with its own settings alone.", min=1),
    ] = None,
) -> None:
    """Train on a dataset and score the run on the test split.

    What is missing of the dataset is fetched and labelled first.
    """
    # Mistakes are reported before a server starts.
    get_dataset(dataset or "val5k")
    own_settings: dict[str, Any] = {
        "profile": profile,
        "backbone": backbone,
        "epochs": epochs,
        "seed": seed,
    }
    if resume is None:
        named_profile(profile or "default", backbone=backbone)
    else:
        check_resumable(resume, dataset, own_settings)
    with local_prefect(terminal.console()):
        from db import runs
        from flows.database import engine
        from flows.summary import show
        from flows.train import train as train_flow

        run_id = train_flow(dataset, **own_settings, resume=resume)
        run_row = runs.get_run(engine(), run_id)
        show(run_row["dataset"] if run_row else "", run_id)


def check_resumable(run_id: int, dataset: str | None, settings_given: dict[str, Any]) -> None:
    """Check before a server starts what the database says of a run that is to be resumed.

    Raises:
        flows.resumable.NotResumable: the message says why.
    """
    from flows.resumable import refuse_other_settings, unfinished_run

    with database() as engine:
        refuse_other_settings(engine, run_id, dataset, settings_given)
        unfinished_run(engine, run_id)


def evaluate(
    dataset: DatasetArgument = "val5k",
    run: Annotated[
        int | None,
        typer.Option(help="Run; by default the newest finished one on the dataset.", min=1),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="test; or val or train, on which labels and model were fitted.",
            autocompletion=terminal.completion(SPLITS),
        ),
    ] = "test",
) -> None:
    """Score a run on a split: by eyes where photos were judged, and against labels."""
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}; choose one of: {', '.join(SPLITS)}")
    get_dataset(dataset)
    from db.annotations import require_images
    from db.runs import run_to_score

    with database() as engine:
        require_images(engine, dataset)
        run_to_score(engine, dataset, run)
    with local_prefect(terminal.console()):
        from flows.evaluate import evaluate as evaluate_flow
        from flows.summary import show_scores

        show_scores(evaluate_flow(dataset, run, cast(Split, split)), dataset, split)


@contextmanager
def database() -> Iterator["Engine"]:
    """Open the database of the settings, for a check before a server starts."""
    from coconut_attr.settings import settings
    from db.schema import open_database

    engine = open_database(settings().sqlalchemy_url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def local_prefect(console: Console) -> Iterator[None]:
    """Start a Prefect server with the deployments for this command unless one runs."""
    from prefect.logging.handlers import APILogHandler

    from coconut_attr.settings import settings
    from db.engine import connect
    from db.schema import current_revision
    from flows.local import quiet_console, stack

    # Report an unusable database before a server starts.
    current_revision(connect(settings().sqlalchemy_url))
    with stack(settings().data_dir / "logs") as processes:
        start_local(processes, console)
        quiet_console(progress=not sys.stderr.isatty())
        try:
            yield
        finally:
            APILogHandler().flush()  # without a server, Prefect would retry for a minute


def quick_start_data(limit: int | None) -> tuple[str, str, int | None]:
    """Return the dataset, the reason and the image limit of `coconut-attr run`.

    Only this command falls back to `sample`: a deployment names its dataset.
    """
    from coconut_attr.annotations.upstream import HUB, mirrored, reachable
    from coconut_attr.settings import settings

    if settings().mirror:
        mirrored(HUB, settings())  # raises at once if the folder does not exist
        return "val5k", f"from COCONUT_ATTR_MIRROR={settings().mirror}", limit
    if settings().annotations_dir or reachable(settings()):
        return (
            "val5k",
            f"from the upstream hosts, at most {limit or QUICK_IMAGES} images",
            limit or QUICK_IMAGES,
        )
    terminal.console().print(
        "[bold red]The upstream hosts cannot be reached and COCONUT_ATTR_MIRROR is not set: the "
        "photographs of the scikit-image wheel stand in. THESE ARE NOT COCONut RESULTS.[/]"
    )
    return "sample", "NOT COCONut", limit


def start_local(processes: "Stack", console: Console) -> bool:
    """Start a Prefect server unless one answers, and register work pools and deployments.

    Returns:
        Whether a server was started.
    """
    from prefect.context import refresh_global_settings_context

    from coconut_attr.settings import SETTLED, settings
    from flows.local import api_url, healthy, launch_server, wait_for

    # Child processes run in the project's folder and would miss the `.env` of this folder.
    given = settings().model_dump(
        include=settings().model_fields_set | {"data_dir"}, exclude_none=True
    )
    os.environ |= {f"COCONUT_ATTR_{name.upper()}": str(value) for name, value in given.items()} | {
        SETTLED: "1"
    }
    os.environ["PREFECT_API_URL"] = url = api_url()
    # Else Prefect's clients in this process, which read the environment when it was imported, would
    # start a temporary server and register deployments there, wherever prefect.toml is not read.
    refresh_global_settings_context()
    started = launch_server(processes, settings().data_dir)
    from flows import deployments  # imported while the server starts

    wait_for(processes, lambda: healthy(f"{url}/health"), 120, f"the Prefect server at {url}")
    console.print(f"[bold]Prefect[/] {'started' if started else 'found'} at {url}", highlight=False)
    deployments.register()
    return started


def up() -> None:
    """Run the Prefect server and UI, workers and the dashboard until Ctrl-C.

    Flow runs that Ctrl-C interrupts go on with the next `up`.
    """
    from coconut_attr.settings import settings
    from flows.local import (
        HOST,
        ROOT,
        api_url,
        dashboard_url,
        healthy,
        prefect,
        require_free,
        stack,
        wait_for,
    )

    console = terminal.console()
    port, url = settings().dashboard_port, dashboard_url()
    require_free(port, "set COCONUT_ATTR_DASHBOARD_PORT")
    with stack(settings().data_dir / "logs") as processes:
        own_server = start_local(processes, console)
        workers = {"cpu": "worker-cpu", "gpu": "worker-gpu"}  # by pool
        for pool, worker in workers.items():
            processes.start(
                worker,
                *prefect("worker", "start", "--pool", pool, "--name", f"local-{pool}"),
            )
        processes.start(
            "dashboard",
            *(sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboard" / "app.py")),
            *("--server.address", HOST, "--server.port", str(port), "--server.headless", "true"),
        )
        wait_for(processes, lambda: healthy(f"{url}/_stcore/health"), 60, f"the dashboard at {url}")
        console.print(f"[bold]Prefect UI[/] {api_url().removesuffix('/api')}", highlight=False)
        console.print(f"[bold]dashboard[/]  {url}", highlight=False)
        console.print(f"[bold]logs[/]       {escape(str(processes.log_dir))}", highlight=False)
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
            if own_server:  # else other workers may have the flow runs
                processes.stop(*workers.values())
                for name in queue_stopped_runs():
                    console.print(f"goes on with the next `up`: {name}", highlight=False)


def queue_stopped_runs() -> list[str]:
    """Queue the flow runs of workers that have been stopped; return their names."""
    import httpx
    from prefect.client.orchestration import get_client

    from flows.automations import queue_stopped

    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        return queue_stopped(client)
    return []  # the server has ended
