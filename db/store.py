"""Writes to the store: each function is one transaction, and may be repeated without harm."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from db.bulk import Row, insert_rows, update_rows
from db.models import (
    AnnotationFile,
    Attribute,
    AttributeEvidence,
    Base,
    Caption,
    Category,
    Dataset,
    Download,
    DownloadClaim,
    Finding,
    Image,
    ImageAttribute,
    Progress,
    Segment,
    now,
)
from db.retry import persistent

_FILE = ("path", "sha256", "bytes")  # columns of an image that tell of its file
BATCH = 500  # rows a statement: SQLite takes 32,766 variables, our widest table has 19 columns


def table_of(model: type[Base]) -> Table:
    """The table of a model, typed as one."""
    return model.__table__  # type: ignore[return-value]


def _insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT of the database's own kind, which may say what to do about keys that exist."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def upsert(connection: Connection, model: type[Base], rows: Iterable[Row], keys: Sequence[str] | None = None) -> None:
    """Insert rows, or update those whose key exists already; columns that the rows lack keep their values.

    Args:
        rows: all with the same columns.
        keys: columns of a unique constraint; by default the primary key.
    """
    table = table_of(model)
    keys = keys or [column.name for column in table.primary_key]
    rows = [dict(row) for row in rows]
    if not rows:
        return
    statement = _insert(connection, table)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    if changed:
        statement = statement.on_conflict_do_update(index_elements=keys, set_=changed)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    connection.execute(statement, rows)


def replace_rows(connection: Connection, model: type[Base], image_ids: Sequence[int], rows: Sequence[Row]) -> None:
    """Put rows in place of all that a table holds for some images."""
    table = table_of(model)
    for start in range(0, len(image_ids), BATCH):
        connection.execute(delete(table).where(table.c.image_id.in_(image_ids[start : start + BATCH])))
    insert_rows(connection, table, rows)


def clock(connection: Connection) -> datetime:
    """The time by the database server's clock: those of several workers need not agree."""
    return connection.execute(select(func.now())).scalar_one() if connection.dialect.name == "postgresql" else now()


@persistent
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


@persistent
def add_panoptic(
    engine: Engine,
    dataset: str,
    images: Sequence[Row],
    segments: Sequence[Row],
    *,
    file: str,
    origin: str,
    rows_done: int,
    rows_before: int = 0,
    version: Row | None = None,
    findings: Sequence[Row] = (),
) -> bool:
    """Store a batch of panoptic annotations, and how far their file has been read.

    Nothing is stored unless the file has been read just up to the batch: of several that read it, one stores each row.

    Args:
        images: columns of `image` with `mask_path`; their labels will be extracted again.
        segments: columns of `segment`, with `coco_id` in place of `image_id`.
        file, origin, rows_done: columns of `annotation_file`; `version` has `size`, `sha256` and `etag`.
        rows_before: rows of the file that come before the batch.
        findings: `coco_id`, `kind`, `detail` of what was left out of the batch.

    Returns:
        Whether it was stored.
    """
    with engine.begin() as connection:
        key = {"dataset": dataset, "name": file}
        row = {"origin": origin, "rows_done": rows_done, "complete": False, **(version or {}), "updated_at": now()}
        table = table_of(AnnotationFile)
        if not rows_before:
            connection.execute(_insert(connection, table).on_conflict_do_nothing(), {**key, **row, "rows_done": 0})
        turn = update(table).filter_by(**key, rows_done=rows_before).values(row)
        if connection.execute(turn).rowcount == 0:
            return False
        rows = [{**row, "annotation_file": file, "rule_version": None} for row in images]
        upsert(connection, Image, rows, ["dataset", "coco_id"])
        keys = _image_ids(connection, dataset, [row["coco_id"] for row in images])
        _delete_findings(connection, "annotations", list(keys.values()))
        _insert_findings(connection, dataset, "annotations", findings)
        rows = [{**{k: v for k, v in s.items() if k != "coco_id"}, "image_id": keys[s["coco_id"]]} for s in segments]
        replace_rows(connection, Segment, list(keys.values()), rows)
        return True


@persistent
def finish_file(engine: Engine, dataset: str, file: str, rows: int) -> None:
    """Note that an annotation file has been read to its end, where all of its rows are stored."""
    with engine.begin() as connection:
        key = (AnnotationFile.dataset == dataset, AnnotationFile.name == file, AnnotationFile.rows_done == rows)
        connection.execute(update(AnnotationFile).where(*key).values(complete=True, updated_at=now()))


@persistent
def forget_file(engine: Engine, dataset: str, file: str) -> None:
    """Have an annotation file read anew. Its images, masks and segments stay until theirs are read again."""
    with engine.begin() as connection:
        key = (AnnotationFile.dataset == dataset, AnnotationFile.name == file)
        connection.execute(delete(AnnotationFile).where(*key))
        images = update(Image).where(Image.dataset == dataset, Image.annotation_file == file)
        connection.execute(images.values(annotation_file=None))


