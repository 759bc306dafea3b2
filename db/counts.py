"""Stored counts of the largest tables, so that pages need not wait for a full scan.

The views `dataset_summary`, `dataset_coverage`, `dataset_coverage_by_source` and
`attribute_cooccurrence` count at every query. These tables hold the same figures as of the end of
the last stage.
"""

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
           COUNT(i.mask_path) AS with_mask, COUNT(i.rule_version) AS labelled,
           COALESCE(SUM(i.bytes), 0) AS bytes
    FROM image i LEFT JOIN download w ON w.image_id = i.id
    WHERE i.dataset = :dataset GROUP BY i.dataset, i.split"""
CHILDREN = """
    SELECT i.split, COUNT(*) AS n FROM {0} c JOIN image i ON i.id = c.image_id
    WHERE i.dataset = :dataset GROUP BY 1"""
#: A label vector as three bit masks (bit k: attribute k), which are read much faster than its rows.
LABELS = """
    SELECT i.split,
    SUM(CASE l.state WHEN 'present' THEN CAST(1 AS BIGINT) << l.attribute_id ELSE 0 END) AS present,
    SUM(CASE l.state WHEN 'unknown' THEN CAST(1 AS BIGINT) << l.attribute_id ELSE 0 END) AS unknown,
    SUM(CASE WHEN l.conflict THEN CAST(1 AS BIGINT) << l.attribute_id ELSE 0 END) AS conflicts
    FROM image_attribute l JOIN image i ON i.id = l.image_id
    WHERE i.dataset = :dataset GROUP BY l.image_id, i.split"""
EVIDENCE = """
    SELECT i.split, e.attribute_id, e.source,
           COUNT(CASE WHEN e.state = 'present' THEN 1 END) AS present,
           COUNT(CASE WHEN e.state = 'absent' THEN 1 END) AS absent
    FROM attribute_evidence e JOIN image i ON i.id = e.image_id WHERE i.dataset = :dataset
    GROUP BY i.split, e.attribute_id, e.source"""


@persistent
def refresh_counts(engine: Engine, dataset: str) -> None:
    """Count a dataset's images, labels, evidence and co-occurrences, and store the counts."""
    ids = [row["id"] for row in sql(engine, "SELECT id FROM attribute ORDER BY id")]
    with engine.begin() as connection:
        images = _rows(connection, DATASET_COUNTS, dataset)
        children = {name: _children(connection, name, dataset) for name in ("segment", "caption")}
        vectors = connection.execute(text(LABELS), {"dataset": dataset}).all()
        labels, cooccurrences = _label_counts(dataset, ids, vectors)
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
        insert_rows(connection, table_of(CooccurrenceCount), cooccurrences)


def refresh_all(engine: Engine) -> None:
    """Refresh the counts of every dataset that has images."""
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
    """Return the rows of `label_count` and of `cooccurrence_count`."""
    if not vectors:
        return [], []
    splits = np.array([row.split for row in vectors])
    bits = np.array(ids, dtype=np.int64)

    def cells(name: str) -> np.ndarray:
        """Return a bit mask's bits as bool [images, attributes]."""
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
            {
                "dataset": dataset,
                "split": str(split),
                "attribute_id": attribute_id,
                "source": COMBINED,
                **{name: int(column[k]) for name, column in counts.items()},
            }
            for k, attribute_id in enumerate(ids)
        ]
    # float32 products run on BLAS, and are exact for sums of up to 2^24 ones.
    presence = present.astype(np.float32)
    both_present, n = presence.T @ presence, presence.T @ (~unknown).astype(np.float32)
    cooccurrences = [
        {
            "dataset": dataset,
            "attribute_id": one,
            "other_id": other,
            "both_present": int(both_present[k, j]),
            "n": int(n[k, j]),
        }
        for k, one in enumerate(ids)
        for j, other in enumerate(ids)
        if k != j and n[k, j]
    ]
    return labels, cooccurrences


