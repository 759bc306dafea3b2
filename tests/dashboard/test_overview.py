"""The overview: what runs now."""

from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from db import progress
from db.models import now
from tests.support.dashboard import PAGES, visit


def test_running_work_is_shown_as_it_advances_stalls_and_ends(
    page: Page, address: str, engine: Engine
):
    work = {"what": "unit-test work", "total": 200, "note": "", "started_at": now()}
    progress.record_progress(engine, **work, state="running", done=50)
    visit(page, f"{address}/overview", PAGES["overview"])
    expect(page.get_by_text("unit-test work · 50 of 200 (25 %)")).to_be_visible()
    progress.record_progress(engine, **work, state="running", done=150)
    expect(page.get_by_text("unit-test work · 150 of 200 (75 %)")).to_be_visible()
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE progress SET updated_at = '2026-01-01 00:00:00.000000'")
    expect(page.get_by_text("no report since 2026-01-01 00:00 UTC")).to_be_visible()
    progress.record_progress(engine, **work, state="finished", done=200)
    expect(page.get_by_text("unit-test work: finished at")).to_be_visible()
