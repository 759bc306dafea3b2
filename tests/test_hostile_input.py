"""Files from outside, changed at random: a reader returns a result or raises one UserError."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from coconut_attr.annotations import kaggle
from coconut_attr.annotations.caption_zip import fetch_member
from coconut_attr.annotations.coco_file import read_coco_file
from coconut_attr.annotations.files import annotation_files
from coconut_attr.annotations.records import Panoptic, local_path
from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.datasets import VAL2017, get_dataset
from coconut_attr.errors import UserError
from coconut_attr.files.images import checked_size
from coconut_attr.files.photos import upright
from coconut_attr.labels.panoptic import decode_mask
from coconut_attr.model.checkpoint import FORMAT, load_checkpoint
from coconut_attr.settings import Settings
from tests.support import tiny_mirror as tiny
from tests.support.hostile import FUZZ, JSON, damaged, with_a_part_replaced


def attempt(read: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a reader returns, or None if it raises a UserError."""
    try:
        return read(*arguments)
    except UserError as error:
        assert str(error)
        return None


def png(mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (9, 7), 1).save(buffer, "PNG")
    return buffer.getvalue()


def turned_jpeg() -> bytes:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (16, 8)).save(buffer, "JPEG", exif=exif, progressive=True)
    return buffer.getvalue()


@FUZZ
@given(
    st.sampled_from(
        [tiny.jpeg(1), turned_jpeg(), png("RGB"), png("P"), png("I;16"), png("LA")]
    ).flatmap(damaged)
)
def test_photos(content: bytes) -> None:
    photo = attempt(upright, content)
    assert photo is None or photo.mode == "RGB"
    size = attempt(checked_size, content)
    assert size is None or len(size) == 2


@FUZZ
@given(
    st.sampled_from([tiny.mask_png(np.full((4, 5), 70_000)), png("RGBA"), png("P")]).flatmap(
        damaged
    )
)
def test_masks(content: bytes) -> None:
    ids = attempt(decode_mask, content)
    assert ids is None or (ids.ndim == 2 and ids.max(initial=0) < 2**24)


ROW = tiny.annotation(1)
ENTRY = {"images": [tiny.image_entry(1)], "annotations": [{"id": 1, "image_id": 1, "caption": "a"}]}


@FUZZ
@given(
    with_a_part_replaced(ENTRY).map(lambda content: json.dumps(content).encode())
    | damaged(json.dumps(ENTRY).encode())
)
def test_captions(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "captions.json"
    path.write_bytes(content)
    found = attempt(read_coco_file, path, "http://h/")
    for image in found.images if found else ():
        assert "/" not in image.file_name
        attempt(local_path, image.url, ("images.cocodataset.org",), Path("data"))


PANOPTIC = {
    "images": [tiny.image_entry(1)],
    "annotations": [{**ROW["segments_info"], "file_name": "1.png"}],
}


@FUZZ
@given(with_a_part_replaced(PANOPTIC).map(json.dumps))
def test_kaggle_annotations(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "kaggle"
    entry = get_dataset("val5k")
    path = folder / "annotations" / "annotations" / f"{entry.kaggle_name}_panoptic.json"
    mask = folder / entry.kaggle_name / "panoptic" / "1.png"
    for parent in (path.parent, mask.parent):
        parent.mkdir(parents=True, exist_ok=True)
    mask.write_bytes(ROW["mask"]["bytes"])
    path.write_text(content)
    attempt(lambda: list(kaggle.read(folder, entry)))
    attempt(kaggle.unnamed_masks, folder, entry)


def zipped(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(tiny.CAPTIONS, json.dumps(ENTRY))
    return buffer.getvalue()


@FUZZ
@given(st.sampled_from([zipped(zipfile.ZIP_STORED), zipped(zipfile.ZIP_DEFLATED)]).flatmap(damaged))
def test_zips(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "zips"
    archive = folder / "images.cocodataset.org" / "annotations" / "annotations_trainval2017.zip"
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(content)
    (folder / "data" / "annotations" / Path(tiny.CAPTIONS).name).unlink(missing_ok=True)
    configured = Settings(mirror=str(folder), data_dir=folder / "data")
    attempt(fetch_member, VAL2017.archive, tiny.CAPTIONS, configured)


def parquet(rows: list[Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def parquet_or_nothing(row: Any) -> bytes:
    try:
        return parquet([row])
    except (pa.ArrowException, AttributeError, TypeError, OverflowError, ValueError):
        return b""  # Arrow has no form for it


@FUZZ
@given(with_a_part_replaced(ROW).map(parquet_or_nothing) | damaged(parquet([ROW])))
def test_parquet_shards(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "shards"
    path = folder / "huggingface.co" / "datasets" / tiny.REPO / "data" / "x.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    configured = Settings(mirror=str(folder))
    for file in annotation_files(get_dataset("val5k"), configured):
        for batch in attempt(lambda file=file: list(file.read(0))) or ():
            for row in batch:
                if isinstance(row, Panoptic):
                    assert row.image is None or "/" not in row.image.file_name
                    attempt(decode_mask, row.mask_png)


METADATA = {
    "format": FORMAT,
    "backbone": "efficientnet_lite0",
    "attributes": json.dumps(ATTRIBUTES),
    "run": "1",
    "dataset": "d",
    "epoch": "1",
    "thresholds": json.dumps([0.5] * len(ATTRIBUTES)),
}


@FUZZ
@given(
    st.sampled_from(sorted(METADATA))
    .flatmap(
        lambda key: (JSON.map(json.dumps) | st.text(max_size=8)).map(
            lambda value: {**METADATA, key: value}
        )
    )
    .map(lambda metadata: save({"x": torch.zeros(2)}, metadata))
    | damaged(save({"x": torch.zeros(2)}, METADATA))
)
def test_checkpoints(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "x.safetensors"
    path.write_bytes(content)
    assert attempt(load_checkpoint, path) is None  # its one tensor is none of a model's
