"""The page Attributes: scores of a run."""

import re

from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from tests.support.dashboard import PAGES, assert_no_error, expect_texts, marks, visit
from tests.support.dashboard_rows import add_run, score


def test_scores_stand_beside_their_baselines_and_undefined_ones_say_so(page: Page, address: str):
    visit(page, f"{address}/attributes?run=3", PAGES["attributes"])
    expect_texts(
        page,
        "0.600",
        "95 % interval 0.500–0.700",
        "baseline: prior 0.300",
        "80.0 %",
        "70.0–90.0 %",
        "prior 75.0 %, all absent 70.0 %",
        "expected calibration error 0.100 (0.000–0.200)",
        "n = 660 cells, 20 images",
    )
    for text in ("undefined: no known cell", "undefined: all 20 present"):
        expect(page.locator("svg text", has_text=text).first).to_be_attached()
    row = page.get_by_test_id("stDataFrame").first.locator("tr", has_text="person †")
    expect(row).to_have_count(1)
    expect(row.locator("td", has_text="0.000")).to_have_count(0)


def test_an_attribute_has_its_curves_and_images_and_runs_are_compared(
    page: Page, address: str, engine: Engine
):
    other = add_run(engine, "val5k", epochs=1, status="finished")
    score(engine, other, "val5k")
    query = f"run=3&with={other}&attribute=animal&sort=ap"
    visit(page, f"{address}/attributes?{query}", PAGES["attributes"])
    for description in ("Precision-recall curve", "Reliability curve"):
        assert marks(page, description) > 0
    expect(
        page.get_by_text("Most confident and right: label and model say present")
    ).to_be_visible()
    expect(page.locator(".legend").first).to_contain_text(f"Run {other}")
    for part in ("attribute=animal", f"with={other}", "sort=ap"):
        expect(page).to_have_url(re.compile(re.escape(part)))
    expect(page.get_by_text("n = 5 known cells, 2 present")).to_be_visible()
    box = page.get_by_role("combobox", name="Attribute (or click")
    box.focus()
    for key in ("ArrowDown", *"food", "Enter"):  # by keyboard alone
        box.press(key)
    expect(page.get_by_text("n = 5 known cells, 1 present")).to_be_visible()
    page.wait_for_url("**attribute=food**")
    assert_no_error(page)
