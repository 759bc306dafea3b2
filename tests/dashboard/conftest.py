"""Fixtures: one browser and one dashboard over made-up rows for all of these tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page
from sqlalchemy import Engine

from db.schema import open_database
from tests.support.browser import chromium
from tests.support.dashboard import serving
from tests.support.dashboard_rows import (
    add_files,
    add_run,
    fill_gold,
    fill_images,
    fill_reference,
    score,
)


@pytest.fixture(scope="package")
def browser() -> Iterator[BrowserContext]:
    """A browser that fetches and compiles Streamlit's scripts once for all tests."""
    with chromium() as context:
        yield context


@pytest.fixture(scope="package")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dashboard") / "data"


@pytest.fixture(scope="package")
def engine(data_dir: Path) -> Iterator[Engine]:
    """A SQLite database with three datasets; run 2 is of sample, run 3 of val5k, with files."""
    opened = open_database(f"sqlite:///{data_dir / 'coconut_attr.db'}")
    fill_reference(opened)
    for dataset in ("val5k", "sample"):
        fill_images(opened, dataset)
    fill_gold(opened)
    for dataset in ("sample", "val5k"):
        run = add_run(opened, dataset, epochs=3, status="finished")
        score(opened, run, dataset)
    add_files(opened, data_dir, run)
    yield opened
    opened.dispose()


@pytest.fixture(scope="package")
def address(engine: Engine, data_dir: Path, browser: BrowserContext) -> Iterator[str]:
    """The address of a dashboard over that database; skips the test early without a browser."""
    with serving(data_dir) as running:
        yield running


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    opened = browser.new_page()
    yield opened
    opened.close()
