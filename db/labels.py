"""Labels and their evidence: the images that need them, and reading and writing their rows."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, RowMapping, Select, select, update

from coconut_attr.annotations.records import SegmentInfo
from coconut_attr.attributes import CODES, INDEX, SOURCES
from coconut_attr.errors import UserError
from coconut_attr.files.object_store import fetch_missing
from coconut_attr.labels.evidence import Evidence
from coconut_attr.settings import settings
from db.annotations import set_rule_version
from db.bulk import BATCH, Row, replace_rows, table_of, update_rows
from db.engine import display_url
from db.models import (
    AttributeEvidence,
    Base,
    Caption,
    Download,
    Image,
    ImageAttribute,
    PanCapText,
    Segment,
    SegmentAttribute,
)
from db.sql import Rows, persistent, sql

if TYPE_CHECKING:
    from coconut_attr.labels.extract import Extraction
    from coconut_attr.labels.label_model import LabelModel

States = dict[int, list[int]]


def unjudged_labels(
    engine: Engine, dataset: str, coco_ids: Sequence[int], model: "LabelModel"
) -> dict[int, list[tuple[float | None, str]]]:
    """Return the labels as they are without judgements: COCO image id -> 34 of them.

    Each is a probability and a state. Labels of an older version have no probability.
    """
    query = (
        select(
            *(Image.coco_id, ImageAttribute.state),
            *(ImageAttribute.estimate, ImageAttribute.model_probability),
        )
        .join(ImageAttribute)
        .where(Image.dataset == dataset, Image.coco_id.in_(coco_ids))
        .order_by(Image.coco_id, ImageAttribute.attribute_id)
    )
    labels: dict[int, list[tuple[float | None, str]]] = defaultdict(list)
    with engine.connect() as connection:
        for coco_id, state, estimate, prediction in connection.execute(query):
            labels[coco_id].append(
                (None, state) if estimate is None else model.label(estimate, prediction)
            )
    return dict(labels)


def unjudged_states(
    engine: Engine, dataset: str, coco_ids: Sequence[int], model: "LabelModel"
) -> States:
    """Return the states of `unjudged_labels`: COCO image id -> 34 of them (1, 0, -1)."""
    labels = unjudged_labels(engine, dataset, coco_ids, model)
    return {coco_id: [CODES[state] for _, state in row] for coco_id, row in labels.items()}


def source_labels(engine: Engine, dataset: str, coco_ids: list[int]) -> dict[str, States]:
    """Return the labels that each source alone leads to, by the stored evidence."""
    from coconut_attr.labels.extract import combine  # scikit-image comes with it

    pieces: dict[tuple[str, int], list[Evidence]] = {}
    for row in evidence_of(engine, dataset, coco_ids):
        piece = Evidence(
            row["attribute"], row["state"], row["source"], row["confidence"], row["detail"]
        )
        pieces.setdefault((row["source"], row["coco_id"]), []).append(piece)
    labels: dict[str, States] = {source: {} for source in SOURCES}
    for (source, coco_id), evidence in pieces.items():
        labels[source][coco_id] = [CODES[label.state] for label in combine(evidence)]
    return labels


def _by_image(
    connection: Connection, query: Select, image_ids: Sequence[int]
) -> dict[int, list[RowMapping]]:
    """Group the rows of a query by `image_id`; an image without rows has an empty list."""
    groups: dict[int, list[RowMapping]] = {image_id: [] for image_id in image_ids}
    for row in connection.execute(query).mappings():
        groups[row["image_id"]].append(row)
    return groups


@persistent
def images_to_label(engine: Engine, dataset: str, rule_version: str) -> list[int]:
    """Return the ids of the downloaded images that have no labels by these rules."""
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
    """An image with the outcome of its download, and the annotations behind its labels."""

    image: RowMapping
    segments: Rows
    captions: Rows
    pancap: str | None = None

    @property
    def files(self) -> list[tuple[str, int | None]]:
        """List its photo and mask, if it has them: relative path, and bytes (None: mask)."""
        files = [(self.image["path"], self.image["bytes"]), (self.image["mask_path"], None)]
        return [(path, size) for path, size in files if path]

    @property
    def infos(self) -> list[SegmentInfo]:
        """Return its segments_info as annotated."""
        return [
            SegmentInfo(s["segment_id"], s["category_id"], s["iscrowd"], s["annotated_area"])
            for s in self.segments
        ]


class OtherDatabaseError(UserError):
    """The flow listed images that this database lacks: it is another database than the flow's."""


