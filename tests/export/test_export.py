"""Label exports: from both databases, and the complete command on the tiny mirror."""

import json
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from pycocotools.coco import COCO
from sqlalchemy import Engine
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from typer.testing import CliRunner

from coconut_attr.annotations.records import SegmentInfo
from coconut_attr.attributes import ATTRIBUTES, GROUP_OF, INDEX
from coconut_attr.errors import UserError
from coconut_attr.export import huggingface, parquet
from coconut_attr.export.coco import write_coco
from coconut_attr.labels.panoptic import measure
from db import annotations, downloads, reference, sql
from db.commands.export import export
from db.labels import record_labels
from db.work import export as work
from flows import extract as extract_flow
from flows.database import engine
from tests.support import tiny_mirror as tiny
from tests.support.rows import NO_ESTIMATE, image, outcome

UNKNOWN = 34 * [None]
#: Tests of what is written from the rows: the queries are those of other tests.
ON_SQLITE = pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)


BOX = ("bbox_x", "bbox_y", "bbox_width", "bbox_height")
SKY = 187
#: Panoptic masks of 3 x 4 pixels. Image 7 has a person and a sky that surrounds it; image 8 has a
#: person, a crowd in two parts, and unlabelled pixels.
MASKS = {
    7: np.array([[300, 300, 301, 301], [300, 300, 301, 301], [301, 301, 301, 301]], np.uint32),
    8: np.array([[300, 303, 0, 303], [300, 303, 0, 0], [300, 0, 0, 0]], np.uint32),
}
INFOS = {
    7: [SegmentInfo(300, 1, False, 4), SegmentInfo(301, SKY, False, 8)],
    8: [SegmentInfo(300, 1, False, 3), SegmentInfo(303, 1, True, 3)],
}


def fill(store: Engine) -> None:
    """Write dataset "d".

    Image 7 (train) has person and no food; 8 (val) has red; 9 has no labels; 10 (test) is all
    unknown. The database has the masks of things; the PNG of image 7 has that of its sky too.
    """
    reference.sync_reference(
        store,
        datasets=[
            {
                "name": name,
                "title": "D",
                "is_coconut": True,
                "licence": "L",
                "expected_images": None,
                "expected_segments": None,
            }
            for name in ("d", "empty")
        ],
        attributes=[
            {"id": k, "name": name, "group_name": GROUP_OF[name], "ours": False}
            for name, k in INDEX.items()
        ],
        categories=[
            {"id": 1, "name": "person", "isthing": True},
            {"id": 187, "name": "sky", "isthing": False},
        ],
    )
    by = "http://creativecommons.org/licenses/by/2.0/"
    images = [
        image(7, licence=by, mask_path="m7"),
        image(8, split="val", licence="https://x/own", mask_path="m8"),
        image(9, split="val", mask_path="m9"),
        image(10, split="test", mask_path="m10"),
    ]
    base = {
        "iscrowd": False,
        "annotated_area": 99,
    }  # not the measured area: exports must have the mask's
    segments = [
        {"coco_id": 7, "segment_id": 300, "category_id": 1, **base},
        {"coco_id": 7, "segment_id": 301, "category_id": 187, **base},
        {"coco_id": 8, "segment_id": 300, "category_id": 1, **base},
        # Without a pixel in the mask, so not measured:
        {"coco_id": 8, "segment_id": 302, "category_id": 1, **base},
        {"coco_id": 8, "segment_id": 303, "category_id": 1, **base, "iscrowd": True},
    ]
    annotations.add_panoptic(store, "d", images, segments, file="f", origin="here", rows_done=4)
    annotations.add_captions(
        store, "d", [], [{"coco_id": 7, "caption_id": c, "text": f"caption {c}"} for c in (71, 70)]
    )
    ids = {row["coco_id"]: row["id"] for row in sql.sql(store, "SELECT id, coco_id FROM image")}
    downloads.record_downloads(
        store, [outcome(key, path=f"photos/{coco_id}.jpg") for coco_id, key in ids.items()]
    )
    known = {7: {"person": "present", "food": "absent"}, 8: {"red": "present"}, 10: {}}
    labels = {
        ids[coco_id]: [
            {
                "image_id": ids[coco_id],
                "attribute_id": k,
                "state": cells.get(name, "unknown"),
                "confidence": 0.75 if name in cells else 0.0,
                "conflict": False,
                **NO_ESTIMATE,
            }
            for name, k in INDEX.items()
        ]
        for coco_id, cells in known.items()
    }
    measured = [
        {
            "image_id": ids[coco_id],
            "segment_id": segment.id,
            "area": segment.area,
            **dict(zip(BOX, segment.bbox, strict=True)),
            "rle": segment.rle or None,
        }
        for coco_id, mask in MASKS.items()
        for segment in measure(mask, INFOS[coco_id], frozenset({1})).segments
    ]
    record_labels(store, "2-abc", labels, [], measured)


