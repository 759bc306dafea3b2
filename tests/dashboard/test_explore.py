"""The page Explore: images by label, prediction or set, and one image in full."""

import re

from playwright.sync_api import Page, expect

from tests.support.dashboard import PAGES, assert_no_error, expect_texts, visit


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
