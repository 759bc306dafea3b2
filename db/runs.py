"""Training runs in the store: begun, kept alive by their process, ended, and their epochs and scores."""

import math
from collections.abc import Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Engine, RowMapping, select

from coconut_attr.attributes import ATTRIBUTES, INDEX
from coconut_attr.evaluation.scores import AttributeScore, Score
from db.bulk import Row, clock, upsert
from db.models import AttributeMetric, EpochMetric, Prediction, Run, RunMetric
from db.sql import Rows, persistent, sql

HEARTBEAT_SECONDS: Final = 30.0
HEARD: Final = timedelta(seconds=3 * HEARTBEAT_SECONDS)  #: in which a run that goes on is heard of
SILENCE: Final = timedelta(minutes=10)  #: after which a run that says nothing is taken for dead


def start(engine: Engine, **columns: Any) -> int:
    """Store a run that begins now; returns its id."""
    with engine.begin() as connection:
        time_now = clock(connection)
        row = {
            "kind": "trained",
            "status": "running",
            "started_at": time_now,
            "heartbeat_at": time_now,
            **columns,
        }
        return connection.execute(sa.insert(Run).returning(Run.id), row).scalar_one()


@persistent
def update(
    engine: Engine, run_id: int, *, process: str | None = None, stamp: str = "", **columns: Any
) -> bool:
    """Set columns of a run, and the one that `stamp` names to the present time.

    Args:
        process: only while this process has the run (None: whichever has it).

    Returns:
        Whether it was done.
    """
    with engine.begin() as connection:
        times = {stamp: clock(connection)} if stamp else {}
        key = (Run.id == run_id,) if process is None else (Run.id == run_id, Run.process == process)
        return (
            connection.execute(sa.update(Run).where(*key).values(**columns, **times)).rowcount == 1
        )


def finish(
    engine: Engine, run_id: int, status: str, note: str | None = None, process: str | None = None
) -> bool:
    """Note that a run has ended: `finished`, `cancelled`, or `failed` (with why); else as `update`."""
    return update(engine, run_id, process=process, stamp="finished_at", status=status, note=note)


@persistent
def take(engine: Engine, run_id: int, process: str) -> bool:
    """Have a process go on with a run, unless it is finished or another process was heard of within `HEARD`. Of several
    that try, one gets it. It stays the run of the flow run that began it, which may ask for it again.

    Returns:
        Whether the process has the run.
    """
    with engine.begin() as connection:
        time_now = clock(connection)
        unheard = sa.or_(
            Run.status != "running",
            Run.heartbeat_at.is_(None),
            Run.heartbeat_at <= time_now - HEARD,
        )
        free = (Run.id == run_id, Run.status != "finished", sa.or_(unheard, Run.process == process))
        changes = {
            "status": "running",
            "finished_at": None,
            "note": None,
            "process": process,
            "heartbeat_at": time_now,
        }
        return connection.execute(sa.update(Run).where(*free).values(changes)).rowcount == 1


def beat(engine: Engine, run_id: int, process: str) -> bool:
    """Note that the process of a run is alive, though it may have been taken for dead; returns whether it has the run
    still."""
    alive = {"status": "running", "finished_at": None, "note": None}
    return update(engine, run_id, process=process, stamp="heartbeat_at", **alive)


@persistent
def is_alive(engine: Engine, run_id: int) -> bool:
    """Whether a run is going on and was heard of within `HEARD`."""
    with engine.connect() as connection:
        heard = (Run.status == "running", Run.heartbeat_at > clock(connection) - HEARD)
        return (
            connection.execute(sa.select(Run.id).where(Run.id == run_id, *heard)).scalar()
            is not None
        )


@persistent
def end_silent(engine: Engine) -> list[int]:
    """Note as failed those runs that have not been heard of for `SILENCE`; returns their ids."""
    last = sa.func.coalesce(Run.heartbeat_at, Run.started_at)
    note = "its process ended without a word; go on with: coconut-attr train --resume "
    with engine.begin() as connection:
        silent = (Run.status == "running", last < clock(connection) - SILENCE)
        changes = {
            "status": "failed",
            "finished_at": last,
            "note": note + sa.cast(Run.id, sa.String),
        }
        return list(
            connection.scalars(sa.update(Run).where(*silent).values(changes).returning(Run.id))
        )


@persistent
def record_epoch(engine: Engine, run_id: int, epoch: Row) -> None:
    """Store one epoch of a run."""
    with engine.begin() as connection:
        upsert(connection, EpochMetric, [{"run_id": run_id, **epoch}])


