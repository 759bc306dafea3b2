"""Queries for browsing images: by label, by prediction, by a set of attributes, and one in full.

Images have the columns `id`, `coco_id`, `path`, `mask_path`. Lists are read from an index, page by
page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Engine, RowMapping

from db.runs import Against
from db.sql import Rows, sql

Kind = Literal["present", "absent", "true present", "false present", "false absent"]
IMAGE = "i.id, i.coco_id, i.path, i.mask_path"
#: Table or view with the states that scores are against.
STATES: dict[Against, str] = {"eyes": "truth", "labels": "image_attribute"}
#: Condition and order of each kind of prediction: the most confident first, also among wrong ones.
PREDICTED: dict[Kind, tuple[str, str]] = {
    "present": ("p.probability >= :threshold", "p.probability DESC"),
    "absent": ("p.probability < :threshold", "p.probability"),
    "true present": ("p.probability >= :threshold AND l.state = 'present'", "p.probability DESC"),
    "false present": ("p.probability >= :threshold AND l.state = 'absent'", "p.probability DESC"),
    "false absent": ("p.probability < :threshold AND l.state = 'present'", "p.probability"),
}


@dataclass(frozen=True)
class ImageFilter:
    """What an image has to have; what is empty asks for nothing.

    Attributes:
        split: train, val or test.
        states: pairs of an attribute's id and the state of its label.
        lowest, highest: bounds of the probability of each label in `states`.
        judged: whether somebody has judged a cell of the image.
        caption: a text that a caption contains, in upper or lower case.
        category, color: id and colour of one segment.
    """

    split: str = ""
    states: tuple[tuple[int, str], ...] = ()
    lowest: float = 0.0
    highest: float = 1.0
    judged: bool | None = None
    caption: str = ""
    category: int | None = None
    color: str = ""

    def where(self, dataset: str) -> tuple[str, dict[str, Any]]:
        """Return SQL from FROM to WHERE, with the image as `i`, and its parameters."""
        tables, conditions = ["image i"], ["i.dataset = :dataset"]
        parameters: dict[str, Any] = {"dataset": dataset}
        if self.split:
            conditions.append("i.split = :split")
            parameters["split"] = self.split
        for place, (attribute, state) in enumerate(self.states):
            tables.append(f"image_attribute l{place} ON l{place}.image_id = i.id")
            conditions.append(
                f"l{place}.attribute_id = :attribute{place} AND l{place}.state = :state{place}"
            )
            parameters |= {f"attribute{place}": attribute, f"state{place}": state}
            if (self.lowest, self.highest) != (0, 1):
                conditions.append(f"l{place}.probability BETWEEN :lowest AND :highest")
                parameters |= {"lowest": self.lowest, "highest": self.highest}
        if self.judged is not None:
            judged = "EXISTS (SELECT 1 FROM judgement j WHERE j.image_id = i.id)"
            conditions.append(judged if self.judged else f"NOT {judged}")
        if self.caption:
            conditions.append(
                "EXISTS (SELECT 1 FROM caption c WHERE c.image_id = i.id"
                " AND LOWER(c.text) LIKE :caption ESCAPE '!')"
            )
            escaped = "".join(f"!{c}" if c in "!%_" else c for c in self.caption.lower())
            parameters["caption"] = f"%{escaped}%"
        of_segment = ["s.image_id = i.id"]
        if self.category is not None:
            of_segment.append("s.category_id = :category")
            parameters["category"] = self.category
        if self.color:
            of_segment.append("s.color = :color")
            parameters["color"] = self.color
        if len(of_segment) > 1:
            found = " AND ".join(of_segment)
            conditions.append(f"EXISTS (SELECT 1 FROM segment s WHERE {found})")  # noqa: S608
        return f"FROM {' JOIN '.join(tables)} WHERE {' AND '.join(conditions)}", parameters


def find_images(
    engine: Engine, dataset: str, wanted: ImageFilter, size: int, start: int = 0
) -> Rows:
    """Return images of a dataset that a filter lets through, in database order."""
    found, parameters = wanted.where(dataset)
    order = "l0.image_id" if wanted.states else "i.id"
    query = f"SELECT {IMAGE} {found} ORDER BY {order} LIMIT :size OFFSET :start"
    return sql(engine, query, size=size, start=start, **parameters)


def count_images(engine: Engine, dataset: str, wanted: ImageFilter) -> Rows:
    """Return one row with the number `n` of images that a filter lets through."""
    found, parameters = wanted.where(dataset)
    return sql(engine, f"SELECT COUNT(*) AS n {found}", **parameters)


def list_images(engine: Engine, dataset: str, wanted: ImageFilter) -> Rows:
    """Return dataset, coco_id, file_name and split of all images that a filter lets through."""
    found, parameters = wanted.where(dataset)
    query = f"SELECT i.dataset, i.coco_id, i.file_name, i.split {found} ORDER BY i.id"
    return sql(engine, query, **parameters)


def present_labels(engine: Engine, images: Sequence[int]) -> Rows:
    """Return image_id and attribute of the labels `present` of images, the surest first."""
    parameters = {f"image{place}": image for place, image in enumerate(images)}
    names = ", ".join(f":{name}" for name in parameters)
    query = f"""
        SELECT l.image_id, a.name AS attribute
        FROM image_attribute l JOIN attribute a ON a.id = l.attribute_id
        WHERE l.image_id IN ({names or "NULL"}) AND l.state = 'present'
        ORDER BY l.image_id, l.probability DESC, a.id"""  # noqa: S608
    return sql(engine, query, **parameters)


@dataclass(frozen=True)
class Predicted:
    """The images of a split by a run's prediction of one attribute."""

    run: int
    dataset: str
    split: str
    attribute: int
    kind: Kind
    threshold: float

    def where(self) -> tuple[str, dict[str, Any]]:
        """Return SQL from FROM to WHERE, and its parameters."""
        found = f"""
            FROM prediction p JOIN image i ON i.id = p.image_id
            LEFT JOIN image_attribute l
              ON l.image_id = p.image_id AND l.attribute_id = p.attribute_id
            WHERE p.run_id = :run AND p.attribute_id = :attribute AND {PREDICTED[self.kind][0]}
              AND i.dataset = :dataset AND i.split = :split"""
        names = ("run", "dataset", "split", "attribute", "threshold")
        return found, {name: getattr(self, name) for name in names}


