"""Datasets as upstream really publishes them, from their files to the database."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from coconut_attr.annotations.files import annotation_files
from coconut_attr.datasets import COCO_IMAGES, TRAIN2017, UNLABELED2017, get_dataset
from coconut_attr.errors import SourceError
from coconut_attr.settings import settings
from db.commands.mirror import mirror_commands
from db.models import AnnotationFile
from db.sql import sql
from flows.check import check
from flows.database import engine
from flows.download import download
from tests.support import tiny_mirror as tiny

pytestmark = pytest.mark.usefixtures("prefect_server")

B = "xdeng77/coconut_b"
SHARD = "train-00000-of-00004.parquet"
TRAIN, UNLABELED, MOVED = 9, 25, 30
BY_NC = "http://creativecommons.org/licenses/by-nc/2.0/"


def coco_entry(number: int, folder: str) -> dict:
    name = f"{number:012d}.jpg"
    url = f"{COCO_IMAGES}{folder}/{name}"
    return tiny.image_entry(number) | {"license": 2, "coco_url": url}


def write_photo(mirror: Path, number: int, folder: str) -> None:
    path = mirror / "images.cocodataset.org" / folder / f"{number:012d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiny.jpeg(number))


@pytest.fixture
def mirror_of_b(tmp_path: Path, configure) -> Path:
    """Three images of B, of which the annotations say that they lie in train2017.

    COCO lists the last in unlabeled2017, but its photo lies in train2017.
    """
    mirror = tmp_path / "mirror"
    tiny.write_shard(
        mirror, SHARD, [tiny.hub_row_of_b(n) for n in (TRAIN, UNLABELED, MOVED)], repo=B
    )
    caption = {"id": 1, "image_id": TRAIN, "caption": "a field"}
    train = {"images": [coco_entry(TRAIN, "train2017")], "annotations": [caption]}
    tiny.write_coco_file(mirror, TRAIN2017, train)
    others = {"images": [coco_entry(n, "unlabeled2017") for n in (UNLABELED, MOVED, 31)]}
    tiny.write_coco_file(mirror, UNLABELED2017, others)
    write_photo(mirror, TRAIN, "train2017")
    write_photo(mirror, UNLABELED, "unlabeled2017")
    write_photo(mirror, MOVED, "train2017")
    configure(mirror=mirror)
    return mirror


def images() -> dict[int, tuple[str, str]]:
    """Licence and URL folder of each image."""
    rows = sql(engine(), "SELECT coco_id, licence, url FROM image")
    return {row["coco_id"]: (row["licence"], row["url"].split("/")[-2]) for row in rows}


def findings() -> list[tuple[str, str]]:
    rows = sql(engine(), "SELECT kind, detail FROM finding ORDER BY kind, detail")
    return [(row["kind"], row["detail"]) for row in rows if "count differs" not in row["kind"]]


RIGHT = {
    TRAIN: (BY_NC, "train2017"),
    UNLABELED: (BY_NC, "unlabeled2017"),
    MOVED: (BY_NC, "train2017"),
}


def test_coconut_b_is_read_from_one_repository_with_cocos_licences(mirror_of_b: Path) -> None:
    assert download("coconut-b") == {"images": 3, "downloaded": 3, "failed": 0}
    assert images() == RIGHT
    areas = sql(engine(), "SELECT DISTINCT annotated_area AS area FROM segment")
    assert [row["area"] for row in areas] == [None]
    check("coconut-b")
    assert findings() == []
    assert download("coconut-b", verify=True)["downloaded"] == 3


def test_a_mirror_of_coconut_b_gives_the_same_dataset(
    mirror_of_b: Path, tmp_path: Path, configure
) -> None:
    download("coconut-b")
    command = ["export", str(tmp_path / "copy"), "--dataset", "coconut-b"]
    result = CliRunner().invoke(mirror_commands, command, catch_exceptions=False)
    assert "3 photos, 3 masks and 1 captions" in result.output
    configure(mirror=tmp_path / "copy", data_dir=tmp_path / "other")
    assert download("coconut-b") == {"images": 3, "downloaded": 3, "failed": 0}
    assert images() == RIGHT
    areas = sql(engine(), "SELECT DISTINCT annotated_area AS area FROM segment")
    assert [row["area"] for row in areas] == [None]


def test_a_database_made_from_s_and_b_loses_nothing_and_gets_no_duplicates(
    mirror_of_b: Path,
) -> None:
    download("coconut-b", limit=1)
    with engine().begin() as connection:
        connection.exec_driver_sql(
            "UPDATE image SET annotation_file = 'xdeng77/coconut_s/data/x.parquet', licence = 'no'"
        )
        connection.exec_driver_sql("DELETE FROM annotation_file")
        former = {"dataset": "coconut-b", "name": "xdeng77/coconut_s/data/x.parquet"}
        row = former | {"origin": "", "rows_done": 1, "complete": True}
        connection.execute(AnnotationFile.__table__.insert(), row)
    assert download("coconut-b") == {"images": 3, "downloaded": 3, "failed": 0}
    assert images() == RIGHT
    assert findings() == []
    files = sql(engine(), "SELECT name, rows_done, complete FROM annotation_file ORDER BY name")
    assert [(row["rows_done"], bool(row["complete"])) for row in files] == [(3, True), (1, True)]


def test_a_database_with_wrong_urls_tries_the_right_ones_at_the_next_download(
    mirror_of_b: Path,
) -> None:
    photo = mirror_of_b / "images.cocodataset.org/unlabeled2017" / f"{UNLABELED:012d}.jpg"
    content = photo.read_bytes()
    photo.unlink()
    assert download("coconut-b")["failed"] == 1
    with engine().begin() as connection:
        connection.exec_driver_sql("UPDATE image SET url = REPLACE(url, 'unlabeled', 'train')")
    photo.write_bytes(content)
    assert download("coconut-b") == {"images": 3, "downloaded": 3, "failed": 0}
    assert images() == RIGHT


def test_a_bad_row_stops_nothing_and_stays_a_finding(tiny_mirror: Path, configure) -> None:
    configure(mirror=tiny_mirror)
    rows = [tiny.annotation(n) for n in range(1, 13)]
    rows[11]["mask"] = None
    tiny.write_shard(tiny_mirror, "train-00000-of-00001.parquet", rows)
    assert download("val5k") == {"images": 24, "downloaded": 24, "failed": 0}
    download("val5k")
    masks = sql(engine(), "SELECT COUNT(*) AS n FROM image WHERE mask_path IS NOT NULL")
    assert masks[0]["n"] == 11
    ((kind, detail),) = findings()
    assert kind == "mask not read"
    assert "of-00001.parquet row 12: image 12" in detail
    tiny.write_shard(
        tiny_mirror, "train-00000-of-00001.parquet", [tiny.annotation(n) for n in range(1, 13)]
    )
    download("val5k", refresh=True)
    assert findings() == []


def test_an_odd_entry_of_a_caption_file_stops_nothing(tiny_mirror: Path, configure) -> None:
    configure(mirror=tiny_mirror)
    entries = [tiny.image_entry(n) for n in range(1, 25)]
    captions = [{"id": 1, "image_id": 1, "caption": "a dog"}, {"id": "x"}, None]
    entries[23]["width"] = None
    tiny.write_caption_file(tiny_mirror, {"images": entries, "annotations": captions})
    assert download("val5k")["images"] == 23
    assert [kind for kind, _ in findings()] == ["entry not read"] * 3


def objects365_row(number: int) -> tuple[dict, dict, bytes]:
    """The image, the annotation and the mask of an Objects365 photo."""
    image = tiny.image_entry(number)
    name = f"objects365_v1_{number:08d}"
    image |= {"file_name": f"{name}.jpg", "coco_url": ""}
    info = tiny.annotation(number)["segments_info"] | {"file_name": f"{name}.png"}
    return image, info, tiny.annotation(number)["mask"]["bytes"]


def write_coconut_val(mirror: Path) -> None:
    """Write the tar and JSON of COCO image 1, Objects365 image 1, and one without a mask."""
    coco = tiny.annotation(1)
    rows = [
        (coco["image_info"], coco["segments_info"], coco["mask"]["bytes"]),
        objects365_row(1),
        objects365_row(2),
    ]
    repo = mirror / "huggingface.co/datasets/xdeng77/coconut_val"
    repo.mkdir(parents=True)
    document = {"images": [row[0] for row in rows], "annotations": [row[1] for row in rows]}
    # Objects365 numbers its images in its own way: here its first id is COCO's, too.
    document["images"][1]["id"] = document["annotations"][1]["image_id"] = 1001
    (repo / "coconut_val_panoptic.json").write_text(json.dumps(document))
    with tarfile.open(repo / "coconut_val.tar.gz", "w:gz") as tar:
        for _, info, png in rows[:2]:
            member = tarfile.TarInfo(f"coconut_val/{info['file_name']}")
            member.size = len(png)
            tar.addfile(member, io.BytesIO(png))
        other = tarfile.TarInfo("coconut_val/unnamed.png")
        tar.addfile(other, io.BytesIO(b""))


def test_coconut_val_takes_objects365_photos_from_the_users_folder(
    tiny_mirror: Path, configure, tmp_path: Path
) -> None:
    write_coconut_val(tiny_mirror)
    configure(mirror=tiny_mirror)
    assert download("coconut-val") == {"images": 25, "downloaded": 24, "failed": 1}
    (failure,) = sql(engine(), "SELECT error FROM download WHERE state = 'failed'")
    assert "set COCONUT_ATTR_OBJECTS365_DIR to their folder" in failure["error"]
    photo = tmp_path / "objects365/patch0/objects365_v1_00000001.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(tiny.jpeg(99))
    configure(mirror=tiny_mirror, objects365_dir=tmp_path / "objects365")
    assert download("coconut-val") == {"images": 25, "downloaded": 25, "failed": 0}
    rows = sql(engine(), "SELECT coco_id, licence, path FROM image WHERE mask_path IS NOT NULL")
    assert {row["coco_id"] for row in rows} == {1, 1_000_001_001}
    assert {row["licence"] for row in rows if row["coco_id"] > 1} == {""}
    check("coconut-val")
    kinds = [kind for kind, _ in findings() if kind != "image without annotation"]
    assert kinds == ["mask not read", "mask without annotation"]


def write_kaggle(folder: Path, name: str, json_name: str, masks: str) -> None:
    """Write a Kaggle archive of image 1 with its JSON and its mask folder under these names."""
    row = tiny.annotation(1)
    path = folder / masks / row["mask"]["path"]
    path.parent.mkdir(parents=True)
    path.write_bytes(row["mask"]["bytes"])
    document = {"images": [row["image_info"]], "annotations": [row["segments_info"]]}
    annotations = folder / "annotations" / "annotations" / json_name
    annotations.parent.mkdir(parents=True)
    annotations.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("dataset", "json_name", "masks"),
    [
        ("coconut-s", "coconut_s_panoptic.json", "coconut_s/panoptic"),
        ("coconut-s", "coconut_s.json", "coconut_s/coconut_s"),
        ("val5k", "relabeled_coco_val_panoptic.json", "relabeled_coco_val/panoptic"),
        ("coconut-val", "coconut_val_panoptic.json", "coconut_val/coconut_val"),
    ],
)
def test_the_kaggle_archives_of_2024_and_2025_are_read(
    dataset: str, json_name: str, masks: str, tmp_path: Path, configure
) -> None:
    write_kaggle(tmp_path, dataset, json_name, masks)
    configure(annotations_dir=tmp_path)
    (file,) = annotation_files(get_dataset(dataset), settings())
    assert [row.image_id for batch in file.read(0) for row in batch] == [1]


def test_a_kaggle_archive_without_the_masks_of_b_names_the_hub(tmp_path: Path, configure) -> None:
    write_kaggle(tmp_path, "coconut-b", "coconut_b_panoptic.json", "coconut_s/panoptic")
    configure(annotations_dir=tmp_path)
    with pytest.raises(SourceError, match="no masks of COCONut-B") as error:
        annotation_files(get_dataset("coconut-b"), settings())
    assert "huggingface.co/datasets/xdeng77/coconut_b" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_hub_file_that_numbers_categories_in_its_own_way_is_refused(
    tiny_mirror: Path, configure
) -> None:
    rows = [tiny.annotation(n) for n in range(1, 9)]
    for number, row in enumerate(rows):
        row["segments_info"]["segments_info"][0]["category_id"] = (0, 12, 26, 133)[number % 4]
    tiny.write_shard(tiny_mirror, "train-00000-of-00001.parquet", rows)
    configure(mirror=tiny_mirror)
    with pytest.raises(SourceError, match="number COCO's categories in another way"):
        download("val5k")


def test_masks_stored_under_photo_names_by_earlier_versions_are_still_read(
    tiny_mirror: Path, configure
) -> None:
    configure(mirror=tiny_mirror)
    download("val5k")
    masks = settings().data_dir / "annotations/val5k/panoptic"
    (masks / "000000000001.png").rename(masks / "a.png")
    (masks / "000000000002.png").write_bytes(tiny.mask_png(np.full((2, 2), 1)))
    with engine().begin() as connection:
        update = "UPDATE image SET mask_path = 'annotations/val5k/panoptic/a.png' WHERE coco_id = 1"
        connection.exec_driver_sql(update)
        connection.exec_driver_sql(update.replace("coco_id = 1", "coco_id = 3"))
    check("val5k")
    kinds = {kind for kind, _ in findings()} - {"image without annotation"}
    assert kinds == {"mask of two images", "mask size differs", "mask without annotation"}