def table_counts(engine: Engine) -> RowMapping:
    """Return figures that change when a page is out of date; cheap, because pages poll them."""
    query = """
        SELECT (SELECT MAX(counted_at) FROM dataset_count) AS counted,
               (SELECT MAX(id) FROM image) AS images,
               (SELECT COUNT(*) FROM judgement) AS judgements,
               (SELECT COUNT(*) FROM epoch_metric) AS epochs,
               (SELECT COUNT(*) FROM run_metric) AS scores,
               (SELECT COUNT(*) FROM run) AS runs,
               (SELECT COUNT(*) FROM run WHERE status = 'running') AS running,
               (SELECT SUM(id) FROM run WHERE pinned) AS pinned,
               (SELECT SUM(id) FROM run WHERE archived) AS archived,
               (SELECT SUM(LENGTH(name)) FROM run) AS names,
               (SELECT COUNT(*) FROM finding) AS findings"""
    return sql(engine, query)[0]


def dataset_summaries(engine: Engine) -> Rows:
    """Return `dataset_summary` as last counted: COCONut before others, most images first.

    Further columns: `known` (cells), `counted_at`.
    """
    query = """
        SELECT d.name AS dataset, d.title, d.is_coconut, d.expected_images, d.expected_segments,
               COALESCE(SUM(c.images), 0) AS images,
               COALESCE(SUM(c.downloaded), 0) AS downloaded,
               COALESCE(SUM(c.failed), 0) AS failed,
               COALESCE(SUM(c.with_mask), 0) AS with_mask,
               COALESCE(SUM(c.labelled), 0) AS labelled,
               COALESCE(SUM(c.bytes), 0) AS bytes,
               COALESCE(SUM(c.segments), 0) AS segments,
               COALESCE(SUM(c.captions), 0) AS captions,
               MAX(c.counted_at) AS counted_at,
               COALESCE((SELECT SUM(l.present + l.absent) FROM label_count l
                         WHERE l.dataset = d.name AND l.source = 'combined'), 0) AS known
        FROM dataset d LEFT JOIN dataset_count c ON c.dataset = d.name
        GROUP BY d.name, d.title, d.is_coconut, d.expected_images, d.expected_segments
        ORDER BY d.is_coconut DESC, images DESC, d.name"""
    return sql(engine, query)


def coverage(engine: Engine, dataset: str) -> Rows:
    """Return the coverage of each split, by all sources (`combined`) and by each, as counted."""
    query = """
        SELECT c.split, c.source, a.name AS attribute, a.group_name,
               c.present, c.absent, c.unknown, c.conflicts
        FROM label_count c JOIN attribute a ON a.id = c.attribute_id
        WHERE c.dataset = :dataset"""
    return sql(engine, query, dataset=dataset)


def cooccurrence(engine: Engine, dataset: str) -> Rows:
    """Return `attribute_cooccurrence` of a dataset, as last counted."""
    query = """
        SELECT a.name AS attribute, b.name AS other, c.both_present, c.n,
               1.0 * c.both_present / c.n AS share
        FROM cooccurrence_count c
        JOIN attribute a ON a.id = c.attribute_id JOIN attribute b ON b.id = c.other_id
        WHERE c.dataset = :dataset"""
    return sql(engine, query, dataset=dataset)


def split_sizes(engine: Engine, dataset: str) -> Rows:
    """Return how many images of each split exist, are downloaded, are labelled."""
    query = """
        SELECT split, COUNT(*) AS images, COUNT(path) AS downloaded,
               COUNT(rule_version) AS labelled
        FROM image WHERE dataset = :dataset GROUP BY split"""
    return sql(engine, query, dataset=dataset)


def counted_splits(engine: Engine, dataset: str) -> Rows:
    """Return `dataset_count` of a dataset: its splits as last counted."""
    return sql(engine, "SELECT * FROM dataset_count WHERE dataset = :dataset", dataset=dataset)


def label_counts(engine: Engine, dataset: str) -> Rows:
    """Return the present and absent cells of each attribute in each split, as last counted."""
    query = """
        SELECT c.split, a.name AS attribute, c.present, c.absent
        FROM label_count c JOIN attribute a ON a.id = c.attribute_id
        WHERE c.dataset = :dataset AND c.source = 'combined'"""
    return sql(engine, query, dataset=dataset)
