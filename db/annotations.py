"""TODO."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, delete, func, insert, select, update

from coconut_attr.annotations.records import ImageInfo, Panoptic
from coconut_attr.annotations.splits import split_of
from coconut_attr.datasets import Dataset
from coconut_attr.findings import Finding
from db.bulk import BATCH, Row, insert_for, insert_rows, replace_rows, table_of, upsert
from db.models import AnnotationFile, Caption, FindingRow, Image, Segment, now
from db.sql import Rows, persistent, sql


def annotation_files(engine: Engine, dataset: str) -> dict[str, RowMapping]:
    """Rows of `annotation_file` of a dataset, by name."""
    query = "SELECT * FROM annotation_file WHERE dataset = :dataset ORDER BY name"
    return {row["name"]: row for row in sql(engine, query, dataset=dataset)}


@persistent
def annotated_ids(engine: Engine, dataset: str) -> set[int]:
    """COCO ids of the images of a dataset whose annotation is of a known file."""
    query = select(Image.coco_id).where(
        Image.dataset == dataset, Image.annotation_file.is_not(None)
    )
    with engine.connect() as connection:
        return set(connection.execute(query).scalars())


@persistent
def image_ids(engine: Engine, dataset: str) -> list[int]:
    """Ids of the images of a dataset: those of one annotation file together, and those of one URL folder in it."""
    query = (
        select(Image.id)
        .where(Image.dataset == dataset)
        .order_by(Image.annotation_file, Image.url, Image.id)
    )
    with engine.connect() as connection:
        return list(connection.execute(query).scalars())


@persistent
def mask_paths(engine: Engine, dataset: str) -> set[str]:
    """Paths, relative to the data folder, of the masks of a dataset."""
    query = select(Image.mask_path).where(Image.dataset == dataset, Image.mask_path.is_not(None))
    with engine.connect() as connection:
        return {path for path in connection.execute(query).scalars() if path}


@persistent
def photo_bytes(engine: Engine, dataset: str) -> dict[str, int]:
    """Bytes of the downloaded photos of a dataset, by their paths relative to the data folder."""
    query = select(Image.path, Image.bytes).where(Image.dataset == dataset, Image.path.is_not(None))
    with engine.connect() as connection:
        return {path: size or 0 for path, size in connection.execute(query).tuples() if path}


@persistent
def count_images(engine: Engine, dataset: str) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).where(Image.dataset == dataset)).scalar_one()


@persistent
def coco_ids(engine: Engine, dataset: str) -> set[int]:
    """COCO ids of the images of a dataset."""
    with engine.connect() as connection:
        return set(
            connection.execute(select(Image.coco_id).where(Image.dataset == dataset)).scalars()
        )


STAGES = ("annotations", "captions", "extract", "check")


def findings(engine: Engine, dataset: str, stages: Sequence[str] = STAGES) -> Rows:
    """What could not be used or does not fit in a dataset, by stage and kind, with one image's detail as an example.

    Args:
        stages: whose findings are wanted; extraction and check tell of what both see in the same words.
    """
    return sql(
        engine,
        "SELECT stage, kind, COUNT(*) AS findings, COUNT(DISTINCT image_id) AS images,"
        " MIN(CASE WHEN place = 1 THEN detail END) AS example"
        " FROM (SELECT f.stage, f.kind, f.image_id,"
        " CASE WHEN i.id IS NULL THEN f.detail ELSE 'image ' || i.coco_id || ': ' || f.detail END AS detail,"
        " ROW_NUMBER() OVER (PARTITION BY f.stage, f.kind ORDER BY i.coco_id, f.detail) AS place"
        " FROM finding f LEFT JOIN image i ON i.id = f.image_id"
        " WHERE f.dataset = :dataset AND f.stage IN :stages) found"
        " GROUP BY stage, kind ORDER BY findings DESC, kind, stage",
        dataset=dataset,
        stages=list(stages),
    )


def annotation_progress(engine: Engine, dataset: str) -> Rows:
    """Where each annotation file of a dataset was read, and how far."""
    return sql(
        engine,
        "SELECT name, origin, rows_done, complete FROM annotation_file WHERE dataset = :dataset ORDER BY name",
        dataset=dataset,
    )


def _image_ids(connection: Connection, dataset: str, coco_ids: Sequence[int]) -> dict[int, int]:
    """Our id of each COCO id."""
    found: dict[int, int] = {}
    for start in range(0, len(coco_ids), BATCH):
        batch = coco_ids[start : start + BATCH]
        query = select(Image.coco_id, Image.id).where(
            Image.dataset == dataset, Image.coco_id.in_(batch)
        )
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
        row = {
            "origin": origin,
            "rows_done": rows_done,
            "complete": False,
            **(version or {}),
            "updated_at": now(),
        }
        table = table_of(AnnotationFile)
        if not rows_before:
            connection.execute(
                insert_for(connection, table).on_conflict_do_nothing(),
                {**key, **row, "rows_done": 0},
            )
        turn = update(table).filter_by(**key, rows_done=rows_before).values(row)
        if connection.execute(turn).rowcount == 0:
            return False
        rows = [{**row, "annotation_file": file, "rule_version": None} for row in images]
        upsert(connection, Image, rows, ["dataset", "coco_id"])
        keys = _image_ids(connection, dataset, [row["coco_id"] for row in images])
        _delete_findings(connection, "annotations", list(keys.values()))
        _insert_findings(connection, dataset, "annotations", findings)
        rows = [
            {**{k: v for k, v in s.items() if k != "coco_id"}, "image_id": keys[s["coco_id"]]}
            for s in segments
        ]
        replace_rows(connection, Segment, list(keys.values()), rows)
        return True


@persistent
def finish_file(engine: Engine, dataset: str, file: str, rows: int) -> None:
    """Note that an annotation file has been read to its end, where all of its rows are stored."""
    with engine.begin() as connection:
        key = (
            AnnotationFile.dataset == dataset,
            AnnotationFile.name == file,
            AnnotationFile.rows_done == rows,
        )
        connection.execute(
            update(AnnotationFile).where(*key).values(complete=True, updated_at=now())
        )


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
    engine: Engine,
    dataset: str,
    images: Sequence[Row],
    captions: Sequence[Row],
    findings: Sequence[Row] = (),
) -> int:
    """Store images that have only captions, and those captions that are new; returns how many captions were new.

    Args:
        images: columns of `image`; those that are there already stay as they are.
        captions: `caption_id`, `text`, and `coco_id` in place of `image_id`; those of unknown images are left out.
        findings: `coco_id`, `kind`, `detail` of what was left out, in place of what was before.
    """
    with engine.begin() as connection:
        known = _image_ids(connection, dataset, [row["coco_id"] for row in images])
        upsert(
            connection,
            Image,
            [row for row in images if row["coco_id"] not in known],
            ["dataset", "coco_id"],
        )
        keys = _image_ids(connection, dataset, sorted({row["coco_id"] for row in captions}))
        stored = set(
            connection.execute(
                select(Caption.image_id, Caption.caption_id)
                .join(Image)
                .where(Image.dataset == dataset)
            ).tuples()
        )
        new = [
            {"image_id": keys[row["coco_id"]], "caption_id": row["caption_id"], "text": row["text"]}
            for row in captions
            if row["coco_id"] in keys and (keys[row["coco_id"]], row["caption_id"]) not in stored
        ]
        if new:
            insert_rows(connection, table_of(Caption), new)
            set_rule_version(connection, sorted({row["image_id"] for row in new}), None)
        connection.execute(
            delete(FindingRow).where(FindingRow.dataset == dataset, FindingRow.stage == "captions")
        )
        _insert_findings(connection, dataset, "captions", findings)
        return len(new)


@persistent
def record_findings(
    engine: Engine,
    dataset: str,
    stage: str,
    image_ids: Sequence[int] | None,
    findings: Sequence[Row],
) -> None:
    """Store what a stage found about some images, in place of what it found about them before.

    Args:
        image_ids: None for what was found about the dataset as a whole.
        findings: `image_id`, `kind`, `detail`.
    """
    with engine.begin() as connection:
        if image_ids is None:
            whole = (
                FindingRow.dataset == dataset,
                FindingRow.image_id.is_(None),
                FindingRow.stage == stage,
            )
            connection.execute(delete(FindingRow).where(*whole))
        else:
            _delete_findings(connection, stage, image_ids)
        _insert_findings(connection, dataset, stage, findings)


def _delete_findings(connection: Connection, stage: str, image_ids: Sequence[int]) -> None:
    for start in range(0, len(image_ids), BATCH):
        batch = image_ids[start : start + BATCH]
        connection.execute(
            delete(FindingRow).where(FindingRow.image_id.in_(batch), FindingRow.stage == stage)
        )


def _insert_findings(
    connection: Connection, dataset: str, stage: str, findings: Sequence[Row]
) -> None:
    """Insert findings; those that have a `coco_id` in place of an `image_id` are left out where it is unknown."""
    keys = _image_ids(
        connection, dataset, sorted({row["coco_id"] for row in findings if "coco_id" in row})
    )
    rows = [
        {"dataset": dataset, "stage": stage, "found_at": now(), "kind": row["kind"], "detail": row["detail"],
         "image_id": keys[row["coco_id"]] if "coco_id" in row else row["image_id"]}
        for row in findings
        if "coco_id" not in row or row["coco_id"] in keys
    ]  # fmt: skip
    if rows:
        connection.execute(insert(FindingRow), rows)


def set_rule_version(
    connection: Connection, image_ids: Sequence[int], rule_version: str | None
) -> None:
    """Note by which rules images are labelled; None: they have to be labelled anew."""
    for start in range(0, len(image_ids), BATCH):
        batch = image_ids[start : start + BATCH]
        connection.execute(
            update(Image).where(Image.id.in_(batch)).values(rule_version=rule_version)
        )


def panoptic_segment_rows(annotations: list[Panoptic]) -> list[dict[str, Any]]:
    return [
        {
            "coco_id": annotation.image.coco_id,
            "segment_id": segment.id,
            "category_id": segment.category_id,
            "iscrowd": segment.iscrowd,
            "annotated_area": segment.area,
        }
        for annotation in annotations
        for segment in annotation.segments
    ]


def finding_rows(problems: list[tuple[int, Finding]]) -> list[dict[str, Any]]:
    return [
        {"coco_id": coco_id, "kind": problem.kind, "detail": problem.detail}
        for coco_id, problem in problems
    ]


def image_row(entry: Dataset, info: ImageInfo) -> dict[str, Any]:
    return {
        "dataset": entry.name,
        "coco_id": info.coco_id,
        "file_name": info.file_name,
        "url": info.url,
        "licence": info.licence,
        "width": info.width,
        "height": info.height,
        "split": info.split or split_of(info.coco_id),
    }
