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
print(fetch_claimed(engine, get_dataset("val5k"), plan(engine, "val5k", settings()), settings()).total())
"""


def stocked(url: str, mirror: Path) -> Engine:
    """A store that knows every photo of a mirror."""
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
    for number, photo in enumerate(sorted((mirror / FOLDER).iterdir()), start=1):
        with Image.open(photo) as image:
            size = image.size
        rows.append(
            {"dataset": "val5k", "coco_id": number, "file_name": photo.name, "url": f"http://{FOLDER}/{photo.name}",
             "licence": "", "width": size[0], "height": size[1], "split": "train"}
        )  # fmt: skip
    annotations.add_captions(engine, "val5k", rows, [])
    return engine


def fetch(
    engine: Engine, settings: Settings, mode: str = "new", limit: int | None = None
) -> Counter[str]:
    return +fetch_claimed(engine, VAL5K, plan(engine, "val5k", settings, mode, limit), settings)


def finished(process: subprocess.Popen[str]) -> int:
    """How many images a worker has fetched."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return int(output)
