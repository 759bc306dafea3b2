"""Labelled images of the database, as training and evaluation take them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from coconut_attr.attributes import ATTRIBUTES, SPLITS
from coconut_attr.files.object_store import fetch_files, missing_locally
from coconut_attr.labels.label_model import load_label_model
from coconut_attr.settings import settings
from db.labels import LabelledImage, labelled_images
from flows.database import engine
from flows.progress import Progress

if TYPE_CHECKING:
    from coconut_attr.training.data import Samples


def load_samples(dataset: str, split: str) -> Samples:
    """Return the labelled images of a split, with their photos in the data folder.

    Photos that are missing there are fetched from the object store, if there is one.
    """
    from coconut_attr.training.data import Samples

    images = labelled_images(engine(), dataset, split, load_label_model())
    photos = [(image.path, image.bytes) for image in images]
    if missing := missing_locally(settings(), photos):
        with Progress(f"{dataset} {split} photos", len(missing)) as progress:
            for _ in fetch_files(settings(), missing):
                progress.advance()
    shape = (-1, len(ATTRIBUTES))
    states = np.array([i.states for i in images], np.int8).reshape(shape)
    judged = np.array([i.judged for i in images], bool).reshape(shape)
    probabilities = _probabilities(images)
    return Samples(
        image_ids=[image.id for image in images],
        paths=[settings().data_dir / image.path for image in images],
        labels=np.where(judged, probabilities, states).astype(np.int8),
        hashes=[image.sha256 for image in images],
        probabilities=probabilities,
        judged=judged,
    )


def _probabilities(images: Sequence[LabelledImage]) -> np.ndarray:
    """Return the labels' probabilities, float32 [n, 34].

    Labels of an older version have none: 1 and 0 stand for their states, 0.5 for unknown.
    """
    stated = {1: 1.0, 0: 0.0, -1: 0.5}
    rows = [
        [stated[s] if p is None else p for s, p in zip(i.states, i.probabilities, strict=True)]
        for i in images
    ]
    return np.array(rows, np.float32).reshape(-1, len(ATTRIBUTES))


def fingerprint(dataset: str) -> str:
    """Return the SHA-256 of a dataset's images, splits and labels: equal data, equal value."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for image in labelled_images(engine(), dataset, split, load_label_model()):
            digest.update(f"{split} {image.sha256} {image.probabilities}\n".encode())
    return digest.hexdigest()
