"""Rows that others wrote: each gives an annotation or a finding, of the right image."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coconut_attr.annotations import kaggle
from coconut_attr.annotations.coco_file import CocoImages, read_coco_file
from coconut_attr.annotations.identity import resolve
from coconut_attr.annotations.records import ImageInfo, OddRow, Panoptic, Row
from coconut_attr.annotations.rows import hub_row
from coconut_attr.datasets import COCO_IMAGES, get_dataset
from coconut_attr.errors import SourceError
from coconut_attr.findings import KINDS
from tests.support import tiny_mirror as tiny
from tests.support.hostile import FUZZ, JSON, with_a_part_replaced

VAL5K = get_dataset("val5k")
NC = "http://creativecommons.org/licenses/by-nc/2.0/"


def coco(*ids: int) -> CocoImages:
    """COCO's entries of images, with a licence that no annotation states."""
    found = CocoImages(COCO_IMAGES + "val2017/")
    for number in ids:
        name = f"{number:012d}.jpg"
        url = f"{COCO_IMAGES}val2017/{name}"
        found.by_id[number] = ImageInfo(number, name, tiny.WIDTH, tiny.HEIGHT, url, NC)
    return found


def changed(number: int, **parts: dict[str, Any]) -> dict[str, Any]:
    """The row of an image with some fields of its parts changed."""
    row = tiny.annotation(number)
    return {part: fields | parts.get(part, {}) for part, fields in row.items()}


def read(row: Any, *ids: int) -> Row:
    return resolve(hub_row(row, "x.parquet row 7"), coco(*ids), VAL5K)


def kind_of(row: Row) -> str:
    assert isinstance(row, OddRow)
    assert row.finding.kind in KINDS
    assert row.finding.detail.startswith("x.parquet row 7: ")
    return row.finding.kind


def used(row: Row) -> Panoptic:
    assert isinstance(row, Panoptic)
    assert row.image
    assert row.image.coco_id == row.image_id
    return row


@pytest.mark.parametrize(
    ("area", "read_as"),
    [(None, None), (float("nan"), None), (-4, None), (12.0, 12), (7, 7), ("x", None)],
)
def test_an_area_is_optional(area: Any, read_as: int | None) -> None:
    row = tiny.hub_row_of_b(9)
    row["segments_info"]["segments_info"][0]["area"] = area
    assert [s.area for s in used(read(row, 9)).segments] == [read_as]


def test_a_row_of_b_has_the_licence_url_and_size_of_cocos_own_file() -> None:
    row = tiny.hub_row_of_b(9)
    row["image_info"] |= {"width": 1, "license": 3, "coco_url": "http://example.org/9.jpg"}
    annotation = used(read(row, 9))
    assert annotation.image == coco(9).get(9)
    assert annotation.findings == ()


def test_an_image_that_coco_does_not_list_has_no_licence_and_a_finding() -> None:
    row = changed(5, image_info={"license": 3, "coco_url": "http://example.org/5.jpg"})
    annotation = used(read(row))
    assert (annotation.image.licence, annotation.image.url) == (
        "",
        COCO_IMAGES + "val2017/000000000005.jpg",
    )
    assert [f.kind for f in annotation.findings] == ["image not in COCO's files"]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (None, "row not read"),
        ({"mask": 1, "segments_info": 2, "image_info": 3}, "row not read"),
        (changed(1) | {"mask": None}, "mask not read"),
        (changed(1, mask={"bytes": None}), "mask not read"),
        (changed(1, segments_info={"image_id": None}), "row not read"),
        (changed(1, segments_info={"image_id": 2**40}), "row not read"),
        (changed(1, segments_info={"segments_info": None}), "row not read"),
        (changed(1, segments_info={"image_id": 2}), "mask of another image"),
        (changed(1, segments_info={"file_name": "000000000002.png"}), "mask of another image"),
        (changed(1, mask={"path": "000000000002.png"}), "mask of another image"),
        (changed(77, image_info={"width": None}), "row not read"),
        (changed(77, image_info={"height": 0}), "row not read"),
        (changed(77, image_info={"file_name": "../x.jpg"}), "row not read"),
    ],
)
def test_an_odd_row_is_a_finding_that_names_its_row(row: Any, kind: str) -> None:
    assert kind_of(read(row, 1, 2)) == kind


def test_a_mask_belongs_to_the_image_of_segments_info() -> None:
    row = changed(2, image_info=tiny.image_entry(1))
    annotation = used(read(row, 1, 2))
    assert (annotation.image_id, annotation.image) == (2, coco(2).get(2))
    assert [f.kind for f in annotation.findings] == ["image_info of another image"]


def test_segments_of_another_image_give_no_label_even_if_no_name_tells() -> None:
    other = tiny.annotation(1)["segments_info"]
    row = changed(2, mask={"path": None}, segments_info=other | {"file_name": None})
    assert kind_of(read(row, 1, 2)) == "mask of another image"


def test_two_annotations_with_one_photo_name_are_two_images() -> None:
    rows = [tiny.annotation(1), changed(2, image_info={"file_name": "000000000001.jpg"})]
    first, second = (used(read(row, 1, 2)) for row in rows)
    assert [first.image.file_name, second.image.file_name] == [
        "000000000001.jpg",
        "000000000002.jpg",
    ]
    assert [f.kind for f in second.findings] == ["image_info of another image"]


def test_an_odd_segment_leaves_the_others() -> None:
    row = tiny.annotation(1)
    row["segments_info"]["segments_info"] += [None, {"id": 2**24, "category_id": 1}, {"id": 9}]
    annotation = used(read(row, 1))
    assert len(annotation.segments) == 2
    assert [f.kind for f in annotation.findings] == ["segment not read"] * 3


