"""A mirror of generated images under the upstream layout: input of unit tests, never a result."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from coconut_attr.datasets import VAL2017, CocoFile

WIDTH, HEIGHT = 64, 48
PERSON, SKY = 1, 187
REPO = "xdeng77/relabeled_coco_val"
CAPTIONS = "annotations/captions_val2017.json"


def jpeg(seed: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A JPEG of coloured blocks."""
    colors = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colors).resize((width, height), Image.Resampling.NEAREST).save(
        buffer, "JPEG", quality=90
    )
    return buffer.getvalue()


def mask_png(ids: np.ndarray) -> bytes:
    """A panoptic PNG of segment ids [height, width]."""
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


def image_entry(number: int) -> dict:
    name = f"{number:012d}.jpg"
    return {
        "id": number,
        "file_name": name,
        "width": WIDTH,
        "height": HEIGHT,
        "license": 4,
        "coco_url": f"http://images.cocodataset.org/val2017/{name}",
        "flickr_url": "",
        "date_captured": "",
    }


def annotation(number: int) -> dict:
    """A row of the parquet: the left half is a person in every second image, the rest is sky."""
    ids = np.full((HEIGHT, WIDTH), 70_000)
    segments = [{"id": 70_000, "category_id": SKY, "iscrowd": 0, "isthing": 0}]
    if number % 2:
        ids[:, : WIDTH // 2] = 300
        segments.append({"id": 300, "category_id": PERSON, "iscrowd": 0, "isthing": 1})
    for segment in segments:
        segment["area"] = int((ids == segment["id"]).sum())
    name = f"{number:012d}.png"
    return {
        "mask": {"bytes": mask_png(ids), "path": name},
        "segments_info": {"file_name": name, "image_id": number, "segments_info": segments},
        "image_info": image_entry(number),
    }


def write_mirror(folder: Path, images: int = 24, annotated: int = 16) -> Path:
    """Write images, of which the first ones have masks, and captions of all."""
    photos = folder / "images.cocodataset.org" / "val2017"
    photos.mkdir(parents=True)
    for number in range(1, images + 1):
        (photos / f"{number:012d}.jpg").write_bytes(jpeg(number))
    write_shard(
        folder, "train-00000-of-00001.parquet", [annotation(n) for n in range(1, annotated + 1)]
    )
    write_captions(folder, {n: caption(n) for n in range(1, images + 1)})
    return folder


def write_captions(folder: Path, texts: Mapping[int, str | None]) -> None:
    """Write COCO's annotation zip with a caption an image."""
    captions = [{"id": 10 * n, "image_id": n, "caption": text} for n, text in texts.items()]
    write_caption_file(folder, {"images": [image_entry(n) for n in texts], "annotations": captions})


def write_caption_file(folder: Path, content: dict) -> None:
    """Write COCO's annotation zip with this content of its caption file."""
    write_coco_file(folder, VAL2017, content)


def write_coco_file(folder: Path, coco_file: CocoFile, content: dict) -> None:
    """Write the zip of one of COCO's files, with another member before it."""
    archive = folder / coco_file.archive.removeprefix("http://")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("annotations/other.json", "0" * 100_000)
        file.writestr(coco_file.member, json.dumps(content))


def caption(number: int) -> str:
    return "A man on a beach under a blue sky" if number % 2 else "A beach without people"


def write_shard(
    folder: Path, name: str, rows: list[dict], group: int = 5, repo: str = REPO
) -> Path:
    """Write a parquet shard with row groups of `group` rows."""
    path = folder / "huggingface.co" / "datasets" / repo / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


def hub_row_of_b(number: int, folder: str = "train2017") -> dict:
    """A row as coconut_b has them: no area, no mask path, and an image_info that is made up."""
    ids = np.full((HEIGHT, WIDTH), 1)
    segment = {"area": None, "category_id": SKY, "id": 1, "iscrowd": 0, "isthing": 0}
    info = {
        "file_name": f"{number:012d}.png",
        "image_id": number,
        "segments_info": [segment],
    }
    name = f"{number:012d}.jpg"
    image = {
        "coco_url": f"http://images.cocodataset.org/{folder}/{name}",
        "date_captured": "2013-11-14 16:03:19",
        "file_name": name,
        "height": HEIGHT,
        "id": number,
        "license": 3,
        "width": WIDTH,
    }
    return {
        "mask": {"bytes": mask_png(ids), "path": None},
        "segments_info": info,
        "image_info": image,
    }
