"""Labels from panoptic masks, pixels and captions, and the evidence behind them."""

import io
import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from coconut_attr.annotations.records import Caption, SegmentInfo
from coconut_attr.attributes import ATTRIBUTES, GROUPS, OURS
from coconut_attr.files.images import ImageError
from coconut_attr.labels.captions import CaptionReader
from coconut_attr.labels.evidence import Evidence
from coconut_attr.labels.extract import Extractor, combine
from coconut_attr.labels.panoptic import Segment, decode_mask, measure, panoptic_evidence
from coconut_attr.labels.pixels import colorfulness, measure_pixels, pixel_evidence
from coconut_attr.labels.rules import RulesError, load_rules
from tests.support.tiny_mirror import HEIGHT, WIDTH, annotation, jpeg, mask_png

RULES = load_rules().rules
RULES_TEXT = (resources.files("coconut_attr.labels") / "rules.toml").read_text()


def states(evidence: list[Evidence], source: str | None = None) -> dict[str, str]:
    return {e.attribute: e.state for e in evidence if source in (None, e.source)}


def test_the_report_names_26_of_the_34_attributes_in_6_groups() -> None:
    assert (len(ATTRIBUTES), len(GROUPS), len(set(ATTRIBUTES) - OURS)) == (34, 6, 26)
    assert len(set(ATTRIBUTES)) == 34


def test_segments_are_measured_as_pycocotools_measures_them() -> None:
    rng = np.random.default_rng(0)
    ids = np.kron(rng.integers(0, 5, (6, 8)), np.ones((8, 8), dtype=int)) * 100_003
    png = mask_png(ids)
    assert (decode_mask(png) == ids).all()
    infos = [SegmentInfo(k * 100_003, 1, False, 0) for k in range(1, 5)] + [
        SegmentInfo(12345, 1, False, 0)
    ]
    photo = rng.integers(0, 256, (*ids.shape, 3), dtype=np.uint8)
    measured = measure(decode_mask(png), infos[1:], frozenset({1}), photo)
    assert measured.unnamed == [100_003]
    segments = measure(decode_mask(png), infos, frozenset({1}), photo).segments
    assert len(segments) == 4  # an entry without a pixel is left out
    for segment in segments:
        expected = coco_mask.encode(np.asfortranarray(ids == segment.id, dtype=np.uint8))
        assert segment.area == coco_mask.area(expected)
        assert list(segment.bbox) == list(coco_mask.toBbox(expected))
        assert segment.rle == expected["counts"].decode()
        assert segment.mean_rgb == pytest.approx(photo[ids == segment.id].mean(axis=0))


def test_a_mask_without_ids_is_refused() -> None:
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    with pytest.raises(ImageError, match="mode L"):
        decode_mask(buffer.getvalue())
    with pytest.raises(ImageError, match="panoptic mask"):
        decode_mask(b"no png")


def panoptic(*categories: tuple[int, int]) -> dict[str, str]:
    """States from segments given as (category id, area) in an image of 100 x 100 pixels."""
    segments = [
        Segment(k, category, False, area, (0, 0, 1, 1))
        for k, (category, area) in enumerate(categories, 1)
    ]
    return states(panoptic_evidence(segments, 10_000, RULES))


def test_categories_make_attributes_present_and_missing_ones_absent() -> None:
    found = panoptic((17, 4000), (190, 6000))  # a cat on a floor
    assert found["animal"] == found["natural"] == "present"
    assert found["person"] == found["vehicle"] == "absent"
    assert found["large"] == "present"
    assert found["small"] == "absent"


def test_a_partly_unlabelled_image_makes_nothing_absent() -> None:
    assert "person" not in panoptic((17, 4000), (190, 4000))
    assert "person" not in panoptic(
        (17, 4000), (190, 4000), (999, 2000)
    )  # the rules do not know category 999, so it counts as unlabelled


def test_an_image_without_anything_that_can_move_is_static() -> None:
    found = panoptic((67, 6000), (47, 4000))
    assert (found["moving"], found["static"]) == ("absent", "present")
    assert "moving" not in panoptic((17, 4000), (190, 6000))


def test_a_tiny_segment_does_not_make_its_material_present() -> None:
    assert panoptic((118, 6000), (46, 4000))["glass"] == "present"
    assert "glass" not in panoptic(
        (118, 9990), (46, 10)
    )  # a wine glass of 0.1 % only makes glass possible


