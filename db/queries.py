"""Reads from the store. Tables for people come as rows of the documented views."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Connection, Engine, RowMapping, Select, bindparam, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from coconut_attr.attributes import CODES
from coconut_attr.errors import UserError
from coconut_attr.sources.records import SegmentInfo
from db.engine import shown
from db.models import Caption, Download, Image, ImageAttribute, Run, Segment
from db.retry import persistent

Rows = Sequence[RowMapping]
DatabaseError = SQLAlchemyError  #: a query could not be answered: the database is gone, damaged or locked


@persistent
def sql(engine: Engine, query: str, **parameters: Any) -> Rows:
    """Rows of a SQL query with named parameters (:name); a list fills the right side of an IN."""
    lists: list[BindParameter[Any]] = [
        bindparam(name, expanding=True) for name, value in parameters.items() if isinstance(value, list)
    ]
    with engine.connect() as connection:
        return connection.execute(text(query).bindparams(*lists), parameters).mappings().all()


def _by_image(connection: Connection, query: Select, image_ids: Sequence[int]) -> dict[int, list[RowMapping]]:
    """The rows of a query by their column `image_id`; an image without rows has an empty list."""
    groups: dict[int, list[RowMapping]] = {key: [] for key in image_ids}
    for row in connection.execute(query).mappings():
        groups[row["image_id"]].append(row)
    return groups


def annotation_files(engine: Engine, dataset: str) -> dict[str, RowMapping]:
    """Rows of `annotation_file` of a dataset, by name."""
    query = "SELECT * FROM annotation_file WHERE dataset = :dataset ORDER BY name"
    return {row["name"]: row for row in sql(engine, query, dataset=dataset)}


@persistent
def annotated_ids(engine: Engine, dataset: str) -> set[int]:
    """COCO ids of the images of a dataset whose annotation is of a known file."""
    query = select(Image.coco_id).where(Image.dataset == dataset, Image.annotation_file.is_not(None))
    with engine.connect() as connection:
        return set(connection.execute(query).scalars())


@persistent
def image_ids(engine: Engine, dataset: str) -> list[int]:
    """Ids of the images of a dataset: those of one annotation file together, and those of one URL folder in it."""
    query = select(Image.id).where(Image.dataset == dataset).order_by(Image.annotation_file, Image.url, Image.id)
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
def images_to_label(engine: Engine, dataset: str, rule_version: str) -> list[int]:
    """Ids of the images that are there and have no labels by these rules."""
    query = (
        select(Image.id)
        .join(Download)
        .where(Image.dataset == dataset, Download.state == "done", Image.rule_version.is_distinct_from(rule_version))
        .order_by(Image.id)
    )
    with engine.connect() as connection:
        return list(connection.execute(query).scalars())


@dataclass(frozen=True)
class Annotated:
    """An image, what came of its download, and all that its labels are made from."""

    image: RowMapping
    segments: Rows
    captions: Rows

    @property
    def files(self) -> list[tuple[str, int | None]]:
        """Its photo and its mask, so far as there are any: relative paths, with the bytes of the photo."""
        found = [(self.image["path"], self.image["bytes"]), (self.image["mask_path"], None)]
        return [(path, size) for path, size in found if path]

    @property
    def infos(self) -> list[SegmentInfo]:
        """Its segments_info, as the annotation states it."""
        return [
            SegmentInfo(s["segment_id"], s["category_id"], s["iscrowd"], s["annotated_area"]) for s in self.segments
        ]


class OtherStoreError(UserError):
    """Images that a flow has listed are not in this store, so it is not the flow's."""


