"""Labelled images of the database, as training and evaluation take them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from coconut_attr.attributes import ATTRIBUTES, SPLITS
from coconut_attr.files.object_store import fetch_files, missing_locally
from coconut_attr.settings import settings
from db.labels import labelled_images
from flows.database import engine
from flows.progress import Progress

if TYPE_CHECKING:
    from coconut_attr.training.data import Samples


def load_samples(dataset: str, split: str) -> Samples:
    """Return the labelled images of a split, with their photos in the data folder.

    Photos that are missing there are fetched from the object store, if there is one.
    """
    from coconut_attr.training.data import Samples

    images = labelled_images(engine(), dataset, split)
    photos = [(image.path, image.bytes) for image in images]
    if missing := missing_locally(settings(), photos):
        with Progress(f"{dataset} {split} photos", len(missing)) as progress:
            for _ in fetch_files(settings(), missing):
                progress.advance()
    return Samples(
        image_ids=[image.id for image in images],
        paths=[settings().data_dir / image.path for image in images],
        labels=np.array([i.states for i in images], np.int8).reshape(-1, len(ATTRIBUTES)),
        hashes=[image.sha256 for image in images],
    )


def fingerprint(dataset: str) -> str:
    """Return the SHA-256 of a dataset's images, splits and labels: equal data, equal value."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for image in labelled_images(engine(), dataset, split):
            digest.update(f"{split} {image.sha256} {image.states}\n".encode())
    return digest.hexdigest()
