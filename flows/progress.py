"""Progress of long work: an artifact in Prefect's UI, a database row, a bar in a terminal."""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from db import progress as writes
from db.models import now
from db.sql import DatabaseError
from flows.database import engine

UPDATE_SECONDS = 5.0


@contextmanager
def _best_effort() -> Iterator[None]:
    """Call Prefect's server without retries, and ignore that it is away: the work goes on."""
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), suppress(httpx.HTTPError):
        yield


class Progress:
    """Progress towards `total` units of something; used as a context within a flow or task run."""

    def __init__(self, what: str, total: int) -> None:
        self.what = what
        self.total = max(1, total)
        self.done = 0
        self._next = 0.0
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            disable=not sys.stderr.isatty(),
        )

    def __enter__(self) -> "Progress":
        key = re.sub(r"[^a-z0-9]+", "-", self.what.lower()).strip("-")
        self._artifact: UUID | None = None
        with _best_effort():
            self._artifact = cast(
                UUID, create_progress_artifact(progress=0.0, key=key, description=self.what)
            )
        self._started = now()
        self._record("running")
        self._task = self._bar.add_task(self.what, total=self.total)
        self._bar.start()
        return self

    def advance(self, units: int = 1, note: str = "") -> None:
        """Report further units as done."""
        self.reach(self.done + units, note)

    def reach(self, done: int, note: str = "") -> None:
        """Report `done` units in total."""
        self.done = done
        self._bar.update(
            self._task, completed=self.done, description=f"{self.what} {note}".rstrip()
        )
        if time.monotonic() >= self._next:
            self._publish(note)

    def _publish(self, note: str = "") -> None:
        self._next = time.monotonic() + UPDATE_SECONDS
        share = min(100.0, 100 * self.done / self.total)
        if self._artifact:
            with _best_effort():
                update_progress_artifact(
                    self._artifact, progress=share, description=f"{self.what} {note}".rstrip()
                )
        self._record("running", note)
        if self._bar.disable:
            get_run_logger().info(
                "%s: %s of %s (%.0f %%) %s", self.what, self.done, self.total, share, note
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if kind is None:
            self._publish()
            self._record("finished")
        else:
            with suppress(DatabaseError):  # it would hide the error that ended the work
                # Ctrl-C, and Prefect's cancellation, are no `Exception` and say nothing.
                said = str(error) if isinstance(error, Exception) else "interrupted"
                self._record("failed", next(iter(said.splitlines()), kind.__name__)[:200])

    def _record(self, state: str, note: str = "") -> None:
        """Write the row of this work, which the dashboard and `status` read."""
        writes.record_progress(
            engine(),
            what=self.what,
            state=state,
            done=self.done,
            total=self.total,
            note=note,
            started_at=self._started,
        )
