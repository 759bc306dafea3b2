"""The page Attributes: scores of a run."""

import re

import pandas as pd
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, text

from dashboard.figures.verdict import compare
from db import runs
from tests.support.dashboard import PAGES, assert_no_error, expect_texts, marks, visit
from tests.support.dashboard_rows import add_run, score
from tests.support.runs import change_run


def test_scores_stand_beside_their_baselines_and_undefined_ones_say_so(page: Page, address: str):
    visit(page, f"{address}/attributes?run=3", PAGES["attributes"])
    expect_texts(
        page,
        "0.600",
        "95 % interval 0.500–0.700",
        "mean of 32 of 34 attributes",
        "baseline: prior 0.300",
        "linear probe 0.620; gain -0.020 (-0.050 to +0.010)",
        "mAP 0.600 is not distinguishable from the strongest baseline, the linear probe (0.620)",
        "Accuracy 80.0 % is better than the strongest baseline, the prior (75.0 %)",
        "Better than the prior on 30 attributes, worse on 1, not told apart on 1.",
        "2 attributes have under 5 cells of their rarer state and are left out.",
        "80.0 %",
        "70.0–90.0 %",
        "prior 75.0 %, all absent 70.0 %",
        "expected calibration error 0.100 (0.000–0.200)",
        "n = 660 cells, 20 images",
        "against our labels, which err",
        "balanced accuracy 65.0 % (55.0–75.0 %)",
        "no photo of this split has been judged by eye",
    )
    expect(page.get_by_text("This model cannot say")).to_have_count(0)
    for words in ("undefined: no scored cell", "undefined: all 20 present"):
        expect(page.locator("svg text", has_text=words).first).to_be_attached()
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
    expect(page.get_by_text("Agreement: label and model say present")).to_be_visible()
    expect(page.locator(".legend").first).to_contain_text(f"Run {other}")
    expect_texts(page, "Their settings and data are the same.")
    expect(page.get_by_text("Cells that only one of them decides rightly")).to_have_count(0)
    for part in ("attribute=animal", f"with={other}", "sort=ap"):
        expect(page).to_have_url(re.compile(re.escape(part)))
    expect(page.get_by_text("n = 5 scored cells, 2 present")).to_be_visible()
    box = page.get_by_role("combobox", name="Attribute (or click")
    box.focus()
    for key in ("ArrowDown", *"food", "Enter"):  # by keyboard alone
        box.press(key)
    expect(page.get_by_text("n = 5 scored cells, 1 present")).to_be_visible()
    page.wait_for_url("**attribute=food**")
    opposite = "UPDATE prediction SET probability = 1 - probability WHERE run_id = :other"
    with engine.begin() as connection:
        connection.execute(text(opposite), {"other": other})
    change_run(engine, other, config={"epochs": 3, "contrastive_weight": 0.2}, name="opposite")
    visit(page, f"{address}/attributes?{query}", PAGES["attributes"])
    expect(page.get_by_text(re.compile(r"Accuracy: [+-]\d\.\d{3} \("))).to_be_visible()
    expect_texts(page, "Gains over the other run", "Cells that only one of them decides rightly")
    differing = page.get_by_test_id("stDataFrame").first
    expect(differing.locator("td", has_text="contrastive_weight")).to_have_count(1)
    expect(differing.locator("td", has_text="epochs")).to_have_count(0)
    assert_no_error(page)


def test_scores_by_eyes_lead_and_name_what_is_degenerate_and_not_comparable(
    page: Page, address: str, engine: Engine
):
    judged = add_run(engine, "val5k", epochs=1, status="finished")
    score(engine, judged, "val5k", by_eyes=True)
    visit(page, f"{address}/attributes?run={judged}&with=3", PAGES["attributes"])
    expect_texts(
        page,
        "0.500",
        "by eyes (an AI model)",
        "Judged cells",
        "balanced accuracy 55.0 % (45.0–65.0 %)",
        "This model cannot say no to: food.",
        f"Not comparable: the scores of Run {judged}",
    )
    expect(page.get_by_text("no photo of this split has been judged by eye")).to_have_count(0)
    visit(page, f"{address}/trust?run={judged}", PAGES["trust"])
    table = page.get_by_test_id("stDataFrame").first
    for attribute, reason in (
        ("food", "better than the prior in order, but cannot say no"),
        ("animal", "worse than the prior"),
        ("small", "not distinguishable from the prior"),
        ("vehicle", "under 5 judged cells of the rarer state"),
        ("red", "better than the prior, not distinguishable from the linear probe"),
    ):
        row = table.locator("tr", has_text=attribute)
        expect(row.locator("td", has_text=reason).first).to_be_attached()
    expect(row.locator("td", has_text="87.5").first).to_be_attached()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the table (CSV)").click()
    csv = pd.read_csv(download.value.path()).set_index("attribute")
    assert csv.loc["red", "verdict"] == "yes" and csv.loc["red", "label_coverage"] == 0.8
    assert (csv["against"] == "eyes").all() and (csv["judged_by"] == "ai").all()
    visit(page, f"{address}/trust?run=3", PAGES["trust"])
    expect_texts(page, "no photo of this split has been judged by eye")
    runs.pin(engine, judged)
    visit(page, f"{address}/overview?dataset=val5k", PAGES["overview"])
    expect_texts(
        page,
        f"mAP of run {judged}",
        "by eyes (an AI model)",
        "0.600 (0.500–0.700) against our labels, which err; n = 660 cells",
        "accuracy 70.0 %, balanced 55.0 %",
    )
    visit(page, f"{address}/runs", PAGES["runs"])
    table = page.get_by_test_id("stDataFrame").first
    for words in ("by eyes (an AI model)", "against our labels, which err"):
        expect(table.locator("td", has_text=words).first).to_be_attached()
    query = f"dataset=val5k&by=predictions&attribute=food&run={judged}/test"
    visit(page, f"{address}/explore?{query}", PAGES["explore"])
    expect_texts(page, "prior 0.300, by eyes (an AI model); n = 20 cells")
    visit(page, f"{address}/explore?{query.replace(f'run={judged}', 'run=3')}", PAGES["explore"])
    expect_texts(page, "prior 0.300, against our labels, which err; n = 20 cells")
    assert_no_error(page)
    runs.describe_run(engine, judged, archived=True)
    with engine.begin() as connection:  # other tests' pages draw the newest run's curves
        for table in ("attribute_metric", "run_metric"):
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE against = 'eyes'")


def test_the_strongest_baseline_is_the_one_to_beat_also_for_scores_of_an_older_version():
    scores = {
        name: {"value": value, "low": value - 0.02, "high": value + 0.02}
        for name, value in (("map", 0.6), ("prior_map", 0.3), ("probe_map", 0.55))
    }
    older = compare(scores, "map")
    assert older is not None and older.baseline == "linear probe"
    assert (older.low, older.high) == pytest.approx((0.03, 0.07)), "the score's own interval"
    scores["map_over_probe"] = {"value": 0.05, "low": -0.01, "high": 0.11}
    paired = compare(scores, "map")
    assert paired is not None and (paired.low, paired.high) == (-0.01, 0.11)
    del scores["probe_map"]
    without_probe = compare(scores, "map")
    assert without_probe is not None and without_probe.baseline == "prior"
    assert compare({"map": scores["map"]}, "map") is None
