"""Writes to the store: each function is one transaction, and may be repeated without harm."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from db.bulk import Row, insert_rows, update_rows
from db.models import (
    AnnotationFile,
    Attribute,
    AttributeEvidence,
    AttributeMetric,
    Base,
    Caption,
    Category,
    Dataset,
    Download,
    EpochMetric,
    Finding,
    Image,
    ImageAttribute,
    Prediction,
    Progress,
    Run,
    RunMetric,
    Segment,
    now,
)

BATCH = 500  # rows a statement: SQLite takes 32,766 variables, our widest table has 19 columns


def _table(model: type[Base]) -> Table:
    return model.__table__  # type: ignore[return-value]


def upsert(connection: Connection, model: type[Base], rows: Iterable[Row], keys: Sequence[str] | None = None) -> None:
    """Insert rows, or update those whose key exists already; columns that the rows lack keep their values.

    Args:
        rows: all with the same columns.
        keys: columns of a unique constraint; by default the primary key.
    """
    table = _table(model)
    keys = keys or [column.name for column in table.primary_key]
    rows = list(rows)
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        statement = dialect.insert(table).values([dict(row) for row in batch])
        changed = {name: statement.excluded[name] for name in batch[0] if name not in keys}
        if changed:
            statement = statement.on_conflict_do_update(index_elements=keys, set_=changed)
        else:
            statement = statement.on_conflict_do_nothing(index_elements=keys)
        connection.execute(statement)


def replace_rows(connection: Connection, model: type[Base], image_ids: Sequence[int], rows: Sequence[Row]) -> None:
    """Put rows in place of all that a table holds for some images."""
    table = _table(model)
    for start in range(0, len(image_ids), BATCH):
        connection.execute(delete(table).where(table.c.image_id.in_(image_ids[start : start + BATCH])))
    insert_rows(connection, table, rows)


def sync_reference(
    engine: Engine, datasets: Iterable[Row], attributes: Iterable[Row], categories: Iterable[Row]
) -> None:
    """Write the registry's datasets, the attributes and the categories, so that SQL can join them."""
    with engine.begin() as connection:
        upsert(connection, Dataset, datasets)
        upsert(connection, Attribute, attributes)
        upsert(connection, Category, categories)


def _image_ids(connection: Connection, dataset: str, coco_ids: Sequence[int]) -> dict[int, int]:
    """Our id of each COCO id."""
    found: dict[int, int] = {}
    for start in range(0, len(coco_ids), BATCH):
        batch = coco_ids[start : start + BATCH]
        query = select(Image.coco_id, Image.id).where(Image.dataset == dataset, Image.coco_id.in_(batch))
        found.update({coco_id: key for coco_id, key in connection.execute(query)})
    return found


def add_panoptic(
    engine: Engine,
    dataset: str,
    images: Sequence[Row],
    segments: Sequence[Row],
    *,
    file: str,
    origin: str,
    rows_done: int,
) -> None:
    """Store a batch of panoptic annotations, and how far their file has been read.

    Args:
        images: columns of `image` with `mask_path`; their labels will be extracted again.
        segments: columns of `segment`, with `coco_id` in place of `image_id`.
        file, origin, rows_done: columns of `annotation_file`.
    """
    with engine.begin() as connection:
        upsert(connection, Image, [{**row, "rule_version": None} for row in images], ["dataset", "coco_id"])
        keys = _image_ids(connection, dataset, [row["coco_id"] for row in images])
        rows = [{**{k: v for k, v in s.items() if k != "coco_id"}, "image_id": keys[s["coco_id"]]} for s in segments]
        replace_rows(connection, Segment, list(keys.values()), rows)
        row = {"dataset": dataset, "name": file, "origin": origin, "rows_done": rows_done, "complete": False}
        upsert(connection, AnnotationFile, [{**row, "updated_at": now()}])


def finish_file(engine: Engine, dataset: str, file: str) -> None:
    """Note that an annotation file has been read to its end."""
    with engine.begin() as connection:
        key = (AnnotationFile.dataset == dataset, AnnotationFile.name == file)
        connection.execute(update(AnnotationFile).where(*key).values(complete=True, updated_at=now()))


def add_captions(engine: Engine, dataset: str, images: Sequence[Row], captions: Sequence[Row]) -> int:
    """Store images that have only captions, and those captions that are new; returns how many captions were new.

    Args:
        images: columns of `image`; those that are there already stay as they are.
        captions: `caption_id`, `text`, and `coco_id` in place of `image_id`; those of unknown images are left out.
    """
    with engine.begin() as connection:
        known = _image_ids(connection, dataset, [row["coco_id"] for row in images])
        upsert(connection, Image, [row for row in images if row["coco_id"] not in known], ["dataset", "coco_id"])
        keys = _image_ids(connection, dataset, sorted({row["coco_id"] for row in captions}))
        stored = set(
            connection.execute(
                select(Caption.image_id, Caption.caption_id).join(Image).where(Image.dataset == dataset)
            ).tuples()
        )
        new = [
            {"image_id": keys[row["coco_id"]], "caption_id": row["caption_id"], "text": row["text"]}
            for row in captions
            if row["coco_id"] in keys and (keys[row["coco_id"]], row["caption_id"]) not in stored
        ]
        if new:
            insert_rows(connection, _table(Caption), new)
            _set_rule_version(connection, sorted({row["image_id"] for row in new}), None)
        return len(new)


