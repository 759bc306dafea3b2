"""Annotations in the database: images, segments, captions, findings, and the files read."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    delete,
    false,
    func,
    insert,
    or_,
    select,
    update,
)

from coconut_attr.annotations.records import ImageInfo, Panoptic
from coconut_attr.annotations.splits import split_of
from coconut_attr.datasets import Dataset
from coconut_attr.errors import UserError
from coconut_attr.findings import Finding
from db.bulk import (
    BATCH,
    Row,
    insert_for,
    insert_rows,
    replace_rows,
    table_of,
    update_rows,
    upsert,
)
from db.models import (
    AnnotationFile,
    Caption,
    Download,
    FindingRow,
    Image,
    ImageAttribute,
    PanCapText,
    Segment,
    now,
)
from db.sql import Rows, persistent, sql


def annotation_files(engine: Engine, dataset: str) -> dict[str, RowMapping]:
    """Return the rows of `annotation_file` of a dataset, by name."""
    query = "SELECT * FROM annotation_file WHERE dataset = :dataset ORDER BY name"
    return {row["name"]: row for row in sql(engine, query, dataset=dataset)}


@persistent
def annotated_ids(engine: Engine, dataset: str) -> set[int]:
    """Return the COCO ids of a dataset's images whose annotation is of a known file."""
    query = select(Image.coco_id).where(
        Image.dataset == dataset, Image.annotation_file.is_not(None)
    )
    with engine.connect() as connection:
        return set(connection.execute(query).scalars())


@persistent
def superseded_ids(engine: Engine, dataset: Dataset) -> set[int]:
    """Return the COCO ids of images whose annotation is of a former repository of the dataset."""
    files = [Image.annotation_file.startswith(f"{repo}/") for repo in dataset.former_repos]
    query = select(Image.coco_id).where(Image.dataset == dataset.name, or_(false(), *files))
    with engine.connect() as connection:
        return set(connection.execute(query).scalars())


@persistent
def image_ids(engine: Engine, dataset: str) -> list[int]:
    """Return a dataset's image ids, grouped by annotation file and then by URL folder."""
    query = (
        select(Image.id)
        .where(Image.dataset == dataset)
        .order_by(Image.annotation_file, Image.url, Image.id)
    )
    with engine.connect() as connection:
        return list(connection.execute(query).scalars())


@persistent
def mask_paths(engine: Engine, dataset: str) -> list[str]:
    """Return the paths of a dataset's masks, relative to the data folder, one for each image."""
    query = select(Image.mask_path).where(Image.dataset == dataset, Image.mask_path.is_not(None))
    with engine.connect() as connection:
        return [path for path in connection.execute(query).scalars() if path]


@persistent
def photo_bytes(engine: Engine, dataset: str) -> dict[str, int]:
    """Return the bytes of a dataset's photos, by their paths relative to the data folder."""
    query = select(Image.path, Image.bytes).where(Image.dataset == dataset, Image.path.is_not(None))
    with engine.connect() as connection:
        return {path: size or 0 for path, size in connection.execute(query).tuples() if path}


@persistent
def count_images(engine: Engine, dataset: str) -> int:
    """Return how many images of a dataset are known."""
    with engine.connect() as connection:
        return connection.execute(select(func.count()).where(Image.dataset == dataset)).scalar_one()


def require_images(engine: Engine, dataset: str) -> None:
    """Check that the database has images of a dataset.

    Raises:
        UserError: it has none.
    """
    if not count_images(engine, dataset):
        raise UserError(
            f"the database has no image of {dataset}; run: coconut-attr download {dataset}"
        )


@persistent
def coco_ids(engine: Engine, dataset: str) -> set[int]:
    """Return the COCO ids of a dataset's images."""
    with engine.connect() as connection:
        return set(
            connection.execute(select(Image.coco_id).where(Image.dataset == dataset)).scalars()
        )


STAGES = ("annotations", "captions", "pancap", "extract", "check")


def findings(engine: Engine, dataset: str, stages: Sequence[str] = STAGES) -> Rows:
    """Return a dataset's findings by stage and kind, with one image's detail as an example.

    Args:
        stages: extraction and check report the same problems in the same words.
    """
    return sql(
        engine,
        "SELECT stage, kind, COUNT(*) AS findings, COUNT(DISTINCT image_id) AS images,"
        " MIN(CASE WHEN place = 1 THEN detail END) AS example"
        " FROM (SELECT f.stage, f.kind, f.image_id,"
        " CASE WHEN i.id IS NULL THEN f.detail"
        " ELSE 'image ' || i.coco_id || ': ' || f.detail END AS detail,"
        " ROW_NUMBER() OVER (PARTITION BY f.stage, f.kind ORDER BY i.coco_id, f.detail) AS place"
        " FROM finding f LEFT JOIN image i ON i.id = f.image_id"
        " WHERE f.dataset = :dataset AND f.stage IN :stages) found"
        " GROUP BY stage, kind ORDER BY findings DESC, kind, stage",
        dataset=dataset,
        stages=list(stages),
    )


