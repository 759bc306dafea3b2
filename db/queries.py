"""Reads from the store. Tables for people come as rows of the documented views."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, RowMapping, func, select, text

from db.models import AnnotationFile, Caption, Download, Image, ImageAttribute, Run, Segment

Rows = Sequence[RowMapping]


def sql(engine: Engine, query: str, **parameters: Any) -> Rows:
    """Rows of a SQL query with named parameters (:name)."""
    with engine.connect() as connection:
        return connection.execute(text(query), parameters).mappings().all()


def annotation_files(engine: Engine, dataset: str) -> dict[str, tuple[int, bool]]:
    """Rows read, and whether it was read to its end, of each annotation file known for a dataset."""
    query = select(AnnotationFile.name, AnnotationFile.rows_done, AnnotationFile.complete)
    with engine.connect() as connection:
        rows = connection.execute(query.where(AnnotationFile.dataset == dataset))
        return {name: (rows_done, complete) for name, rows_done, complete in rows}


def count_images(engine: Engine, dataset: str) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).where(Image.dataset == dataset)).scalar_one()


def images_to_download(engine: Engine, dataset: str, *, retry_failed: bool) -> Rows:
    """Images (`id`, `url`, `width`, `height`) that are not there; failed ones among them only if wanted."""
    query = (
        select(Image.id, Image.url, Image.width, Image.height)
        .outerjoin(Download)
        .where(Image.dataset == dataset, Download.state.is_distinct_from("done"))
        .order_by(Image.id)
    )
    if not retry_failed:
        query = query.where(Download.state.is_(None))
    with engine.connect() as connection:
        return connection.execute(query).mappings().all()


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
    """An image with all that its labels are made from."""

    image: RowMapping
    segments: Rows
    captions: Rows


def annotated_images(engine: Engine, image_ids: Sequence[int]) -> list[Annotated]:
    """Images with their segments and captions, in the order of their ids."""
    with engine.connect() as connection:

        def grouped(model: type, *columns: Any) -> dict[int, list[RowMapping]]:
            groups: dict[int, list[RowMapping]] = {key: [] for key in image_ids}
            query = select(model.image_id, *columns).where(model.image_id.in_(image_ids))  # type: ignore[attr-defined]
            for row in connection.execute(query).mappings():
                groups[row["image_id"]].append(row)
            return groups

        segments = grouped(Segment, Segment.segment_id, Segment.category_id, Segment.iscrowd, Segment.annotated_area)
        captions = grouped(Caption, Caption.caption_id, Caption.text)
        query = (
            select(Image.id, Image.coco_id, Image.path, Image.mask_path)
            .where(Image.id.in_(image_ids))
            .order_by(Image.id)
        )
        images = connection.execute(query).mappings().all()
    return [Annotated(image, segments[image["id"]], captions[image["id"]]) for image in images]


@dataclass(frozen=True)
class LabelledImage:
    """An image with its label vector: 1 present, 0 absent, -1 unknown, in the order of the attributes."""

    id: int
    path: str
    sha256: str
    states: list[int]


def labelled_images(engine: Engine, dataset: str, split: str) -> list[LabelledImage]:
    """The labelled images of a split, by COCO id."""
    code = {"present": 1, "absent": 0, "unknown": -1}
    query = (
        select(Image.id, Image.path, Image.sha256, ImageAttribute.state)
        .join(ImageAttribute, ImageAttribute.image_id == Image.id)
        .where(Image.dataset == dataset, Image.split == split, Image.path.is_not(None))
        .order_by(Image.coco_id, ImageAttribute.attribute_id)
    )
    found: dict[int, LabelledImage] = {}
    with engine.connect() as connection:
        for key, path, sha256, state in connection.execute(query):
            found.setdefault(key, LabelledImage(key, path or "", sha256 or "", [])).states.append(code[state])
    return list(found.values())


def run(engine: Engine, run_id: int) -> RowMapping | None:
    """A run by its id."""
    with engine.connect() as connection:
        return connection.execute(select(Run.__table__).where(Run.id == run_id)).mappings().one_or_none()


def newest_run(engine: Engine, dataset: str, **equal: Any) -> RowMapping | None:
    """The finished run of this project that was started last on a dataset, with these column values."""
    table = Run.__table__
    query = select(table).where(table.c.kind == "trained", table.c.status == "finished", table.c.dataset == dataset)
    for column, value in equal.items():
        query = query.where(table.c[column] == value)
    with engine.connect() as connection:
        return connection.execute(query.order_by(table.c.id.desc()).limit(1)).mappings().one_or_none()


def coco_ids(engine: Engine, dataset: str) -> set[int]:
    """COCO ids of the images of a dataset."""
    with engine.connect() as connection:
        return set(connection.execute(select(Image.coco_id).where(Image.dataset == dataset)).scalars())
