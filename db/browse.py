"""Reads for people who look at images: by label, by prediction, by a set of attributes, and one in full.

An image comes as `id`, `coco_id`, `path`, `mask_path`; each list is read from an index as far as it is shown.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Engine, RowMapping

from db.sql import Rows, sql

Kind = Literal["present", "absent", "true present", "false present", "false absent"]
IMAGE = "i.id, i.coco_id, i.path, i.mask_path"
#: Predictions of a kind: which, and in what order. The model is surest of the first; of the wrong ones, too.
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
    """Images of a dataset in which each of these attributes (by id) has its state; without one, all images."""
    parameters: dict[str, Any] = {"dataset": dataset, "split": split, "size": size, "start": start}
    tables, wanted = (
        ["image i"],
        ["i.dataset = :dataset"] + ["i.split = :split"] * (split is not None),
    )
    for place, (attribute, state) in enumerate(states.items()):
        tables.append(f"image_attribute l{place} ON l{place}.image_id = i.id")
        wanted.append(
            f"l{place}.attribute_id = :attribute{place} AND l{place}.state = :state{place}"
        )
        parameters |= {f"attribute{place}": attribute, f"state{place}": state}
    order = "l0.image_id" if states else "i.id"
    query = (
        f"SELECT {IMAGE} FROM {' JOIN '.join(tables)} WHERE {' AND '.join(wanted)} ORDER BY {order}"  # noqa: S608
    )
    return sql(engine, f"{query} LIMIT :size OFFSET :start", **parameters)


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
    """Images of a split by what a run says of one attribute, with `probability` and the label's `state`."""
    wanted, order = PREDICTED[kind]
    return sql(
        engine,
        f"SELECT {IMAGE}, p.probability, l.state FROM prediction p"  # noqa: S608
        " JOIN image i ON i.id = p.image_id"
        " LEFT JOIN image_attribute l ON l.image_id = p.image_id AND l.attribute_id = p.attribute_id"
        f" WHERE p.run_id = :run AND p.attribute_id = :attribute AND {wanted}"
        f" AND i.dataset = :dataset AND i.split = :split ORDER BY {order} LIMIT :size OFFSET :start",
        run=run, dataset=dataset, split=split, attribute=attribute, threshold=threshold, size=size, start=start,
    )  # fmt: skip


def images_with_all(
    engine: Engine,
    run: int,
    dataset: str,
    split: str,
    attributes: Sequence[int],
    size: int,
    start: int = 0,
) -> Rows:
    """Images of a split by the `product` of a run's probabilities of some attributes, highest first."""
    parameters = {f"attribute{place}": attribute for place, attribute in enumerate(attributes)}
    tables = ["prediction p0"] + [
        f"prediction p{place} ON p{place}.image_id = p0.image_id AND p{place}.run_id = :run"
        f" AND p{place}.attribute_id = :attribute{place}"
        for place in range(1, len(attributes))
    ]
    product = " * ".join(f"p{place}.probability" for place in range(len(attributes)))
    return sql(
        engine,
        f"SELECT {IMAGE}, {product} AS product FROM {' JOIN '.join(tables)} JOIN image i ON i.id = p0.image_id"  # noqa: S608
        " WHERE p0.run_id = :run AND p0.attribute_id = :attribute0 AND i.dataset = :dataset AND i.split = :split"
        " ORDER BY product DESC, i.id LIMIT :size OFFSET :start",
        run=run, dataset=dataset, split=split, size=size, start=start, **parameters,
    )  # fmt: skip


def images_near(
    engine: Engine, run: int, dataset: str, split: str, probabilities: Sequence[float], size: int
) -> Rows:
    """Images of a split whose stored probabilities of a run are nearest to these (`distance`: Euclidean, squared)."""
    parameters = {f"p{k}": float(value) for k, value in enumerate(probabilities)}
    values = ", ".join(f"({k}, CAST(:p{k} AS DOUBLE PRECISION))" for k in range(len(probabilities)))
    return sql(
        engine,
        f"WITH q (attribute_id, value) AS (VALUES {values})"  # noqa: S608
        f" SELECT {IMAGE}, i.dataset, i.split, n.distance FROM (SELECT p.image_id,"
        " SUM((p.probability - q.value) * (p.probability - q.value)) AS distance"
        " FROM prediction p JOIN q ON q.attribute_id = p.attribute_id JOIN image j ON j.id = p.image_id"
        " WHERE p.run_id = :run AND j.dataset = :dataset AND j.split = :split"
        " GROUP BY p.image_id ORDER BY distance LIMIT :size) n JOIN image i ON i.id = n.image_id ORDER BY n.distance",
        run=run, dataset=dataset, split=split, size=size, **parameters,
    )  # fmt: skip


def scored_cells(engine: Engine, run: int, dataset: str, split: str, attribute: int) -> Rows:
    """The known cells of one attribute in a split: `present` (1 or 0), and the run's `probability`."""
    return sql(
        engine,
        "SELECT CASE WHEN l.state = 'present' THEN 1 ELSE 0 END AS present, p.probability FROM prediction p"
        " JOIN image i ON i.id = p.image_id"
        " JOIN image_attribute l ON l.image_id = p.image_id AND l.attribute_id = p.attribute_id"
        " WHERE p.run_id = :run AND p.attribute_id = :attribute AND l.state <> 'unknown'"
        " AND i.dataset = :dataset AND i.split = :split",
        run=run, dataset=dataset, split=split, attribute=attribute,
    )  # fmt: skip


def image(engine: Engine, dataset: str, coco_id: int) -> RowMapping | None:
    """An image of a dataset by its COCO id."""
    rows = sql(
        engine,
        "SELECT * FROM image WHERE dataset = :dataset AND coco_id = :id",
        dataset=dataset,
        id=coco_id,
    )
    return rows[0] if rows else None


def cells_of(engine: Engine, image: int, run: int | None) -> Rows:
    """The labels of an image in label order, each with the `probability` that a run gives, where it gives one."""
    return sql(
        engine,
        "SELECT a.name AS attribute, a.group_name, l.state, l.confidence, l.conflict, p.probability FROM attribute a"
        " LEFT JOIN image_attribute l ON l.attribute_id = a.id AND l.image_id = :image"
        " LEFT JOIN prediction p ON p.attribute_id = a.id AND p.image_id = :image AND p.run_id = :run ORDER BY a.id",
        image=image, run=run,
    )  # fmt: skip


def segments_of(engine: Engine, image: int) -> Rows:
    """The segments of an image with the names of their categories, the largest first."""
    return sql(
        engine,
        "SELECT s.segment_id, c.name AS category, s.area, s.color FROM segment s"
        " LEFT JOIN category c ON c.id = s.category_id WHERE s.image_id = :image ORDER BY s.area DESC",
        image=image,
    )


def predicting_runs(engine: Engine) -> Rows:
    """The runs (newest first) with stored predictions, and the split that these are of."""
    return sql(
        engine,
        "SELECT DISTINCT m.run_id, r.backbone, r.dataset AS trained_on, r.checkpoint, r.best_epoch,"
        " r.started_at, m.dataset, m.split FROM attribute_metric m JOIN run r ON r.id = m.run_id"
        " WHERE EXISTS (SELECT 1 FROM prediction p WHERE p.run_id = m.run_id)"
        " ORDER BY m.run_id DESC, m.dataset, m.split",
    )
