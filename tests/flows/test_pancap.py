"""COCONut-PanCap texts on their way from the hub to evidence, through the flows."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from db import sql as database
from flows.database import engine
from flows.download import download
from flows.extract import extract

pytestmark = pytest.mark.usefixtures("prefect_server")

TEXTS = {
    1: "On the left <300: a person in a red plastic cape> stands under a <70000: clear blue sky>.",
    2: "Nothing but a <69999>deep blue sky>, and a <8>lost balloon>",
    99: "An image that the dataset does not have, with a <1: red barn>",
}


def sql(query: str) -> list[tuple]:
    return [tuple(row.values()) for row in database.sql(engine(), query)]


def write_texts(mirror: Path, texts: dict[int, str]) -> None:
    path = mirror / "huggingface.co/datasets/xdeng77/coconut_pancap/data/000.tar"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number, text in texts.items():
            entry = tarfile.TarInfo(f"caption_train2017/{number:012d}.txt")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))


@pytest.fixture
def mirror(tiny_mirror: Path) -> Path:
    """Turn the mirror of val5k into one of COCONut-S, with PanCap texts."""
    repos = tiny_mirror / "huggingface.co/datasets/xdeng77"
    (repos / "relabeled_coco_val").rename(repos / "coconut_s")
    coco = tiny_mirror / "images.cocodataset.org"
    shutil.copytree(coco / "val2017", coco / "train2017")
    archive = coco / "annotations/annotations_trainval2017.zip"
    with zipfile.ZipFile(archive) as file:
        captions = file.read("annotations/captions_val2017.json")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("annotations/captions_train2017.json", captions)
    write_texts(tiny_mirror, TEXTS)
    return tiny_mirror


EVIDENCE = (
    "SELECT coco_id, attribute, segment_id FROM evidence WHERE source = 'pancap' ORDER BY 1, 2"
)


def test_texts_of_the_hub_end_in_evidence_about_segments(mirror: Path, configure) -> None:
    configure(mirror=mirror, pancap="hub")
    download("coconut-s")
    assert extract("coconut-s") == 24
    assert sql(EVIDENCE) == [
        (1, "blue", 70000),
        (1, "plastic", 300),
        (1, "red", 300),
        (2, "blue", 70000),
    ]
    assert sql(
        "SELECT i.coco_id, f.stage, f.kind, f.detail"
        " FROM finding f JOIN image i ON i.id = f.image_id"
    ) == [(2, "extract", "pancap id without segment", "1 of 2 ids of the text: 8")]
    assert sql("SELECT segment_id, category, attribute FROM segment_label WHERE coco_id = 2") == [
        (70000, "sky-other-merged", "blue")
    ]
    coverage = (
        "SELECT present FROM dataset_coverage_by_source"
        " WHERE source = 'pancap' AND attribute = 'blue'"
    )
    assert sql(coverage) == [(2,)]

    download("coconut-s")
    assert extract("coconut-s") == 0, "the texts are the same"
    write_texts(mirror, {**TEXTS, 2: "Nothing but a <70000: red sky>"})
    download("coconut-s")
    assert extract("coconut-s") == 1, "only the image whose text changed"
    assert (2, "red", 70000) in sql(EVIDENCE)
    assert (2, "blue", 70000) not in sql(EVIDENCE)


def test_texts_are_read_only_if_the_setting_asks_for_them(mirror: Path, configure) -> None:
    configure(mirror=mirror)
    download("coconut-s")
    extract("coconut-s")
    assert sql("SELECT COUNT(*) FROM pancap_text") == [(0,)]
    before = sql("SELECT * FROM label ORDER BY coco_id, attribute")
    configure(mirror=mirror, pancap="hub")
    download("coconut-s")
    assert extract("coconut-s") == 2, "only the images with a text"
    assert sql("SELECT * FROM label WHERE coco_id > 2 ORDER BY coco_id, attribute") == [
        row for row in before if row[1] > 2
    ]
