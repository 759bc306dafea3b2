"""Queries behind the dashboard's page Review: what to judge next, and what judging has changed.

Each queue is one SQL query. Those that rank cells rank the cells of a random pool of photos, so
that they take as long in a dataset of 118,000 images as in one of 5,000.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from sqlalchemy import Engine
from sqlalchemy.exc import ProgrammingError

from coconut_attr.attributes import INDEX
from coconut_attr.errors import UserError
from coconut_attr.judgements.records import GUIDELINE, Kind, State
from db.bulk import insert_for, table_of
from db.models import Judgement, now
from db.sql import Rows, persistent, sql

if TYPE_CHECKING:
    from coconut_attr.labels.label_model import LabelModel

Queue = Literal["random", "uncertain", "model", "conflict", "rare", "disagreement"]
QUEUES: Final[tuple[Queue, ...]] = get_args(Queue)
ISSUES: Final = "issues"  #: How a cell was chosen that is judged from the table of label issues.
POOL = 2_000  # photos
#: How sure label model and image model are, on average, that a label is wrong.
_DOUBT = """
    CASE l.state WHEN 'present' THEN 1 - (l.estimate + p.probability) / 2
                 ELSE (l.estimate + p.probability) / 2 END"""
_CONTRADICTED = "(l.state = 'present') = (p.probability < 0.5)"  # by the image model
#: The cells of each queue with a score; of two cells, that with the higher score is judged first.
#: `only` is the condition on the attribute.
_CELLS: Final[dict[Queue, str]] = {
    "random": """
        SELECT o.id AS image_id, a.id AS attribute_id, o.place AS score
        FROM pool o CROSS JOIN attribute a""",
    "uncertain": """
        SELECT l.image_id, l.attribute_id, 0.5 - ABS(l.estimate - 0.5) AS score
        FROM pool o JOIN image_attribute l ON l.image_id = o.id
        WHERE l.estimate IS NOT NULL {only}""",
    "model": f"""
        SELECT l.image_id, l.attribute_id, {_DOUBT} AS score
        FROM pool o JOIN prediction p ON p.run_id = :run AND p.image_id = o.id
        JOIN image_attribute l ON l.image_id = o.id AND l.attribute_id = p.attribute_id
        WHERE l.state <> 'unknown' AND NOT l.judged AND {_CONTRADICTED} {{only}}""",  # noqa: S608
    "conflict": """
        SELECT l.image_id, l.attribute_id, 1 AS score
        FROM pool o JOIN image_attribute l ON l.image_id = o.id
        WHERE l.conflict {only}""",
    # The probability of the state that is rarer, in units of how frequent that state is.
    "rare": """
        SELECT r.image_id, r.attribute_id,
               CASE WHEN r.rate < 0.5 THEN r.estimate / r.rate
                    ELSE (1 - r.estimate) / (1 - r.rate) END AS score
        FROM (SELECT l.image_id, l.attribute_id, l.estimate,
                     AVG(l.estimate) OVER (PARTITION BY l.attribute_id) AS rate
              FROM pool o JOIN image_attribute l ON l.image_id = o.id
              WHERE l.estimate IS NOT NULL {only}) r""",
    "disagreement": """
        SELECT l.image_id, l.attribute_id,
               CASE WHEN 'unsure' IN (l.state, o.state) THEN 1 ELSE 2 END AS score
        FROM judgement_latest l
        JOIN judgement_latest o ON o.image_id = l.image_id AND o.attribute_id = l.attribute_id
          AND o.annotator <> l.annotator AND o.state <> l.state
        WHERE l.dataset = :dataset AND l.annotator = :annotator {only}""",
}
#: Queues whose cells stay in them when they have been judged for another queue: leaving those out
#: would leave the random sample without the cells that others found hard.
_JUDGED_AGAIN: Final = {"random", "disagreement"}


def next_photos(
    engine: Engine,
    dataset: str,
    queue: Queue,
    annotator: str,
    *,
    attribute: str | None = None,
    run: int | None = None,
    skipped: Collection[int] = (),
    size: int = 1,
) -> Rows:
    """Return the photos that an annotator is to judge next: `id`, `coco_id`, `path`, `mask_path`.

    Args:
        attribute: the only one that is judged; None: all, and photos come by the sum of their
            cells' scores.
        run: whose predictions `model` compares; only photos of val and test, on which no run
            trains.
        skipped: ids of photos to leave out.
    """
    conditions = ["i.dataset = :dataset", "i.path IS NOT NULL", "i.id NOT IN :skipped"]
    if queue == "model":
        conditions.append("i.split IN ('val', 'test')")
        conditions.append(
            "EXISTS (SELECT 1 FROM prediction p WHERE p.run_id = :run AND p.image_id = i.id)"
        )
    own = "AND j.chosen = :queue" if queue in _JUDGED_AGAIN else ""
    only = "" if attribute is None else "AND l.attribute_id = :attribute"
    query = f"""
        WITH pool AS MATERIALIZED (
          SELECT i.id, 1.0 * RANDOM() AS place FROM image i
          WHERE {" AND ".join(conditions)} ORDER BY place LIMIT :pool
        ), cell AS ({_CELLS[queue].format(only=only)})
        SELECT i.id, i.coco_id, i.path, i.mask_path
        FROM (
          SELECT c.image_id, {"AVG" if queue == "random" else "SUM"}(c.score) AS score
          FROM cell c
          WHERE {"1 = 1" if attribute is None else "c.attribute_id = :attribute"}
            AND NOT EXISTS (
              SELECT 1 FROM judgement j WHERE j.image_id = c.image_id
              AND j.attribute_id = c.attribute_id AND j.annotator = :annotator {own})
          GROUP BY c.image_id
        ) r JOIN image i ON i.id = r.image_id
        WHERE i.path IS NOT NULL AND i.id NOT IN :skipped
        ORDER BY r.score DESC, i.id LIMIT :size"""  # noqa: S608
    parameters: dict[str, Any] = {"dataset": dataset, "annotator": annotator, "queue": queue}
    parameters |= {"attribute": None if attribute is None else INDEX[attribute], "run": run}
    return sql(engine, query, **parameters, skipped=sorted(skipped), pool=POOL, size=size)


def judged_attributes(engine: Engine, image: int, annotator: str, queue: str) -> set[str]:
    """Return the attributes of a photo that its annotator need not judge again for a queue."""
    own = "AND j.chosen = :queue" if queue in _JUDGED_AGAIN else ""
    query = f"""
        SELECT DISTINCT a.name FROM judgement j JOIN attribute a ON a.id = j.attribute_id
        WHERE j.image_id = :image AND j.annotator = :annotator {own}"""  # noqa: S608
    rows = sql(engine, query, image=image, annotator=annotator, queue=queue)
    return {row["name"] for row in rows}


def label_issues(
    engine: Engine, dataset: str, run: int, attribute: str | None, size: int, judged: bool
) -> Rows:
    """Return the labels that are most probably wrong, by label model and image model together.

    Only photos of val and test are compared, on which no run trains.

    Args:
        judged: also those labels that are what somebody saw.

    Returns:
        rows with the image (`id`, `coco_id`, `path`, `mask_path`, `split`), `attribute`, the
        label's `state`, `judged`, the label model's `estimate`, the run's `probability`, and
        `doubt`: the mean of both models' probabilities that the label is wrong. The run contradicts
        each of these labels at the threshold 0.5.
    """
    query = f"""
        SELECT i.id, i.coco_id, i.path, i.mask_path, i.split, a.name AS attribute, l.state,
               l.judged, l.estimate, p.probability, {_DOUBT} AS doubt
        FROM prediction p
        JOIN image_attribute l ON l.image_id = p.image_id AND l.attribute_id = p.attribute_id
        JOIN image i ON i.id = p.image_id
        JOIN attribute a ON a.id = p.attribute_id
        WHERE p.run_id = :run AND i.dataset = :dataset AND i.split IN ('val', 'test')
          AND {"1 = 1" if attribute is None else "p.attribute_id = :attribute"}
          AND l.state <> 'unknown' AND {"1 = 1" if judged else "NOT l.judged"} AND {_CONTRADICTED}
        ORDER BY doubt DESC, i.coco_id, a.id LIMIT :size"""  # noqa: S608
    parameters = {"run": run, "dataset": dataset, "size": size}
    return sql(
        engine, query, **parameters, attribute=None if attribute is None else INDEX[attribute]
    )


def record_answers(
    engine: Engine,
    annotator: str,
    kind: Kind,
    chosen: str,
    states: Mapping[tuple[int, str], State],
) -> None:
    """Add an annotator's judgements, made just now by the present guideline.

    Only rows are added: the account needs the right to INSERT into `judgement`, and no other.

    Args:
        chosen: how the photos were chosen: a queue's name, or `issues`.
        states: by image id and attribute.
    """
    judged_at = now()
    _insert(
        engine,
        [
            {
                "image_id": image_id,
                "attribute_id": INDEX[attribute],
                "annotator": annotator,
                "judged_at": judged_at,
                "state": state,
                "kind": kind,
                "guideline": GUIDELINE,
                "chosen": chosen,
            }
            for (image_id, attribute), state in states.items()
        ],
    )


@persistent
def _insert(engine: Engine, rows: Sequence[dict[str, Any]]) -> None:
    with engine.begin() as connection:
        # Repeated after a lost connection, the rows may be there.
        statement = insert_for(connection, table_of(Judgement)).on_conflict_do_nothing()
        connection.execute(statement, rows)


def admit_reviewer(engine: Engine, role: str) -> None:
    """Let a role of PostgreSQL add judgements, and nothing else.

    Raises:
        UserError: there is no such role, or this is SQLite, which has no roles.
    """
    if engine.dialect.name != "postgresql":
        raise UserError("SQLite has no accounts: --reviewer is for PostgreSQL")
    name = engine.dialect.identifier_preparer.quote_identifier(role)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"GRANT INSERT ON judgement TO {name}")
    except ProgrammingError as error:
        raise UserError(
            f"cannot admit {role}: {error.orig}; to create it: "
            f"CREATE ROLE {name} LOGIN PASSWORD '...'"
        ) from error


def kinds_of(engine: Engine, annotator: str) -> set[str]:
    """Return as what somebody of this name has judged: human, ai."""
    query = "SELECT DISTINCT kind FROM judgement WHERE annotator = :annotator"
    return {row["kind"] for row in sql(engine, query, annotator=annotator)}


def own_judgements(engine: Engine, dataset: str, annotator: str) -> Rows:
    """Return an annotator's newest judgements of a dataset, as rows of `judgement_latest`."""
    query = """
        SELECT * FROM judgement_latest
        WHERE dataset = :dataset AND annotator = :annotator ORDER BY coco_id, attribute_id"""
    return sql(engine, query, dataset=dataset, annotator=annotator)


