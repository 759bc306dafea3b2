"""A database that knows the photos of a mirror, and processes that download them."""

import subprocess
from collections import Counter
from pathlib import Path

from PIL import Image
from sqlalchemy import Engine

from coconut_attr.datasets import get_dataset
from coconut_attr.settings import Settings
from db import annotations, reference
from db.downloads import fetch_claimed, plan
from db.schema import open_database

VAL5K = get_dataset("val5k")
FOLDER = "images.cocodataset.org/val2017"
WORKER = """
from coconut_attr.datasets import get_dataset
from coconut_attr.settings import settings
from db.downloads import fetch_claimed, plan
from db.engine import connect
engine = connect(settings().sqlalchemy_url)
print("ready", flush=True)
planned = plan(engine, "val5k", settings())
print(fetch_claimed(engine, get_dataset("val5k"), planned, settings()).total())
"""


def stocked(url: str, mirror: Path) -> Engine:
    """Open a database, and write a row of `image` for every photo of a mirror."""
    engine = open_database(url)
    fields = {
        "title": "",
        "is_coconut": True,
        "licence": "",
        "expected_images": None,
        "expected_segments": None,
    }
    reference.sync_reference(engine, [{"name": "val5k", **fields}], [], [])
    rows = []
    for coco_id, photo in enumerate(sorted((mirror / FOLDER).iterdir()), start=1):
        with Image.open(photo) as image:
            width, height = image.size
        rows.append(
            {
                "dataset": "val5k",
                "coco_id": coco_id,
                "file_name": photo.name,
                "url": f"http://{FOLDER}/{photo.name}",
                "licence": "",
                "width": width,
                "height": height,
                "split": "train",
            }
        )
    annotations.add_captions(engine, "val5k", rows, [])
    return engine


def fetch(
    engine: Engine, settings: Settings, mode: str = "new", limit: int | None = None
) -> Counter[str]:
    """Download the planned images in this process; count the outcomes."""
    return +fetch_claimed(engine, VAL5K, plan(engine, "val5k", settings, mode, limit), settings)


def finished(process: subprocess.Popen[str]) -> int:
    """Wait for a worker; return the number of images that it has fetched."""
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    return int(output)
