"""The page Labels: agreement with judgements."""

import re

import pandas as pd
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from coconut_attr.attributes import ATTRIBUTES
from dashboard.figures.agreement import WrongCell, compare, wrong_cells
from tests.support.dashboard import PAGES, assert_no_error, expect_texts, marks, visit


def test_each_source_of_labels_has_its_own_figures(page: Page, address: str):
    visit(page, f"{address}/labels?source=combined", PAGES["labels"])
    expect_texts(
        page,
        "The figures of dev (train and val) are optimistic",
        "Judged by an AI model",
        "1 of its 3 judged images",
        "n = 68 cells, 2 images",
    )
    person = page.get_by_test_id("stDataFrame").first.locator("tr", has_text="person")
    expect(person.locator("td", has_text="0 of 1")).to_have_count(1)
    description = (
        "Share of present labels that are right for each attribute, with its 95 % interval, "
        "beside calling every cell present"
    )
    assert marks(page, description) > 0
    page.get_by_role("combobox", name="Labels of").click()
    page.get_by_role("option", name="panoptic alone").click()
    expect(person.locator("td", has_text="1 of 1")).to_have_count(1)
    expect(person.locator("td", has_text="0 of 1")).to_have_count(0)
    undefined = page.locator("svg text", has_text="undefined: no present label")
    expect(undefined.first).to_be_attached()
    expect(page).to_have_url(re.compile(re.escape("source=panoptic")))
    expect(
        page.get_by_text("judgements and labels agree wherever both are decided")
    ).to_be_visible()
    assert_no_error(page)


def test_a_wrong_label_shows_its_evidence_and_that_its_photo_is_missing(page: Page, address: str):
    visit(page, f"{address}/labels?attribute=person", PAGES["labels"])
    expect(page.get_by_text("person: judged absent, the label says present")).to_be_visible()
    evidence = page.get_by_test_id("stDataFrame").nth(1)
    for text in ("unit-test words", "unit-test segments"):
        expect(evidence.locator("td", has_text=text)).to_have_count(1)
    expect(page.get_by_text("The photo cannot be read")).to_be_visible()
    expect(page).to_have_url(re.compile(re.escape("attribute=person")))
    assert_no_error(page)


def test_a_part_without_labelled_images_says_so(page: Page, address: str):
    visit(page, f"{address}/labels?part=test", PAGES["labels"])
    expect(page.get_by_text("No labelled image of this part")).to_be_visible()
    assert_no_error(page)


def test_agreement_has_baselines_intervals_and_wrong_cells():
    rest = [-1] * (len(ATTRIBUTES) - 1)
    truth = {1: [1, *rest], 2: [0, *rest], 3: [0, *rest], 4: [-1, *rest]}
    labels = {1: [1, *rest], 2: [1, *rest], 4: [1, *rest]}
    table, summary = compare(labels, truth)
    person = table.iloc[0]
    assert (person["present_right"], person["present"], person["known"]) == (1, 2, 0.75)
    assert person["present_precision_low"] == pytest.approx(0.0945, abs=1e-4)
    assert pd.isna(person["absent_precision"])
    assert summary.defined == {"present_precision": 1, "absent_precision": 0, "recall": 1}
    assert summary.baselines["present_macro"] == pytest.approx(1 / 3)
    assert summary.baselines["present_micro"] == pytest.approx(1 / 3)
    assert wrong_cells(labels, truth) == [WrongCell("person", 2, "absent", "present")]


def test_the_part_with_the_final_figures_comes_first(page: Page, address: str, engine: Engine):
    query = "UPDATE image SET split = '{}' WHERE dataset = 'gold' AND coco_id = 724"
    with engine.begin() as connection:
        connection.exec_driver_sql(query.format("test"))
    try:
        visit(page, f"{address}/labels", PAGES["labels"])
        expect_texts(page, "Test is reserved for the final figures", "n = 34 cells, 1 images")
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(query.format("train"))
