"""A real Streamlit process, and its pages in a browser."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from flows.local import ROOT, healthy
from tests.support.browser import WAIT
from tests.support.ports import free_port
from tests.support.team import wait_until

#: Each page's heading, by its path.
PAGES = {
    "overview": "Overview",
    "coverage": "Dataset coverage",
    "labels": "How right the labels are",
    "trust": "What can I trust?",
    "attributes": "Scores by attribute",
    "runs": "Epoch curves",
    "explore": "Explore the images",
    "predict": "Predict the attributes of a photo",
    "sql": "SQL",
}
MARK = "[role=graphics-symbol]:not([aria-roledescription=axis])"  # what a chart draws for its data


@contextmanager
def serving(data_dir: Path, **environment: str) -> Iterator[str]:
    """Serve the dashboard over a data folder; yield its address.

    No `COCONUT_ATTR_*` variable of this process reaches it, only those in `environment`.
    """
    port = free_port()
    inherited = {k: value for k, value in os.environ.items() if not k.startswith("COCONUT_ATTR_")}
    command = [sys.executable, "-m", "streamlit", "run", "dashboard/app.py"]
    options = {"address": "127.0.0.1", "port": str(port), "headless": "true"}
    for name, value in options.items():
        command += [f"--server.{name}", value]
    with (data_dir.parent / f"{data_dir.name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**inherited, "COCONUT_ATTR_DATA_DIR": str(data_dir), **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: healthy(f"{address}/_stcore/health"), "the dashboard", WAIT)
            yield address
        finally:
            process.terminate()
            process.wait(WAIT)


def visit(page: Page, address: str, title: str | None = None) -> None:
    """Open a page and wait until it is drawn: its heading, if given, and all of its elements."""
    page.goto(address)
    if title:
        page.get_by_role("heading", name=title, exact=True).wait_for()
    wait_until_drawn(page)
    # Streamlit fetches the code of each kind of element when one is first shown, our style sheet
    # perhaps last: without it, axe judged captions by the theme's colours.
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)


def wait_until_drawn(page: Page) -> None:
    """Wait until Streamlit has drawn all: it drops a key that is pressed before."""
    page.wait_for_function(
        "document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
    )


def chart(page: Page, description: str) -> Locator:
    """Find a chart by the description that screen readers read."""
    return page.locator(f'[data-testid=stVegaLiteChart][aria-label="{description}"]')


def marks(page: Page, description: str) -> int:
    """Wait until a chart is drawn; return how many shapes and texts it draws for its data."""
    symbols = chart(page, description).locator(MARK)
    expect(symbols.first).to_be_attached()
    return symbols.count()


def expect_texts(page: Page, *texts: str) -> None:
    """Wait until the page shows all of these texts."""
    for text in texts:
        expect(page.locator("body")).to_contain_text(text, use_inner_text=True)


def assert_no_error(page: Page) -> None:
    """Check that the page shows neither an exception nor an error message."""
    assert page.get_by_test_id("stException").count() == 0
    assert page.get_by_test_id("stAlertContentError").count() == 0
    assert "Traceback" not in page.inner_text("body")
    assert "Page not found" not in page.inner_text("body")
