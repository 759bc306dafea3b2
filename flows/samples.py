"""Labelled images of the store, in the form that training and evaluation take."""

import hashlib

import numpy as np

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.files.object_store import fetch_files, missing_locally
from coconut_attr.settings import settings
from coconut_attr.training.data import Samples
from db.labels import labelled_images
from flows.database import engine
from flows.progress import Progress


def load_samples(dataset: str, split: str) -> tuple[list[int], Samples]:
    """Image ids, and files with labels, of the labelled images of a split."""
    found = labelled_images(engine(), dataset, split)
    labels = np.array([image.states for image in found], dtype=np.int8).reshape(-1, len(ATTRIBUTES))
    files = [(image.path, image.bytes) for image in found]
    if missing := missing_locally(settings(), files):
        with Progress(f"{dataset} {split} photos", len(missing)) as progress:
            for _ in fetch_files(settings(), missing):
                progress.advance()
    paths = [settings().data_dir / path for path, _ in files]
    return [image.id for image in found], Samples(paths, labels, [image.sha256 for image in found])


def fingerprint(dataset: str) -> str:
    """SHA-256 over the content, split and labels of a dataset's images: equal data, equal fingerprint."""
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        for image in labelled_images(engine(), dataset, split):
            digest.update(f"{split} {image.sha256} {image.states}\n".encode())
    return digest.hexdigest()
