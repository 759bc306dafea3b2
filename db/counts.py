"""Counts of the store's largest tables, kept so that readers need not wait for them.

The views `dataset_summary`, `dataset_coverage`, `dataset_coverage_by_source` and `attribute_cooccurrence` count anew at
every query; these tables hold the same figures as of the end of the stage that ran last.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, RowMapping, delete, text

from db.bulk import insert_rows, table_of, upsert
from db.models import CooccurrenceCount, DatasetCount, LabelCount, now
from db.sql import Rows, persistent, sql

COMBINED = "combined"
DATASET_COUNTS = """
    SELECT i.dataset, i.split, COUNT(*) AS images,
           COUNT(CASE WHEN w.state = 'done' THEN 1 END) AS downloaded,
           COUNT(CASE WHEN w.state = 'failed' THEN 1 END) AS failed,
           COUNT(i.mask_path) AS with_mask, COUNT(i.rule_version) AS labelled, COALESCE(SUM(i.bytes), 0) AS bytes
    FROM image i LEFT JOIN download w ON w.image_id = i.id WHERE i.dataset = :dataset GROUP BY i.dataset, i.split"""
CHILDREN = "SELECT i.split, COUNT(*) AS n FROM {0} c JOIN image i ON i.id = c.image_id WHERE i.dataset = :dataset GROUP BY 1"
# A label vector in three numbers: bit k is of attribute k. They come in a fraction of the time that the labels take.
LABELS = """
    SELECT i.split,
           SUM(CASE WHEN l.state = 'present' THEN CAST(1 AS BIGINT) << l.attribute_id ELSE 0 END) AS present,
           SUM(CASE WHEN l.state = 'unknown' THEN CAST(1 AS BIGINT) << l.attribute_id ELSE 0 END) AS unknown,
           SUM(CASE WHEN l.conflict THEN CAST(1 AS BIGINT) << l.attribute_id ELSE 0 END) AS conflicts
    FROM image_attribute l JOIN image i ON i.id = l.image_id WHERE i.dataset = :dataset GROUP BY l.image_id, i.split"""
EVIDENCE = """
    SELECT i.split, e.attribute_id, e.source, COUNT(CASE WHEN e.state = 'present' THEN 1 END) AS present,
           COUNT(CASE WHEN e.state = 'absent' THEN 1 END) AS absent
    FROM attribute_evidence e JOIN image i ON i.id = e.image_id WHERE i.dataset = :dataset
    GROUP BY i.split, e.attribute_id, e.source"""


@persistent
def refresh_counts(engine: Engine, dataset: str) -> None:
    """Count a dataset's images, labels, evidence and co-occurrences anew."""
    ids = [row["id"] for row in sql(engine, "SELECT id FROM attribute ORDER BY id")]
    with engine.begin() as connection:
        images = _rows(connection, DATASET_COUNTS, dataset)
        children = {name: _children(connection, name, dataset) for name in ("segment", "caption")}
        vectors = connection.execute(text(LABELS), {"dataset": dataset}).all()
        labels, together = _label_counts(dataset, ids, vectors)
        labels += [
            {"dataset": dataset, **row, "unknown": 0, "conflicts": 0}
            for row in _rows(connection, EVIDENCE, dataset)
        ]
        for model in (DatasetCount, LabelCount, CooccurrenceCount):
            connection.execute(delete(model).where(model.dataset == dataset))
        counted_at = now()
        for row in images:
            parts = {f"{name}s": counts.get(row["split"], 0) for name, counts in children.items()}
            upsert(connection, DatasetCount, [{**row, **parts, "counted_at": counted_at}])
        insert_rows(connection, table_of(LabelCount), labels)
        insert_rows(connection, table_of(CooccurrenceCount), together)


def refresh_all(engine: Engine) -> None:
    """`refresh_counts` of every dataset that has images."""
    for row in sql(
        engine,
        "SELECT name FROM dataset d WHERE EXISTS (SELECT 1 FROM image WHERE dataset = d.name)",
    ):
        refresh_counts(engine, row["name"])


