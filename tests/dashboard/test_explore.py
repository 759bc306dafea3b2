"""The page Explore: images by label, prediction or set, and one image in full."""

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.support.dashboard import PAGES, assert_no_error, expect_texts, visit, wait_until_drawn


def test_images_are_found_by_label_prediction_and_set_and_one_is_shown_in_full(
    page: Page, address: str
):
    links = page.get_by_role("link").filter(has_text=re.compile(r"Image \d"))
    visit(page, f"{address}/explore?dataset=val5k&present=electronics", PAGES["explore"])
    expect(links).to_have_count(4)  # 0, 6, 12, 18: attribute 4 is present where 6 divides
    expect(page.get_by_text("n = 4 images")).to_be_visible()
    page.get_by_role("combobox", name="Split").click()
    page.get_by_role("option", name="val", exact=True).click()
    expect(links).to_have_count(1)
    query = "dataset=val5k&by=predictions&kind=false present"
    visit(page, f"{address}/explore?{query}", PAGES["explore"])
    expect(page.get_by_text("Threshold 0.500; AP")).to_be_visible()
    visit(page, f"{address}/explore?dataset=val5k&by=set&run=3/test&set=red,blue", PAGES["explore"])
    expect(links).to_have_count(6)  # the test split
    expect_texts(page, "recall@1 50.0 % (40.0–60.0 %), chance 10.0 %")
    expect_texts(page, "present attributes, against our labels, which err: recall@1")
    expect_texts(page, "Ranked by embeddings instead: recall@1 20.0 %")
    links.filter(has_text="Image 7").click()
    expect(page.get_by_text("Segments to highlight")).to_be_visible()
    expect(page.get_by_role("img", name="Image 7").first).to_be_visible()
    labels = page.get_by_test_id("stDataFrame").first
    expect(labels.locator("td", has_text="person")).to_have_count(1)
    for column in ("probability", "judged", "model"):
        expect(labels.locator("th", has_text=column)).to_have_count(1)
    expect(page).to_have_url(re.compile(re.escape("image=7")))
    assert_no_error(page)


def test_images_are_found_by_more_and_looked_through_by_keys(page: Page, address: str):
    """Of 20 images, 18 are on the first page."""
    visit(page, f"{address}/explore?dataset=val5k", PAGES["explore"])
    expect(page.get_by_text("Page 1 of 2")).to_be_visible()
    picture = page.get_by_role("img", name="Image 7", exact=True)
    picture.click(force=True, position={"x": 30, "y": 30})  # its link lies over it
    heading = page.get_by_role("heading", name=re.compile(r"^Image \d+$"))
    expect(heading).to_have_text("Image 7")
    expect(page.get_by_text("Page 1 of 2")).to_be_visible()
    wait_until_drawn(page)
    page.get_by_role("button", name="Next image").click()
    expect(heading).to_have_text("Image 8")
    wait_until_drawn(page)
    page.keyboard.press("ArrowLeft")
    expect(heading).to_have_text("Image 7")
    visit(page, f"{address}/explore?dataset=val5k&image=17", PAGES["explore"])
    expect(heading).to_have_text("Image 17")
    page.get_by_role("button", name="Next image").click()  # the first one of the next page
    expect(heading).to_have_text("Image 18")
    expect(page.get_by_text("Page 2 of 2")).to_be_visible()
    wait_until_drawn(page)
    page.keyboard.press("ArrowLeft")
    expect(heading).to_have_text("Image 17")
    expect(page).to_have_url(re.compile("image=17"))
    wait_until_drawn(page)
    page.keyboard.press("Escape")
    expect(heading).to_have_count(0)
    page.get_by_label("Image id").fill("7")
    page.keyboard.press("Enter")
    expect(heading).to_have_text("Image 7")
    page.get_by_text("Photos for which the model predicts the like").click()
    expect(page.get_by_text(re.compile(r"^distance \d"))).to_have_count(5)  # of the test split
    page.get_by_label("Image id").fill("nonsense")
    page.keyboard.press("Enter")
    expect(page.get_by_text("val5k has no image nonsense.")).to_be_visible()
    query = "dataset=val5k&caption=zebra&category=person&color=grey&judged=no&probability=0.20-0.90"
    visit(page, f"{address}/explore?{query}", PAGES["explore"])
    expect_texts(page, "n = 0 images", "No image matches.")
    for parameter in ("caption=zebra", "color=grey", "judged=no", "probability=0.20-0.90"):
        expect(page).to_have_url(re.compile(re.escape(parameter)))
    page.get_by_label("A caption contains").fill("")
    page.keyboard.press("Enter")
    expect(page).not_to_have_url(re.compile("caption="))
    assert_no_error(page)


def test_the_ids_of_what_was_found_are_downloaded(page: Page, address: str):
    visit(page, f"{address}/explore?dataset=val5k&present=electronics", PAGES["explore"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Download their ids (CSV)").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0] == "dataset,coco_id,file_name,split"
    assert [line.split(",")[1] for line in lines[1:]] == ["0", "6", "12", "18"]
