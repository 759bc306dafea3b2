"""COCONut-PanCap texts: their phrases, and the attributes of the segments that they describe."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coconut_attr.annotations.pancap import PanCapText, parse, read_texts
from coconut_attr.annotations.records import SegmentInfo
from coconut_attr.errors import SourceError
from coconut_attr.findings import Finding
from coconut_attr.labels.extract import Extraction, Extractor
from coconut_attr.labels.pancap import PanCapReader
from coconut_attr.labels.rules import load_rules
from tests.support.hub_server import broken_range, serve_hub
from tests.support.tiny_mirror import jpeg, mask_png

RULES = load_rules().rules
SEGMENTS = {1, 2, 3, 4, 5}


def phrases(text: str) -> list[tuple[tuple[int, ...], str]]:
    return [(phrase.segment_ids, phrase.text) for phrase in parse(text, SEGMENTS)[0]]


def kinds(text: str) -> list[str]:
    return [finding.kind for finding in parse(text, SEGMENTS)[1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A <1: red barn> by a <2:pond>.", [((1,), "red barn"), ((2,), "pond")]),
        (
            "Two <3, 4: tall, thin\n trees> and <1,2,5: sheep>",
            [((3, 4), "tall, thin trees"), ((1, 2, 5), "sheep")],
        ),
        ("One <2: cup> that is <2: blue>", [((2,), "cup"), ((2,), "blue")]),
        ("A <0>red barn> by a <1>pond>", [((1,), "red barn"), ((2,), "pond")]),
        ("A <0>red barn</0> by a <1, 3>pond</1,3>", [((1,), "red barn"), ((2, 4), "pond")]),
        (
            "A <0: red barn> by <1,2,3: ponds>, <4: geese>",
            [((1,), "red barn"), ((2, 3, 4), "ponds"), ((5,), "geese")],
        ),
        ("A <3: red barn> by a <0>pond>", [((3,), "red barn"), ((1,), "pond")]),
        ("A <1>red barn> by a <5>pond>", [((1,), "red barn"), ((5,), "pond")]),
        ("A <1 and 2: pair of barns>", [((1, 2), "pair of barns")]),
        ("A man <1: with a <2: hat>>", [((2,), "hat")]),
    ],
)
def test_phrases_are_parsed_in_both_syntaxes(text: str, expected: list) -> None:
    assert phrases(text) == expected


def test_one_wrong_id_does_not_shift_the_others() -> None:
    text = "A <1: barn>, <2: pond> and <6: boat>, or <0: nothing> with <5: geese>"
    assert phrases(text) == [((1,), "barn"), ((2,), "pond"), ((5,), "geese")]
    (finding,) = parse(text, SEGMENTS)[1]
    assert finding == Finding("pancap id without segment", "2 of 5 ids of the text: 6, 0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A <1: barn> by a <2: pond.", ["pancap tag not read"]),
        ("A <1: > barn", ["pancap tag not read"]),
        ("A barn by a pond", ["pancap text without tag"]),
        ("", ["pancap text without tag"]),
        ("A <99999999999: barn>", ["pancap tag not read"]),
        ("A <9: barn>", ["pancap id without segment"]),
        ("A <1: barn>", []),
    ],
)
def test_what_cannot_be_used_becomes_a_finding(text: str, expected: list[str]) -> None:
    assert kinds(text) == expected


PIECES = st.sampled_from(["<", ">", "</", ":", ",", " ", "0", "1", "2", "17", "and", "red", "\n"])


@given(
    st.one_of(st.text(), st.lists(PIECES).map("".join)),
    st.sets(st.integers(0, 20)),
)
def test_any_text_yields_phrases_or_findings(text: str, segment_ids: set[int]) -> None:
    parsed, findings = parse(text, segment_ids)
    assert parsed or findings
    for phrase in parsed:
        assert phrase.text and set(phrase.segment_ids) <= segment_ids
    assert RULES.pancap
    for phrase in parsed:
        PanCapReader(RULES, RULES.pancap).read(phrase.text)


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("weathered wooden rowing boat", {"wood", "hard"}),
        ("woman in a blue coat", {"blue", "fabric"}),
        ("woman holding a red umbrella", set()),
        ("boy riding a green scooter", {"moving"}),
        ("parked yellow van", {"static", "yellow"}),
        ("skateboard", set()),
        ("silver car", set()),
        ("tiny closed plastic box", {"small", "closed", "plastic"}),
        ("bowl without any red berries", set()),
        ("bright sky", set()),  # brightness is the image's, and no attribute of a segment
    ],
)
def test_a_phrase_gives_its_segment_attributes(phrase: str, expected: set[str]) -> None:
    assert RULES.pancap
    assert set(PanCapReader(RULES, RULES.pancap).read(phrase)) == expected


def extract(tmp_path: Path, text: str | None) -> Extraction:
    """Extract an image: a person (segment 1, 40 %), a car (2, 10 %), a cup (3, 1 ‰), sky (4)."""
    ids = np.full((100, 100), 4)
    ids[:40], ids[40:50], ids[50, :10] = 1, 2, 3
    photo, mask = tmp_path / "photo.jpg", tmp_path / "mask.png"
    photo.write_bytes(jpeg(1, 100, 100))
    mask.write_bytes(mask_png(ids))
    categories = {1: 1, 2: 3, 3: 47, 4: 187}
    infos = [SegmentInfo(k, category, False, 0) for k, category in categories.items()]
    return Extractor(RULES).extract(photo, mask, infos, [], text)


def test_a_text_gives_evidence_with_the_segment_that_it_describes(tmp_path: Path) -> None:
    text = "A <1: person in a red shirt> near <2,4: blue things>; <3: a green cup>; <9: a ghost>"
    result = extract(tmp_path, text)
    evidence = {e.attribute: e for e in result.evidence if e.source == "pancap"}
    assert {name: piece.segment_id for name, piece in evidence.items()} == {
        "red": 1,
        "fabric": 1,
        "blue": 4,  # the larger one of the phrase's segments
    }, "the cup is too small to make the image green"
    assert evidence["blue"].confidence < evidence["red"].confidence
    assert evidence["red"].detail == '"red" in "person in a red shirt"'
    assert {(e.segment_id, e.attribute) for e in result.segment_attributes} == {
        (1, "red"),
        (1, "fabric"),
        (2, "blue"),
        (4, "blue"),
        (3, "green"),
    }
    assert [finding.kind for finding in result.findings] == ["pancap id without segment"]


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("a <1: large person>", {"large"}),
        ("a <2: large car>", set()),  # 10 % of the image: large for its kind, not in the image
        ("a <4: large sky>", set()),  # no countable object
        ("a <3: small cup>", {"small"}),
        ("a <2: small car>", set()),
    ],
)
def test_a_size_counts_only_if_the_mask_agrees(tmp_path: Path, text: str, sizes: set[str]) -> None:
    result = extract(tmp_path, text)
    assert {e.attribute for e in result.evidence if e.source == "pancap"} == sizes
    assert {e.attribute for e in result.segment_attributes} <= {"large", "small"}
    assert result.segment_attributes


def test_an_image_without_a_text_is_labelled_as_by_rules_without_the_section(
    tmp_path: Path,
) -> None:
    with_rules = extract(tmp_path, None)
    assert with_rules.segment_attributes == []
    older = Extractor(RULES.model_copy(update={"pancap": None}))
    photo, mask = tmp_path / "photo.jpg", tmp_path / "mask.png"
    infos = [SegmentInfo(1, 1, False, 0)]
    unread = older.extract(photo, mask, infos, [], "a <1: red man>")
    without = Extractor(RULES).extract(photo, mask, infos, [])
    assert (unread.evidence, unread.labels) == (without.evidence, without.labels)
    assert (unread.signals.cells == without.signals.cells).all()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def test_texts_are_read_from_a_tar_and_from_a_folder(tmp_path: Path, configure) -> None:
    members = {
        "caption_train2017/000000000007.txt": b"A <1: barn>\n",
        "caption_train2017/000000000008.txt": b"\xff <1: pond>",
        "caption_train2017/000000000007.json": b"{}",
        "again/000000000007.txt": b"A <1: shed>",
        "caption_train2017/readme.txt": b"no image",
        "caption_train2017/000000000009.txt": bytes(2**20 + 1),
    }
    expected = {(7, "A <1: barn>"), (8, "\N{REPLACEMENT CHARACTER} <1: pond>")}
    folder = tmp_path / "folder"
    for name, content in list(members.items())[:3]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    items = list(read_texts(configure(pancap=write_tar(tmp_path / "x.tar", members))))
    texts = {(item.coco_id, item.text) for item in items if isinstance(item, PanCapText)}
    assert texts == expected
    assert [item.kind for item in items if isinstance(item, Finding)] == [
        "duplicate pancap text",
        "pancap text not read",
        "pancap text not read",
    ]
    items = list(read_texts(configure(pancap=folder)))
    assert {(item.coco_id, item.text) for item in items if isinstance(item, PanCapText)} == expected


def test_texts_of_the_hub_are_fetched_once_even_if_a_read_breaks(
    tmp_path: Path, configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hub/xdeng77/coconut_pancap_50k/data"
    folder.mkdir(parents=True)
    write_tar(folder / "texts.tar", {"000000000007.txt": b"A <1: barn>"})
    with serve_hub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        hub.faults["file"] = [broken_range]
        settings = configure(pancap="hub-50k")
        for refresh, fetched in ((False, True), (False, False), (True, True)):
            before = hub.count("file")
            assert list(read_texts(settings, refresh=refresh)) == [PanCapText(7, "A <1: barn>")]
            assert (hub.count("file") > before) == fetched


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is no folder and no file; name one, or hub"),
        (b"no tar" * 1000, "cannot read .*x.tar"),
        (b"", "cannot read .*x.tar|no .txt"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused(
    tmp_path: Path, configure, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(SourceError, match=message):
        list(read_texts(configure(pancap=tmp_path / "x.tar")))