def _rows(connection: Connection, query: str, dataset: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(text(query), {"dataset": dataset}).mappings()]


def _children(connection: Connection, table: str, dataset: str) -> dict[str, int]:
    return {row["split"]: row["n"] for row in _rows(connection, CHILDREN.format(table), dataset)}


def _label_counts(
    dataset: str, ids: list[int], vectors: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of `label_count` and of `cooccurrence_count`."""
    if not vectors:
        return [], []
    splits = np.array([row.split for row in vectors])
    bits = np.array(ids, dtype=np.int64)

    def cells(name: str) -> np.ndarray:
        """Bool [images, attributes]."""
        numbers = np.array([int(getattr(row, name)) for row in vectors], dtype=np.int64)
        return (numbers[:, None] >> bits & 1).astype(bool)

    present, unknown = cells("present"), cells("unknown")
    tables = {
        "present": present,
        "absent": ~present & ~unknown,
        "unknown": unknown,
        "conflicts": cells("conflicts"),
    }
    labels = []
    for split in np.unique(splits):
        counts = {name: table[splits == split].sum(0) for name, table in tables.items()}
        labels += [
            {"dataset": dataset, "split": str(split), "attribute_id": key, "source": COMBINED,
             **{name: int(column[k]) for name, column in counts.items()}}
            for k, key in enumerate(ids)
        ]  # fmt: skip
    # Sums of at most some hundred thousand ones are exact in float32 products, which run on BLAS.
    of = present.astype(np.float32)
    both, known = of.T @ of, of.T @ (~unknown).astype(np.float32)
    together = [
        {"dataset": dataset, "attribute_id": one, "other_id": other, "both_present": int(both[k, j]),
         "n": int(known[k, j])}
        for k, one in enumerate(ids)
        for j, other in enumerate(ids)
        if k != j and known[k, j]
    ]  # fmt: skip
    return labels, together


def table_counts(engine: Engine) -> RowMapping:
    """What changes when there is something new to show; asked for often, so nothing large is counted for it."""
    return sql(
        engine,
        "SELECT (SELECT MAX(counted_at) FROM dataset_count) AS counted, (SELECT MAX(id) FROM image) AS images,"
        " (SELECT COUNT(*) FROM epoch_metric) AS epochs, (SELECT COUNT(*) FROM run_metric) AS scores,"
        " (SELECT COUNT(*) FROM run) AS runs, (SELECT COUNT(*) FROM run WHERE status = 'running') AS running,"
        " (SELECT COUNT(*) FROM finding) AS findings",
    )[0]


COUNTED = (
    "images",
    "downloaded",
    "failed",
    "with_mask",
    "labelled",
    "bytes",
    "segments",
    "captions",
)
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


def label_counts(engine: Engine, dataset: str) -> Rows:
    """Present and absent cells of each attribute in each split, as they were last counted."""
    return sql(
        engine,
        "SELECT c.split, a.name AS attribute, c.present, c.absent FROM label_count c"
        " JOIN attribute a ON a.id = c.attribute_id WHERE c.dataset = :dataset AND c.source = 'combined'",
        dataset=dataset,
    )


def datasets_holding(engine: Engine, coco_ids: Sequence[int]) -> Rows:
    """How many of some images each dataset holds, known and labelled; datasets with none are left out."""
    return sql(
        engine,
        "SELECT i.dataset, d.title, d.is_coconut, COUNT(*) AS images, COUNT(i.rule_version) AS labelled"
        " FROM image i JOIN dataset d ON d.name = i.dataset WHERE i.coco_id IN :ids"
        " GROUP BY i.dataset, d.title, d.is_coconut ORDER BY d.is_coconut DESC, labelled DESC, i.dataset",
        ids=list(coco_ids),
    )
