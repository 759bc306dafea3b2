"""The page SQL. What its box refuses is tested in tests/test_injection.py."""

import re
from urllib.parse import urlencode

from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from tests.support.dashboard import PAGES, marks, visit
from tests.support.dashboard_rows import image_ids


def test_a_chart_is_drawn_on_request_of_columns_with_a_meaning(page: Page, address: str):
    query = "SELECT dataset, coco_id, split, width FROM image WHERE dataset = 'val5k' LIMIT 3"
    visit(page, f"{address}/sql?{urlencode({'sql': query})}", PAGES["sql"])
    expect(page.get_by_text("3 rows in")).to_be_visible()
    expect(page.locator("[data-testid=stVegaLiteChart]")).to_have_count(0)
    expect(page.get_by_text("Draw a chart")).to_be_visible()
    page.get_by_text("Draw a chart").click()
    assert marks(page, "width by dataset") > 0  # neither by nor of the id
    expect(page).to_have_url(re.compile("chart=1"))
    answer = page.get_by_test_id("stDataFrame").last
    expect(answer.locator("th", has_text="photo")).to_have_count(1)
    page.get_by_role("combobox", name="Columns of a view or a table").fill("segment")
    page.get_by_role("option", name="segment", exact=True).click()
    columns = page.get_by_test_id("stDataFrame").first
    expect(columns.locator("td", has_text="annotated_area")).to_have_count(1)
    query = "SELECT coco_id, id FROM image"
    visit(page, f"{address}/sql?{urlencode({'sql': query})}", PAGES["sql"])
    expect(page.get_by_text(re.compile(r"^\d+ rows in"))).to_be_visible()
    expect(page.get_by_text("Draw a chart")).to_have_count(0)


def test_the_query_box_answers_and_refuses_to_write(page: Page, address: str, engine: Engine):
    visit(page, f"{address}/sql", PAGES["sql"])
    page.get_by_role("combobox", name="Examples").click()
    page.get_by_role("option", name="How did the runs learn?").click()
    box = page.get_by_role("textbox", name="Query")
    expect(box).to_have_text(re.compile("epoch_curve"))
    run = page.get_by_role("button", name="Run")
    run.click()
    assert marks(page, "accuracy by epoch") > 0
    before = image_ids(engine, "TRUE")
    for query in (
        "DELETE FROM image",
        "SELECT 1) AS q; DELETE FROM image; SELECT * FROM (SELECT 1",
    ):
        box.fill(query)
        run.click()
        expect(page.get_by_text("nothing can be written from here").last).to_be_visible()
        expect(page.get_by_test_id("stAlertContentError")).to_have_count(1)
    assert image_ids(engine, "TRUE") == before
