"""A Chromium for tests, whichever this machine has."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def installed_chromium() -> str | None:
    """The machine's own Chromium, None if it has none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser: Playwright's own if installed, else the machine's; skips the test if there is none."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = None if Path(own).is_file() else installed_chromium()
        if path is None and not Path(own).is_file():
            pytest.skip(
                "no Chromium: run `playwright install chromium`, or install one of: "
                + ", ".join(NAMES)
            )
        try:
            # Containers run as root, where Chromium's sandbox cannot start.
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            pytest.skip(f"Chromium does not start: {error}")
        try:
            yield browser
        finally:
            browser.close()
