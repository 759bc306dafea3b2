"""Queries for browsing images: by label, by prediction, by a set of attributes, and one in full.

Images have the columns `id`, `coco_id`, `path`, `mask_path`. Lists are read from an index, page by
page.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Engine, RowMapping

from db.runs import Against
from db.sql import Rows, sql

Kind = Literal["present", "absent", "true present", "false present", "false absent"]
IMAGE = "i.id, i.coco_id, i.path, i.mask_path"
#: Condition and order of each kind of prediction: the most confident first, also among wrong ones.
PREDICTED: dict[Kind, tuple[str, str]] = {
    "present": ("p.probability >= :threshold", "p.probability DESC"),
    "absent": ("p.probability < :threshold", "p.probability"),
    "true present": ("p.probability >= :threshold AND l.state = 'present'", "p.probability DESC"),
    "false present": ("p.probability >= :threshold AND l.state = 'absent'", "p.probability DESC"),
    "false absent": ("p.probability < :threshold AND l.state = 'present'", "p.probability"),
}


def images_by_label(
    engine: Engine,
    dataset: str,
    split: str | None,
    states: Mapping[int, str],
    size: int,
    start: int = 0,
) -> Rows:
    """Return images of a dataset in which every attribute of `states` (by id) has its state."""
    parameters: dict[str, Any] = {"dataset": dataset, "split": split, "size": size, "start": start}
    tables = ["image i"]
    conditions = ["i.dataset = :dataset"] + ["i.split = :split"] * (split is not None)
    for place, (attribute, state) in enumerate(states.items()):
        tables.append(f"image_attribute l{place} ON l{place}.image_id = i.id")
        conditions.append(
            f"l{place}.attribute_id = :attribute{place} AND l{place}.state = :state{place}"
        )
        parameters |= {f"attribute{place}": attribute, f"state{place}": state}
    query = f"""
        SELECT {IMAGE} FROM {" JOIN ".join(tables)} WHERE {" AND ".join(conditions)}
        ORDER BY {"l0.image_id" if states else "i.id"} LIMIT :size OFFSET :start"""  # noqa: S608
    return sql(engine, query, **parameters)


def images_by_prediction(
    engine: Engine,
    run: int,
    dataset: str,
    split: str,
    attribute: int,
    kind: Kind,
    threshold: float,
    size: int,
    start: int = 0,
) -> Rows:
    """Return images of a split by a run's prediction of one attribute.

    Further columns: `probability`, and the label's `state`.
    """
    condition, order = PREDICTED[kind]
    query = f"""
        SELECT {IMAGE}, p.probability, l.state
        FROM prediction p JOIN image i ON i.id = p.image_id
        LEFT JOIN image_attribute l
          ON l.image_id = p.image_id AND l.attribute_id = p.attribute_id
        WHERE p.run_id = :run AND p.attribute_id = :attribute AND {condition}
          AND i.dataset = :dataset AND i.split = :split
        ORDER BY {order} LIMIT :size OFFSET :start"""  # noqa: S608
    return sql(
        engine,
        query,
        run=run,
        dataset=dataset,
        split=split,
        attribute=attribute,
        threshold=threshold,
        size=size,
        start=start,
    )


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
    states = {"eyes": "truth", "labels": "image_attribute"}[against]
    query = f"""
        SELECT CASE WHEN l.state = 'present' THEN 1 ELSE 0 END AS present, p.probability
        FROM prediction p JOIN image i ON i.id = p.image_id
        JOIN {states} l ON l.image_id = p.image_id AND l.attribute_id = p.attribute_id
        WHERE p.run_id = :run AND p.attribute_id = :attribute AND l.state IN ('present', 'absent')
          AND i.dataset = :dataset AND i.split = :split"""  # noqa: S608
    return sql(engine, query, run=run, dataset=dataset, split=split, attribute=attribute)


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
