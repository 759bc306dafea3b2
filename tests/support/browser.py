"""A headless Chromium for tests, whichever this machine has."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Error, expect, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Seconds; long, because other processes may take the CPU: a wait ends when its event comes.
WAIT = 600


def installed_chromium() -> str | None:
    """Return the path of the machine's own Chromium, or None."""
    return next((path for path in map(shutil.which, PROGRAMS) if path), None)


@contextmanager
def chromium() -> Iterator[BrowserContext]:
    """Start a headless browser whose waits and `expect`s last up to `WAIT` seconds.

    Take Playwright's own Chromium if it is installed, else the machine's; skip the test if there
    is none.
    """
    with sync_playwright() as playwright:
        path = None
        if not Path(playwright.chromium.executable_path).is_file():
            path = installed_chromium()
            if path is None:
                pytest.skip(
                    "no Chromium: run `playwright install chromium`, or install one of: "
                    + ", ".join(PROGRAMS)
                )
        try:
            # Containers run as root, where Chromium's sandbox cannot start.
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            pytest.skip(f"Chromium does not start: {error}")
        expect.set_options(timeout=1000 * WAIT)
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        context.set_default_timeout(1000 * WAIT)
        try:
            yield context
        finally:
            browser.close()
