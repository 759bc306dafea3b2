"""The lease of a training run: only the process that holds it writes the run."""

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from coconut_attr.errors import UserError
from db.bulk import Row, clock, upsert
from db.models import EpochMetric, Run
from db.periodic import every
from db.sql import persistent

HEARTBEAT_SECONDS: Final = 30.0
EXPIRY: Final = timedelta(seconds=3 * HEARTBEAT_SECONDS)  #: without a heartbeat, a lease expires
ABANDONED: Final = timedelta(minutes=10)  #: without a heartbeat, a run is recorded as failed


class RunStillAlive(UserError):
    """A run cannot be resumed: the lease of the process that trains it has not expired."""

    def __init__(self, run_id: int) -> None:
        super().__init__(
            f"run {run_id} is still running: its last heartbeat came less than {EXPIRY.seconds} "
            "seconds ago; if its process is dead, try again after that time"
        )


class RunTakenOver(UserError):
    """This process has lost its run: it was silent for too long, and another one took it over."""

    def __init__(self, run_id: int) -> None:
        super().__init__(
            f"run {run_id} has been taken over by another process, after {EXPIRY.seconds} seconds "
            "without a heartbeat (was the database out of reach?): this process stops"
        )


@dataclass(frozen=True)
class RunLease:
    """The right of one process to write a run.

    Heartbeats renew it. When none has come for `EXPIRY`, because the process died or could not
    reach the database, another process may take the run; every later write of the first one then
    raises `RunTakenOver`.
    """

    engine: Engine
    run_id: int
    process: str

    @classmethod
    def start(cls, engine: Engine, process: str, **columns: Any) -> "RunLease":
        """Store a new run, with these columns, and return its lease."""
        with engine.begin() as connection:
            now = clock(connection)
            row = {
                "kind": "trained",
                "status": "running",
                "started_at": now,
                "heartbeat_at": now,
                "process": process,
                **columns,
            }
            run_id = connection.execute(sa.insert(Run).returning(Run.id), row).scalar_one()
        return cls(engine, run_id, process)

    @classmethod
    def take(cls, engine: Engine, run_id: int, process: str) -> "RunLease":
        """Take an unfinished run whose lease has expired, has ended, or is this process's own.

        Of several processes that try, one gets it. The run stays that of the flow run that started
        it, which may ask for it again.

        Raises:
            RunStillAlive: another process holds the run.
        """
        if not _take(engine, run_id, process):
            raise RunStillAlive(run_id)
        return cls(engine, run_id, process)

    @persistent
    def renew(self) -> None:
        """Record a heartbeat, also where the run was recorded as failed for want of one.

        Raises:
            RunTakenOver: another process has the run.
        """
        with self.engine.begin() as connection:
            self._update(connection, **_alive(clock(connection)))

    def heartbeats(self) -> AbstractContextManager[None]:
        """Renew the lease from a thread while a block runs, however long an epoch takes."""

        def beat() -> None:
            with suppress(RunTakenOver):  # the next write of the run reports it
                self.renew()

        return every(HEARTBEAT_SECONDS, beat, "heartbeat")

    @persistent
    def record_epoch(self, figures: Row, checkpoint: str | None = None) -> None:
        """Store the figures of an epoch.

        Args:
            checkpoint: path of the epoch's model, relative to the data folder, if it is the best.

        Raises:
            RunTakenOver: another process has the run.
        """
        best = {"checkpoint": checkpoint, "best_epoch": figures["epoch"]} if checkpoint else {}
        with self.engine.begin() as connection:
            self._update(connection, **_alive(clock(connection)), **best)
            upsert(connection, EpochMetric, [{"run_id": self.run_id, **figures}])

    @persistent
    def finish(self, status: str, note: str | None = None) -> None:
        """Record the end of the run.

        Args:
            status: `finished`, `cancelled` or `failed`.
            note: why it did not finish, and what to do.

        Raises:
            RunTakenOver: another process has the run.
        """
        with self.engine.begin() as connection:
            end = clock(connection)
            self._update(connection, status=status, note=note, finished_at=end)

    def _update(self, connection: Connection, **columns: Any) -> None:
        own = (Run.id == self.run_id, Run.process == self.process)
        if connection.execute(sa.update(Run).where(*own).values(**columns)).rowcount != 1:
            raise RunTakenOver(self.run_id)


@persistent
def _take(engine: Engine, run_id: int, process: str) -> bool:
    with engine.begin() as connection:
        now = clock(connection)
        free = sa.or_(
            Run.status != "running",
            Run.heartbeat_at.is_(None),
            Run.heartbeat_at <= now - EXPIRY,
            Run.process == process,
        )
        unfinished = (Run.id == run_id, Run.status != "finished")
        changes = {**_alive(now), "process": process}
        taken = sa.update(Run).where(*unfinished, free).values(changes)
        return connection.execute(taken).rowcount == 1


def _alive(now: Any) -> dict[str, Any]:
    return {"status": "running", "finished_at": None, "note": None, "heartbeat_at": now}


@persistent
def is_alive(engine: Engine, run_id: int) -> bool:
    """Return whether a run is running and its lease has not expired."""
    with engine.connect() as connection:
        alive = (Run.status == "running", Run.heartbeat_at > clock(connection) - EXPIRY)
        found = connection.execute(sa.select(Run.id).where(Run.id == run_id, *alive)).scalar()
        return found is not None


@persistent
def fail_abandoned(engine: Engine) -> list[int]:
    """Record as failed the runs that sent no heartbeat for `ABANDONED`; return their ids."""
    last = sa.func.coalesce(Run.heartbeat_at, Run.started_at)
    note = "its process ended without a word; resume with: coconut-attr train --resume "
    with engine.begin() as connection:
        abandoned = (Run.status == "running", last < clock(connection) - ABANDONED)
        changes = {
            "status": "failed",
            "finished_at": last,
            "note": note + sa.cast(Run.id, sa.String),
        }
        return list(
            connection.scalars(sa.update(Run).where(*abandoned).values(changes).returning(Run.id))
        )