def write_photos_and_masks(data_dir: Path) -> Path:
    """Write the photos and the masks of dataset "d"; return the folder of the photos."""
    photos = data_dir / "photos"
    photos.mkdir(parents=True)
    for coco_id in (7, 8, 10):
        (photos / f"{coco_id}.jpg").write_bytes(tiny.jpeg(coco_id, 4, 3))
    for coco_id, mask in MASKS.items():
        (data_dir / f"m{coco_id}").write_bytes(tiny.mask_png(mask))
    return photos


def call(url: str, configure, *arguments: object):
    """Return what the command prints; raise its UserError."""
    if url:
        configure(database_url=url)
    app = typer.Typer()
    app.callback()(lambda: None)
    app.command()(export)
    result = CliRunner().invoke(app, ["export", *map(str, arguments)], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


def cells(**known: int) -> list[int | None]:
    return [known.get(name) for name in ATTRIBUTES]


def test_coco_json_loads_with_pycocotools(
    store: Engine, store_url: str, configure, tmp_path: Path
) -> None:
    fill(store)
    write_photos_and_masks(configure().data_dir)
    to = tmp_path / "new" / "labels.json"
    printed = call(store_url, configure, "d", "--format", "coco", "--to", to)
    assert f"wrote {to} (coco): 3 images, 3 of 102 cells known" in printed
    assert "left out 1 images that have no labels yet" in printed
    coco = COCO(str(to))
    assert sorted(coco.imgs) == [7, 8, 10]
    assert coco.imgs[7]["attributes"] == {"person": 1, "food": 0}
    assert coco.imgs[10]["attributes"] == {}
    assert (coco.imgs[7]["width"], coco.imgs[7]["height"], coco.imgs[7]["coco_url"]) == (
        4,
        3,
        "http://h/7.jpg",
    )
    annotations = [
        (a["image_id"], a["segment_id"], a["category_id"], a["area"], a["bbox"], a["iscrowd"])
        for a in coco.anns.values()
    ]
    assert annotations == [
        (7, 300, 1, 4, [0, 0, 2, 2], 0),
        (7, 301, SKY, 8, [0, 0, 4, 3], 0),
        (8, 300, 1, 3, [0, 0, 1, 3], 0),
        (8, 303, 1, 3, [1, 0, 3, 2], 1),
    ]
    for entry in coco.anns.values():
        mask = MASKS[entry["image_id"]] == entry["segment_id"]
        assert (coco.annToMask(entry) == mask).all()
    content = json.loads(to.read_text())
    assert (
        content["info"]["description"]
        == "D: attribute labels by rules 2-abc; weak labels, not human"
    )
    assert (content["info"]["dataset"], content["info"]["licence"]) == ("d", "L")
    assert [a["name"] for a in content["attributes"]] == list(ATTRIBUTES)
    assert content["categories"][1] == {"id": 187, "name": "sky", "isthing": 0}
    urls = {licence["id"]: licence["url"] for licence in content["licenses"]}
    assert [urls[coco.imgs[key]["license"]] for key in (7, 8, 10)] == [
        "http://creativecommons.org/licenses/by/2.0/",
        "https://x/own",
        "",
    ]
    assert coco.imgs[7]["license"] == 4  # COCO's number of it


@ON_SQLITE
def test_torchvision_and_supervision_load_the_same_boxes_masks_and_labels(
    store: Engine, store_url: str, configure, tmp_path: Path
) -> None:
    fill(store)
    photos = write_photos_and_masks(configure().data_dir)
    to = tmp_path / "labels.json"
    call(store_url, configure, "d", "--format", "coco", "--to", to)
    with warnings.catch_warnings():  # supervision warns of what its later versions will do
        warnings.simplefilter("ignore")
        import supervision

        by_supervision = supervision.DetectionDataset.from_coco(str(photos), str(to))
        detections = {Path(path).stem: found for path, _, found in by_supervision}
    by_torchvision = wrap_dataset_for_transforms_v2(
        CocoDetection(photos, to), target_keys=("image_id", "boxes", "masks", "labels")
    )
    targets = {target["image_id"]: target for _, target in by_torchvision}
    for coco_id, mask in MASKS.items():
        infos = INFOS[coco_id]
        expected = np.stack([mask == info.id for info in infos])
        target, found = targets[coco_id], detections[str(coco_id)]
        assert (target["masks"].numpy() == expected).all()
        assert (found.mask == expected).all()
        assert target["labels"].tolist() == [info.category_id for info in infos]
        names = [by_supervision.classes[k] for k in found.class_id]
        assert names == [{1: "person", SKY: "sky"}[info.category_id] for info in infos]
        assert target["boxes"].tolist() == found.xyxy.tolist()
        assert found.data["area"].tolist() == expected.sum((1, 2)).tolist()


@ON_SQLITE
def test_segments_whose_mask_is_gone_are_left_out_and_counted(
    store: Engine, store_url: str, configure, tmp_path: Path
) -> None:
    fill(store)
    data_dir = configure().data_dir
    write_photos_and_masks(data_dir)
    (data_dir / "m7").write_bytes(b"damaged")
    to = tmp_path / "labels.json"
    printed = call(store_url, configure, "d", "--format", "coco", "--to", to)
    assert "left out 1 segments whose mask file is missing or unreadable" in printed
    assert "coconut-attr check d" in printed
    coco = COCO(str(to))
    assert [a["segment_id"] for a in coco.anns.values()] == [300, 300, 303]
    assert all("segmentation" in a for a in coco.anns.values())


@ON_SQLITE
def test_photos_of_one_name_do_not_replace_each_other(store: Engine, tmp_path: Path) -> None:
    fill(store)
    photos = write_photos_and_masks(tmp_path)
    header = work.export_header(store, "d", None)
    images = [
        replace(image, file_name="same.jpg", split="val")
        for image in work.export_images(store, "d", None, {"present"}, data_dir=tmp_path)
    ]
    huggingface.write_hf(header, images, tmp_path / "hf")
    folder = tmp_path / "hf" / "data" / "val"
    rows = pq.read_table(folder / "metadata.parquet").to_pylist()
    assert [row["coco_id"] for row in rows] == [7, 8, 10]
    for row in rows:
        assert (folder / row["file_name"]).samefile(photos / f"{row['coco_id']}.jpg")


def test_parquet_has_typed_columns(
    store: Engine, store_url: str, configure, tmp_path: Path
) -> None:
    fill(store)
    call(store_url, configure, "d", "--format", "parquet", "--to", tmp_path / "l.parquet")
    table = pq.read_table(tmp_path / "l.parquet")
    assert table.column_names[9:] == [*ATTRIBUTES, *(f"{name}_confidence" for name in ATTRIBUTES)]
    assert {str(table.schema.field(name).type) for name in ATTRIBUTES} == {"int8"}
    assert {str(table.schema.field(f"{name}_confidence").type) for name in ATTRIBUTES} == {"float"}
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert (metadata["dataset"], metadata["rule_version"]) == ("d", "2-abc")
    assert json.loads(metadata["attributes"]) == list(ATTRIBUTES)
    rows = table.to_pylist()
    assert [(row["coco_id"], row["split"], row["sha256"]) for row in rows] == [
        (7, "train", "s"),
        (8, "val", "s"),
        (10, "test", "s"),
    ]
    assert [[row[name] for name in ATTRIBUTES] for row in rows] == [
        cells(person=1, food=0),
        cells(red=1),
        UNKNOWN,
    ]
    assert (rows[0]["person_confidence"], rows[0]["red_confidence"]) == (0.75, None)
    assert rows[0]["rule_version"] == "2-abc"


def test_splits_and_states_can_be_chosen(
    store: Engine, store_url: str, configure, tmp_path: Path
) -> None:
    fill(store)
    options = ("--split", "train", "--states", "absent")
    printed = call(
        store_url, configure, "d", "--format", "parquet", "--to", tmp_path / "l.parquet", *options
    )
    assert "1 images, 1 of 34 cells known" in printed
    assert "have no labels yet" not in printed  # the image without labels is in another split
    (row,) = pq.read_table(tmp_path / "l.parquet").to_pylist()
    assert [row[name] for name in ATTRIBUTES] == cells(food=0)
    assert row["person_confidence"] is None


def test_a_selection_is_exported_alone(
    store: Engine, store_url: str, configure, tmp_path: Path
) -> None:
    fill(store)
    chosen = tmp_path / "chosen.csv"
    options = ("--format", "parquet", "--to", tmp_path / "l.parquet", "--images", chosen)
    chosen.write_text("\ufeffdataset,coco_id\nd,8\nd,9\n", encoding="utf-8")  # as Excel writes
    printed = call(store_url, configure, "d", *options)
    assert "1 images, 1 of 34 cells known" in printed
    assert "1 images of" in printed and "have no labels in d" in printed
    assert [row["coco_id"] for row in pq.read_table(tmp_path / "l.parquet").to_pylist()] == [8]
    for content, message in (
        (b"dataset,id\nd,8\n", "has no column coco_id"),
        (b"coco_id\n8\nx\n", "line 3: 'x' is no coco_id"),
        (b"coco_id\n\xff\n", "cannot read"),
    ):
        chosen.write_bytes(content)
        with pytest.raises(UserError, match=message):
            call(store_url, configure, "d", *options, "--force")
    chosen.unlink()
    with pytest.raises(UserError, match="cannot read"):
        call(store_url, configure, "d", *options, "--force")
    assert (tmp_path / "l.parquet").exists(), "what is stored stays"


def test_pages_leave_out_and_repeat_nothing(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    for page in (1, 2, 3, 100):
        images = work.export_images(
            store, "d", None, {"present"}, data_dir=tmp_path, captions=True, page=page
        )
        found = [
            (i.coco_id, sum(s == 1 for s in i.states), list(i.captions), i.file) for i in images
        ]
        assert found == [
            (7, 1, ["caption 70", "caption 71"], tmp_path / "photos/7.jpg"),
            (8, 1, [], tmp_path / "photos/8.jpg"),
            (10, 0, [], tmp_path / "photos/10.jpg"),
        ]
    monkeypatch.setattr(parquet, "ROWS", 2)  # several row groups, the last one not full
    images = work.export_images(store, "d", None, {"present"}, data_dir=tmp_path)
    parquet.write_parquet(work.export_header(store, "d", None), images, tmp_path / "l.parquet")
    assert [
        pq.ParquetFile(tmp_path / "l.parquet").metadata.row_group(k).num_rows for k in (0, 1)
    ] == [2, 1]


def test_a_huggingface_folder_has_images_and_typed_metadata(
    store: Engine, store_url: str, configure, tmp_path: Path
) -> None:
    fill(store)
    photos = configure().data_dir / "photos"
    photos.mkdir(parents=True)
    for coco_id in (7, 8, 10):
        (photos / f"{coco_id}.jpg").write_bytes(tiny.jpeg(coco_id))
    to = tmp_path / "hf"
    to.mkdir()  # an empty folder is no obstacle
    call(store_url, configure, "d", "--format", "hf", "--to", to)
    files = sorted(str(path.relative_to(to)) for path in to.rglob("*") if path.is_file())
    assert files == [
        "README.md",
        "data/test/10.jpg",
        "data/test/metadata.parquet",
        "data/train/7.jpg",
        "data/train/metadata.parquet",
        "data/val/8.jpg",
        "data/val/metadata.parquet",
    ]
    assert (to / "data/train/7.jpg").samefile(photos / "7.jpg")
    tables = {
        split: pq.read_table(to / "data" / split / "metadata.parquet")
        for split in ("train", "val", "test")
    }
    # `datasets` refuses splits of different types: red is unknown in train, captions miss in val
    assert tables["train"].schema == tables["val"].schema == tables["test"].schema
    (row,) = tables["train"].to_pylist()
    assert (row["file_name"], row["coco_id"], row["captions"]) == (
        "7.jpg",
        7,
        ["caption 70", "caption 71"],
    )
    assert [row[name] for name in ATTRIBUTES] == cells(person=1, food=0)
    card = (to / "README.md").read_text()
    assert card.startswith("---\n") and "license: other" in card and "- weak-labels" in card
    assert "3 images; 3 of 102 cells are known" in card
    assert "| food | object | 0 | 1 | 2 |" in card and "| val | 1 |" in card

    (photos / "8.jpg").unlink()
    with pytest.raises(UserError, match="file of image 8, .*photos/8.jpg, is missing"):
        call(store_url, configure, "d", "--format", "hf", "--to", to, "--force")
    assert (
        to / "README.md"
    ).read_text() == card  # a failed export leaves the earlier one, and nothing beside it
    assert [
        path.name for path in tmp_path.iterdir() if ".part" in path.name or ".old" in path.name
    ] == []
    call(store_url, configure, "d", "--format", "hf", "--to", to, "--force", "--split", "train")
    assert [path.name for path in (to / "data").iterdir()] == ["train"]


@ON_SQLITE
def test_images_are_copied_where_they_cannot_be_linked(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "7.jpg").write_bytes(b"jpeg")

    def another_disk(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", another_disk)
    images = work.export_images(store, "d", "train", {"present"}, data_dir=tmp_path)
    huggingface.write_hf(work.export_header(store, "d", "train"), images, tmp_path / "hf")
    copy = tmp_path / "hf/data/train/7.jpg"
    assert copy.read_bytes() == b"jpeg" and not copy.samefile(tmp_path / "photos" / "7.jpg")


@ON_SQLITE
def test_a_target_is_replaced_only_if_wanted(
    store: Engine, store_url: str, configure, tmp_path: Path
) -> None:
    fill(store)
    file, folder = tmp_path / "l.json", tmp_path / "folder"
    file.write_text("mine")
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("my project")
    coco = ("d", "--format", "coco", "--to")
    with pytest.raises(UserError, match=r"l.json exists already: .* --force"):
        call(store_url, configure, *coco, file)
    assert file.read_text() == "mine"
    call(store_url, configure, *coco, file, "--force")
    assert len(COCO(str(file)).imgs) == 3
    with pytest.raises(UserError, match="is a folder: give the name of a file"):
        call(store_url, configure, *coco, folder, "--force")
    with pytest.raises(UserError, match="is a file: give the name of a folder"):
        call(store_url, configure, "d", "--format", "hf", "--to", file, "--force")
    with pytest.raises(UserError, match="holds files that no export wrote"):
        call(store_url, configure, "d", "--format", "hf", "--to", folder, "--force")
    assert (folder / "README.md").read_text() == "my project"
    with pytest.raises(UserError, match="cannot write .*; fix that"):
        call(store_url, configure, *coco, file / "below.json")


@ON_SQLITE
def test_a_failed_file_leaves_nothing(store: Engine, tmp_path: Path) -> None:
    fill(store)
    header = work.export_header(store, "d", None)

    def broken():
        yield from work.export_images(
            store, "d", "train", {"present"}, data_dir=tmp_path, segments=True
        )
        raise RuntimeError("the database is gone")

    before = set(tmp_path.iterdir())
    for write in (write_coco, parquet.write_parquet):
        with pytest.raises(RuntimeError, match="gone"):
            write(header, broken(), tmp_path / "labels")
    assert set(tmp_path.iterdir()) == before


@ON_SQLITE
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "unknown dataset 'nonsense'; choose one of: val5k"),
        (
            ["val5k"],
            "there are no labels of val5k yet; make them: coconut-attr run --dataset val5k",
        ),
        (["empty"], "there are no labels of empty yet"),
        (["d", "--states", "present,unknown"], "--states present,unknown: give present, absent or"),
        (["d", "--states", ""], "--states : give present, absent or"),
    ],
)
def test_mistakes_are_told(
    store: Engine, store_url: str, configure, tmp_path: Path, arguments: list[str], message: str
) -> None:
    fill(store)
    with pytest.raises(UserError, match=message):
        call(store_url, configure, *arguments, "--format", "parquet", "--to", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_split_without_labels_is_told(store: Engine) -> None:
    fill(store)
    assert work.export_header(store, "d", "val").rule_version == "2-abc"
    annotations.add_captions(
        store, "d", [], [{"coco_id": 8, "caption_id": 80, "text": "new"}]
    )  # its labels are now old
    with pytest.raises(UserError, match="there are no labels of the val split of d yet"):
        work.export_header(store, "d", "val")


@pytest.mark.usefixtures("prefect_server")
def test_the_tiny_mirror_is_exported_as_it_was_labelled(
    tiny_mirror: Path, configure, tmp_path: Path
) -> None:
    from flows.download import download

    settings = configure(mirror=tiny_mirror)
    download("val5k")
    extract_flow.extract("val5k")
    call("", configure, "val5k", "--format", "coco", "--to", tmp_path / "l.json")
    coco = COCO(str(tmp_path / "l.json"))
    things = [a for a in coco.anns.values() if a["category_id"] == tiny.PERSON]
    assert len(things) == 8
    for entry in things:  # the left half of the image
        mask = coco.annToMask(entry)
        assert mask.shape == (tiny.HEIGHT, tiny.WIDTH) and mask[:, : tiny.WIDTH // 2].all()
        assert int(mask.sum()) == entry["area"] == tiny.HEIGHT * tiny.WIDTH // 2
    stored = sql.sql(
        engine(), "SELECT coco_id, attribute, state FROM label WHERE state <> 'unknown'"
    )
    expected = {
        (row["coco_id"], row["attribute"]): int(row["state"] == "present") for row in stored
    }
    assert {
        (k, name): c for k, i in coco.imgs.items() for name, c in i["attributes"].items()
    } == expected

    call("", configure, "val5k", "--format", "hf", "--to", tmp_path / "hf")
    photos = {path.name: path.read_bytes() for path in settings.data_dir.rglob("*.jpg")}
    exported = {path.name: path.read_bytes() for path in (tmp_path / "hf").rglob("*.jpg")}
    assert exported == photos and len(exported) == 24