@persistent
def record_evaluation(
    engine: Engine,
    run_id: int,
    dataset: str,
    split: str,
    overall: Sequence[Row],
    attributes: Sequence[Row],
    predictions: Sequence[Row],
) -> None:
    """Store the scores and predictions of a run on a split, in place of earlier ones.

    Args:
        overall: `name`, `value`, `low`, `high`, `n`, `images`.
        attributes: columns of `attribute_metric` but its first three.
        predictions: `image_id`, `attribute_id`, `probability`.
    """
    key = {"run_id": run_id, "dataset": dataset, "split": split}
    with engine.begin() as connection:
        upsert(connection, RunMetric, [{**key, **row} for row in overall])
        upsert(connection, AttributeMetric, [{**key, **row} for row in attributes])
        upsert(connection, Prediction, [{"run_id": run_id, **row} for row in predictions])


@persistent
def get_run(engine: Engine, run_id: int) -> RowMapping | None:
    """A run by its id."""
    with engine.connect() as connection:
        return (
            connection.execute(select(Run.__table__).where(Run.id == run_id))
            .mappings()
            .one_or_none()
        )


@persistent
def run_of_flow(engine: Engine, flow_run_id: str) -> RowMapping | None:
    """The run that a Prefect flow run began last."""
    table = Run.__table__
    query = (
        select(table).where(table.c.flow_run_id == flow_run_id).order_by(table.c.id.desc()).limit(1)
    )
    with engine.connect() as connection:
        return connection.execute(query).mappings().one_or_none()


@persistent
def newest_run(engine: Engine, dataset: str, **equal: Any) -> RowMapping | None:
    """The finished run of this project that was started last on a dataset, with these column values."""
    table = Run.__table__
    query = select(table).where(
        table.c.kind == "trained", table.c.status == "finished", table.c.dataset == dataset
    )
    for column, value in equal.items():
        query = query.where(table.c[column] == value)
    with engine.connect() as connection:
        return (
            connection.execute(query.order_by(table.c.id.desc()).limit(1)).mappings().one_or_none()
        )


def run_summaries(engine: Engine) -> Rows:
    """`run_summary` of every run, newest first: one row for each split that a run was evaluated on, at least one."""
    return sql(
        engine,
        "SELECT s.*, r.best_epoch, r.note, d.is_coconut, e.is_coconut AS evaluated_on_coconut,"
        " (SELECT COUNT(*) FROM epoch_metric c WHERE c.run_id = s.run_id) AS epochs"
        " FROM run_summary s JOIN run r ON r.id = s.run_id LEFT JOIN dataset d ON d.name = s.trained_on"
        " LEFT JOIN dataset e ON e.name = s.evaluated_on"
        " ORDER BY s.run_id DESC, s.evaluated_on, s.split",
    )


def attribute_scores(engine: Engine, run_id: int, dataset: str, split: str) -> Rows:
    """`attribute_accuracy` of a run on a split."""
    return sql(
        engine,
        "SELECT * FROM attribute_accuracy WHERE run_id = :run AND dataset = :dataset AND split = :split",
        run=run_id,
        dataset=dataset,
        split=split,
    )


def run_scores(engine: Engine, run_id: int, dataset: str, split: str) -> Rows:
    """`run_metric` of a run on a split."""
    return sql(
        engine,
        "SELECT name, value, low, high, n, images FROM run_metric"
        " WHERE run_id = :run AND dataset = :dataset AND split = :split",
        run=run_id,
        dataset=dataset,
        split=split,
    )


def epoch_curves(engine: Engine) -> Rows:
    """`epoch_curve` of all runs, with the number of val images behind its scores."""
    return sql(
        engine,
        "SELECT e.*, r.val_images FROM epoch_curve e JOIN run r ON r.id = e.run_id ORDER BY e.run_id, e.epoch",
    )


def finite(row: dict[str, Any]) -> dict[str, Any]:
    """A row in which undefined scores (nan) are NULL."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in row.items()
    }


def attribute_row(item: AttributeScore) -> dict[str, Any]:
    row: dict[str, Any] = {"attribute_id": INDEX[item.attribute]}
    for field in fields(item):
        value = getattr(item, field.name)
        if isinstance(value, Score):
            row |= {
                field.name: value.value,
                f"{field.name}_low": value.low,
                f"{field.name}_high": value.high,
            }
        elif field.name != "attribute":
            row[field.name] = value
    return finite(row)


def prediction_rows(image_ids: list[int], probabilities: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"image_id": image_id, "attribute_id": k, "probability": float(row[k])}
        for image_id, row in zip(image_ids, probabilities, strict=True)
        for k in range(len(ATTRIBUTES))
    ]