def images_by_prediction(engine: Engine, wanted: Predicted, size: int, start: int = 0) -> Rows:
    """Return images by prediction, the most confident first.

    Further columns: `probability`, and the label's `state`.
    """
    found, parameters = wanted.where()
    query = f"""
        SELECT {IMAGE}, p.probability, l.state {found}
        ORDER BY {PREDICTED[wanted.kind][1]} LIMIT :size OFFSET :start"""
    return sql(engine, query, size=size, start=start, **parameters)


def count_by_prediction(engine: Engine, wanted: Predicted) -> Rows:
    """Return one row with the number `n` of images by prediction."""
    found, parameters = wanted.where()
    return sql(engine, f"SELECT COUNT(*) AS n {found}", **parameters)


def images_with_all(
    engine: Engine,
    run: int,
    dataset: str,
    split: str,
    attributes: Sequence[int],
    size: int,
    start: int = 0,
) -> Rows:
    """Return images of a split by the `product` of a run's probabilities of some attributes."""
    parameters = {f"attribute{place}": attribute for place, attribute in enumerate(attributes)}
    tables = ["prediction p0"] + [
        f"prediction p{place} ON p{place}.image_id = p0.image_id AND p{place}.run_id = :run"
        f" AND p{place}.attribute_id = :attribute{place}"
        for place in range(1, len(attributes))
    ]
    product = " * ".join(f"p{place}.probability" for place in range(len(attributes)))
    query = f"""
        SELECT {IMAGE}, {product} AS product
        FROM {" JOIN ".join(tables)} JOIN image i ON i.id = p0.image_id
        WHERE p0.run_id = :run AND p0.attribute_id = :attribute0
          AND i.dataset = :dataset AND i.split = :split
        ORDER BY product DESC, i.id LIMIT :size OFFSET :start"""  # noqa: S608
    return sql(
        engine, query, run=run, dataset=dataset, split=split, size=size, start=start, **parameters
    )


def images_near(
    engine: Engine, run: int, dataset: str, split: str, probabilities: Sequence[float], size: int
) -> Rows:
    """Return the images of a split whose stored probabilities are nearest to the given ones.

    Further columns: `dataset`, `split`, and `distance` (squared Euclidean).
    """
    parameters = {f"p{k}": float(value) for k, value in enumerate(probabilities)}
    values = ", ".join(f"({k}, CAST(:p{k} AS DOUBLE PRECISION))" for k in range(len(probabilities)))
    query = f"""
        WITH q (attribute_id, value) AS (VALUES {values})
        SELECT {IMAGE}, i.dataset, i.split, n.distance
        FROM (
          SELECT p.image_id, SUM((p.probability - q.value) * (p.probability - q.value)) AS distance
          FROM prediction p JOIN q ON q.attribute_id = p.attribute_id
          JOIN image j ON j.id = p.image_id
          WHERE p.run_id = :run AND j.dataset = :dataset AND j.split = :split
          GROUP BY p.image_id ORDER BY distance LIMIT :size
        ) n JOIN image i ON i.id = n.image_id ORDER BY n.distance"""  # noqa: S608
    return sql(engine, query, run=run, dataset=dataset, split=split, size=size, **parameters)


