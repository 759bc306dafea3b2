"""Copies of a photo are in one split, and the check reports them."""

import numpy as np
from sqlalchemy import Engine

from db import downloads, duplicates, reference
from db.annotations import add_captions
from db.sql import sql
from tests.support.rows import fill, image, outcome


def splits(engine: Engine) -> dict[tuple[str, int], str]:
    rows = sql(engine, "SELECT dataset, coco_id, split FROM image")
    return {(row["dataset"], row["coco_id"]): row["split"] for row in rows}


def random_hashes(n: int) -> list[str]:
    content = np.random.default_rng(0).integers(0, 256, (n, 19), dtype=np.uint8)
    return [row.tobytes().hex() for row in content]


def test_copies_fall_into_one_split_and_other_images_keep_theirs(store: Engine) -> None:
    fill(store)
    other = {"name": "e", "title": "E", "is_coconut": True, "licence": ""}
    reference.sync_reference(
        store, [{**other, "expected_images": None, "expected_segments": None}], [], []
    )
    wanted = {10: "train", 11: "test", 12: "test", 13: "val", 14: "test", 15: "val"}
    images = [image(coco_id, split=split) for coco_id, split in wanted.items()]
    add_captions(store, "d", images, [])
    add_captions(store, "e", [image(20, dataset="e", split="test")], [])
    ids = {row["coco_id"]: row["id"] for row in sql(store, "SELECT coco_id, id FROM image")}
    content = {10: "a", 11: "a", 12: "b", 13: "c", 14: "d", 15: "e", 20: "f"}
    downloads.record_downloads(
        store, [outcome(ids[coco_id], sha256=sha) for coco_id, sha in content.items()]
    )
    hashes = dict(zip(content, random_hashes(len(content)), strict=True))
    near = f"{int(hashes[12][:32], 16) ^ 0b111:032x}{hashes[12][32:]}"
    hashes |= {11: hashes[10], 13: near, 20: hashes[10]}
    duplicates.record_hashes(store, {ids[coco_id]: value for coco_id, value in hashes.items()})
    before = splits(store)

    # 11 has the content of 10 (train), 20 looks like it; 12 (test) looks like 13 (val).
    expected = {("d", 11): "train", ("e", 20): "train", ("d", 12): "val"}
    assert duplicates.unify_splits(store) == len(expected)
    assert splits(store) == before | expected
    assert duplicates.unify_splits(store) == 0
    found = duplicates.duplicate_photos(store, "d")
    assert [finding.detail.split(": ")[0] for finding in found] == ["nearly identical"] * 2
    paths = {coco_id: f"p{ids[coco_id]}" for coco_id in content}
    assert all(paths[coco_id] in found[0].detail for coco_id in (10, 11, 20))
    assert "(val)" in found[1].detail and paths[12] in found[1].detail
    assert len(duplicates.duplicate_photos(store, "e")) == 1


def test_a_copy_is_found_by_its_content_without_a_perceptual_hash(store: Engine) -> None:
    fill(store)
    add_captions(store, "d", [image(10, split="train"), image(11, split="test")], [])
    ids = [row["id"] for row in sql(store, "SELECT id FROM image WHERE coco_id IN (10, 11)")]
    downloads.record_downloads(store, [outcome(image_id, sha256="same") for image_id in ids])
    assert duplicates.unify_splits(store) == 1
    assert splits(store)["d", 11] == "train"