@persistent
def annotated_images(engine: Engine, image_ids: Sequence[int]) -> list[Annotated]:
    """Images with their segments and captions, in the given order.

    Raises:
        OtherStoreError: the store lacks some of them.
    """
    with engine.connect() as connection:

        def grouped(model: type, *columns: Any) -> dict[int, list[RowMapping]]:
            query = select(model.image_id, *columns).where(model.image_id.in_(image_ids))  # type: ignore[attr-defined]
            return _by_image(connection, query, image_ids)

        segments = grouped(Segment, Segment.segment_id, Segment.category_id, Segment.iscrowd, Segment.annotated_area)
        captions = grouped(Caption, Caption.caption_id, Caption.text)
        query = (
            select(Image.__table__, Download.state, Download.error_class, Download.error)
            .outerjoin(Download)
            .where(Image.id.in_(image_ids))
        )
        images = {image["id"]: image for image in connection.execute(query).mappings()}
    if missing := len(set(image_ids) - images.keys()):
        raise OtherStoreError(
            f"{missing} of {len(image_ids)} images are not in {shown(engine)}: a worker needs the flow's "
            "COCONUT_ATTR_DATABASE_URL"
        )
    return [Annotated(images[key], segments[key], captions[key]) for key in image_ids]


@dataclass(frozen=True)
class LabelledImage:
    """An image with its label vector: 1 present, 0 absent, -1 unknown, in the order of the attributes."""

    id: int
    path: str
    bytes: int | None
    sha256: str
    states: list[int]


@persistent
def labelled_images(engine: Engine, dataset: str, split: str) -> list[LabelledImage]:
    """The labelled images of a split, by COCO id."""
    query = (
        select(Image.id, Image.path, Image.bytes, Image.sha256, ImageAttribute.state)
        .join(ImageAttribute, ImageAttribute.image_id == Image.id)
        .where(Image.dataset == dataset, Image.split == split, Image.path.is_not(None))
        .order_by(Image.coco_id, ImageAttribute.attribute_id)
    )
    found: dict[int, LabelledImage] = {}
    with engine.connect() as connection:
        for key, path, size, sha256, state in connection.execute(query):
            found.setdefault(key, LabelledImage(key, path or "", size, sha256 or "", [])).states.append(CODES[state])
    return list(found.values())


def labels_of(engine: Engine, dataset: str, coco_ids: Sequence[int]) -> Rows:
    """Rows of the view `label` (coco_id, attribute, state) of some images of a dataset."""
    query = "SELECT coco_id, attribute, state FROM label WHERE dataset = :dataset AND coco_id IN :ids"
    return sql(engine, query, dataset=dataset, ids=list(coco_ids))


def evidence_of(engine: Engine, dataset: str, coco_ids: Sequence[int]) -> Rows:
    """Rows of the view `evidence` of some images of a dataset."""
    query = "SELECT * FROM evidence WHERE dataset = :dataset AND coco_id IN :ids"
    return sql(engine, query, dataset=dataset, ids=list(coco_ids))


@persistent
def run(engine: Engine, run_id: int) -> RowMapping | None:
    """A run by its id."""
    with engine.connect() as connection:
        return connection.execute(select(Run.__table__).where(Run.id == run_id)).mappings().one_or_none()


@persistent
def run_of_flow(engine: Engine, flow_run_id: str) -> RowMapping | None:
    """The run that a Prefect flow run began last."""
    table = Run.__table__
    query = select(table).where(table.c.flow_run_id == flow_run_id).order_by(table.c.id.desc()).limit(1)
    with engine.connect() as connection:
        return connection.execute(query).mappings().one_or_none()


@persistent
def newest_run(engine: Engine, dataset: str, **equal: Any) -> RowMapping | None:
    """The finished run of this project that was started last on a dataset, with these column values."""
    table = Run.__table__
    query = select(table).where(table.c.kind == "trained", table.c.status == "finished", table.c.dataset == dataset)
    for column, value in equal.items():
        query = query.where(table.c[column] == value)
    with engine.connect() as connection:
        return connection.execute(query.order_by(table.c.id.desc()).limit(1)).mappings().one_or_none()


@persistent
def coco_ids(engine: Engine, dataset: str) -> set[int]:
    """COCO ids of the images of a dataset."""
    with engine.connect() as connection:
        return set(connection.execute(select(Image.coco_id).where(Image.dataset == dataset)).scalars())


