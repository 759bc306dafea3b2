"""Judgements in the database: adding them, and the truth that they amount to."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

from sqlalchemy import Engine, select

from coconut_attr.attributes import ATTRIBUTES, INDEX, SPLITS, Split
from coconut_attr.judgements.gold import DATASET as GOLD_DATASET
from coconut_attr.judgements.gold import load_gold
from coconut_attr.judgements.records import CODES, Judgement
from db.annotations import image_ids_of
from db.bulk import BATCH, insert_for, table_of
from db.models import Attribute, Image
from db.models import Judgement as JudgementRow
from db.sql import Rows, persistent, sql

States = dict[int, list[int]]
Part = Literal["dev", "test"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
#: The splits of each part: rules and models are fitted on dev, never on test.
SPLITS_OF: Final[dict[Part, tuple[Split, ...]]] = {"dev": ("train", "val"), "test": ("test",)}


@dataclass
class Added:
    """What came of adding judgements.

    Attributes:
        new: number of those that were stored.
        stored: number of those that were stored already.
        missing: COCO ids of judged images that the dataset lacks.
        contradicting: those that an annotator states otherwise for the same image, attribute and
            time; the stored or first one stays.
    """

    new: int = 0
    stored: int = 0
    missing: list[int] = field(default_factory=list)
    contradicting: list[Judgement] = field(default_factory=list)


@persistent
def add_judgements(engine: Engine, dataset: str, judgements: Collection[Judgement]) -> Added:
    """Add judgements of a dataset's images; stored ones stay as they are.

    Adding the same judgements again adds nothing.
    """
    added = Added()
    table = table_of(JudgementRow)
    coco_ids = sorted({judgement.coco_id for judgement in judgements})
    with engine.begin() as connection:
        image_ids = image_ids_of(connection, dataset, coco_ids)
        added.missing = [coco_id for coco_id in coco_ids if coco_id not in image_ids]
        states: dict[tuple[int, int, str, datetime], str] = {}
        judged = list(image_ids.values())
        for start in range(0, len(judged), BATCH):
            query = select(
                *(table.c[name] for name in ("image_id", "attribute_id", "annotator")),
                *(table.c.judged_at, table.c.state),
            ).where(table.c.image_id.in_(judged[start : start + BATCH]))
            for image_id, attribute_id, annotator, judged_at, state in connection.execute(query):
                states[image_id, attribute_id, annotator, _utc(judged_at)] = state
        rows: list[dict[str, Any]] = []
        for judgement in judgements:
            if (image_id := image_ids.get(judgement.coco_id)) is None:
                continue
            attribute_id, origin = INDEX[judgement.attribute], judgement.origin
            key = (image_id, attribute_id, origin.annotator, origin.judged_at)
            if key not in states:
                states[key] = judgement.state
                row = dict(zip(table.primary_key.columns.keys(), key, strict=True))
                rows.append(
                    row
                    | {"state": judgement.state, "kind": origin.kind}
                    | {"guideline": origin.guideline, "chosen": origin.chosen}
                )
            elif states[key] == judgement.state:
                added.stored += 1
            else:
                added.contradicting.append(judgement)
        if rows:  # another process may be adding the same ones
            connection.execute(insert_for(connection, table).on_conflict_do_nothing(), rows)
        added.new = len(rows)
    return added


def _utc(time: datetime) -> datetime:
    """Return a stored time with its zone, which SQLite leaves out."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def add_gold(engine: Engine, dataset: str) -> int:
    """Add the judgements of the gold set to the dataset that its photos are of.

    Returns:
        The number of new judgements.
    """
    if dataset != GOLD_DATASET:
        return 0
    return add_judgements(engine, dataset, load_gold()).new


def truth_states(engine: Engine, dataset: str, split: Split | None = None) -> States:
    """Return the truth of the images with a judgement: `image_id` -> 34 states.

    States are 1 present, 0 absent, -1 unsure or not judged.
    """
    return states_by("image_id", truth_rows(engine, dataset, (split,) if split else SPLITS))


def judged_cells(rows: Rows) -> dict[int, list[bool]]:
    """Return which cells of `truth_rows` are judged, unsure ones too: `image_id` -> 34 times."""
    cells: dict[int, list[bool]] = defaultdict(lambda: [False] * len(ATTRIBUTES))
    for row in rows:
        cells[row["image_id"]][INDEX[row["attribute"]]] = True
    return dict(cells)


def truth_of_part(engine: Engine, dataset: str, part: Part) -> States:
    """Return the truth of a part's images: COCO id -> 34 states, as `truth_states` does."""
    return states_by("coco_id", truth_rows(engine, dataset, SPLITS_OF[part]))


def states_by(key: str, rows: Rows) -> States:
    """Return the states of `truth_rows` by a column of theirs, as `truth_states` does."""
    states: States = defaultdict(lambda: [-1] * len(ATTRIBUTES))
    for row in rows:
        states[row[key]][INDEX[row["attribute"]]] = CODES[row["state"]]
    return dict(states)


def truth_rows(engine: Engine, dataset: str, splits: Iterable[Split] = SPLITS) -> Rows:
    """Return the rows of the view `truth` of a dataset's splits, by image."""
    return sql(
        engine,
        "SELECT * FROM truth WHERE dataset = :dataset AND split IN :splits"
        " ORDER BY coco_id, attribute_id",
        dataset=dataset,
        splits=list(splits),
    )


def latest_judgements(engine: Engine, dataset: str) -> Rows:
    """Return the rows of the view `judgement_latest` of a dataset, by image."""
    query = """
        SELECT * FROM judgement_latest WHERE dataset = :dataset
        ORDER BY coco_id, attribute_id, annotator"""
    return sql(engine, query, dataset=dataset)


def all_judgements(engine: Engine, dataset: str) -> list[dict[str, Any]]:
    """Return every judgement of a dataset's images, older ones too, as rows of the CSV."""
    query = (
        select(Image.coco_id, Attribute.name.label("attribute"), *table_of(JudgementRow).columns)
        .join_from(JudgementRow, Image)
        .join(Attribute)
        .where(Image.dataset == dataset)
        .order_by(Image.coco_id, JudgementRow.attribute_id, JudgementRow.annotator)
        .order_by(JudgementRow.judged_at)
    )
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    return [{**row, "judged_at": _utc(row["judged_at"]).isoformat()} for row in rows]


def judged_datasets(engine: Engine) -> Rows:
    """Return the datasets with judged images, and how many of these exist and are labelled."""
    query = """
        SELECT d.name AS dataset, d.title, d.is_coconut, COUNT(DISTINCT i.id) AS images,
               COUNT(DISTINCT CASE WHEN i.rule_version IS NOT NULL THEN i.id END) AS labelled
        FROM judgement j
        JOIN image i ON i.id = j.image_id
        JOIN dataset d ON d.name = i.dataset
        GROUP BY d.name, d.title, d.is_coconut
        ORDER BY d.is_coconut DESC, labelled DESC, d.name"""
    return sql(engine, query)


def kinds_of_truth(engine: Engine, dataset: str, part: Part) -> set[str]:
    """Return the kinds of annotators whose judgements are a part's truth: human, ai."""
    rows = truth_rows(engine, dataset, SPLITS_OF[part])
    return {row["kind"] for row in rows}
