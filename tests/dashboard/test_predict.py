"""The page Predict."""

from pathlib import Path

from playwright.sync_api import Page, expect

from coconut_attr.attributes import ATTRIBUTES
from tests.support import tiny_mirror as tiny
from tests.support.dashboard import PAGES, marks, visit


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
    page.get_by_role("textbox", name="Or enter its URL").fill(f"{address}/photo.jpg")
    page.get_by_role("button", name="Fetch").click()
    expect(page.get_by_text("not a public address")).to_be_visible()