def annotation_progress(engine: Engine, dataset: str) -> Rows:
    """Return where each annotation file of a dataset was read, and how far."""
    return sql(
        engine,
        "SELECT name, origin, rows_done, complete FROM annotation_file"
        " WHERE dataset = :dataset ORDER BY name",
        dataset=dataset,
    )


def image_ids_of(connection: Connection, dataset: str, coco_ids: Sequence[int]) -> dict[int, int]:
    """Return our id of each COCO id."""
    ids: dict[int, int] = {}
    for start in range(0, len(coco_ids), BATCH):
        batch = coco_ids[start : start + BATCH]
        query = select(Image.coco_id, Image.id).where(
            Image.dataset == dataset, Image.coco_id.in_(batch)
        )
        ids.update(connection.execute(query).tuples().all())
    return ids


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

    Nothing is stored unless the file has been read just up to the batch, so that of several
    readers one stores each row.

    Args:
        images: columns of `image` with `mask_path`; their labels will be extracted again.
        segments: columns of `segment`, with `coco_id` in place of `image_id`.
        file, origin, rows_done: columns of `annotation_file`.
        version: its `size`, `sha256` and `etag`.
        rows_before: rows of the file that come before the batch.
        findings: of the batch, from `finding_rows`.

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
        keys = image_ids_of(connection, dataset, [row["coco_id"] for row in images])
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
    """Mark an annotation file as complete if all of its rows are stored."""
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
    """Forget that an annotation file was read, so that it is read again from its first row.

    Its images, masks and segments stay until theirs are read again.
    """
    with engine.begin() as connection:
        rows = FindingRow.detail.startswith(f"{file} row ", autoescape=True)
        connection.execute(delete(FindingRow).where(*_of_dataset(dataset, "annotations"), rows))
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
    """Store images that have only captions, and new captions.

    Args:
        images: columns of `image`; stored images stay as they are.
        captions: `caption_id`, `text`, and `coco_id` in place of `image_id`; captions of unknown
            images are left out.
        findings: from `finding_rows`, in place of those of the last reading.

    Returns:
        How many captions were new.
    """
    with engine.begin() as connection:
        known = image_ids_of(connection, dataset, [row["coco_id"] for row in images])
        upsert(
            connection,
            Image,
            [row for row in images if row["coco_id"] not in known],
            ["dataset", "coco_id"],
        )
        keys = image_ids_of(connection, dataset, sorted({row["coco_id"] for row in captions}))
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
def add_pancap_texts(engine: Engine, dataset: str, texts: Sequence[Row]) -> int:
    """Store COCONut-PanCap texts that are new or changed; their images will be labelled again.

    Args:
        texts: `coco_id`, `text`; those of unknown images are skipped.

    Returns:
        The number of texts that were new or changed.
    """
    with engine.begin() as connection:
        image_ids = image_ids_of(connection, dataset, [row["coco_id"] for row in texts])
        stored: dict[int, str] = {}
        known = list(image_ids.values())
        for start in range(0, len(known), BATCH):
            batch = known[start : start + BATCH]
            query = select(PanCapText.image_id, PanCapText.text)
            rows = connection.execute(query.where(PanCapText.image_id.in_(batch)))
            stored.update({image_id: text for image_id, text in rows})
        changed = [
            {"image_id": image_ids[row["coco_id"]], "text": row["text"]}
            for row in texts
            if row["coco_id"] in image_ids and stored.get(image_ids[row["coco_id"]]) != row["text"]
        ]
        upsert(connection, PanCapText, changed)
        set_rule_version(connection, [row["image_id"] for row in changed], None)
        return len(changed)


@persistent
def record_findings(
    engine: Engine,
    dataset: str,
    stage: str,
    image_ids: Sequence[int] | None,
    findings: Sequence[Row],
    kinds: Sequence[str] | None = None,
) -> None:
    """Replace a stage's findings about some images.

    Args:
        image_ids: None for findings about the dataset as a whole.
        findings: `image_id`, `kind`, `detail`.
        kinds: replace only those of these kinds; findings of odd rows stay until they are re-read.
    """
    with engine.begin() as connection:
        if image_ids is None:
            replaced = delete(FindingRow).where(*_of_dataset(dataset, stage))
            if kinds is not None:
                replaced = replaced.where(FindingRow.kind.in_(kinds))
            connection.execute(replaced)
        else:
            _delete_findings(connection, stage, image_ids)
        _insert_findings(connection, dataset, stage, findings)


