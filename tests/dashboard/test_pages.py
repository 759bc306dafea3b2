"""What holds for all pages: they open, are accessible, and read whatever database there is."""

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from db import progress
from db.models import now
from db.schema import open_database
from flows.local import ROOT
from flows.pipeline import pipeline
from tests.support.browser import WAIT
from tests.support.dashboard import (
    MARK,
    PAGES,
    assert_no_error,
    expect_texts,
    marks,
    serving,
    visit,
)
from tests.support.dashboard_rows import add_run, fill_images, fill_reference, score

CHARTS = {
    "overview": 1,
    "coverage": 3,
    "labels": 2,
    "trust": 0,
    "attributes": 4,
    "runs": 4,
    "explore": 0,
    "predict": 0,
    "sql": 0,
}


def serious(page: Page) -> list[str]:
    """Return the serious violations of accessibility rules that axe finds."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in violations
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"]
    ]


def expect_drawn(page: Page, charts: int) -> None:
    """Wait until the page has so many charts, and each has drawn its data."""
    elements = page.get_by_test_id("stVegaLiteChart")
    expect(elements).to_have_count(charts)
    for place in range(charts):
        expect(elements.nth(place).locator(MARK).first).to_be_attached()


@pytest.mark.parametrize("name", PAGES)
def test_pages_open_at_their_address_draw_their_charts_and_are_accessible(
    page: Page, address: str, name: str
):
    visit(page, f"{address}/{name}?dataset=val5k&attribute=animal", PAGES[name])
    expect_drawn(page, CHARTS[name])
    if name != "overview":  # it shows all datasets
        assert "NOT COCONut" not in page.inner_text("body")
    assert_no_error(page)
    assert serious(page) == []
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_function("document.scrollingElement.scrollWidth <= 400")


def test_the_address_without_a_page_leads_to_the_overview(page: Page, address: str):
    visit(page, address, PAGES["overview"])
    page.wait_for_url(re.compile(r"/overview(\?|$)"))


@pytest.mark.parametrize(
    "name, description",
    [
        ("coverage", "Present, absent and unknown cells"),
        (
            "attributes",
            "Accuracy of each attribute with its 95 % interval, "
            "beside the prior and all-absent baselines",
        ),
    ],
)
def test_the_group_filter_narrows_chart_and_table(
    page: Page, address: str, name: str, description: str
):
    visit(page, f"{address}/{name}", PAGES[name])
    table = page.get_by_test_id("stDataFrame").first
    before = marks(page, description)
    expect(table.locator("td", has_text="vehicle")).to_have_count(1)
    page.get_by_role("button", name="Color").click()
    expect(table.locator("td", has_text="vehicle")).to_have_count(0)
    expect(table.locator("td", has_text="yellow")).to_have_count(1)
    page.wait_for_function(
        "([css, before]) => document.querySelectorAll(css).length < before",
        arg=[f"[aria-label='{description}'] {MARK}", before],
    )
    assert marks(page, description) > 0


@pytest.mark.parametrize("query", ["coverage?dataset=sample", "attributes?run=2", "runs?runs=2"])
def test_figures_of_a_stand_in_dataset_are_marked_as_not_coconut(
    page: Page, address: str, query: str
):
    visit(page, f"{address}/{query}", PAGES[query.partition("?")[0]])
    notice = page.get_by_test_id("stAlert").filter(has_text="THESE ARE NOT COCONut RESULTS")
    expect(notice).to_have_count(1)


def test_without_a_database_pages_say_what_to_run_until_there_is_one(page: Page, tmp_path: Path):
    file = tmp_path / "data" / "coconut_attr.db"
    with serving(file.parent) as address:
        for name in ("overview", "sql"):
            page.goto(f"{address}/{name}")
            expect(page.get_by_test_id("stCode")).to_have_text("make run")
            assert_no_error(page)
        file.parent.mkdir()
        file.touch()
        page.goto(f"{address}/coverage")
        expect(page.get_by_text("is empty", exact=False)).to_be_visible()
        assert_no_error(page)

        file.unlink()
        fresh = open_database(f"sqlite:///{file}")
        fill_reference(fresh)
        expect(page.get_by_text("No images yet")).to_be_visible()
        visit(page, f"{address}/labels", PAGES["labels"])
        expect(page.get_by_text("No judged images yet")).to_be_visible()
        visit(page, f"{address}/attributes", PAGES["attributes"])
        expect(page.get_by_text("No scores yet")).to_be_visible()
        visit(page, f"{address}/runs", PAGES["runs"])
        expect(page.get_by_text("No run of this project yet")).to_be_visible()
        assert marks(page, "val accuracy over epochs") > 0
        expect(page.get_by_test_id("stCode").first).to_have_text("make run")
        assert_no_error(page)
        fresh.dispose()


def test_a_database_that_is_being_written_to_is_read(page: Page, address: str, engine: Engine):
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE image SET licence = licence")
        visit(page, f"{address}/explore?dataset=sample", PAGES["explore"])
        expect(page.get_by_text("THESE ARE NOT COCONut RESULTS")).to_be_visible()
        assert_no_error(page)


def test_pages_read_a_postgresql_database(page: Page, postgres_url: str, tmp_path: Path):
    opened = open_database(postgres_url)
    fill_reference(opened)
    fill_images(opened, "val5k")
    score(opened, add_run(opened, "val5k", epochs=2, status="finished"), "val5k")
    progress.record_progress(
        opened, what="work", state="running", done=1, total=2, note="", started_at=now()
    )
    (tmp_path / "data").mkdir()
    queries = {
        "overview": "",
        "coverage": "",
        "attributes": "attribute=animal",
        "explore": "by=set&set=red,blue&image=7",
        "sql": "sql=SELECT epoch, loss FROM epoch_curve",
    }
    with serving(tmp_path / "data", COCONUT_ATTR_DATABASE_URL=postgres_url) as address:
        for name, query in queries.items():
            visit(page, f"{address}/{name}?{query}", PAGES[name])
            assert_no_error(page)
    opened.dispose()


@pytest.mark.usefixtures("prefect_server")
def test_pages_show_what_the_real_pipeline_made(page: Page, real_mirror: Path, configure):
    settings = configure(mirror=real_mirror)
    # 8 of the 12 test photos among them are judged.
    pipeline("val5k", limit=80, profile="report", backbone="efficientnet_lite0", epochs=1)
    with serving(settings.data_dir) as address:
        for name in ("coverage", "attributes", "overview"):
            visit(page, f"{address}/{name}", PAGES[name])
            # 8 judged photos are too few for a mAP.
            expect_drawn(page, CHARTS[name] if name != "overview" else 0)
            assert_no_error(page)
        expect_texts(
            page,
            "val5k training: finished at",
            "val5k scores: finished at",
            "val5k labels: finished at",
            "n = 80 labelled images",
        )
        # One epoch is too little for a model to call a person present at its threshold.
        query = "by=predictions&attribute=person&kind=absent"
        visit(page, f"{address}/explore?{query}", PAGES["explore"])
        expect(page.get_by_role("img", name=re.compile(r"Image \d")).first).to_be_visible()
        assert_no_error(page)


def test_pages_behind_a_login_show_nothing_before_it(engine: Engine, data_dir: Path, configure):
    configure(data_dir=data_dir)
    app = AppTest.from_file(ROOT / "dashboard" / "app.py", default_timeout=WAIT)
    app.secrets["auth"] = {"client_id": "unit test"}
    app.run()
    assert [button.label for button in app.button] == ["Log in"]
    assert not app.title and not app.metric and not app.exception
