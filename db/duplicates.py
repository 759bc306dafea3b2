"""Copies of photos: their perceptual hashes, and one split for all copies of a photo."""

from collections.abc import Mapping

import numpy as np
from sqlalchemy import Engine, RowMapping, select

from coconut_attr.attributes import SPLITS
from coconut_attr.files.near_duplicates import group_copies
from coconut_attr.findings import Finding
from db.bulk import table_of, update_rows
from db.counts import refresh_counts
from db.models import Image
from db.sql import persistent

SHOWN = 5  # copies that a finding names


@persistent
def images_to_hash(engine: Engine, dataset: str) -> list[int]:
    """Return the ids of labelled images without a perceptual hash: those of older versions."""
    query = select(Image.id).where(
        Image.dataset == dataset, Image.rule_version.is_not(None), Image.perceptual_hash.is_(None)
    )
    with engine.connect() as connection:
        return list(connection.execute(query.order_by(Image.id)).scalars())


@persistent
def record_hashes(engine: Engine, hashes: Mapping[int, str]) -> None:
    """Store perceptual hashes by image id."""
    rows = [{"id": image_id, "perceptual_hash": value} for image_id, value in hashes.items()]
    with engine.begin() as connection:
        update_rows(connection, table_of(Image), rows)


@persistent
def unify_splits(engine: Engine) -> int:
    """Move all copies of a photo into one split, and return how many images were moved.

    They go to train if one of them is there, else to val: no run has then trained on a photo of
    the test split, not even an earlier run.
    """
    moved: dict[str, list[dict[str, object]]] = {}
    for copies in _copies(engine):
        split = min((row["split"] for row in copies), key=SPLITS.index)
        for row in copies:
            if row["split"] != split:
                moved.setdefault(row["dataset"], []).append({"id": row["id"], "split": split})
    for dataset, rows in moved.items():
        with engine.begin() as connection:
            update_rows(connection, table_of(Image), rows)
        refresh_counts(engine, dataset)
    return sum(map(len, moved.values()))


def duplicate_photos(engine: Engine, dataset: str) -> list[Finding]:
    """Return a finding for each photo that images of a dataset share with another COCO id."""
    findings = []
    for copies in _copies(engine):
        by_id = {row["coco_id"]: row for row in copies}
        if len(by_id) > 1 and dataset in {row["dataset"] for row in copies}:
            contents = {row["sha256"] for row in copies}
            names = [f"{row['path']} ({row['split']})" for row in by_id.values()]
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            kind = "identical" if len(contents) == 1 else "nearly identical"
            detail = f"{kind}: {', '.join(names[:SHOWN])}{more}"
            findings.append(Finding("photo occurs again", detail))
    return findings


def _copies(engine: Engine) -> list[list[RowMapping]]:
    """Return the downloaded images of all datasets whose photo occurs more than once, by photo."""
    columns = (Image.id, Image.dataset, Image.coco_id, Image.path, Image.split)
    query = (
        select(*columns, Image.sha256, Image.perceptual_hash)
        .where(Image.path.is_not(None))
        .order_by(Image.id)
    )
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    groups = group_copies(
        [row["sha256"] or "" for row in rows], [row["perceptual_hash"] or "" for row in rows]
    )
    order = np.argsort(groups, kind="stable")
    bounds = np.flatnonzero(np.diff(groups[order])) + 1
    return [[rows[k] for k in part] for part in np.split(order, bounds) if len(part) > 1]
