"""The page Runs: epoch curves and their baselines."""

from datetime import timedelta

from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from db.models import now
from tests.support.dashboard import MARK, PAGES, chart, expect_texts, marks, visit
from tests.support.dashboard_rows import add_epoch, add_run
from tests.support.runs import change_run, lease_of

REPORT = "report, n = 5 images (170 decisions)"


def test_the_report_is_drawn_with_its_n(page: Page, address: str):
    visit(page, f"{address}/runs", PAGES["runs"])
    expect(page.locator(".legend")).to_contain_text(REPORT)
    for description in ("val loss over epochs", "val accuracy over epochs"):
        drawn = chart(page, description)
        expect(drawn.locator("text", has_text=REPORT)).to_have_count(1)
        expect(drawn.locator('path[stroke-dasharray="6,4"]')).to_have_count(1)
    chance = chart(page, "val loss over epochs").locator("text", has_text="chance (ln 2)")
    expect(chance).to_have_count(1)
    expect_texts(page, "not comparable")


def test_a_new_epoch_of_a_running_run_appears_without_reload(
    page: Page, address: str, engine: Engine
):
    run = add_run(engine, "val5k", epochs=1, status="running")
    try:
        visit(page, f"{address}/runs?runs={run}", PAGES["runs"])
        legend = page.locator(".legend")
        expect(legend).to_contain_text("running, epoch 1 done")
        before = marks(page, "learning rate over epochs")
        page.evaluate("window.notReloaded = true")
        add_epoch(engine, run, 2)
        expect(legend).to_contain_text("running, epoch 2 done")
        page.wait_for_function(
            "([css, before]) => document.querySelectorAll(css).length > before",
            arg=[f"[aria-label='learning rate over epochs'] {MARK}", before],
        )
        assert page.evaluate("window.notReloaded")
    finally:
        lease_of(engine, run).finish("failed", "unit-test end")


def test_a_run_whose_process_died_is_called_interrupted(page: Page, address: str, engine: Engine):
    run = add_run(engine, "val5k", epochs=1, status="running")
    try:
        change_run(engine, run, heartbeat_at=now() - timedelta(minutes=9))
        visit(page, f"{address}/runs?runs={run}", PAGES["runs"])
        resume = f"interrupted after epoch 1; to resume: coconut-attr train --resume {run}"
        expect(page.locator(".legend")).to_contain_text(resume)
    finally:
        lease_of(engine, run).finish("failed", "unit-test end")


def test_curves_stand_beside_the_baselines_that_the_run_was_stored_with(page: Page, address: str):
    visit(page, f"{address}/runs?runs=3", PAGES["runs"])
    for description, lines in {
        "val accuracy over epochs": ("prior 61.0 %", "all absent 52.0 %"),
        "val mAP over epochs": ("prior 0.330",),
    }.items():
        for line in lines:
            expect(chart(page, description).locator("text", has_text=line)).to_have_count(1)
    expect_texts(page, "Baselines on the same 136 known val cells.")
