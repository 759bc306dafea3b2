"""The integrity check: it finds each kind of defect, and nothing else."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from coconut_attr.findings import KINDS
from db import annotations
from db.sql import sql
from flows.check import check
from flows.database import engine
from flows.download import download
from flows.extract import extract
from tests.support import tiny_mirror as tiny

SHARD = "train-00000-of-00001.parquet"
COUNTS = {
    "image count differs": 1,
    "segment count differs": 1,
}  # of a mirror that holds a few images
pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def mirror(tmp_path: Path, configure) -> Path:
    """A mirror of 16 images, all of which have masks."""
    folder = tiny.write_mirror(tmp_path / "mirror", images=16, annotated=16)
    configure(mirror=folder, shard_size=5)
    return folder


def found() -> list[tuple[str, int | None]]:
    """Kind and COCO id of the findings, but for the counts."""
    query = (
        "SELECT f.kind, i.coco_id FROM finding f LEFT JOIN image i ON i.id = f.image_id"
        " ORDER BY 1, 2"
    )
    return [(r["kind"], r["coco_id"]) for r in sql(engine(), query) if r["kind"] not in COUNTS]


def mask_of(number: int, *boxes: tuple[int, int, int, int]) -> bytes:
    """Return `tiny.annotation`'s mask with boxes [top, bottom, left, right] of ids 1, 2, ..."""
    ids = np.full((tiny.HEIGHT, tiny.WIDTH), 70_000)
    if number % 2:
        ids[:, : tiny.WIDTH // 2] = 300
    for k, (top, bottom, left, right) in enumerate(boxes, 1):
        ids[top:bottom, left:right] = k
    return tiny.mask_png(ids)


def broken_rows() -> list[dict]:
    """Return annotations of images 1 to 16: 1 to 7 have a defect each, 8 comes twice, 15 never."""
    rows = [tiny.annotation(n) for n in range(1, 17)]
    infos = [row["segments_info"]["segments_info"] for row in rows]
    rows[0]["mask"]["bytes"] = rows[0]["mask"]["bytes"][:40]
    rows[1]["mask"]["bytes"] = tiny.mask_png(np.full((tiny.HEIGHT, tiny.WIDTH + 1), 70_000))
    rows[2]["mask"]["bytes"] = mask_of(3, (0, 4, 0, 8))
    infos[2][1]["area"] -= 32  # so that the id without an entry is this image's one defect
    infos[3].append({"id": 5, "category_id": 1, "iscrowd": 0, "isthing": 1, "area": 9})
    infos[4][0]["area"] += 1
    infos[5][0]["category_id"] = 999
    infos[6].append({**infos[6][0], "category_id": tiny.PERSON, "isthing": 1})
    return [*rows[:14], rows[15], tiny.annotation(8)]


def test_a_clean_dataset_has_no_finding_but_its_counts(mirror: Path, configure) -> None:
    download("val5k")
    assert check("val5k") == COUNTS
    assert check("val5k") == COUNTS  # the second time too
    details = [r["detail"] for r in sql(engine(), "SELECT detail FROM finding ORDER BY detail")]
    assert details == [
        "16 images, upstream states 5,000",
        "24 segments, upstream states about 67,000",
    ]


def test_each_defect_is_found_once(mirror: Path, configure, postgres_url: str) -> None:
    configure(database_url=postgres_url)
    settings = configure(mirror=mirror)
    tiny.write_shard(mirror, SHARD, broken_rows())
    texts = {n: tiny.caption(n) for n in range(1, 17)}
    captions = [{"id": 10 * n, "image_id": n, "caption": text} for n, text in texts.items()]
    captions[8]["id"] = 100  # image 9 has image 10's; the first of them stays
    images = [tiny.image_entry(n) for n in (*range(1, 17), 10)]
    tiny.write_caption_file(mirror, {"images": images, "annotations": captions})
    photos = mirror / "images.cocodataset.org" / "val2017"
    (photos / "000000000011.jpg").unlink()
    download("val5k")
    held = settings.data_dir / "images.cocodataset.org" / "val2017"
    (held / "000000000012.jpg").unlink()
    (held / "000000000013.jpg").write_bytes(tiny.jpeg(99))
    masks = settings.data_dir / "annotations" / "val5k" / "panoptic"
    (masks / "000000000099.png").write_bytes(mask_of(1))
    (masks / "000000000014.png").unlink()

    expected = [
        ("annotation without image", 11),
        ("duplicate COCO id", 8),
        ("duplicate COCO id", 10),
        ("duplicate caption id", 10),
        ("duplicate segment id", 7),
        ("ids not in segments_info", 3),
        ("image file changed", 13),
        ("image file missing", 12),
        ("image without annotation", 15),
        ("mask not read", 1),
        ("mask not read", 14),
        ("mask size differs", 2),
        ("mask without annotation", None),
        ("segment area differs", 5),
        ("segment not in mask", 4),
        ("unknown category", 6),
    ]
    kinds = check("val5k")
    assert found() == expected
    assert kinds == {**COUNTS, **Counter(kind for kind, _ in expected)}
    assert set(kinds) <= set(KINDS)
    extract("val5k")  # says what it left out in the same words, beside the check's
    labelled = {
        row["kind"]: row["findings"] for row in annotations.findings(engine(), "val5k", ["extract"])
    }
    assert labelled == {
        "mask not read": 2,
        "mask size differs": 1,
        "ids not in segments_info": 1,
        "unknown category": 1,
        "image not read": 1,
    }
    assert check("val5k") == kinds

    tiny.write_shard(mirror, SHARD, [tiny.annotation(n) for n in range(1, 17)])
    tiny.write_captions(mirror, texts)
    (settings.data_dir / "annotations" / "captions_val2017.json").unlink()
    for number in (11, 12, 13):
        for folder in (photos, held):
            (folder / f"{number:012d}.jpg").write_bytes(tiny.jpeg(number))
    (masks / "000000000099.png").unlink()
    download("val5k", refresh=True)
    download("val5k", retry_failed=True)
    assert check("val5k") == COUNTS
    assert sql(engine(), "SELECT COUNT(*) AS n FROM segment")[0]["n"] == 24


def test_masks_of_a_kaggle_folder_that_no_annotation_names(tmp_path: Path, configure) -> None:
    """COCONut-L once shipped 103,010 masks for 68,654 annotations."""
    rows = [tiny.annotation(n) for n in (1, 2, 3)]
    masks = tmp_path / "relabeled_coco_val" / "panoptic"
    masks.mkdir(parents=True)
    for row in rows:
        (masks / row["mask"]["path"]).write_bytes(row["mask"]["bytes"])
    named = rows[:2]
    content = {
        "images": [r["image_info"] for r in named],
        "annotations": [r["segments_info"] for r in named],
    }
    path = tmp_path / "annotations" / "annotations" / "relabeled_coco_val_panoptic.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    configure(mirror=tiny.write_mirror(tmp_path / "mirror", images=2), annotations_dir=tmp_path)
    download("val5k")
    check("val5k")
    assert found() == [("mask without annotation", None)]
    examples = [row["example"] for row in annotations.findings(engine(), "val5k", ["check"])]
    assert "relabeled_coco_val/panoptic/000000000003.png" in examples


def test_a_file_that_upstream_changed_is_reread_or_reported(
    mirror: Path, caplog: pytest.LogCaptureFixture
) -> None:
    download("val5k", limit=7)
    (file,) = annotations.annotation_files(engine(), "val5k").values()
    assert (file["rows_done"], file["complete"], len(file["sha256"])) == (7, False, 64)
    path = tiny.write_shard(mirror, SHARD, [tiny.annotation(n) for n in range(1, 13)])
    assert file["size"] != path.stat().st_size
    download("val5k")
    assert "annotation file changed" in caplog.text
    assert "7 rows of it were read, reading it from its start" in caplog.text
    (file,) = annotations.annotation_files(engine(), "val5k").values()
    assert (file["rows_done"], file["complete"], file["size"]) == (12, True, path.stat().st_size)
    assert [kind for kind, _ in found()] == []

    path.touch()  # another time, the same content
    download("val5k")
    assert found() == []
    tiny.write_shard(mirror, SHARD, [tiny.annotation(n) for n in range(1, 17)])
    download("val5k")
    assert found() == [("annotation file changed", None)]
    assert annotations.annotation_files(engine(), "val5k")[file["name"]]["rows_done"] == 12
    path.rename(path.with_name("train-00000-of-00002.parquet"))
    download("val5k")
    assert {kind for kind, _ in found()} == {"annotation file gone", "duplicate COCO id"}
    download("val5k", refresh=True)
    check("val5k")
    assert found() == [("duplicate COCO id", n) for n in range(1, 13)]


def run(settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [
        sys.executable,
        "-c",
        "from coconut_attr.cli import main; main()",
        "check",
        *arguments,
    ]
    env = {"COCONUT_ATTR_DATA_DIR": str(settings.data_dir.absolute()), "COLUMNS": "200"}
    return subprocess.run(
        program, env=env, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )


def test_the_command_reports_findings_as_a_linter_does(mirror: Path, configure) -> None:
    settings = configure(mirror=mirror)
    none = run(settings, "val5k")
    assert (none.returncode, "there is no database at" in none.stderr) == (2, True)
    assert not (settings.data_dir / "coconut_attr.db").exists()
    tiny.write_shard(mirror, SHARD, broken_rows())
    download("val5k", limit=6)
    result = run(settings, "val5k", "--json")
    report = json.loads(result.stdout)
    assert result.returncode == 1
    assert (report["dataset"], report["images"]) == ("val5k", 6)
    size = next(row for row in report["findings"] if row["kind"] == "mask size differs")
    assert (size["findings"], size["images"]) == (1, 1)
    assert size["example"] == "image 2: 65 x 48 pixels, its image has 64 x 48"
    table = run(settings, "val5k", "--exit-zero")
    assert table.returncode == 0
    assert "mask size differs" in table.stdout
    assert "run download again without a limit" in " ".join(table.stdout.split())
    assert run(settings, "x").returncode == 2
