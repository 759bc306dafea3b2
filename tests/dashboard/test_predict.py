"""The page Predict."""

import io
from pathlib import Path

from PIL import Image
from pillow_heif import register_heif_opener
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from coconut_attr.attributes import ATTRIBUTES
from db import runs
from tests.support import tiny_mirror as tiny
from tests.support.dashboard import PAGES, chart, expect_texts, marks, visit
from tests.support.runs import change_run


def test_a_photo_is_predicted_and_a_damaged_or_private_one_refused(
    page: Page, address: str, tmp_path: Path
):
    visit(page, f"{address}/predict", PAGES["predict"])
    (tmp_path / "photo.jpg").write_bytes(tiny.jpeg(3))
    page.locator("input[type=file]").set_input_files(tmp_path / "photo.jpg")
    nearest = page.get_by_text("Nearest images in the database")
    expect(nearest).to_be_visible()
    assert marks(page, "Probability of each attribute") > len(ATTRIBUTES)
    expect(page.get_by_text("By the run's stored predictions, not by appearance")).to_be_visible()
    odd_exif = b"\xff\xe1\x00\x10Exif\x00\x00MM\x00*\xff\xff\xff\xff"
    (tmp_path / "odd.jpg").write_bytes(tiny.jpeg(3)[:2] + odd_exif + tiny.jpeg(3)[2:])
    page.get_by_role("button", name="Remove photo.jpg").click()
    expect(nearest).to_have_count(0)
    page.locator("input[type=file]").set_input_files(tmp_path / "odd.jpg")
    expect(nearest).to_be_visible()
    (tmp_path / "broken.jpg").write_bytes(tiny.jpeg(3)[:300])
    page.get_by_role("button", name="Remove odd.jpg").click()
    expect(nearest).to_have_count(0)
    page.locator("input[type=file]").set_input_files(tmp_path / "broken.jpg")
    expect(page.get_by_text("The photo cannot be used")).to_be_visible()
    (tmp_path / "photo.heic").write_bytes(as_heic(tiny.jpeg(3)))
    page.get_by_role("button", name="Remove broken.jpg").click()
    page.locator("input[type=file]").set_input_files(tmp_path / "photo.heic")
    expect(nearest).to_be_visible()
    expect(page.get_by_text("sorted by probability less prior")).to_be_visible()
    expect(
        page.get_by_text("average precision on the test split, against our labels")
    ).to_be_visible()
    ranked = rows_of(page)
    assert sorted(ranked) == sorted(ATTRIBUTES) and ranked != list(ATTRIBUTES)
    page.get_by_role("textbox", name="Or enter its URL").fill(f"{address}/photo.jpg")
    page.get_by_role("button", name="Fetch").click()
    expect(page.get_by_text("not a public address")).to_be_visible()
    expect(nearest).to_have_count(0)


def as_heic(photo: bytes) -> bytes:
    register_heif_opener()
    heic = io.BytesIO()
    Image.open(io.BytesIO(photo)).save(heic, "HEIF")
    return heic.getvalue()


def rows_of(page: Page) -> list[str]:
    """The attributes of the chart from above to below."""
    labels = chart(page, "Probability of each attribute").locator("text")
    texts = [text.strip() for text in labels.all_text_contents()]
    return list(dict.fromkeys(text for text in texts if text in ATTRIBUTES))


def test_a_model_of_stand_in_photos_says_so(page: Page, address: str, engine: Engine):
    of_coconut = runs.get_run(engine, 3)
    assert of_coconut is not None
    # With a name, because a page that was drawn before looks at runs again only for such a change.
    change_run(engine, 2, checkpoint=of_coconut["checkpoint"], name="stand-in")
    try:
        visit(page, f"{address}/predict?run=2", PAGES["predict"])
        expect_texts(page, "NOT COCONut RESULTS")
        visit(page, f"{address}/predict?run=3", PAGES["predict"])
        expect(page.get_by_text("NOT COCONut RESULTS")).to_have_count(0)
    finally:
        change_run(engine, 2, checkpoint=None, name=None)
