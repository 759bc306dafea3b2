"""The page SQL. What its box refuses is tested in tests/test_injection.py."""

import re

from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from tests.support.dashboard import PAGES, marks, visit
from tests.support.dashboard_rows import image_ids


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