@persistent
def add_captions(
    engine: Engine, dataset: str, images: Sequence[Row], captions: Sequence[Row], findings: Sequence[Row] = ()
) -> int:
    """Store images that have only captions, and those captions that are new; returns how many captions were new.

    Args:
        images: columns of `image`; those that are there already stay as they are.
        captions: `caption_id`, `text`, and `coco_id` in place of `image_id`; those of unknown images are left out.
        findings: `coco_id`, `kind`, `detail` of what was left out, in place of what was before.
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
            insert_rows(connection, table_of(Caption), new)
            _set_rule_version(connection, sorted({row["image_id"] for row in new}), None)
        connection.execute(delete(Finding).where(Finding.dataset == dataset, Finding.stage == "captions"))
        _insert_findings(connection, dataset, "captions", findings)
        return len(new)


@persistent
def record_downloads(engine: Engine, outcomes: Sequence[Row]) -> int:
    """Store what came of some downloads, and give back their claims; returns how many files replaced other ones.

    An image whose file has changed will be labelled again. One that has failed has no file.

    Args:
        outcomes: columns of `download`, and for those that are done `path` and `sha256`. `attempts`, `seconds`,
            `error_class` and `error` must be there, the other columns may be missing.
    """
    optional = ("permanent", "url", "etag", "bytes", "verified_at")
    columns = ("image_id", "state", "attempts", "seconds", "error_class", "error")
    rows = [{**{c: row[c] for c in columns}, **{c: row.get(c) for c in optional}} for row in outcomes]
    files = [{"id": row["image_id"], **{c: row[c] for c in _FILE}} for row in outcomes if row["state"] == "done"]
    lost = [{"id": row["image_id"], "path": None, "bytes": None} for row in outcomes if row["state"] != "done"]
    keys = [row["image_id"] for row in outcomes]
    with engine.begin() as connection:
        time_now = clock(connection)
        upsert(connection, Download, [{**row, "updated_at": time_now} for row in rows])
        before: dict[int, str | None] = {}
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            query = select(Image.id, Image.sha256).where(Image.id.in_(batch), Image.sha256.is_not(None))
            before.update(connection.execute(query).tuples().all())
            connection.execute(delete(DownloadClaim).where(DownloadClaim.image_id.in_(batch)))
        replaced = [row["id"] for row in files if before.get(row["id"], row["sha256"]) != row["sha256"]]
        _set_rule_version(connection, replaced, None)
        update_rows(connection, table_of(Image), files)
        update_rows(connection, table_of(Image), lost)
    return len(replaced)


@persistent
def forget_downloads(engine: Engine, image_ids: Sequence[int]) -> None:
    """Take images for not downloaded, as their files are gone."""
    with engine.begin() as connection:
        for start in range(0, len(image_ids), BATCH):
            batch = image_ids[start : start + BATCH]
            connection.execute(delete(Download).where(Download.image_id.in_(batch)))
            connection.execute(update(Image).where(Image.id.in_(batch)).values(path=None, bytes=None))


@persistent
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
        update_rows(connection, table_of(Segment), segments)
        _set_rule_version(connection, keys, rule_version)
    return len(changed)


@persistent
def record_findings(
    engine: Engine, dataset: str, stage: str, image_ids: Sequence[int] | None, findings: Sequence[Row]
) -> None:
    """Store what a stage found about some images, in place of what it found about them before.

    Args:
        image_ids: None for what was found about the dataset as a whole.
        findings: `image_id`, `kind`, `detail`.
    """
    with engine.begin() as connection:
        if image_ids is None:
            whole = (Finding.dataset == dataset, Finding.image_id.is_(None), Finding.stage == stage)
            connection.execute(delete(Finding).where(*whole))
        else:
            _delete_findings(connection, stage, image_ids)
        _insert_findings(connection, dataset, stage, findings)


def _delete_findings(connection: Connection, stage: str, image_ids: Sequence[int]) -> None:
    for start in range(0, len(image_ids), BATCH):
        batch = image_ids[start : start + BATCH]
        connection.execute(delete(Finding).where(Finding.image_id.in_(batch), Finding.stage == stage))


def _insert_findings(connection: Connection, dataset: str, stage: str, findings: Sequence[Row]) -> None:
    """Insert findings; those that have a `coco_id` in place of an `image_id` are left out where it is unknown."""
    keys = _image_ids(connection, dataset, sorted({row["coco_id"] for row in findings if "coco_id" in row}))
    rows = [
        {"dataset": dataset, "stage": stage, "found_at": now(), "kind": row["kind"], "detail": row["detail"],
         "image_id": keys[row["coco_id"]] if "coco_id" in row else row["image_id"]}
        for row in findings
        if "coco_id" not in row or row["coco_id"] in keys
    ]  # fmt: skip
    if rows:
        connection.execute(insert(Finding), rows)


def _set_rule_version(connection: Connection, image_ids: Sequence[int], rule_version: str | None) -> None:
    """Note by which rules images are labelled; None: they have to be labelled anew."""
    for start in range(0, len(image_ids), BATCH):
        batch = image_ids[start : start + BATCH]
        connection.execute(update(Image).where(Image.id.in_(batch)).values(rule_version=rule_version))


def _changed(connection: Connection, model: type[Base], image_ids: Sequence[int], rows: Sequence[Row]) -> set[int]:
    """Which of these images hold other rows in a table than the given ones."""
    table = table_of(model)
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


@persistent
def record_progress(engine: Engine, **columns: Any) -> None:
    """Store how far a piece of work has come.

    Args:
        columns: those of `progress` but `updated_at`.
    """
    with engine.begin() as connection:
        upsert(connection, Progress, [{**columns, "updated_at": clock(connection)}])