def store_counts(engine: Engine) -> RowMapping:
    """What changes when there is something new to show; asked for often, so nothing large is counted for it."""
    return sql(
        engine,
        "SELECT (SELECT MAX(counted_at) FROM dataset_count) AS counted, (SELECT MAX(id) FROM image) AS images,"
        " (SELECT COUNT(*) FROM epoch_metric) AS epochs, (SELECT COUNT(*) FROM run_metric) AS scores,"
        " (SELECT COUNT(*) FROM run) AS runs, (SELECT COUNT(*) FROM run WHERE status = 'running') AS running,"
        " (SELECT COUNT(*) FROM finding) AS findings",
    )[0]


def progress(engine: Engine) -> Rows:
    """The table `progress`, what was heard of last first."""
    return sql(engine, "SELECT * FROM progress ORDER BY updated_at DESC")


COUNTED = ("images", "downloaded", "failed", "with_mask", "labelled", "bytes", "segments", "captions")
_SUMS = ", ".join(f"COALESCE(SUM(c.{name}), 0) AS {name}" for name in COUNTED)


def dataset_summaries(engine: Engine) -> Rows:
    """`dataset_summary` as it was last counted; datasets with most images first, stand-ins for COCONut last."""
    return sql(
        engine,
        f"SELECT d.name AS dataset, d.title, d.is_coconut, d.expected_images, d.expected_segments, {_SUMS},"  # noqa: S608
        " MAX(c.counted_at) AS counted_at, COALESCE((SELECT SUM(l.present + l.absent) FROM label_count l"
        " WHERE l.dataset = d.name AND l.source = 'combined'), 0) AS known"
        " FROM dataset d LEFT JOIN dataset_count c ON c.dataset = d.name"
        " GROUP BY d.name, d.title, d.is_coconut, d.expected_images, d.expected_segments"
        " ORDER BY d.is_coconut DESC, images DESC, d.name",
    )


def coverage(engine: Engine, dataset: str) -> Rows:
    """`dataset_coverage` of each split, by all sources (`combined`) and by each, as it was last counted."""
    return sql(
        engine,
        "SELECT c.split, c.source, a.name AS attribute, a.group_name, c.present, c.absent, c.unknown, c.conflicts"
        " FROM label_count c JOIN attribute a ON a.id = c.attribute_id WHERE c.dataset = :dataset",
        dataset=dataset,
    )


def cooccurrence(engine: Engine, dataset: str) -> Rows:
    """`attribute_cooccurrence` of a dataset, as it was last counted."""
    return sql(
        engine,
        "SELECT a.name AS attribute, b.name AS other, c.both_present, c.n, 1.0 * c.both_present / c.n AS share"
        " FROM cooccurrence_count c JOIN attribute a ON a.id = c.attribute_id JOIN attribute b ON b.id = c.other_id"
        " WHERE c.dataset = :dataset",
        dataset=dataset,
    )


def split_sizes(engine: Engine, dataset: str) -> Rows:
    """How many images of each split are known, downloaded, labelled."""
    return sql(
        engine,
        "SELECT split, COUNT(*) AS images, COUNT(path) AS downloaded, COUNT(rule_version) AS labelled"
        " FROM image WHERE dataset = :dataset GROUP BY split",
        dataset=dataset,
    )


def counted_splits(engine: Engine, dataset: str) -> Rows:
    """`dataset_count` of a dataset: its splits as they were last counted."""
    return sql(engine, "SELECT * FROM dataset_count WHERE dataset = :dataset", dataset=dataset)