@persistent
def annotated_images(engine: Engine, image_ids: Sequence[int]) -> list[AnnotatedImage]:
    """Read images with their segments and captions, in the given order.

    Raises:
        OtherDatabaseError: the database lacks some of them.
    """
    with engine.connect() as connection:

        def grouped(model: type, *columns: Any) -> dict[int, list[RowMapping]]:
            image_id = model.image_id  # type: ignore[attr-defined]
            query = select(image_id, *columns).where(image_id.in_(image_ids))
            return _by_image(connection, query, image_ids)

        segments = grouped(
            Segment,
            Segment.segment_id,
            Segment.category_id,
            Segment.iscrowd,
            Segment.annotated_area,
        )
        captions = grouped(Caption, Caption.caption_id, Caption.text)
        texts = grouped(PanCapText, PanCapText.text)
        query = (
            select(Image.__table__, Download.state, Download.error_class, Download.error)
            .outerjoin(Download)
            .where(Image.id.in_(image_ids))
        )
        images = {image["id"]: image for image in connection.execute(query).mappings()}
    if missing := len(set(image_ids) - images.keys()):
        raise OtherDatabaseError(
            f"{missing} of {len(image_ids)} images are not in {display_url(engine)}: "
            "a worker needs the flow's COCONUT_ATTR_DATABASE_URL"
        )
    return [
        AnnotatedImage(
            images[image_id],
            segments[image_id],
            captions[image_id],
            texts[image_id][0]["text"] if texts[image_id] else None,
        )
        for image_id in image_ids
    ]


def local_images(engine: Engine, image_ids: Sequence[int]) -> list[AnnotatedImage]:
    """Read `annotated_images`; fetch those files that only the object store has.

    Raises:
        OtherDatabaseError: see `annotated_images`.
        coconut_attr.files.object_store.ObjectStoreError, UnreachableError: see `fetch_missing`.
    """
    items = annotated_images(engine, image_ids)
    fetch_missing(settings(), [file for item in items for file in item.files])
    return items


@dataclass(frozen=True)
class LabelledImage:
    """An image with its labels, in the order of the attributes.

    What an image model predicts plays no part in them: a model that is trained on its own
    predictions, or scored against them, would confirm itself.

    Attributes:
        states: 1 present, 0 absent, -1 unknown; by the estimate alone, also where somebody judged.
        estimates: the label model's probability of present; None for labels of an older version.
        judged: whether the label is what somebody saw.
        probabilities: the estimate, or 1 or 0 where judged.
    """

    id: int
    path: str
    bytes: int | None
    sha256: str
    states: list[int]
    probabilities: list[float | None]
    estimates: list[float | None]
    judged: list[bool]


@persistent
def labelled_images(
    engine: Engine, dataset: str, split: str, model: "LabelModel"
) -> list[LabelledImage]:
    """Read the labelled images of a split in the order of their COCO ids.

    Args:
        model: whose thresholds make states of estimates.
    """
    query = (
        select(
            *(Image.id, Image.path, Image.bytes, Image.sha256, ImageAttribute.state),
            *(ImageAttribute.probability, ImageAttribute.estimate, ImageAttribute.judged),
        )
        .join(ImageAttribute, ImageAttribute.image_id == Image.id)
        .where(Image.dataset == dataset, Image.split == split, Image.path.is_not(None))
        .order_by(Image.coco_id, ImageAttribute.attribute_id)
    )
    images: dict[int, LabelledImage] = {}
    with engine.connect() as connection:
        for image_id, path, size, sha256, state, *label in connection.execute(query):
            new = LabelledImage(image_id, path or "", size, sha256 or "", [], [], [], [])
            image = images.setdefault(image_id, new)
            probability, estimate, judged = label
            image.states.append(CODES[state if estimate is None else model.state(estimate)])
            image.probabilities.append(probability if judged else estimate)
            image.estimates.append(estimate)
            image.judged.append(judged)
    return list(images.values())


def evidence_of(engine: Engine, dataset: str, coco_ids: Sequence[int]) -> Rows:
    """Read the rows of the view `evidence` of some images of a dataset."""
    query = "SELECT * FROM evidence WHERE dataset = :dataset AND coco_id IN :ids"
    return sql(engine, query, dataset=dataset, ids=list(coco_ids))