def pixel_states(image: Image.Image) -> dict[str, str]:
    measured = measure_pixels(image, None, [], RULES.pixels)
    return states(pixel_evidence(measured, [], image.width * image.height, RULES))


def test_colours_are_measured_by_segment() -> None:
    image = Image.new("RGB", (400, 300), "#fafafa")
    image.paste("#c81e1e", (0, 0, 60, 60))
    ids = np.full((300, 400), 7)
    ids[:60, :60] = 300
    infos = [SegmentInfo(300, 1, False, 0), SegmentInfo(7, 1, False, 0)]
    segments = measure(ids, infos, frozenset(), np.asarray(image)).segments
    measured = measure_pixels(image, ids, segments, RULES.pixels)
    assert measured.segments[300].name == "red"
    assert measured.segments[7].name == "white"
    assert measured.segments[7].lab[0] > 95
    found = {e.attribute: e for e in pixel_evidence(measured, segments, 120_000, RULES)}
    assert (found["red"].segment_id, found["white"].segment_id) == (300, 7)
    assert found["blue"].state == "absent"


def solid(color: str) -> Image.Image:
    return Image.new("RGB", (40, 30), color)


@pytest.mark.parametrize(
    ("color", "name"),
    [
        ("#c81e1e", "red"),
        ("#1e46c8", "blue"),
        ("#228b22", "green"),
        ("#f5d020", "yellow"),
        ("#050505", "black"),
        ("#fafafa", "white"),
    ],
)
def test_a_uniform_image_has_only_its_colour(color: str, name: str) -> None:
    found = pixel_states(solid(color))
    assert {c: found[c] for c in GROUPS["color"]} == {
        c: "present" if c == name else "absent" for c in GROUPS["color"]
    }


def test_lightness_and_colourfulness_decide_bright_dark_and_colorful() -> None:
    white, black = pixel_states(solid("white")), pixel_states(solid("black"))
    assert (white["bright"], white["dark"], white["colorful"]) == ("present", "absent", "absent")
    assert (black["bright"], black["dark"]) == ("absent", "present")
    stripes = np.zeros((30, 30, 3), np.uint8)
    stripes[:, :10, 0] = stripes[:, 10:20, 1] = stripes[:, 20:, 2] = 255
    assert pixel_states(Image.fromarray(stripes))["colorful"] == "present"
    assert colorfulness(np.full((4, 4, 3), 128, np.uint8)) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Two men riding motorcycles",
            {"person": "present", "vehicle": "present", "moving": "present"},
        ),
        ("A beach with no people", {"person": "absent", "outdoor": "present"}),
        ("A street without any cars on it", {"vehicle": "absent"}),
        ("A view of the White House", {"white": None}),
        ("A red fire truck", {"red": "present", "vehicle": "present"}),
        ("A glass of orange juice", {"food": "present", "glass": "present"}),
        ("A black and white photo of a dog", {"black": None, "white": None, "animal": "present"}),
        ("Cows in an open field", {"open": None, "outdoor": "present", "animal": "present"}),
        ("Children on colourful kites", {"colorful": "present", "person": "present"}),
        ("A teddy bear", {"animal": None, "soft": "present"}),
        ("Two glasses of wine", {"glass": "present", "food": "present"}),
        ("A car at a stop light", {"vehicle": "present", "bright": None}),
        ("Nobody is riding the horse", {"person": None, "animal": "present"}),
        ("A white plane in a grey sky", {"white": "present", "vehicle": "present"}),
        ("There is no car but a man", {"vehicle": "absent", "person": "present"}),
    ],
)
def test_captions_are_read_with_phrases_and_negations(
    text: str, expected: dict[str, str | None]
) -> None:
    found = CaptionReader(RULES).read(text)
    assert {name: found.get(name, (None,))[0] for name in expected} == expected


def test_five_silent_captions_make_only_some_objects_absent() -> None:
    captions = [Caption(k, 1, "a red dot") for k in range(5)]
    found = states(CaptionReader(RULES).evidence(captions))
    assert found == {"red": "present"} | dict.fromkeys(
        ["person", "vehicle", "animal", "electronics", "food"], "absent"
    )
    assert states(CaptionReader(RULES).evidence(captions[:4])) == {"red": "present"}