def download_failures(engine: Engine, dataset: str) -> Rows:
    """Images that could not be fetched, by cause, with one message as an example; `permanent`: not tried again."""
    return sql(
        engine,
        "SELECT w.error_class, COUNT(*) AS images, MAX(w.attempts) AS attempts, MIN(w.error) AS example,"
        " SUM(CASE WHEN w.permanent THEN 1 ELSE 0 END) AS permanent"
        " FROM download w JOIN image i ON i.id = w.image_id WHERE i.dataset = :dataset AND w.state = 'failed'"
        " GROUP BY w.error_class ORDER BY images DESC, w.error_class",
        dataset=dataset,
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


def label_counts(engine: Engine, dataset: str) -> Rows:
    """Present and absent cells of each attribute in each split, as they were last counted."""
    return sql(
        engine,
        "SELECT c.split, a.name AS attribute, c.present, c.absent FROM label_count c"
        " JOIN attribute a ON a.id = c.attribute_id WHERE c.dataset = :dataset AND c.source = 'combined'",
        dataset=dataset,
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


def dataset_row(engine: Engine, dataset: str) -> RowMapping | None:
    """A row of `dataset`; None if the store has never heard of it."""
    rows = sql(engine, "SELECT * FROM dataset WHERE name = :dataset", dataset=dataset)
    return rows[0] if rows else None


def categories(engine: Engine) -> Rows:
    """All rows of `category`, by id."""
    return sql(engine, "SELECT id, name, isthing FROM category ORDER BY id")


@persistent
def label_versions(engine: Engine, dataset: str, split: str | None) -> list[str]:
    """The rule versions that the labels of a dataset, or of one split of it, were made with; none: no labels."""
    query = select(Image.rule_version).where(Image.dataset == dataset, Image.rule_version.is_not(None)).distinct()
    if split:
        query = query.where(Image.split == split)
    with engine.connect() as connection:
        return sorted(version for version in connection.execute(query).scalars() if version)


@dataclass(frozen=True)
class LabelPage:
    """Some labelled images in the order of their COCO ids, and by image id their labels, segments and captions."""

    images: Rows
    labels: dict[int, list[RowMapping]]
    segments: dict[int, list[RowMapping]]
    captions: dict[int, list[RowMapping]]


def label_page(
    engine: Engine,
    dataset: str,
    split: str | None,
    after: int | None,
    *,
    size: int,
    segments: bool = False,
    captions: bool = False,
) -> LabelPage:
    """The next images that have labels, at most `size` of them: those whose COCO id is above `after`.

    Args:
        segments, captions: read those too. Segments without a pixel in the mask are left out.
    """
    query = select(Image).where(Image.dataset == dataset, Image.rule_version.is_not(None))
    if split:
        query = query.where(Image.split == split)
    if after is not None:
        query = query.where(Image.coco_id > after)
    with engine.connect() as connection:
        images = connection.execute(query.order_by(Image.coco_id).limit(size)).mappings().all()
        keys = [row["id"] for row in images]

        def grouped(model: type, *order: Any) -> dict[int, list[RowMapping]]:
            table = model.__table__  # type: ignore[attr-defined]
            query = select(table).where(table.c.image_id.in_(keys)).order_by(*order)
            return _by_image(connection, query, keys)

        labels = grouped(ImageAttribute, ImageAttribute.attribute_id)
        found = grouped(Segment, Segment.segment_id) if segments else {}
        found = {key: [row for row in rows if row["area"] is not None] for key, rows in found.items()}
        return LabelPage(images, labels, found, grouped(Caption, Caption.caption_id) if captions else {})


def datasets_holding(engine: Engine, coco_ids: Sequence[int]) -> Rows:
    """How many of some images each dataset holds, known and labelled; datasets with none are left out."""
    return sql(
        engine,
        "SELECT i.dataset, d.title, d.is_coconut, COUNT(*) AS images, COUNT(i.rule_version) AS labelled"
        " FROM image i JOIN dataset d ON d.name = i.dataset WHERE i.coco_id IN :ids"
        " GROUP BY i.dataset, d.title, d.is_coconut ORDER BY d.is_coconut DESC, labelled DESC, i.dataset",
        ids=list(coco_ids),
    )


def captions_of(engine: Engine, dataset: str, coco_ids: Sequence[int]) -> Rows:
    """Some images of a dataset (coco_id, path), one row for each of their captions (text), at least one."""
    query = (
        select(Image.coco_id, Image.path, Caption.text)
        .outerjoin(Caption, Caption.image_id == Image.id)
        .where(Image.dataset == dataset, Image.coco_id.in_(coco_ids))
        .order_by(Image.coco_id, Caption.caption_id)
    )
    with engine.connect() as connection:
        return connection.execute(query).mappings().all()
