"""The run that all pages show: the pinned one of a dataset, else the best by val."""

import re

from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from db import runs
from tests.support.dashboard import PAGES, expect_texts, visit
from tests.support.dashboard_rows import add_run, score
from tests.support.runs import change_epochs, change_run


def test_a_newer_try_out_is_not_the_headline_unless_it_is_pinned(
    page: Page, address: str, engine: Engine
):
    change_run(engine, 3, best_epoch=3)
    tried = add_run(engine, "val5k", epochs=1, status="finished")
    score(engine, tried, "val5k")
    change_run(engine, tried, best_epoch=1)
    change_epochs(engine, tried, map=0.1)
    of_sample = add_run(engine, "sample", epochs=3, status="finished")
    score(engine, of_sample, "sample")
    picker = page.get_by_role("combobox", name="Run", exact=True)
    pages = ("attributes", "trust", "predict", "explore?dataset=val5k&by=predictions")
    for path in pages:
        visit(page, f"{address}/{path}", PAGES[path.partition("?")[0]])
        expect(picker).to_have_value(re.compile("^Run 3 · "))
    visit(page, f"{address}/overview?dataset=val5k", PAGES["overview"])
    expect_texts(page, "mAP of run 3", "Images of val5k")
    visit(page, f"{address}/overview?dataset=sample", PAGES["overview"])
    expect_texts(page, f"mAP of run {of_sample}", "Images of sample", "NOT COCONut")
    runs.pin(engine, tried)
    runs.describe_run(engine, tried, name="tried out")
    visit(page, f"{address}/overview?dataset=val5k", PAGES["overview"])
    expect_texts(page, f"mAP of run {tried}")
    for path in pages:
        if path == "predict":  # the try-out has no checkpoint
            continue
        visit(page, f"{address}/{path}", PAGES[path.partition("?")[0]])
        expect(picker).to_have_value(re.compile(f"^Run {tried} · tried out · "))
    runs.describe_run(engine, tried, archived=True)
    visit(page, f"{address}/attributes", PAGES["attributes"])
    expect(picker).to_have_value(re.compile("^Run 3 · "))
    picker.click()
    expect(page.get_by_role("option", name=f"Run {of_sample}")).to_be_visible()
    expect(page.get_by_role("option", name=f"Run {tried}")).to_have_count(0)
    runs.describe_run(engine, of_sample, archived=True)
