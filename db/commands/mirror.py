"""The commands `mirror export` and `mirror serve`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from coconut_attr.datasets import DATASETS, get_dataset
from coconut_attr.errors import UserError

mirror_commands = typer.Typer(help="Offline mirrors of the upstream data.", no_args_is_help=True)


@mirror_commands.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder of the mirror.", show_default=False)],
    dataset: Annotated[str, typer.Option(help=f"One of: {', '.join(DATASETS)}.")] = "val5k",
) -> None:
    """Write the downloaded part of a dataset as a mirror, for machines without internet.

    Point COCONUT_ATTR_MIRROR to the folder there. Run it again to resume: equal files stay.
    Several datasets can share a folder.
    """
    entry = get_dataset(dataset)  # report a mistake before the database is opened
    from coconut_attr.export.mirror import export_mirror
    from coconut_attr.labels.rules import load_rules
    from coconut_attr.settings import settings
    from db import annotations
    from db.schema import open_for_reading
    from db.work.mirror import mirror_images

    engine = open_for_reading(settings().sqlalchemy_url)
    image_ids = annotations.image_ids(engine, dataset)
    if not image_ids:
        raise UserError(
            f"the database holds no image of {dataset}; run: coconut-attr download {dataset}"
        )
    files = annotations.annotation_files(engine, dataset)
    origins = [
        f"{row['origin']}, {name}, SHA-256 {row['sha256'] or 'not known'}"
        for name, row in files.items()
    ]
    things = {category.id for category in load_rules().rules.category.values() if category.thing}
    console = Console(stderr=True)
    images = track(
        mirror_images(engine, image_ids),
        f"exporting {dataset}",
        len(image_ids),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    try:
        done = export_mirror(entry, images, origins, folder, settings(), things)
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error}; correct that and run it again: it resumes"
        ) from error
    total = done.images.total()
    typer.echo(
        f"{folder} holds {total:,} photos, {done.masks:,} masks and {done.captions:,} captions"
        f" of {dataset}"
    )
    for coco_id, reason in list(done.left_out.items())[:5]:
        typer.echo(f"left out: image {coco_id}, {reason}")
    if missing := len(image_ids) - total:
        typer.echo(
            f"{missing:,} of {len(image_ids):,} images are left out: not downloaded, or damaged"
            f" (see coconut-attr check {dataset})"
        )
    typer.echo(f"use it: COCONUT_ATTR_MIRROR={shlex.quote(str(folder.absolute()))}")


@mirror_commands.command()
def serve(
    folder: Annotated[Path, typer.Argument(help="Folder of the mirror.", show_default=False)],
    port: Annotated[
        int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)
    ] = 8000,
) -> None:
    """Serve a mirror by HTTP on this machine only, read-only, until Ctrl-C."""
    from coconut_attr.export.mirror_server import HOST, mirror_server

    server = mirror_server(folder, port)
    typer.echo(f"COCONUT_ATTR_MIRROR=http://{HOST}:{server.server_port}  (Ctrl-C stops)")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        typer.echo("stopped")
    finally:
        server.server_close()