@FUZZ
@given(with_a_part_replaced(tiny.annotation(1)) | JSON)
def test_any_row_gives_an_annotation_or_a_finding(row: Any) -> None:
    result = read(row, 1)
    if isinstance(result, Panoptic):
        assert used(result).image_id == 1
    else:
        kind_of(result)


PANOPTIC = {
    "images": [tiny.image_entry(1)],
    "annotations": [tiny.annotation(1)["segments_info"]],
    "categories": [{"id": 0, "name": "person"}, {"id": 1, "name": "sky-other-merged"}],
}


@FUZZ
@given(with_a_part_replaced(PANOPTIC))
def test_any_panoptic_json_gives_rows_or_one_error(document: Any) -> None:
    try:
        content = kaggle.parse_json(json.dumps(document).encode(), "x.json")
    except SourceError as error:
        assert str(error).count("\n") == 0
        return
    for entry in content.annotations:
        row = content.row(entry, "x.parquet row 7", b"png")
        result = resolve(row, coco(1), VAL5K)
        assert isinstance(result, Panoptic) or kind_of(result)


@FUZZ
@given(st.lists(with_a_part_replaced(tiny.image_entry(1)) | JSON, max_size=3))
def test_any_coco_file_gives_images_and_findings(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "coco.json"
    path.write_text(json.dumps({"images": entries, "annotations": entries}))
    found = read_coco_file(path, COCO_IMAGES)
    assert len(found.images) + len(found.captions) + len(found.findings) == 2 * len(entries)


def document(categories: Any, *category_ids: int) -> bytes:
    """A panoptic JSON of one image with a segment of each category id."""
    segments = [{"id": k, "category_id": c} for k, c in enumerate(category_ids, 1)]
    info = {"image_id": 1, "file_name": "000000000001.png", "segments_info": segments}
    whole = {"images": [tiny.image_entry(1)], "annotations": [info]}
    return json.dumps(whole if categories is None else whole | {"categories": categories}).encode()


def named(*names: str, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": k, "name": name} for k, name in enumerate(names, first)]


def category_ids(content: bytes) -> list[int]:
    parsed = kaggle.parse_json(content, "x.json")
    row = parsed.row(parsed.annotations[0], "x.parquet row 7", b"png")
    assert isinstance(row, Panoptic)
    return [segment.category_id for segment in row.segments]


def test_names_decide_the_categories_of_a_json_that_numbers_its_own() -> None:
    names = ("person", "bear", "Tree-Merged", "traffic_light")
    assert category_ids(document(named(*names), 0, 1, 2, 3)) == [1, 23, 184, 10]
    assert category_ids(document(named(*names, first=1), 1, 2)) == [1, 23]


def test_an_unknown_category_name_is_a_finding_and_no_label() -> None:
    parsed = kaggle.parse_json(document(named("person", "dragon"), 0, 1), "x.json")
    row = parsed.row(parsed.annotations[0], "x.parquet row 7", b"png")
    assert isinstance(row, Panoptic)
    assert [s.category_id for s in row.segments] == [1]
    assert [f.kind for f in row.findings] == ["unknown category"]
    assert "'dragon'" in row.findings[0].detail


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            document([{"id": 1, "name": "bicycle"}, {"id": 13, "name": "person"}], 1),
            "1 is 'bicycle', in COCO 'person'",
        ),
        (document([{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}], 1), "both 'cat' and"),
        (document(named("cat", "cat"), 1), "one name under two ids"),
        (document([{"id": None, "name": "cat"}], 1), "id is missing"),
        (document(named("cat", "dog", "bear"), 0, 193), "do not fit their names"),
        (document(None, 0, 12, 26, 1), "do not fit their names"),
    ],
)
def test_ids_out_of_step_with_names_are_refused_in_one_line(content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message) as error:
        kaggle.parse_json(content, "x.json")
    assert "\n" not in str(error.value)


def test_one_unlisted_category_is_a_finding_and_the_others_are_mapped() -> None:
    parsed = kaggle.parse_json(document(named("person", "bear"), 1, 999), "x.json")
    row = parsed.row(parsed.annotations[0], "x.parquet row 7", b"png")
    assert isinstance(row, Panoptic)
    assert [s.category_id for s in row.segments] == [23]
    assert [f.kind for f in row.findings] == ["unknown category"]


def test_things_that_are_stuff_by_their_names_are_refused() -> None:
    whole = json.loads(document(named("person", "sky-other-merged"), 0, 1))
    whole["annotations"][0]["segments_info"][1]["isthing"] = 1
    with pytest.raises(SourceError, match="do not fit their names"):
        kaggle.parse_json(json.dumps(whole).encode(), "x.json")


def test_a_mask_that_two_images_name_is_used_by_neither(tmp_path: Path) -> None:
    """Photos a.jpg and a.png beside each other have one mask name, a.png."""
    names = ("a.jpg", "a.png", "000000000003.jpg")
    images = [tiny.image_entry(k) | {"file_name": name} for k, name in enumerate(names, 1)]
    infos = [
        {"image_id": k, "file_name": Path(name).stem + ".png", "segments_info": []}
        for k, name in enumerate(names, 1)
    ]
    content = json.dumps({"images": images, "annotations": infos}).encode()
    parsed = kaggle.parse_json(content, "x.json")
    rows = [parsed.row(entry, "x.parquet row 7", b"png") for entry in parsed.annotations]
    assert [kind_of(row) for row in rows[:2]] == ["mask of another image"] * 2
    assert isinstance(rows[2], Panoptic)
