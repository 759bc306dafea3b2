"""Data folders and databases lie where the settings say, whatever characters their paths have."""

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DatabaseError

from db.admin.backup import back_up, restore
from db.engine import DatabaseUnavailable, connect, display_url
from db.schema import open_database, open_for_reading
from db.sql import sql
from flows.local import prefect_database_url
from tests.support.cluster import Cluster
from tests.support.rows import fill

#: Names that mean something as a whole, and one with all other characters.
NAMES = [
    "a?mode=ro",
    "a%41",
    "a%",
    "~",
    "~root",
    "file:a",
    ":memory:",
    "$HOME",
    "a#b?c[d]{e}'f\"g h+i&j=k äö 猫;l\\m@n:o*",
]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_a_sqlite_database_lies_in_its_data_folder(
    name: str, tmp_path: Path, configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    for given in ({"data_dir": folder}, {"database_url": f"sqlite:///{folder / 'own.db'}"}):
        url = configure(**given).sqlalchemy_url
        writer = open_database(url)
        fill(writer)
        reader = open_for_reading(url)
        with pytest.raises(DatabaseError, match="readonly"), reader.begin() as connection:
            connection.execute(text("DELETE FROM image"))
        assert len(sql(reader, "SELECT * FROM image")) == 3
        assert (
            sql(open_for_reading(display_url(writer)), "SELECT COUNT(*) AS n FROM image")[0]["n"]
            == 3
        )
        reader.dispose()
        writer.dispose()
    back_up(open_for_reading(url), folder / f"{name}.backup")
    restore(connect(url), folder / f"{name}.backup", replace=True)
    prefect = create_engine(prefect_database_url(folder).replace("+aiosqlite", ""))
    with prefect.begin() as connection:
        connection.execute(text("CREATE TABLE t (c INTEGER)"))
    prefect.dispose()
    names = {"coconut_attr.db", "own.db", "prefect.db", f"{name}.backup"}
    stray = {path for path in files(tmp_path) if not path.endswith(("-wal", "-shm"))}
    assert stray == {f"{name}/{file}" for file in names}


@pytest.mark.parametrize("url", ["sqlite:///:memory:", "sqlite://", "sqlite:///x.db?mode=ro"])
def test_a_sqlite_url_that_names_no_file_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatabaseUnavailable, match="give sqlite:///FILE"):
        connect(url)
    assert not files(tmp_path)


def test_postgresql_is_reached_and_backed_up_through_any_socket_folder(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path_factory.mktemp("a?b #c%41[d]'e äö+"))
    cluster.start()
    try:
        with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
            connection.execute('CREATE DATABASE "a#b %41"')
        url = cluster.url("a#b %41").replace("postgresql://", "postgresql+psycopg://")
        engine = open_database(url)
        fill(engine)
        back_up(engine, tmp_path / "backup")
        restore(engine, tmp_path / "backup", replace=True)
        assert len(sql(open_for_reading(url), "SELECT * FROM image")) == 3
        engine.dispose()
    finally:
        cluster.stop()
