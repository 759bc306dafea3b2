"""Training runs in the database: reading them, and recording and reading their scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, Engine, RowMapping, select, update

from coconut_attr.attributes import ATTRIBUTES, INDEX
from coconut_attr.errors import UserError
from coconut_attr.evaluation.results import AttributeScore, Score
from db.bulk import Row, upsert
from db.models import AttributeMetric, Prediction, Run, RunMetric
from db.sql import Rows, persistent, sql

if TYPE_CHECKING:
    import numpy as np

    from coconut_attr.judgements.label_agreement import Agreement

Against = Literal["eyes", "labels"]


@persistent
def record_evaluation(
    engine: Engine,
    run_id: int,
    dataset: str,
    split: str,
    against: Against,
    overall: Sequence[Row],
    attributes: Sequence[Row],
    judged_by: str | None = None,
) -> None:
    """Store the scores of a run on a split, in place of earlier ones against the same.

    Args:
        against: what the scores are against: what was seen in the photos, or the labels.
        overall: as `overall_rows` returns them.
        attributes: as `attribute_rows` returns them.
        judged_by: who saw what `eyes` scores are against: human, ai, or both.
    """
    key = {"run_id": run_id, "dataset": dataset, "split": split, "against": against}
    with engine.begin() as connection:
        of_run = [{**key, "judged_by": judged_by, **row} for row in overall]
        upsert(connection, RunMetric, of_run)
        upsert(connection, AttributeMetric, [{**key, **row} for row in attributes])


@persistent
def record_predictions(engine: Engine, run_id: int, predictions: Sequence[Row]) -> None:
    """Store the predictions of a run, as `prediction_rows` returns them."""
    with engine.begin() as connection:
        upsert(connection, Prediction, [{"run_id": run_id, **row} for row in predictions])


@persistent
def get_run(engine: Engine, run_id: int) -> RowMapping | None:
    """Return a run by its id."""
    with engine.connect() as connection:
        return (
            connection.execute(select(Run.__table__).where(Run.id == run_id))
            .mappings()
            .one_or_none()
        )


@persistent
def run_of_flow(engine: Engine, flow_run_id: str) -> RowMapping | None:
    """Return the run that a Prefect flow run started last."""
    table = Run.__table__
    query = (
        select(table).where(table.c.flow_run_id == flow_run_id).order_by(table.c.id.desc()).limit(1)
    )
    with engine.connect() as connection:
        return connection.execute(query).mappings().one_or_none()


@persistent
def newest_run(engine: Engine, dataset: str, **equal: Any) -> RowMapping | None:
    """Return the last started finished run on a dataset with these column values."""
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


def run_to_score(engine: Engine, dataset: str, run_id: int | None) -> RowMapping:
    """Return a run that has a checkpoint; without an id, the newest finished one on the dataset.

    Raises:
        RunError: there is none.
    """
    run = newest_run(engine, dataset) if run_id is None else get_run(engine, run_id)
    if run is None or not run["checkpoint"]:
        wanted = f"finished run on {dataset}" if run_id is None else f"run {run_id}"
        raise RunError(
            f"there is no {wanted} with a checkpoint; train first: coconut-attr train {dataset}"
        )
    return run


def runs_to_show(engine: Engine) -> Rows:
    """Return the run to show of each dataset, as the view `shown_run` chooses it.

    Datasets are in the order of `dataset_summaries`: COCONut before others, most images first.

    Returns:
        dataset, is_coconut, run_id, backbone, name, checkpoint, pinned.
    """
    query = """
        SELECT s.dataset, d.is_coconut, s.run_id, r.backbone, r.name, r.checkpoint, s.pinned
        FROM shown_run s
        JOIN run r ON r.id = s.run_id
        LEFT JOIN dataset d ON d.name = s.dataset
        ORDER BY d.is_coconut DESC,
                 COALESCE((SELECT SUM(c.images) FROM dataset_count c
                           WHERE c.dataset = s.dataset), 0) DESC, s.dataset"""
    return sql(engine, query)


class RunError(UserError):
    """A run cannot be changed; the message says why."""


@persistent
def pin(engine: Engine, run_id: int) -> None:
    """Make a run the one to show of its dataset, in place of any other.

    Raises:
        RunError: there is no such run, or it is not a finished trained one, or archived.
    """
    with engine.begin() as connection:
        run = _trained_run(connection, run_id)
        if run["status"] != "finished":
            raise RunError(f"run {run_id} is {run['status']}: only a finished run can be shown")
        if run["archived"]:
            raise RunError(f"run {run_id} is archived; run: coconut-attr runs unarchive {run_id}")
        of_dataset = update(Run).where(Run.dataset == run["dataset"], Run.pinned)
        connection.execute(of_dataset.values(pinned=False))
        connection.execute(update(Run).where(Run.id == run_id).values(pinned=True))


@persistent
def describe_run(engine: Engine, run_id: int, **columns: Any) -> None:
    """Set what people say of a run: `name`, `note`, `pinned` (only to False) or `archived`.

    An archived run is not pinned.

    Raises:
        RunError: there is no such run, or it was not trained here.
    """
    if columns.get("archived"):
        columns["pinned"] = False
    with engine.begin() as connection:
        _trained_run(connection, run_id)
        connection.execute(update(Run).where(Run.id == run_id).values(**columns))


def _trained_run(connection: Connection, run_id: int) -> RowMapping:
    query = select(Run.__table__).where(Run.id == run_id)
    run = connection.execute(query).mappings().one_or_none()
    if run is None:
        raise RunError(f"there is no run {run_id}; see: coconut-attr runs")
    if run["kind"] != "trained":
        raise RunError(f"run {run_id} is {run['kind']}: it was not trained here")
    return run


def run_summaries(engine: Engine) -> Rows:
    """Return `run_summary` of every run, newest first.

    A run has a row per split that it was evaluated on, and at least one.
    """
    return sql(
        engine,
        "SELECT s.*, r.note, r.heartbeat_at, d.is_coconut, e.is_coconut AS evaluated_on_coconut,"
        " (SELECT COUNT(*) FROM epoch_metric c WHERE c.run_id = s.run_id) AS epochs"
        " FROM run_summary s JOIN run r ON r.id = s.run_id"
        " LEFT JOIN dataset d ON d.name = s.trained_on"
        " LEFT JOIN dataset e ON e.name = s.evaluated_on"
        " ORDER BY s.run_id DESC, s.evaluated_on, s.split",
    )


def trust(engine: Engine, run_id: int, dataset: str, split: str) -> Rows:
    """Return the view `trust` of a run on a split."""
    return sql(
        engine,
        "SELECT * FROM trust WHERE run_id = :run AND dataset = :dataset AND split = :split",
        run=run_id,
        dataset=dataset,
        split=split,
    )


def attribute_scores(engine: Engine, run_id: int, dataset: str, split: str) -> Rows:
    """Return `attribute_accuracy` of a run on a split."""
    return sql(
        engine,
        "SELECT * FROM attribute_accuracy"
        " WHERE run_id = :run AND dataset = :dataset AND split = :split",
        run=run_id,
        dataset=dataset,
        split=split,
    )


def run_scores(
    engine: Engine, run_id: int, dataset: str, split: str, against: Against | None = None
) -> Rows:
    """Return `run_metric` of a run on a split; by default by eyes where it has such scores."""
    return sql(
        engine,
        "SELECT name, value, low, high, n, images, attributes, against, judged_by"
        " FROM run_metric m"
        " WHERE run_id = :run AND dataset = :dataset AND split = :split"
        " AND against = COALESCE(CAST(:against AS TEXT), (SELECT MIN(x.against) FROM run_metric x"
        " WHERE x.run_id = m.run_id AND x.dataset = m.dataset AND x.split = m.split))",
        against=against,
        run=run_id,
        dataset=dataset,
        split=split,
    )


def epoch_curves(engine: Engine) -> Rows:
    """Return `epoch_curve` of all runs, with their val images and trivial baselines on them."""
    return sql(
        engine,
        "SELECT e.*, r.val_images, r.val_all_absent_accuracy, r.val_prior_accuracy,"
        " r.val_prior_map FROM epoch_curve e JOIN run r ON r.id = e.run_id"
        " ORDER BY e.run_id, e.epoch",
    )


def overall_rows(scores: Mapping[str, Score], images: int) -> list[dict[str, Any]]:
    """Return the rows of `run_metric` for scores of a split with so many images."""
    return [
        {"name": name, "images": images, **_finite(asdict(score))} for name, score in scores.items()
    ]


def attribute_rows(
    scores: Sequence[AttributeScore], labels: "Sequence[Agreement]" = ()
) -> list[dict[str, Any]]:
    """Return the rows of `attribute_metric` for the scores of the attributes.

    Args:
        labels: how the labels of the same images agree with what was seen in them.
    """
    of_labels = {
        row.attribute: {
            "label_present": row.present,
            "label_present_right": row.present_right,
            "label_absent": row.absent,
            "label_absent_right": row.absent_right,
        }
        for row in labels
    }
    rows = []
    for score in scores:
        row: dict[str, Any] = {"attribute_id": INDEX[score.attribute]}
        row |= of_labels.get(score.attribute, {})
        for field in fields(score):
            value = getattr(score, field.name)
            if isinstance(value, Score):
                row |= {
                    field.name: value.value,
                    f"{field.name}_low": value.low,
                    f"{field.name}_high": value.high,
                }
            elif field.name != "attribute":
                row[field.name] = value
        rows.append(_finite(row))
    return rows


def prediction_rows(image_ids: Sequence[int], probabilities: "np.ndarray") -> list[dict[str, Any]]:
    """Return the rows of `prediction` for probabilities float [n, 34] of n images."""
    return [
        {"image_id": image_id, "attribute_id": k, "probability": float(row[k])}
        for image_id, row in zip(image_ids, probabilities, strict=True)
        for k in range(len(ATTRIBUTES))
    ]


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row in which undefined scores (nan) are NULL."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
    }
