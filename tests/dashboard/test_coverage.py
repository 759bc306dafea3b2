"""The page Coverage."""

import pandas as pd
from playwright.sync_api import Page, expect

from dashboard.charts.cooccurrence import says_little
from tests.support.dashboard import PAGES, assert_no_error, expect_texts, visit


def test_coverage_says_which_part_is_stored_and_why_downloads_failed(page: Page, address: str):
    visit(page, f"{address}/coverage", PAGES["coverage"])
    expect_texts(
        page,
        "20 of 5,000 expected images",
        "of 5,000 expected (0.4 %)",
        "n = 19 labelled images",
        "COCONut's own only if the mirror's are",
    )
    expect(page.get_by_test_id("stCode")).to_have_text("coconut-attr download val5k --retry-failed")
    failures = page.get_by_test_id("stDataFrame").nth(2)
    expect(failures.locator("td", has_text="timeout")).to_have_count(1)
    assert_no_error(page)


def test_shares_of_few_images_or_of_what_is_never_absent_are_grey():
    rows = [("red", "white", 40, 40), ("blue", "white", 30, 30), ("red", "dark", 12, 12)]
    rows += [("blue", "dark", 12, 6), ("blue", "red", 9, 4)]
    table = pd.DataFrame(rows, columns=["attribute", "other", "n", "both_present"])
    assert says_little(table).tolist() == [True, True, False, False, True]
