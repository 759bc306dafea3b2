"""Commands about labels, added to `coconut-attr labels`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Select, select

from coconut_attr.annotations.records import SegmentInfo
from coconut_attr.attributes import ATTRIBUTES, CODES, INDEX
from coconut_attr.errors import UserError
from coconut_attr.files.object_store import fetch_missing
from coconut_attr.labels.evidence import Evidence
from coconut_attr.labels.extract import Extraction, combine
from coconut_attr.settings import settings
from db.annotations import set_rule_version
from db.bulk import BATCH, Row, replace_rows, table_of, update_rows
from db.engine import display_url
from db.models import AttributeEvidence, Base, Caption, Download, Image, ImageAttribute, Segment
from db.sql import Rows, persistent, sql

SOURCES = ("panoptic", "pixels", "caption")
States = dict[int, list[int]]


def combined_labels(engine: Engine, dataset: str, coco_ids: list[int]) -> States:
    """COCO image id -> the 34 states (1, 0, -1) that are stored for it."""
    found: States = {}
    for row in labels_of(engine, dataset, coco_ids):
        states = found.setdefault(row["coco_id"], [-1] * len(ATTRIBUTES))
        states[INDEX[row["attribute"]]] = CODES[row["state"]]
    return found


def source_labels(engine: Engine, dataset: str, coco_ids: list[int]) -> dict[str, States]:
    """The labels that each source would give alone, from the stored evidence."""
    pieces: dict[tuple[str, int], list[Evidence]] = {}
    for row in evidence_of(engine, dataset, coco_ids):
        piece = Evidence(
            row["attribute"], row["state"], row["source"], row["confidence"], row["detail"]
        )
        pieces.setdefault((row["source"], row["coco_id"]), []).append(piece)
    found: dict[str, States] = {source: {} for source in SOURCES}
    for (source, coco_id), evidence in pieces.items():
        found[source][coco_id] = [CODES[label.state] for label in combine(evidence)]
    return found


def _by_image(
    connection: Connection, query: Select, image_ids: Sequence[int]
) -> dict[int, list[RowMapping]]:
    """The rows of a query by their column `image_id`; an image without rows has an empty list."""
    groups: dict[int, list[RowMapping]] = {key: [] for key in image_ids}
    for row in connection.execute(query).mappings():
        groups[row["image_id"]].append(row)
    return groups


@persistent
def images_to_label(engine: Engine, dataset: str, rule_version: str) -> list[int]:
    """Ids of the images that are there and have no labels by these rules."""
    query = (
        select(Image.id)
        .join(Download)
        .where(
            Image.dataset == dataset,
            Download.state == "done",
            Image.rule_version.is_distinct_from(rule_version),
        )
        .order_by(Image.id)
    )
    with engine.connect() as connection:
        return list(connection.execute(query).scalars())


@dataclass(frozen=True)
class AnnotatedImage:
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
            SegmentInfo(s["segment_id"], s["category_id"], s["iscrowd"], s["annotated_area"])
            for s in self.segments
        ]


class OtherDatabaseError(UserError):
    """Images that a flow has listed are not in this store, so it is not the flow's."""


@persistent
def annotated_images(engine: Engine, image_ids: Sequence[int]) -> list[AnnotatedImage]:
    """Images with their segments and captions, in the given order.

    Raises:
        OtherDatabaseError: the store lacks some of them.
    """
    with engine.connect() as connection:

        def grouped(model: type, *columns: Any) -> dict[int, list[RowMapping]]:
            query = select(model.image_id, *columns).where(model.image_id.in_(image_ids))  # type: ignore[attr-defined]
            return _by_image(connection, query, image_ids)

        segments = grouped(
            Segment,
            Segment.segment_id,
            Segment.category_id,
            Segment.iscrowd,
            Segment.annotated_area,
        )
        captions = grouped(Caption, Caption.caption_id, Caption.text)
        query = (
            select(Image.__table__, Download.state, Download.error_class, Download.error)
            .outerjoin(Download)
            .where(Image.id.in_(image_ids))
        )
        images = {image["id"]: image for image in connection.execute(query).mappings()}
    if missing := len(set(image_ids) - images.keys()):
        raise OtherDatabaseError(
            f"{missing} of {len(image_ids)} images are not in {display_url(engine)}: a worker needs the flow's "
            "COCONUT_ATTR_DATABASE_URL"
        )
    return [AnnotatedImage(images[key], segments[key], captions[key]) for key in image_ids]