def shared_judgements(engine: Engine, dataset: str, annotator: str) -> Rows:
    """Return everybody's newest judgements of the photos that an annotator has judged."""
    query = """
        SELECT annotator, attribute, image_id, state FROM judgement_latest
        WHERE dataset = :dataset
          AND image_id IN (SELECT image_id FROM judgement WHERE annotator = :annotator)"""
    return sql(engine, query, dataset=dataset, annotator=annotator)


def label_changes(engine: Engine, dataset: str, model: "LabelModel") -> list[dict[str, Any]]:
    """Count the cells that somebody decided: by what they saw, and the label with and without it.

    Returns:
        rows `truth` and `label` (the state as stored), `estimated` (the state without judgements),
        `judged` (whether the label is what somebody saw), `cells`.
    """
    query = """
        SELECT t.state AS truth, l.state AS label, l.judged, l.estimate, l.model_probability
        FROM truth t
        JOIN image_attribute l ON l.image_id = t.image_id AND l.attribute_id = t.attribute_id
        WHERE t.dataset = :dataset AND t.state IN ('present', 'absent')
          AND l.estimate IS NOT NULL"""
    cells = Counter(
        (
            row["truth"],
            row["label"],
            model.label(row["estimate"], row["model_probability"])[1],
            bool(row["judged"]),
        )
        for row in sql(engine, query, dataset=dataset)
    )
    names = ("truth", "label", "estimated", "judged")
    return [dict(zip(names, kind, strict=True)) | {"cells": n} for kind, n in cells.items()]


def scores_by_judgements(engine: Engine, dataset: str) -> Rows:
    """Return the runs' mAP by eyes on the test split, and how many judgements each started with."""
    query = """
        SELECT m.run_id, r.backbone, r.started_at, m.value, m.low, m.high, m.images,
               (SELECT COUNT(*) FROM judgement j JOIN image i ON i.id = j.image_id
                WHERE i.dataset = m.dataset AND j.judged_at <= r.started_at) AS judgements
        FROM run_metric m JOIN run r ON r.id = m.run_id
        WHERE m.dataset = :dataset AND m.split = 'test' AND m.against = 'eyes' AND m.name = 'map'
        ORDER BY m.run_id"""
    return sql(engine, query, dataset=dataset)