@persistent
def label_versions(engine: Engine, dataset: str, split: str | None) -> list[str]:
    """Return the rule versions of the labels of a dataset or split; empty without labels."""
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
    """Labelled images in the order of their COCO ids; their labels and annotations by image id."""

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
    """Read the next labelled images.

    Args:
        split: a split; None: all.
        after: only images whose COCO id is greater; None: from the first.
        size: at most this many images.
        segments, captions: read those too. Segments without a pixel in the mask are skipped.
    """
    query = select(Image).where(Image.dataset == dataset, Image.rule_version.is_not(None))
    if split:
        query = query.where(Image.split == split)
    if after is not None:
        query = query.where(Image.coco_id > after)
    with engine.connect() as connection:
        images = connection.execute(query.order_by(Image.coco_id).limit(size)).mappings().all()
        image_ids = [row["id"] for row in images]

        def grouped(model: type, *order: Any) -> dict[int, list[RowMapping]]:
            table = model.__table__  # type: ignore[attr-defined]
            query = select(table).where(table.c.image_id.in_(image_ids)).order_by(*order)
            return _by_image(connection, query, image_ids)

        all_segments = grouped(Segment, Segment.segment_id) if segments else {}
        return LabelPage(
            images,
            labels=grouped(ImageAttribute, ImageAttribute.attribute_id),
            segments={
                image_id: [row for row in rows if row["area"] is not None]
                for image_id, rows in all_segments.items()
            },
            captions=grouped(Caption, Caption.caption_id) if captions else {},
        )


def captions_of(engine: Engine, dataset: str, coco_ids: Sequence[int]) -> Rows:
    """Read a row (coco_id, path, text) for each caption of some images; text NULL without any."""
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
    segment_attributes: Sequence[Row] = (),
) -> int:
    """Replace the labels, evidence, segment measures and segment attributes of some images.

    Rows of images without a change are not rewritten.

    Args:
        labels: rows of `image_attribute` by image id.
        evidence: rows of `attribute_evidence`.
        segments: the key and the measured columns of `segment`.
        segment_attributes: rows of `segment_attribute`.

    Returns:
        The number of images whose labels or evidence changed.
    """
    image_ids = list(labels)
    all_labels = [row for rows in labels.values() for row in rows]
    with engine.begin() as connection:
        tables: Sequence[tuple[type[Base], Sequence[Row]]] = (
            (ImageAttribute, all_labels),
            (AttributeEvidence, evidence),
            (SegmentAttribute, segment_attributes),
        )
        changed = set().union(
            *(_changed(connection, model, image_ids, rows) for model, rows in tables)
        )
        for model, rows in tables:
            stored = [row for row in rows if row["image_id"] in changed]
            replace_rows(connection, model, sorted(changed), stored)
        update_rows(connection, table_of(Segment), segments)
        set_rule_version(connection, image_ids, rule_version)
    return len(changed)


def _changed(
    connection: Connection, model: type[Base], image_ids: Sequence[int], rows: Sequence[Row]
) -> set[int]:
    """Return those images whose rows in a table differ from the given ones."""
    table = table_of(model)
    names = [column.name for column in table.columns]
    before: dict[int, set[tuple[Any, ...]]] = defaultdict(set)
    for start in range(0, len(image_ids), BATCH):
        query = select(table).where(table.c.image_id.in_(image_ids[start : start + BATCH]))
        for stored in connection.execute(query):
            before[stored.image_id].add(tuple(stored))
    after: dict[int, set[tuple[Any, ...]]] = defaultdict(set)
    pick = itemgetter(*names)
    for row in rows:
        if row["image_id"] in before:
            after[row["image_id"]].add(pick(row))
    new = {row["image_id"] for row in rows} - before.keys()
    return new | {image_id for image_id in before if before[image_id] != after[image_id]}


@persistent
def model_probabilities(engine: Engine, image_ids: Sequence[int]) -> dict[int, list[float | None]]:
    """Return the out-of-fold predictions of those images that have some: image id -> 34."""
    query = (
        select(ImageAttribute.image_id, ImageAttribute.model_probability)
        .join(Image, Image.id == ImageAttribute.image_id)
        .where(Image.id.in_(image_ids), Image.model_run_id.is_not(None))
        .order_by(ImageAttribute.image_id, ImageAttribute.attribute_id)
    )
    predictions: dict[int, list[float | None]] = defaultdict(list)
    with engine.connect() as connection:
        for image_id, probability in connection.execute(query):
            predictions[image_id].append(probability)
    return dict(predictions)


def label_rows(
    image_id: int,
    extraction: "Extraction",
    model: "LabelModel",
    predictions: Sequence[float | None] | None,
) -> list[dict[str, Any]]:
    """Build the rows of the table `image_attribute` for an image.

    Args:
        predictions: by an image model that was trained without the image; None: there are none.
    """
    estimates = model.probabilities([extraction.signals])[0].tolist()
    rows = []
    for label, estimate, prediction in zip(
        extraction.labels, estimates, predictions or [None] * len(estimates), strict=True
    ):
        probability, state = model.label(estimate, prediction)
        rows.append(
            {
                "image_id": image_id,
                "attribute_id": INDEX[label.attribute],
                **_label_columns(probability, state),
                "conflict": label.conflict,
                "estimate": estimate,
                "judged": False,
                "model_probability": prediction,
            }
        )
    return rows


