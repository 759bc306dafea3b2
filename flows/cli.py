"""The commands `run` and `up`, added to `coconut-attr`."""

import os
import sys
import time
from typing import Annotated

import typer
from rich.console import Console

from coconut_attr.registry import DATASETS
from coconut_attr.settings import settings
from coconut_attr.sources.upstream import reachable
from flows.local import (
    HOST,
    POOLS,
    ROOT,
    Stack,
    api_url,
    healthy,
    prefect,
    quiet_user_errors,
    register_deployments,
    stack,
    start_server,
    wait_for,
)  # fmt: skip

QUICK_IMAGES = 300


def register(app: typer.Typer) -> None:
    """Add this layer's commands to the command line."""
    app.command()(run)
    app.command()(up)


def run(
    dataset: Annotated[str, typer.Option(help=f"One of: {', '.join(DATASETS)}; by default what can be reached.")] = "",
    limit: Annotated[int | None, typer.Option(help="Use this many images.", min=1)] = None,
    backbone: Annotated[str | None, typer.Option(help="Image encoder; by default what has weights here.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs to train.", min=1)] = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train even if nothing has changed.")] = False,
) -> None:
    """Run the main job once: annotations, images, labels, training, evaluation, summary."""
    console = Console()
    if dataset:
        chosen, why, first = dataset, "as asked for", limit
    else:
        chosen, why, first = quick_start_data(limit)
    console.print(f"[bold]dataset[/] {chosen} ({why})", highlight=False)
    with stack(settings().data_dir / "logs") as processes:
        start_local(processes, console)
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING" if console.is_terminal else "INFO")
        quiet_user_errors()
        from flows.pipeline import pipeline  # torch and the flows: only now, the server is starting meanwhile
        from flows.summary import show

        run_id = pipeline(chosen, limit=first, backbone=backbone, epochs=epochs, reuse=not retrain)
        show(chosen, run_id)
    console.print("next: make up (Prefect UI, workers, dashboard)", highlight=False)


def quick_start_data(limit: int | None) -> tuple[str, str, int | None]:
    """Dataset, reason and image limit of the quick start. A named deployment never falls back like this."""
    if settings().mirror:
        return "val5k", f"from COCONUT_ATTR_MIRROR={settings().mirror}", limit
    if settings().annotations_dir or reachable(settings()):
        return "val5k", f"from the upstream hosts, at most {limit or QUICK_IMAGES} images", limit or QUICK_IMAGES
    Console().print(
        "[bold red]The upstream hosts cannot be reached and COCONUT_ATTR_MIRROR is not set: the photographs of the "
        "scikit-image wheel stand in. THESE ARE NOT COCONut RESULTS.[/]"
    )
    return "sample", "NOT COCONut", limit


def start_local(processes: Stack, console: Console) -> None:
    """Start what is missing of server, work pools and deployments."""
    started = start_server(processes, settings().data_dir)
    console.print(f"[bold]Prefect[/] {'started' if started else 'found'} at {api_url()}", highlight=False)
    # Children run in the project's folder, whatever folder this command was given in.
    os.environ["COCONUT_ATTR_DATA_DIR"] = str(settings().data_dir.absolute())
    os.environ["PREFECT_API_URL"] = api_url()
    register_deployments()


def up() -> None:
    """Prefect server and UI, workers and the dashboard, until Ctrl-C."""
    console = Console()
    port = settings().dashboard_port
    with stack(settings().data_dir / "logs") as processes:
        start_local(processes, console)
        for pool in POOLS:
            processes.start(f"worker-{pool}", *prefect("worker", "start", "--pool", pool, "--name", f"local-{pool}"))
        processes.start(
            "dashboard", sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboard" / "app.py"),
            "--server.address", HOST, "--server.port", str(port), "--server.headless", "true",
        )  # fmt: skip
        url = f"http://{HOST}:{port}"
        wait_for(processes, lambda: healthy(f"{url}/_stcore/health"), 60, f"the dashboard at {url}")
        console.print(f"[bold]Prefect UI[/] {api_url().removesuffix('/api')}", highlight=False)
        console.print(f"[bold]dashboard [/] {url}", highlight=False)
        console.print(f"[bold]logs      [/] {processes.log_dir}", highlight=False)
        console.print("queue the real job in another terminal: prefect deployment run train/val5k", highlight=False)
        console.print("Ctrl-C stops everything", highlight=False)
        try:
            while True:
                processes.check()
                time.sleep(1)
        except KeyboardInterrupt:
            console.print("stopping")