def scored_cells(
    engine: Engine, run: int, dataset: str, split: str, attribute: int, against: Against
) -> Rows:
    """Return the known cells of one attribute in a split: `present` (1 or 0) and `probability`.

    Args:
        against: take the states that were seen, or those of the labels.
    """
    query = f"""
        SELECT CASE WHEN l.state = 'present' THEN 1 ELSE 0 END AS present, p.probability
        FROM prediction p JOIN image i ON i.id = p.image_id
        JOIN {STATES[against]} l ON l.image_id = p.image_id AND l.attribute_id = p.attribute_id
        WHERE p.run_id = :run AND p.attribute_id = :attribute AND l.state IN ('present', 'absent')
          AND i.dataset = :dataset AND i.split = :split"""  # noqa: S608
    return sql(engine, query, run=run, dataset=dataset, split=split, attribute=attribute)


def compared_cells(
    engine: Engine, run: int, other: int, dataset: str, split: str, against: Against
) -> Rows:
    """Return the known cells of a split that two runs have predicted.

    Further columns: coco_id, attribute_id, `present` (1 or 0), `probability` and
    `other_probability`.

    Args:
        against: take the states that were seen, or those of the labels.
    """
    query = f"""
        SELECT i.coco_id, p.attribute_id, p.probability,
               q.probability AS other_probability,
               CASE WHEN l.state = 'present' THEN 1 ELSE 0 END AS present
        FROM prediction p JOIN image i ON i.id = p.image_id
        JOIN prediction q
          ON q.run_id = :other AND q.image_id = p.image_id AND q.attribute_id = p.attribute_id
        JOIN {STATES[against]} l ON l.image_id = p.image_id AND l.attribute_id = p.attribute_id
        WHERE p.run_id = :run AND l.state IN ('present', 'absent')
          AND i.dataset = :dataset AND i.split = :split
        ORDER BY i.coco_id, p.attribute_id"""  # noqa: S608
    return sql(engine, query, run=run, other=other, dataset=dataset, split=split)


def image(engine: Engine, dataset: str, coco_id: int) -> RowMapping | None:
    """Return an image of a dataset by its COCO id; None if the dataset has no such image."""
    query = "SELECT * FROM image WHERE dataset = :dataset AND coco_id = :coco_id"
    rows = sql(engine, query, dataset=dataset, coco_id=coco_id)
    return rows[0] if rows else None


def cells_of(engine: Engine, image: int, run: int | None) -> Rows:
    """Return the labels of an image in label order, with a run's `probability` or NULL."""
    query = """
        SELECT a.name AS attribute, a.group_name, l.state, l.probability AS label_probability,
               l.judged, l.confidence, l.conflict, p.probability
        FROM attribute a
        LEFT JOIN image_attribute l ON l.attribute_id = a.id AND l.image_id = :image
        LEFT JOIN prediction p
          ON p.attribute_id = a.id AND p.image_id = :image AND p.run_id = :run
        ORDER BY a.id"""
    return sql(engine, query, image=image, run=run)


def segments_of(engine: Engine, image: int) -> Rows:
    """Return the segments of an image with the names of their categories, largest first."""
    query = """
        SELECT s.segment_id, c.name AS category, s.area, s.color
        FROM segment s LEFT JOIN category c ON c.id = s.category_id
        WHERE s.image_id = :image ORDER BY s.area DESC"""
    return sql(engine, query, image=image)


def predicting_runs(engine: Engine) -> Rows:
    """Return the runs with stored predictions, newest first, and the split of these."""
    query = """
        SELECT DISTINCT m.run_id, r.name, r.backbone, r.dataset AS trained_on, d.is_coconut,
               r.checkpoint, r.best_epoch, r.started_at, r.archived, m.dataset, m.split
        FROM attribute_metric m JOIN run r ON r.id = m.run_id
        LEFT JOIN dataset d ON d.name = r.dataset
        WHERE EXISTS (SELECT 1 FROM prediction p WHERE p.run_id = m.run_id)
        ORDER BY m.run_id DESC, m.dataset, m.split"""
    return sql(engine, query)