def test_a_word_for_a_category_makes_the_category_s_attributes_present() -> None:
    found = CaptionReader(RULES).read("A man and a car")
    assert {found[name][0] for name in ("fabric", "metal", "outdoor", "vehicle", "person")} == {
        "present"
    }


def test_a_mentioned_scene_excludes_the_other() -> None:
    found = states(CaptionReader(RULES).evidence([Caption(1, 1, "a pan in a kitchen")]))
    assert (found["indoor"], found["outdoor"]) == ("present", "absent")


def test_captions_that_agree_raise_the_confidence() -> None:
    reader = CaptionReader(RULES)
    one = reader.evidence([Caption(1, 1, "a dog")])
    two = reader.evidence([Caption(1, 1, "a dog"), Caption(2, 1, "a brown dog")])
    assert states(one) == dict.fromkeys(["animal", "natural", "soft"], "present")
    assert two[0].confidence > one[0].confidence
    assert "2 of 2 captions" in two[0].detail


def evidence(state: str, confidence: float, source: str = "caption") -> Evidence:
    return Evidence("red", state, source, confidence, "")  # type: ignore[arg-type]


def red(*pieces: Evidence):
    return next(label for label in combine(pieces) if label.attribute == "red")


def test_the_more_confident_state_wins_and_a_near_tie_is_unknown() -> None:
    assert red().state == "unknown"
    assert red(evidence("present", 0.7)).state == "present"
    assert red(evidence("present", 0.7), evidence("absent", 0.9)).state == "absent"
    tie = red(evidence("present", 0.75), evidence("absent", 0.7, "pixels"))
    assert (tie.state, tie.conflict) == ("unknown", True)


def test_an_image_is_labelled_with_its_evidence(tmp_path: Path) -> None:
    row = annotation(1)
    photo, mask = tmp_path / "photo.jpg", tmp_path / "mask.png"
    photo.write_bytes(jpeg(1))
    mask.write_bytes(row["mask"]["bytes"])
    infos = [
        SegmentInfo(s["id"], s["category_id"], False, s["area"])
        for s in row["segments_info"]["segments_info"]
    ]
    found = Extractor(RULES).extract(photo, mask, infos, [Caption(10, 1, "A man on a beach")])
    assert [label.attribute for label in found.labels] == list(ATTRIBUTES)
    by_name = {label.attribute: label for label in found.labels}
    assert by_name["person"].state == "present"
    assert {e.source for e in found.evidence if e.attribute == "person"} == {"panoptic", "caption"}
    assert sum(s.area for s in found.segments) == WIDTH * HEIGHT
    assert found.findings == []


@pytest.mark.parametrize("fault", ["size", "mode", "truncated", "gone"])
def test_an_image_whose_mask_cannot_be_used_is_labelled_without_it(
    tmp_path: Path, fault: str
) -> None:
    photo, mask = tmp_path / "photo.jpg", tmp_path / "mask.png"
    photo.write_bytes(jpeg(1))
    if fault == "size":
        mask.write_bytes(mask_png(np.zeros((HEIGHT, WIDTH + 1), int)))
    elif fault == "mode":
        Image.new("P", (WIDTH, HEIGHT)).save(mask)
    elif fault == "truncated":
        mask.write_bytes(mask_png(np.random.default_rng(0).integers(0, 9, (HEIGHT, WIDTH)))[:-40])
    found = Extractor(RULES).extract(
        photo, mask, [SegmentInfo(1, 1, False, 5)], [Caption(10, 1, "A man")]
    )
    assert {finding.kind for finding in found.findings} == {
        "mask size differs" if fault == "size" else "mask not read"
    }
    assert {label.attribute: label.state for label in found.labels}["person"] == "present"
    assert {evidence.source for evidence in found.evidence} == {"pixels", "caption"}


@pytest.mark.parametrize("category", [0, 999])
def test_a_segment_of_an_unknown_category_becomes_a_finding(tmp_path: Path, category: int) -> None:
    photo, mask = tmp_path / "photo.jpg", tmp_path / "mask.png"
    photo.write_bytes(jpeg(1))
    mask.write_bytes(mask_png(np.full((HEIGHT, WIDTH), 7)))
    found = Extractor(RULES).extract(photo, mask, [SegmentInfo(7, category, False, 5)], [])
    assert [finding.kind for finding in found.findings] == ["unknown category"]
    assert str(category) in found.findings[0].detail
    assert {evidence.source for evidence in found.evidence} == {"pixels"}
    found = Extractor(RULES).extract(photo, mask, [], [])
    assert [finding.kind for finding in found.findings] == ["ids not in segments_info"]