def images_at_hand(engine: Engine, image_ids: Sequence[int]) -> list[AnnotatedImage]:
    """`annotated_images` whose photos and masks are in the data folder: what only the image store has is fetched.

    Raises:
        OtherDatabaseError: as `annotated_images`.
        coconut_attr.files.object_store.ObjectStoreError, UnreachableError: as `fetch_missing`.
    """
    items = annotated_images(engine, image_ids)
    fetch_missing(settings(), [file for item in items for file in item.files])
    return items


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
            found.setdefault(
                key, LabelledImage(key, path or "", size, sha256 or "", [])
            ).states.append(CODES[state])
    return list(found.values())


def labels_of(engine: Engine, dataset: str, coco_ids: Sequence[int]) -> Rows:
    """Rows of the view `label` (coco_id, attribute, state) of some images of a dataset."""
    query = (
        "SELECT coco_id, attribute, state FROM label WHERE dataset = :dataset AND coco_id IN :ids"
    )
    return sql(engine, query, dataset=dataset, ids=list(coco_ids))


def evidence_of(engine: Engine, dataset: str, coco_ids: Sequence[int]) -> Rows:
    """Rows of the view `evidence` of some images of a dataset."""
    query = "SELECT * FROM evidence WHERE dataset = :dataset AND coco_id IN :ids"
    return sql(engine, query, dataset=dataset, ids=list(coco_ids))


@persistent
def label_versions(engine: Engine, dataset: str, split: str | None) -> list[str]:
    """The rule versions that the labels of a dataset, or of one split of it, were made with; none: no labels."""
    query = (
        select(Image.rule_version)
        .where(Image.dataset == dataset, Image.rule_version.is_not(None))
        .distinct()
    )
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
        found = {
            key: [row for row in rows if row["area"] is not None] for key, rows in found.items()
        }
        return LabelPage(
            images, labels, found, grouped(Caption, Caption.caption_id) if captions else {}
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
            replace_rows(
                connection,
                model,
                sorted(changed),
                [row for row in rows if row["image_id"] in changed],
            )
        update_rows(connection, table_of(Segment), segments)
        set_rule_version(connection, keys, rule_version)
    return len(changed)


def _changed(
    connection: Connection, model: type[Base], image_ids: Sequence[int], rows: Sequence[Row]
) -> set[int]:
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


def label_rows(key: int, found: Extraction) -> list[dict[str, Any]]:
    """Rows of the table `image_attribute` for the image with this key."""
    return [
        {
            "image_id": key,
            "attribute_id": INDEX[label.attribute],
            "state": label.state,
            "confidence": label.confidence,
            "conflict": label.conflict,
        }
        for label in found.labels
    ]


def evidence_rows(key: int, found: Extraction) -> list[dict[str, Any]]:
    """Rows of the table `attribute_evidence` for the image with this key."""
    return [
        {
            "image_id": key,
            "attribute_id": INDEX[piece.attribute],
            "source": piece.source,
            "state": piece.state,
            "confidence": piece.confidence,
            "detail": piece.detail,
            "segment_id": piece.segment_id,
            "caption_id": piece.caption_id,
        }
        for piece in found.evidence
    ]


def segment_rows(key: int, found: Extraction) -> list[dict[str, Any]]:
    """Rows of the table `segment` for the image with this key; of a segment, what was measured."""
    boxes = ("bbox_x", "bbox_y", "bbox_width", "bbox_height")
    means = ("mean_l", "mean_a", "mean_b")
    colors = found.colors
    return [
        {
            "image_id": key,
            "segment_id": segment.id,
            "area": segment.area,
            **dict(zip(boxes, segment.bbox, strict=True)),
            **dict(
                zip(
                    means,
                    colors[segment.id].lab if segment.id in colors else (None,) * 3,
                    strict=True,
                )
            ),
            "color": colors[segment.id].name if segment.id in colors else None,
            "rle": segment.rle or None,
        }
        for segment in found.segments
    ]
