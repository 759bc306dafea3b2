"""Annotation readers: hub parquet, COCO captions, Kaggle layout; by folder and by HTTP."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from coconut_attr.annotations.files import (
    annotation_files,
    captioned_images,
    coco_images,
    store_mask,
)
from coconut_attr.annotations.identity import resolve
from coconut_attr.annotations.records import local_path, plain_name
from coconut_attr.datasets import DATASETS, UnknownDatasetError, get_dataset
from coconut_attr.errors import SourceError, UnreachableError
from tests.support import tiny_mirror
from tests.support.hub_server import SHA256, serve_hub
from tests.support.web_server import serve

VAL5K = get_dataset("val5k")


def read_all(settings, skip: int = 0) -> list:
    (file,) = annotation_files(VAL5K, settings)
    return [annotation for batch in file.read(skip) for annotation in batch]


def test_the_hub_parquet_is_read_in_batches(tiny_mirror: Path, configure) -> None:
    settings = configure(mirror=tiny_mirror)
    (file,) = annotation_files(VAL5K, settings)
    batches = list(file.read(0))
    assert [len(batch) for batch in batches] == [16]
    first = batches[0][0]
    assert first.image.coco_id == 1
    assert [(s.id, s.category_id, s.area) for s in first.segments] == [
        (70_000, 187, 1536),
        (300, 1, 1536),
    ]


def test_reading_resumes_after_the_stored_rows(tiny_mirror: Path, configure) -> None:
    settings = configure(mirror=tiny_mirror)
    assert [a.image.coco_id for a in read_all(settings, skip=7)] == list(range(8, 17))


@pytest.mark.parametrize("folder", ["data", "panoptic/train"])
def test_the_hub_is_listed_page_by_page_in_whatever_folder_its_files_are(
    folder: str, tmp_path: Path, configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(5):
        shard = tiny_mirror.write_shard(
            tmp_path, f"train-{k}.parquet", [tiny_mirror.annotation(n) for n in (k, k + 9)]
        )
    repo = tmp_path / "hub" / tiny_mirror.REPO
    (repo / folder).parent.mkdir(parents=True)
    shard.parent.rename(repo / folder)
    (repo / "README.md").write_text("x")
    with serve_hub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        files = annotation_files(VAL5K, configure())
        read = [
            (
                file.name,
                file.checksummed().sha256,
                [a.image.coco_id for b in file.read(0) for a in b],
            )
            for file in files
        ]
    assert read == [
        (f"{tiny_mirror.REPO}/{folder}/train-{k}.parquet", SHA256, [k, k + 9]) for k in range(5)
    ]


def test_row_groups_that_were_read_before_are_not_read_again(tiny_mirror: Path, configure) -> None:
    settings = configure(mirror=tiny_mirror)
    (path,) = tiny_mirror.rglob("*.parquet")
    content = bytearray(path.read_bytes())
    end = pq.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    content[4:end] = bytes(end - 4)  # the first row group of 5 rows is no more
    path.write_bytes(content)
    assert [a.image.coco_id for a in read_all(settings, skip=6)] == list(range(7, 17))
    with pytest.raises(SourceError, match="cannot read"):
        read_all(settings, skip=4)


def test_a_mirror_by_url_serves_annotations_and_one_member_of_the_caption_zip(
    tiny_mirror: Path, configure
) -> None:
    with serve(tiny_mirror) as site:
        settings = configure(mirror=site.url)
        assert len(read_all(settings)) == 16
        content = captioned_images(VAL5K, settings)
        assert len(content.images) == len(content.captions) == 24
        captioned_images(VAL5K, settings)
        archive = "/images.cocodataset.org/annotations/annotations_trainval2017.zip"
        asked = site.requests[archive]
        captioned_images(VAL5K, settings)
        assert site.requests[archive] == asked  # the member is cached


def test_the_kaggle_layout_loads_too(tmp_path: Path, configure) -> None:
    rows = [tiny_mirror.annotation(n) for n in (1, 2, 3)]
    masks = tmp_path / "relabeled_coco_val" / "panoptic"
    masks.mkdir(parents=True)
    for row in rows:
        (masks / row["mask"]["path"]).write_bytes(row["mask"]["bytes"])
    content = {
        "images": [r["image_info"] for r in rows],
        "annotations": [r["segments_info"] for r in rows],
    }
    path = tmp_path / "annotations" / "annotations" / "relabeled_coco_val_panoptic.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    found = read_all(configure(annotations_dir=tmp_path))
    assert [a.image.coco_id for a in found] == [1, 2, 3]
    assert found[0].mask_png == rows[0]["mask"]["bytes"]


def test_a_folder_without_the_layout_is_refused(tmp_path: Path, configure) -> None:
    with pytest.raises(SourceError, match="relabeled_coco_val_panoptic.json does not exist"):
        annotation_files(VAL5K, configure(annotations_dir=tmp_path))


def test_a_mirror_without_the_dataset_is_refused(tmp_path: Path, configure) -> None:
    with pytest.raises(SourceError, match=r"no data/\*.parquet"):
        annotation_files(VAL5K, configure(mirror=tmp_path))
    with pytest.raises(SourceError, match="is not a folder"):
        annotation_files(VAL5K, configure(mirror=tmp_path / "missing"))


def test_a_server_that_does_not_answer_is_a_transient_error(configure) -> None:
    settings = configure(mirror="http://127.0.0.1:9", connect_timeout=1, retries=0)
    with pytest.raises(UnreachableError, match="cannot list"):
        annotation_files(VAL5K, settings)
    with pytest.raises(UnreachableError, match="annotations_trainval2017"):
        captioned_images(VAL5K, settings)


def test_a_parquet_without_the_columns_is_refused(tmp_path: Path, configure) -> None:
    tiny_mirror.write_shard(tmp_path, "x.parquet", [{"image": 1}])
    with pytest.raises(SourceError, match="no column mask, segments_info, image_info"):
        read_all(configure(mirror=tmp_path))


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a\\b.jpg", "..", "", "a:b.jpg"])
def test_file_names_cannot_leave_their_folder(name: str) -> None:
    with pytest.raises(SourceError, match="refused file name"):
        plain_name(name)


@pytest.mark.parametrize(
    "url",
    [
        "http://images.cocodataset.org/val2017/../../../etc/passwd",
        "http://images.cocodataset.org/val2017/%2e%2e/x.jpg",
        "http://169.254.169.254/latest/meta-data",
        "http://images.cocodataset.org@127.0.0.1/x.jpg",
        "file:///etc/passwd",
        "ftp://images.cocodataset.org/x.jpg",
        "http://images.cocodataset.org/",
    ],
)
def test_image_urls_are_held_to_the_datasets_hosts(url: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="refused image URL"):
        local_path(url, VAL5K.image_hosts, tmp_path)


def test_a_mask_is_stored_under_its_image_id(tiny_mirror: Path, configure) -> None:
    settings = configure(mirror=tiny_mirror)
    annotation = read_all(settings)[0]
    relative = store_mask(VAL5K, annotation, settings)
    assert relative == "annotations/val5k/panoptic/000000000001.png"
    assert (settings.data_dir / relative).read_bytes() == annotation.mask_png


def test_the_sample_is_marked_as_not_coconut(configure) -> None:
    content = captioned_images(DATASETS["sample"], configure())
    assert not DATASETS["sample"].is_coconut
    assert {image.split for image in content.images} == {"train", "val", "test"}
    assert {c.coco_id for c in content.captions} == {image.coco_id for image in content.images}


def test_an_unknown_dataset_is_refused_with_the_names_of_the_known_ones() -> None:
    names = "val5k, coconut-s, coconut-b, coconut-l, coconut-val, sample"
    with pytest.raises(UnknownDatasetError, match=f"'coco'; choose one of: {names}"):
        get_dataset("coco")


def test_the_real_mirror_is_read(real_mirror: Path, configure) -> None:
    settings = configure(mirror=real_mirror)
    images = coco_images(VAL5K, settings)
    annotations = [resolve(row, images, VAL5K) for row in read_all(settings)]
    assert len(annotations) == 82
    content = captioned_images(VAL5K, settings)
    assert (len(content.images), len(content.captions)) == (355, 1776)
    assert {a.image for a in annotations} <= set(content.images)
    assert not any(a.findings for a in annotations)