def test_unreadable_captions_become_findings_and_do_not_count_as_silent() -> None:
    reader = CaptionReader(RULES)
    texts = {
        "": "empty caption",
        "\N{DOG FACE}\N{SNOWFLAKE} 123": "empty caption",
        "Ein Mann fährt auf einem roten Motorrad": "caption not English",
        "一个男人骑着红色摩托车": "caption not English",
        "a red bus " * 100_000: "long caption",
        "A dog \N{DOG FACE} on the beach": None,
    }
    readable, findings = reader.readable([Caption(k, 1, text) for k, text in enumerate(texts)])
    assert [finding.kind for finding in findings] == [kind for kind in texts.values() if kind]
    assert [caption.id for caption in readable] == [4, 5]
    assert max(len(caption.text) for caption in readable) == RULES.caption.max_length
    assert states(reader.evidence(readable))["vehicle"] == "present"


def test_the_genuine_coconut_sample_is_read_and_labelled(real_mirror: Path) -> None:
    demo = real_mirror / "coconut_demo"
    entries = json.loads((demo / "demo_segments_info.json").read_text())
    infos = [SegmentInfo(s["id"], s["category_id"], bool(s["iscrowd"]), s["area"]) for s in entries]
    found = Extractor(RULES).extract(demo / "demo_image.jpg", demo / "demo_mask.png", infos, [])
    assert {s.id: s.area for s in found.segments} == {s.id: s.area for s in infos}
    states_of = {label.attribute: label.state for label in found.labels}
    for name in ("person", "furniture", "electronics", "indoor", "wood"):
        assert states_of[name] == "present", name
    assert states_of["vehicle"] == states_of["outdoor"] == "absent"


def test_the_rules_cover_the_133_coco_panoptic_categories(real_mirror: Path) -> None:
    categories = json.loads((real_mirror / "panoptic_coco_categories.json").read_text())
    assert {(c["id"], c["name"], bool(c["isthing"])) for c in categories} == {
        (c.id, name, c.thing) for name, c in RULES.category.items()
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('present = ["person"', 'present = ["persn"', "category.person.present: .*persn"),
        ("absent_confidence = 0.8", "absent_confidence = 8", "panoptic.absent_confidence"),
        ('version = "4"', "", "version: Field required"),
        ("bicycle = { id = 2", "bicycle = { id = 1", "two categories share an id"),
        ("[panoptic]", "[panoptic", "line"),
    ],
)
def test_the_message_about_a_mistake_in_the_rules_says_where_it_is(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in RULES_TEXT
    path = tmp_path / "rules.toml"
    path.write_text(RULES_TEXT.replace(old, new, 1))
    with pytest.raises(RulesError, match=message):
        load_rules(path)


def test_a_byte_order_mark_and_other_line_ends_make_no_other_rules(tmp_path: Path) -> None:
    packaged = Path(str(resources.files("coconut_attr.labels") / "rules.toml")).read_bytes()
    windows = packaged.replace(b"\n", b"\r\n")
    for number, content in enumerate(
        (b"\xef\xbb\xbf" + packaged, b"\xef\xbb\xbf" + windows, windows)
    ):
        path = tmp_path / f"{number}.toml"
        path.write_bytes(content)
        assert load_rules(path) == load_rules()


def test_an_edit_of_the_rules_changes_their_version(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(RULES_TEXT + "\n# edited\n")
    assert load_rules(path).version != load_rules().version


def test_a_transparent_photo_is_labelled_as_shown_on_white_and_said(tmp_path: Path) -> None:
    Image.new("RGBA", (30, 20), (255, 0, 0, 0)).save(tmp_path / "hidden_red.png")
    extraction = Extractor(RULES).extract(tmp_path / "hidden_red.png", None, [], [])
    labels = {label.attribute: label.state for label in extraction.labels}
    assert (labels["white"], labels["red"]) == ("present", "absent")
    assert [finding.kind for finding in extraction.findings] == ["transparent pixels"]
