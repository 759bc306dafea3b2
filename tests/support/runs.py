"""Runs that are only rows of a database: nothing trains them."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine

from db.lease import RunLease
from db.models import EpochMetric, Run

PROCESS = "a test"


def lease_of(engine: Engine, run_id: int) -> RunLease:
    """The lease of a run that `start_run` stored."""
    return RunLease(engine, run_id, PROCESS)


def start_run(engine: Engine, process: str = PROCESS, **columns: Any) -> RunLease:
    """Store a run with these columns."""
    needed = {
        "dataset": "val5k",
        "backbone": "unit-test-net",
        "total_parameters": 2,
        "trainable_parameters": 1,
        "config": {},
        "environment": {},
    }
    return RunLease.start(engine, process, **needed | columns)


def change_run(engine: Engine, run_id: int, **columns: Any) -> None:
    """Set columns of a run."""
    with engine.begin() as connection:
        connection.execute(sa.update(Run).where(Run.id == run_id).values(**columns))


def change_epochs(engine: Engine, run_id: int, **columns: Any) -> None:
    """Set columns of all epochs of a run."""
    with engine.begin() as connection:
        of_run = sa.update(EpochMetric).where(EpochMetric.run_id == run_id)
        connection.execute(of_run.values(**columns))
