"""The commands `db`: upgrade, check, back up, restore and copy the database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from coconut_attr import terminal

db_commands = typer.Typer(help="The attribute database.", no_args_is_help=True)
Replace = Annotated[
    bool, typer.Option("--replace", help="Delete the images, labels and runs that it holds.")
]


@db_commands.command()
def upgrade(
    reviewer: Annotated[
        str, typer.Option(help="Account of PostgreSQL that may then add judgements.")
    ] = "",
) -> None:
    """Upgrade the database's schema to this version."""
    from coconut_attr.settings import settings
    from db.review import admit_reviewer
    from db.schema import open_database

    engine = open_database(settings().sqlalchemy_url)
    if reviewer:
        admit_reviewer(engine, reviewer)
    engine.dispose()
    typer.echo("the database has this version's schema")


@db_commands.command()
def check() -> None:
    """Check the database's schema and integrity, and count its rows; exit code 1 on faults."""
    from coconut_attr.settings import settings
    from db.admin.integrity import database_problems, row_counts
    from db.engine import connect, display_url
    from db.schema import head_revision

    engine = connect(settings().sqlalchemy_url, read_only=True)
    console = terminal.console()
    console.print(f"database: {display_url(engine)}", soft_wrap=True, highlight=False, markup=False)
    problems = database_problems(engine)
    for problem in problems:
        console.print(f"wrong: {problem}", soft_wrap=True, highlight=False, markup=False)
    if problems:
        raise typer.Exit(1)
    table = terminal.table("table", "rows")
    with engine.connect() as connection:
        for name, rows in row_counts(connection).items():
            table.add_row(name, f"{rows:,}")
    console.print(table)
    console.print(f"schema {head_revision()}; integrity: nothing wrong", highlight=False)


@db_commands.command()
def backup(
    file: Annotated[Path, typer.Argument(help="A new file.", show_default=False)],
) -> None:
    """Write a consistent snapshot of the database to one file; others may write meanwhile.

    Photos, masks and checkpoints are files of the data folder, and not in the backup.
    """
    from coconut_attr.settings import settings
    from db.admin.backup import back_up
    from db.engine import connect, display_url

    engine = connect(settings().sqlalchemy_url, read_only=True)
    with _bar("backing up") as advance:
        back_up(engine, file, advance)
    typer.echo(f"{display_url(engine)} is in {file}")


@db_commands.command()
def restore(
    file: Annotated[
        Path, typer.Argument(help="A file that `db backup` wrote.", show_default=False)
    ],
    replace: Replace = False,
) -> None:
    """Restore a backup; if anything fails, the database is unchanged."""
    from coconut_attr.settings import settings
    from db.admin import backup as backups
    from db.engine import connect, display_url
    from db.schema import open_database

    engine = connect(settings().sqlalchemy_url)
    with _bar("restoring") as advance:
        backups.restore(engine, file, replace=replace, advance=advance)
    open_database(settings().sqlalchemy_url).dispose()  # upgrades the schema of an older backup
    typer.echo(f"{file} is in {display_url(engine)}")


@db_commands.command()
def copy(
    to: Annotated[
        str,
        typer.Option(
            help="The other database, e.g. postgresql://user@host/coconut_attr; its password can "
            "be given in PGPASSWORD or ~/.pgpass.",
            show_default=False,
        ),
    ],
    replace: Replace = False,
) -> None:
    """Copy the database from SQLite to PostgreSQL or back, and compare every row."""
    from coconut_attr.settings import settings, sqlalchemy_form
    from db.admin.copy import copy_database, count_rows
    from db.engine import display_url
    from db.schema import open_database, open_for_reading

    source = open_for_reading(settings().sqlalchemy_url)
    target = open_database(sqlalchemy_form(to))
    done = 0
    with _bar("copying and comparing") as show:
        total = 2 * count_rows(source)

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            show(done, total)

        copied = copy_database(source, target, replace=replace, advance=advance)
    table = terminal.table("table", "rows", "SHA-256 of the rows, equal in both")
    for name, result in copied.items():
        table.add_row(name, f"{result.rows:,}", result.sha256[:16])
    terminal.console().print(table)
    typer.echo(f"to use it: COCONUT_ATTR_DATABASE_URL={display_url(target)}")


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal; yields a function of how much is done, and of how much."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