def record_downloads(engine: Engine, outcomes: Sequence[Row]) -> None:
    """Store what came of some downloads.

    Args:
        outcomes: `image_id`, `state`, `attempts`, `seconds`, `error_class`, `error`, and for those that are done
            `path`, `sha256`, `bytes`.
    """
    with engine.begin() as connection:
        columns = ("image_id", "state", "attempts", "seconds", "error_class", "error")
        upsert(connection, Download, [{**{c: row[c] for c in columns}, "updated_at": now()} for row in outcomes])
        done = [
            {"id": row["image_id"], **{c: row[c] for c in ("path", "sha256", "bytes")}}
            for row in outcomes
            if row["state"] == "done"
        ]
        update_rows(connection, _table(Image), done)


def record_labels(
    engine: Engine,
    rule_version: str,
    labels: Mapping[int, Sequence[Row]],
    evidence: Sequence[Row],
    segments: Sequence[Row],
) -> int:
    """Store the labels, evidence and segment measures of some images, in place of earlier ones.

    Rows of images for which nothing has changed are left alone.

    Args:
        labels: rows of `image_attribute` by image id.
        evidence: rows of `attribute_evidence`.
        segments: the key and the measured columns of `segment`.

    Returns:
        The number of images of which a label or its evidence has changed.
    """
    keys = list(labels)
    label_rows = [row for rows in labels.values() for row in rows]
    with engine.begin() as connection:
        changed = _changed(connection, ImageAttribute, keys, label_rows) | _changed(
            connection, AttributeEvidence, keys, evidence
        )
        for model, rows in ((ImageAttribute, label_rows), (AttributeEvidence, evidence)):
            replace_rows(connection, model, sorted(changed), [row for row in rows if row["image_id"] in changed])
        update_rows(connection, _table(Segment), segments)
        _set_rule_version(connection, keys, rule_version)
    return len(changed)


def record_findings(
    engine: Engine, dataset: str, stage: str, image_ids: Sequence[int], findings: Sequence[Row]
) -> None:
    """Store what a stage found about some images, in place of what it found about them before.

    Args:
        findings: `image_id`, `kind`, `detail`.
    """
    with engine.begin() as connection:
        for start in range(0, len(image_ids), BATCH):
            batch = image_ids[start : start + BATCH]
            connection.execute(delete(Finding).where(Finding.image_id.in_(batch), Finding.stage == stage))
        if findings:
            row = {"dataset": dataset, "stage": stage, "found_at": now()}
            connection.execute(insert(Finding), [{**row, **finding} for finding in findings])


def _set_rule_version(connection: Connection, image_ids: Sequence[int], rule_version: str | None) -> None:
    """Note by which rules images are labelled; None: they have to be labelled anew."""
    for start in range(0, len(image_ids), BATCH):
        batch = image_ids[start : start + BATCH]
        connection.execute(update(Image).where(Image.id.in_(batch)).values(rule_version=rule_version))


def _changed(connection: Connection, model: type[Base], image_ids: Sequence[int], rows: Sequence[Row]) -> set[int]:
    """Which of these images hold other rows in a table than the given ones."""
    table = _table(model)
    names = [column.name for column in table.columns]
    before: dict[int, set[tuple[Any, ...]]] = defaultdict(set)
    for start in range(0, len(image_ids), BATCH):
        query = select(table).where(table.c.image_id.in_(image_ids[start : start + BATCH]))
        for found in connection.execute(query):
            before[found.image_id].add(tuple(found))
    after: dict[int, set[tuple[Any, ...]]] = defaultdict(set)
    pick = itemgetter(*names)
    for row in rows:
        if row["image_id"] in before:
            after[row["image_id"]].add(pick(row))
    new = {row["image_id"] for row in rows} - before.keys()
    return new | {key for key in before if before[key] != after[key]}


def start_run(engine: Engine, **columns: Any) -> int:
    """Store a run that begins now; returns its id."""
    with engine.begin() as connection:
        row = {"kind": "trained", "status": "running", "started_at": now(), **columns}
        return connection.execute(insert(Run).returning(Run.id), row).scalar_one()


def update_run(engine: Engine, run_id: int, **columns: Any) -> None:
    with engine.begin() as connection:
        connection.execute(update(Run).where(Run.id == run_id).values(**columns))


def finish_run(engine: Engine, run_id: int, status: str, note: str | None = None) -> None:
    """Note that a run has ended: `finished` or `failed` (with why)."""
    update_run(engine, run_id, status=status, finished_at=now(), note=note)


def record_epoch(engine: Engine, run_id: int, epoch: Row) -> None:
    """Store one epoch of a run."""
    with engine.begin() as connection:
        upsert(connection, EpochMetric, [{"run_id": run_id, **epoch}])


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


def record_progress(engine: Engine, **columns: Any) -> None:
    """Store how far a piece of work has come.

    Args:
        columns: those of `progress` but `updated_at`.
    """
    with engine.begin() as connection:
        upsert(connection, Progress, [{**columns, "updated_at": now()}])