def _of_dataset(dataset: str, stage: str) -> tuple[ColumnElement[bool], ...]:
    """Return the condition for a stage's findings about a dataset as a whole."""
    return (
        FindingRow.dataset == dataset,
        FindingRow.image_id.is_(None),
        FindingRow.stage == stage,
    )


def _delete_findings(connection: Connection, stage: str, image_ids: Sequence[int]) -> None:
    for start in range(0, len(image_ids), BATCH):
        batch = image_ids[start : start + BATCH]
        connection.execute(
            delete(FindingRow).where(FindingRow.image_id.in_(batch), FindingRow.stage == stage)
        )


def _insert_findings(
    connection: Connection, dataset: str, stage: str, findings: Sequence[Row]
) -> None:
    """Insert findings; one with a `coco_id` for its `image_id` is skipped where it is unknown."""
    keys = image_ids_of(
        connection, dataset, sorted({row["coco_id"] for row in findings if "coco_id" in row})
    )
    rows = [
        {
            "dataset": dataset,
            "stage": stage,
            "found_at": now(),
            "kind": row["kind"],
            "detail": row["detail"],
            "image_id": keys[row["coco_id"]] if "coco_id" in row else row["image_id"],
        }
        for row in findings
        if "coco_id" not in row or row["coco_id"] in keys
    ]
    if rows:
        connection.execute(insert(FindingRow), rows)


def set_rule_version(
    connection: Connection, image_ids: Sequence[int], rule_version: str | None
) -> None:
    """Set the rules that images are labelled by; None: they have to be labelled again."""
    for start in range(0, len(image_ids), BATCH):
        batch = image_ids[start : start + BATCH]
        connection.execute(
            update(Image).where(Image.id.in_(batch)).values(rule_version=rule_version)
        )


def forget_predictions(connection: Connection, image_ids: Sequence[int]) -> None:
    """Delete out-of-fold predictions of images whose photo is another one now."""
    for start in range(0, len(image_ids), BATCH):
        batch = image_ids[start : start + BATCH]
        connection.execute(update(Image).where(Image.id.in_(batch)).values(model_run_id=None))
        connection.execute(
            update(ImageAttribute)
            .where(ImageAttribute.image_id.in_(batch))
            .values(model_probability=None)
        )


def mend_images(engine: Engine, dataset: str, infos: Iterable[ImageInfo]) -> int:
    """Set name, size, licence and URL of stored images to what COCO's own files say of them.

    The URL that a photo was fetched from stays. A failure at another URL is forgotten, so that the
    photo is tried again.

    Returns:
        How many images differed.
    """
    columns = ("file_name", "width", "height", "licence", "url")
    with engine.begin() as connection:
        query = select(
            Image.id, Image.coco_id, Image.path, *(getattr(Image, name) for name in columns)
        ).where(Image.dataset == dataset)
        stored = {row["coco_id"]: row for row in connection.execute(query).mappings()}
        rows, moved = [], []
        for info in infos:
            row = stored.get(info.coco_id)
            if row is None:
                continue
            values = {name: getattr(info, name) for name in columns}
            if row["path"]:
                values["url"] = row["url"]
            if any(row[name] != value for name, value in values.items()):
                rows.append({"id": row["id"], **values})
            if values["url"] != row["url"]:
                moved.append(row["id"])
        update_rows(connection, table_of(Image), rows)
        for start in range(0, len(moved), BATCH):
            connection.execute(
                delete(Download).where(
                    Download.image_id.in_(moved[start : start + BATCH]), Download.state == "failed"
                )
            )
    return len(rows)


def panoptic_segment_rows(annotations: list[Panoptic]) -> list[dict[str, Any]]:
    """Return rows of `segment`, with a `coco_id` for their `image_id`."""
    return [
        {
            "coco_id": annotation.image_id,
            "segment_id": segment.id,
            "category_id": segment.category_id,
            "iscrowd": segment.iscrowd,
            "annotated_area": segment.area,
        }
        for annotation in annotations
        for segment in annotation.segments
    ]


def finding_rows(
    of_images: Iterable[tuple[int, Finding]], of_dataset: Iterable[Finding] = ()
) -> list[dict[str, Any]]:
    """Return rows of `finding`: of images by their COCO ids, and of the dataset as a whole."""
    return [
        {"coco_id": coco_id, "kind": finding.kind, "detail": finding.detail}
        for coco_id, finding in of_images
    ] + [
        {"image_id": None, "kind": finding.kind, "detail": finding.detail} for finding in of_dataset
    ]


def image_row(dataset: Dataset, info: ImageInfo) -> dict[str, Any]:
    """Return the row of `image` of an image that is not downloaded yet."""
    return {
        "dataset": dataset.name,
        "coco_id": info.coco_id,
        "file_name": info.file_name,
        "url": info.url,
        "licence": info.licence,
        "width": info.width,
        "height": info.height,
        "split": info.split or split_of(info.coco_id),
    }