def _label_columns(probability: float, state: str) -> Row:
    """Return the columns of `image_attribute` that say what a label is."""
    confidence = max(probability, 1 - probability)
    return {"state": state, "confidence": confidence, "probability": probability}


@persistent
def record_model_probabilities(
    engine: Engine, run_id: int, predictions: Mapping[int, Sequence[float]], model: "LabelModel"
) -> int:
    """Store out-of-fold predictions of images, and join them to the labels that nobody judged.

    Args:
        run_id: the run whose labels taught them.
        predictions: image id -> 34 probabilities, by a model that was trained without the image.

    Returns:
        The number of labels whose state changed.
    """
    table = table_of(ImageAttribute)
    image_ids = list(predictions)
    changed = 0
    with engine.begin() as connection:
        for start in range(0, len(image_ids), BATCH):
            ids = image_ids[start : start + BATCH]
            query = select(table).where(table.c.image_id.in_(ids), table.c.estimate.is_not(None))
            rows = []
            for row in connection.execute(query).mappings():
                prediction = predictions[row["image_id"]][row["attribute_id"]]
                probability, state = row["probability"], row["state"]
                if not row["judged"]:
                    probability, state = model.label(row["estimate"], prediction)
                changed += state != row["state"]
                rows.append(
                    {
                        "image_id": row["image_id"],
                        "attribute_id": row["attribute_id"],
                        **_label_columns(probability, state),
                        "model_probability": prediction,
                    }
                )
            update_rows(connection, table, rows)
            connection.execute(update(Image).where(Image.id.in_(ids)).values(model_run_id=run_id))
    return changed


@persistent
def apply_truth(engine: Engine, truth: States, model: "LabelModel") -> int:
    """Make what was seen in photos the labels of their images, and return how many labels change.

    Args:
        truth: image id -> 34 codes; 1 present, 0 absent, -1 unsure or not judged: the label model
            decides then.
    """
    table = table_of(ImageAttribute)
    changed = []
    with engine.begin() as connection:
        image_ids = list(truth)
        for start in range(0, len(image_ids), BATCH):
            ids = image_ids[start : start + BATCH]
            query = select(table).where(table.c.image_id.in_(ids), table.c.estimate.is_not(None))
            for row in connection.execute(query).mappings():
                seen = truth[row["image_id"]][row["attribute_id"]]
                probability, state = (
                    model.label(row["estimate"], row["model_probability"])
                    if seen < 0
                    else (float(seen), model.state(float(seen)))
                )
                if (probability, seen >= 0) != (row["probability"], row["judged"]):
                    changed.append(
                        {
                            "image_id": row["image_id"],
                            "attribute_id": row["attribute_id"],
                            **_label_columns(probability, state),
                            "judged": seen >= 0,
                        }
                    )
        update_rows(connection, table, changed)
    return len(changed)


def evidence_rows(image_id: int, extraction: "Extraction") -> list[dict[str, Any]]:
    """Build the rows of the table `attribute_evidence` for an image."""
    return [
        {
            "image_id": image_id,
            "attribute_id": INDEX[piece.attribute],
            "source": piece.source,
            "state": piece.state,
            "confidence": piece.confidence,
            "detail": piece.detail,
            "segment_id": piece.segment_id,
            "caption_id": piece.caption_id,
        }
        for piece in extraction.evidence
    ]


def segment_rows(image_id: int, extraction: "Extraction") -> list[dict[str, Any]]:
    """Build the measured columns of the table `segment` for an image's segments."""
    rows = []
    for segment in extraction.segments:
        x, y, width, height = segment.bbox
        color = extraction.colors.get(segment.id)
        lightness, a, b = color.lab if color else (None, None, None)
        rows.append(
            {
                "image_id": image_id,
                "segment_id": segment.id,
                "area": segment.area,
                "bbox_x": x,
                "bbox_y": y,
                "bbox_width": width,
                "bbox_height": height,
                "mean_l": lightness,
                "mean_a": a,
                "mean_b": b,
                "color": color.name if color else None,
                "rle": segment.rle or None,
            }
        )
    return rows


def segment_attribute_rows(image_id: int, extraction: "Extraction") -> list[dict[str, Any]]:
    """Build the rows of the table `segment_attribute` for an image."""
    return [
        {
            "image_id": image_id,
            "segment_id": piece.segment_id,
            "attribute_id": INDEX[piece.attribute],
            "confidence": piece.confidence,
            "detail": piece.detail,
        }
        for piece in extraction.segment_attributes
    ]


def extraction_finding_rows(image_id: int, extraction: "Extraction") -> list[dict[str, Any]]:
    """Build the rows of the table `finding` for an image."""
    return [
        {"image_id": image_id, "kind": finding.kind, "detail": finding.detail}
        for finding in extraction.findings
    ]
