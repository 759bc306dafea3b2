"""Train, val and test: fixed by COCO ids, so the same in every dataset and on every machine."""

import hashlib

from coconut_attr.attributes import Split

TRAIN_SHARE, VAL_SHARE = 0.70, 0.15


def split_of(coco_id: int) -> Split:
    """Return an image's split by the SHA-256 of its COCO id: 70 % train, 15 % val, 15 % test."""
    draw = int.from_bytes(hashlib.sha256(str(coco_id).encode()).digest()[:8], "big") / 2**64
    if draw < TRAIN_SHARE:
        return "train"
    return "val" if draw < TRAIN_SHARE + VAL_SHARE else "test"
