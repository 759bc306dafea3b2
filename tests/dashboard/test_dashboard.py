"""The dashboard in a real Chromium, over a real Streamlit process and a real SQLite store.

The rows of these stores are made up: UNIT-TEST INPUT that shows only that pages show what a store holds.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Formatter
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from babel.messages.extract import extract_from_dir
from playwright.sync_api import BrowserContext, Locator, Page, expect
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from coconut_attr.attributes import ATTRIBUTES, GROUP_OF, GROUPS, OURS
from coconut_attr.labels.gold.agreement import load_gold
from coconut_attr.model.checkpoint import FILE_NAME, save_checkpoint
from coconut_attr.model.network import AttributeModel
from dashboard.figures.baselines import val_baselines
from dashboard.figures.gold import Wrong, compare, wrong_cells
from dashboard.i18n import catalogue
from db import annotations, bulk, downloads, progress, reference, runs, sql
from db.counts import refresh_counts
from db.labels import record_labels
from db.models import Segment, now
from db.schema import open_database
from flows.pipeline import pipeline
from tests.support import tiny_mirror as tiny
from tests.support.browser import chromium

ROOT = Path(__file__).parents[2]
LICENCE = "unit-test input"
PAGES = {
    "overview": "Overview",
    "coverage": "Dataset coverage",
    "labels": "How right the labels are",
    "attributes": "Scores by attribute",
    "runs": "Epoch curves",
    "explore": "Explore the images",
    "predict": "Predict the attributes of a photo",
    "sql": "SQL",
}
CHARTS = {
    "overview": 1,
    "coverage": 3,
    "labels": 2,
    "attributes": 4,
    "runs": 4,
    "explore": 0,
    "predict": 0,
    "sql": 0,
}
WAIT = 30_000  # milliseconds
MARK = "[role=graphics-symbol]:not([aria-roledescription=axis])"  # what a chart draws for its data


def fill_reference(engine: Engine) -> None:
    reference.sync_reference(
        engine,
        datasets=[
            {"name": name, "title": title, "is_coconut": real, "licence": LICENCE, "expected_images": expected,
             "expected_segments": None}
            for name, title, real, expected in (
                ("val5k", "unit-test rows", True, 5_000), ("sample", "unit-test stand-in", False, None),
                ("gold", "unit-test gold images", True, None),
            )
        ],
        attributes=[
            {"id": k, "name": name, "group_name": GROUP_OF[name], "ours": name in OURS}
            for k, name in enumerate(ATTRIBUTES)
        ],
        categories=[{"id": 1, "name": "person", "isthing": True}],
    )  # fmt: skip


def fill_images(engine: Engine, dataset: str, count: int = 20) -> None:
    """Images 0 to count - 1: every fifth is val, of the rest every third test, the last failed to download."""
    images = [
        {"dataset": dataset, "coco_id": k, "file_name": f"{k}.jpg", "url": f"http://images.invalid/{k}.jpg",
         "licence": LICENCE, "width": 8, "height": 8, "mask_path": f"{k}.png",
         "split": "val" if k % 5 == 0 else "test" if k % 3 == 1 else "train"}
        for k in range(count)
    ]  # fmt: skip
    annotations.add_panoptic(
        engine,
        dataset,
        images,
        [],
        file="unit-test.parquet",
        origin="mirror of unit tests",
        rows_done=count,
    )
    annotations.finish_file(engine, dataset, "unit-test.parquet", count)
    ids = [
        row["id"]
        for row in sql.sql(
            engine, "SELECT id FROM image WHERE dataset = :name ORDER BY id", name=dataset
        )
    ]
    done = {"state": "done", "attempts": 1, "seconds": 0.1, "error_class": None, "error": None}
    failed = {
        "state": "failed",
        "attempts": 5,
        "seconds": 9.0,
        "error_class": "timeout",
        "error": "unit-test failure",
    }
    downloads.record_downloads(
        engine,
        [
            {"image_id": key, **done, "path": f"{key}.jpg", "sha256": f"{key}", "bytes": 1_000}
            for key in ids[:-1]
        ]
        + [{"image_id": ids[-1], **failed}],
    )
    # Attribute k is present in image i where i divides by k + 2, unknown for every third attribute of odd images.
    labels = {
        key: [
            {"image_id": key, "attribute_id": k, "confidence": 1.0, "conflict": False,
             "state": "unknown" if i % 2 and k % 3 == 0 else "present" if i % (k + 2) == 0 else "absent"}
            for k in range(len(ATTRIBUTES))
        ]
        for i, key in enumerate(ids[:-1])
    }  # fmt: skip
    record_labels(engine, "unit-test", labels, [], [])
    refresh_counts(engine, dataset)


GOLD = (724, 776)  # of the gold set's dev part; on neither does gold see a person


def fill_gold(engine: Engine) -> None:
    """Two gold images labelled as gold says, but for the person that a caption puts in the first."""
    gold = load_gold("dev")
    images = [
        {"dataset": "gold", "coco_id": k, "file_name": f"{k}.jpg", "url": f"http://images.invalid/{k}.jpg",
         "licence": LICENCE, "width": 8, "height": 8, "mask_path": None, "split": "train"}
        for k in GOLD
    ]  # fmt: skip
    annotations.add_panoptic(
        engine,
        "gold",
        images,
        [],
        file="unit-test.parquet",
        origin="mirror of unit tests",
        rows_done=2,
    )
    ids = [
        row["id"]
        for row in sql.sql(
            engine, "SELECT id FROM image WHERE dataset = :name ORDER BY id", name="gold"
        )
    ]
    done = {
        "state": "done",
        "attempts": 1,
        "seconds": 0.1,
        "error_class": None,
        "error": None,
        "bytes": 1_000,
    }
    downloads.record_downloads(
        engine,
        [
            {"image_id": key, **done, "path": f"missing/{key}.jpg", "sha256": f"{key}"}
            for key in ids
        ],
    )
    state = {1: "present", 0: "absent", -1: "unknown"}
    labels = {
        key: [
            {
                "image_id": key,
                "attribute_id": k,
                "confidence": 1.0,
                "conflict": False,
                "state": state[code],
            }
            for k, code in enumerate(gold[coco_id])
        ]
        for key, coco_id in zip(ids, GOLD, strict=True)
    }
    labels[ids[0]][0]["state"] = "present"
    cell = {"image_id": ids[0], "attribute_id": 0, "segment_id": None, "caption_id": None}
    evidence = [
        {
            **cell,
            "source": "caption",
            "state": "present",
            "confidence": 0.8,
            "detail": "unit-test words",
        },
        {
            **cell,
            "source": "panoptic",
            "state": "absent",
            "confidence": 0.4,
            "detail": "unit-test segments",
        },
    ]
    record_labels(engine, "unit-test", labels, evidence, [])
    refresh_counts(engine, "gold")


def add_run(engine: Engine, dataset: str, epochs: int, status: str) -> int:
    run = runs.start(
        engine, dataset=dataset, backbone="unit-test-net", total_parameters=100, trainable_parameters=60,
        train_images=13, val_images=4, seed=0, config={"epochs": 3, "contrastive_weight": 0.1},
        environment={"device": "cpu"}, rule_version="unit-test", data_fingerprint="0" * 64,
    )  # fmt: skip
    for epoch in range(1, epochs + 1):
        add_epoch(engine, run, epoch)
    if status != "running":
        runs.finish(engine, run, status)
    return run


def add_epoch(engine: Engine, run: int, epoch: int) -> None:
    runs.record_epoch(
        engine, run,
        {"epoch": epoch, "loss": 0.8 / epoch, "val_loss": 0.7 / epoch, "accuracy": 0.5 + epoch / 20, "map": 0.4,
         "decisions": 136, "learning_rate": 1e-4 / epoch, "images_per_second": 10.0, "seconds": 1.0},
    )  # fmt: skip


def score(engine: Engine, run: int, dataset: str) -> None:
    """Scores in which `person` has no known cell and `vehicle` only present ones."""
    overall = [
        ("accuracy", 0.8),
        ("all_absent_accuracy", 0.7),
        ("prior_accuracy", 0.75),
        ("map", 0.6),
        ("prior_map", 0.3),
    ]
    rows = []
    for k in range(len(ATTRIBUTES)):
        n = 0 if k == 0 else 20
        value = None if k == 0 else 0.8
        ap = None if k < 2 else 0.6
        rows.append(
            {"attribute_id": k, "n": n, "positives": {0: 0, 1: 20}.get(k, 6), "accuracy": value,
             "accuracy_low": value and 0.6, "accuracy_high": value and 0.9, "all_absent_accuracy": value and 0.7,
             "prior_accuracy": value and 0.7, "ap": ap, "ap_low": ap and 0.4, "ap_high": ap and 0.8,
             "prior_ap": value and 0.3, "precision": value, "recall": value, "f1": value, "threshold": 0.5,
             "balanced_accuracy": value, "ece": 0.1, "probe_ap": ap and 0.5}
        )  # fmt: skip
    test = [row["id"] for row in sql.sql(
        engine, "SELECT id FROM image WHERE dataset = :dataset AND split = 'test' ORDER BY id", dataset=dataset
    )]  # fmt: skip
    chances = np.random.default_rng(0).random((len(test), len(ATTRIBUTES)))
    runs.record_evaluation(
        engine, run, dataset, "test",
        [{"name": name, "value": value, "low": value - 0.1, "high": value + 0.1, "n": 660, "images": 20}
         for name, value in overall],
        rows,
        [{"image_id": key, "attribute_id": k, "probability": float(chances[i, k])}
         for i, key in enumerate(test) for k in range(len(ATTRIBUTES))],
    )  # fmt: skip


def add_files(engine: Engine, data_dir: Path, run: int) -> None:
    """A generated photo and mask of COCO image 7 of val5k, of two segments, and an untrained checkpoint of a run."""
    image = sql.sql(
        engine, "SELECT id, path, mask_path FROM image WHERE dataset = 'val5k' AND coco_id = 7"
    )[0]
    (data_dir / image["path"]).write_bytes(tiny.jpeg(7))
    ids = np.full((tiny.HEIGHT, tiny.WIDTH), 300)
    ids[:, : tiny.WIDTH // 2] = 301
    (data_dir / image["mask_path"]).write_bytes(tiny.mask_png(ids))
    with engine.begin() as connection:
        columns = ("segment_id", "category_id", "iscrowd", "annotated_area", "area")
        rows = [{"image_id": image["id"], **dict(zip(columns, (key, 1, False, 9, 9), strict=True))}
                for key in (300, 301)]  # fmt: skip
        bulk.replace_rows(connection, Segment, [image["id"]], rows)
    checkpoint = f"runs/{run}/{FILE_NAME}"
    model = AttributeModel("efficientnet_lite0", pretrained=False)
    half = np.full(len(ATTRIBUTES), 0.5)
    save_checkpoint(
        data_dir / checkpoint, model, run=run, dataset="val5k", epoch=1, thresholds=half
    )
    runs.update(engine, run, checkpoint=checkpoint)


@contextmanager
def serving(data_dir: Path, **settings: str) -> Iterator[str]:
    """The address of a dashboard over a data folder, with these further settings (`COCONUT_ATTR_*`)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("COCONUT_ATTR_")
    }
    log = (data_dir.parent / f"{data_dir.name}.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "dashboard/app.py", "--server.address", "127.0.0.1",
         "--server.port", str(port), "--server.headless", "true"],
        cwd=ROOT, env={**environment, "COCONUT_ATTR_DATA_DIR": str(data_dir), **settings}, stdout=log,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: urlopen(f"{address}/_stcore/health", timeout=1).status == 200)
        yield address
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def wait_until(ready: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if ready():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "the dashboard did not come up"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """One for all tests, so that Streamlit's scripts are fetched and compiled once."""
    with chromium() as launched:
        yield launched.new_context(viewport={"width": 1400, "height": 1000})


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dashboard") / "data"


@pytest.fixture(scope="module")
def engine(data_dir: Path) -> Iterator[Engine]:
    opened = open_database(f"sqlite:///{data_dir / 'coconut_attr.db'}")
    fill_reference(opened)
    for dataset in ("val5k", "sample"):
        fill_images(opened, dataset)
    fill_gold(opened)
    for dataset in ("sample", "val5k"):
        run = add_run(opened, dataset, epochs=3, status="finished")
        score(opened, run, dataset)
    add_files(opened, data_dir, run)
    yield opened
    opened.dispose()


@pytest.fixture(scope="module")
def address(engine: Engine, data_dir: Path, browser: BrowserContext) -> Iterator[str]:
    with serving(data_dir) as running:
        yield running


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    opened = browser.new_page()
    opened.set_default_timeout(WAIT)
    yield opened
    opened.close()


def visit(page: Page, address: str, title: str | None = None) -> None:
    page.goto(address)
    if title:
        page.get_by_role("heading", name=title, exact=True).wait_for()
    page.wait_for_function(
        "document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
    )
    # Streamlit fetches the code of each kind of element when one is first shown: our style sheet may come last.
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=WAIT)


def chart(page: Page, description: str) -> Locator:
    return page.locator(f'[data-testid=stVegaLiteChart][aria-label="{description}"]')


def marks(page: Page, description: str) -> int:
    """How many shapes and texts a chart draws for its data."""
    expect(chart(page, description).locator(MARK).first).to_be_attached(timeout=WAIT)
    return chart(page, description).locator(MARK).count()


def assert_no_error(page: Page) -> None:
    assert page.get_by_test_id("stException").count() == 0
    assert page.get_by_test_id("stAlertContentError").count() == 0
    assert "Traceback" not in page.inner_text("body")
    assert "Page not found" not in page.inner_text("body")


def serious(page: Page) -> list[str]:
    """The serious violations of accessibility rules that axe finds."""
    found = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in found
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_pages_open_at_their_address_draw_their_charts_and_are_accessible(
    page: Page, address: str, name: str
):
    visit(page, f"{address}/{name}?dataset=val5k&attribute=animal", PAGES[name])
    charts = page.get_by_test_id("stVegaLiteChart")
    expect(charts).to_have_count(CHARTS[name], timeout=WAIT)
    for place in range(charts.count()):
        expect(charts.nth(place).locator(MARK).first).to_be_attached(timeout=WAIT)
    if name != "overview":  # it shows all datasets
        assert "NOT COCONut" not in page.inner_text("body")
    assert_no_error(page)
    assert serious(page) == []
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 400


def test_coverage_says_what_part_is_there_and_why_downloads_failed(page: Page, address: str):
    visit(page, address, PAGES["overview"])
    assert page.url.endswith("/overview")  # the start page leads here
    visit(page, f"{address}/coverage", PAGES["coverage"])
    body = page.inner_text("body")
    assert "20 of 5,000 expected images" in body
    assert "of 5,000 expected (0.4 %)" in body
    assert "n = 19 labelled images" in body
    expect(page.get_by_test_id("stCode")).to_have_text("coconut-attr download val5k --retry-failed")
    assert "COCONut's own only if the mirror's are" in body
    failures = page.get_by_test_id("stDataFrame").nth(2)
    expect(failures.locator("td", has_text="timeout")).to_have_count(1)
    assert_no_error(page)


@pytest.mark.parametrize("name, description", [
    ("coverage", "Present, absent and unknown cells"),
    ("attributes", "Accuracy of each attribute with its 95 % interval, beside the prior and all-absent baselines"),
])  # fmt: skip
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


def test_scores_stand_beside_their_baselines_and_undefined_ones_say_so(page: Page, address: str):
    visit(page, f"{address}/attributes?run=3", PAGES["attributes"])
    body = page.inner_text("body")
    for text in ("0.600", "95 % interval 0.500–0.700", "baseline: prior 0.300", "80.0 %", "70.0–90.0 %",
                 "prior 75.0 %, all absent 70.0 %", "n = 660 cells, 20 images"):  # fmt: skip
        assert text in body
    for text in ("undefined: no known cell", "undefined: all 20 present"):
        expect(page.locator("svg text", has_text=text).first).to_be_attached(timeout=WAIT)
    row = page.get_by_test_id("stDataFrame").first.locator("tr", has_text="person †")
    expect(row.locator("td", has_text="0.000")).to_have_count(0)


def test_the_report_is_drawn_with_its_n(page: Page, address: str):
    visit(page, f"{address}/runs", PAGES["runs"])
    assert "report, n = 5 images (170 decisions)" in page.locator(".legend").inner_text()
    for description in ("val loss over epochs", "val accuracy over epochs"):
        drawn = chart(page, description)
        expect(
            drawn.locator("text", has_text="report, n = 5 images (170 decisions)")
        ).to_have_count(1)
        expect(drawn.locator('path[stroke-dasharray="6,4"]')).to_have_count(1)
    expect(
        chart(page, "val loss over epochs").locator("text", has_text="chance (ln 2)")
    ).to_have_count(1)
    assert "not comparable" in page.inner_text("body")


@pytest.mark.parametrize("query", ["coverage?dataset=sample", "attributes?run=2", "runs?runs=2"])
def test_what_is_not_coconut_says_so(page: Page, address: str, query: str):
    visit(page, f"{address}/{query}", PAGES[query.partition("?")[0]])
    notice = page.get_by_test_id("stAlert").filter(has_text="THESE ARE NOT COCONut RESULTS")
    expect(notice).to_have_count(1, timeout=WAIT)


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
        expect(legend).to_contain_text("running, epoch 2 done", timeout=WAIT)
        page.wait_for_function(
            "([css, before]) => document.querySelectorAll(css).length > before",
            arg=[f"[aria-label='learning rate over epochs'] {MARK}", before],
        )
        assert page.evaluate("window.notReloaded")
    finally:
        runs.finish(engine, run, "failed", note="unit-test end")


def test_without_a_database_it_says_what_to_run_until_there_is_one(page: Page, tmp_path: Path):
    data = tmp_path / "data"
    with serving(data) as address:
        for name in ("overview", "sql"):
            page.goto(f"{address}/{name}")
            expect(page.get_by_test_id("stCode")).to_have_text("make run", timeout=WAIT)
            assert_no_error(page)
        data.mkdir()
        (data / "coconut_attr.db").touch()
        page.goto(f"{address}/coverage")
        expect(page.get_by_text("is empty", exact=False)).to_be_visible(timeout=WAIT)
        assert_no_error(page)

        (data / "coconut_attr.db").unlink()
        fresh = open_database(f"sqlite:///{data / 'coconut_attr.db'}")
        fill_reference(fresh)
        expect(page.get_by_text("No images yet")).to_be_visible(timeout=WAIT)
        visit(page, f"{address}/labels", PAGES["labels"])
        expect(page.get_by_text("No gold images yet")).to_be_visible()
        visit(page, f"{address}/attributes", PAGES["attributes"])
        expect(page.get_by_text("No scores yet")).to_be_visible()
        visit(page, f"{address}/runs", PAGES["runs"])
        expect(page.get_by_text("No run of this project yet")).to_be_visible()
        assert marks(page, "val accuracy over epochs") > 0
        expect(page.get_by_test_id("stCode").first).to_have_text("make run")
        assert_no_error(page)
        fresh.dispose()


def test_what_runs_is_told_while_it_runs_and_when_it_stalls(
    page: Page, address: str, engine: Engine
):
    work = {"what": "unit-test work", "total": 200, "note": "", "started_at": now()}
    progress.record_progress(engine, **work, state="running", done=50)
    visit(page, f"{address}/overview", PAGES["overview"])
    expect(page.get_by_text("unit-test work · 50 of 200 (25 %)")).to_be_visible(timeout=WAIT)
    progress.record_progress(engine, **work, state="running", done=150)
    expect(page.get_by_text("unit-test work · 150 of 200 (75 %)")).to_be_visible(timeout=WAIT)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE progress SET updated_at = '2026-01-01 00:00:00.000000'")
    expect(page.get_by_text("nothing was heard of it since 2026-01-01 00:00 UTC")).to_be_visible(
        timeout=WAIT
    )
    progress.record_progress(engine, **work, state="finished", done=200)
    expect(page.get_by_text("unit-test work: finished at")).to_be_visible(timeout=WAIT)


def test_a_store_that_is_written_to_is_read(page: Page, address: str, engine: Engine):
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE image SET licence = licence")
        visit(page, f"{address}/explore?dataset=sample", PAGES["explore"])
        expect(page.get_by_text("THESE ARE NOT COCONut RESULTS")).to_be_visible()
        assert_no_error(page)


def test_an_attribute_has_its_curves_and_images_and_runs_are_compared(
    page: Page, address: str, engine: Engine
):
    other = add_run(engine, "val5k", epochs=1, status="finished")
    score(engine, other, "val5k")
    visit(
        page,
        f"{address}/attributes?run=3&with={other}&attribute=animal&sort=ap",
        PAGES["attributes"],
    )
    for description in ("Precision-recall curve", "Reliability curve"):
        assert marks(page, description) > 0
    expect(page.get_by_text("Surest, and right: label and model say present")).to_be_visible()
    expect(page.locator(".legend").first).to_contain_text(f"Run {other}")
    for part in ("attribute=animal", f"with={other}", "sort=ap"):
        expect(page).to_have_url(re.compile(re.escape(part)), timeout=WAIT)
    expect(page.get_by_text("n = 5 known cells, 2 present")).to_be_visible()
    box = page.get_by_role("combobox", name="Attribute (or click")
    box.focus()
    for key in ("ArrowDown", *"food", "Enter"):  # by keyboard alone
        box.press(key)
    expect(page.get_by_text("n = 5 known cells, 1 present")).to_be_visible(timeout=WAIT)
    page.wait_for_url("**attribute=food**")
    assert_no_error(page)


def test_images_are_found_by_label_prediction_and_set_and_one_is_shown_in_full(
    page: Page, address: str
):
    shown = page.get_by_role("link").filter(has_text=re.compile(r"Image \d"))
    visit(page, f"{address}/explore?dataset=val5k&present=electronics", PAGES["explore"])
    expect(shown).to_have_count(
        4, timeout=WAIT
    )  # 0, 6, 12, 18: attribute 4 is present where 6 divides
    expect(page.get_by_text("n = 4 images")).to_be_visible()
    page.get_by_role("combobox", name="Split").click()
    page.get_by_role("option", name="val", exact=True).click()
    expect(shown).to_have_count(1, timeout=WAIT)
    visit(
        page, f"{address}/explore?dataset=val5k&by=predictions&kind=false present", PAGES["explore"]
    )
    expect(page.get_by_text("Threshold 0.500, chosen on val")).to_be_visible()
    visit(page, f"{address}/explore?dataset=val5k&by=set&set=red,blue", PAGES["explore"])
    expect(shown).to_have_count(6, timeout=WAIT)  # the test split
    shown.filter(has_text="Image 7").click()
    expect(page.get_by_text("Segments to show alone")).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("img", name="Image 7").first).to_be_visible()
    labels = page.get_by_test_id("stDataFrame").first
    expect(labels.locator("td", has_text="person")).to_have_count(1)
    expect(page).to_have_url(re.compile(re.escape("image=7")), timeout=WAIT)
    assert_no_error(page)


def test_a_photo_is_predicted_and_what_is_none_is_refused(page: Page, address: str, tmp_path: Path):
    visit(page, f"{address}/predict", PAGES["predict"])
    (tmp_path / "photo.jpg").write_bytes(tiny.jpeg(3))
    page.locator("input[type=file]").set_input_files(tmp_path / "photo.jpg")
    expect(page.get_by_text("Nearest images of the store")).to_be_visible(
        timeout=6 * WAIT
    )  # torch is imported first
    assert marks(page, "Probability of each attribute") > len(ATTRIBUTES)
    expect(page.get_by_text("By the run's stored predictions, not by looks")).to_be_visible()
    (tmp_path / "broken.jpg").write_bytes(tiny.jpeg(3)[:300])
    page.get_by_role("button", name="Remove photo.jpg").click()
    expect(page.get_by_text("Nearest images of the store")).to_have_count(0, timeout=WAIT)
    page.locator("input[type=file]").set_input_files(tmp_path / "broken.jpg")
    expect(page.get_by_text("The photo cannot be used")).to_be_visible(timeout=WAIT)
    page.get_by_role("textbox", name="Or the URL of one").fill(f"{address}/photo.jpg")
    page.get_by_role("button", name="Fetch it").click()
    expect(page.get_by_text("not a public address")).to_be_visible(timeout=WAIT)


def test_the_query_box_answers_and_refuses_to_write(page: Page, address: str, engine: Engine):
    visit(page, f"{address}/sql", PAGES["sql"])
    page.get_by_role("combobox", name="Examples").click()
    page.get_by_role("option", name="How did the runs learn?").click()
    expect(page.get_by_role("textbox", name="Query")).to_have_text(
        re.compile("epoch_curve"), timeout=WAIT
    )
    ask = page.get_by_role("button", name="Ask")
    ask.click()
    assert marks(page, "accuracy by epoch") > 0
    before = len(sql.sql(engine, "SELECT id FROM image"))
    for query in (
        "DELETE FROM image",
        "SELECT 1) AS q; DELETE FROM image; SELECT * FROM (SELECT 1",
    ):
        page.get_by_role("textbox", name="Query").fill(query)
        ask.click()
        expect(page.get_by_text("nothing can be written from here").last).to_be_visible(
            timeout=WAIT
        )
        expect(page.get_by_test_id("stAlertContentError")).to_have_count(1, timeout=WAIT)
    assert len(sql.sql(engine, "SELECT id FROM image")) == before


def test_the_language_is_switched_and_stays(page: Page, address: str):
    visit(page, f"{address}/coverage", PAGES["coverage"])
    page.get_by_role("radio", name="中文").click()
    expect(page.get_by_role("heading", name="数据集覆盖")).to_be_visible(timeout=WAIT)
    page.wait_for_url("**lang=zh**")
    page.get_by_role("link", name="训练运行").click()
    expect(page.get_by_role("heading", name="训练曲线")).to_be_visible(timeout=WAIT)
    page.wait_for_url("**/runs?*lang=zh*")
    assert page.evaluate("document.documentElement.lang") == "zh"
    for name in ("overview", "attributes", "explore"):
        visit(page, f"{address}/{name}?lang=zh")
        expect(page.get_by_role("link", name="训练运行")).to_be_visible(timeout=WAIT)
        assert_no_error(page)
        assert page.get_by_role("heading", name=PAGES[name], exact=True).count() == 0


def test_every_message_has_a_chinese_translation_with_the_same_values():
    folder = ROOT / "dashboard"
    messages = {found[2] for found in extract_from_dir(folder, keywords={"_": None, "N_": None})}
    messages |= {*GROUPS, *ATTRIBUTES}
    chinese = catalogue("zh")
    assert messages == set(chinese)

    def values(text: str) -> set[str]:
        return {name for _text, name, _format, _conversion in Formatter().parse(text) if name}

    assert [text for text in messages if values(text) != values(chinese[text])] == []
    names = [chinese[name] for name in (*GROUPS, *ATTRIBUTES)]
    assert len(names) == len(set(names))  # rows of charts are told apart by them


def test_where_a_login_is_asked_for_nothing_is_shown_before_it(
    engine: Engine, data_dir: Path, configure
):
    configure(data_dir=data_dir)
    app = AppTest.from_file(ROOT / "dashboard" / "app.py", default_timeout=60)
    app.secrets["auth"] = {"client_id": "unit test"}
    app.run()
    assert [button.label for button in app.button] == ["Log in"]
    assert not app.title and not app.metric and not app.exception


def test_pages_read_a_postgresql_store(page: Page, postgres_url: str, tmp_path: Path):
    opened = open_database(postgres_url)
    fill_reference(opened)
    fill_images(opened, "val5k")
    score(opened, add_run(opened, "val5k", epochs=2, status="finished"), "val5k")
    progress.record_progress(
        opened, what="work", state="running", done=1, total=2, note="", started_at=now()
    )
    (tmp_path / "data").mkdir()
    asked = {"attributes": "attribute=animal", "explore": "by=set&set=red,blue&image=7",
             "sql": "sql=SELECT epoch, loss FROM epoch_curve"}  # fmt: skip
    with serving(tmp_path / "data", COCONUT_ATTR_DATABASE_URL=postgres_url) as address:
        for name in ("overview", "coverage", "attributes", "explore", "sql"):
            visit(page, f"{address}/{name}?{asked.get(name, '')}", PAGES[name])
            assert_no_error(page)
    opened.dispose()


@pytest.mark.usefixtures("prefect_server")
def test_pages_show_what_the_real_pipeline_made(
    page: Page, real_mirror: Path, configure, tmp_path: Path
):
    settings = configure(mirror=real_mirror)
    pipeline("val5k", limit=40, backbone="efficientnet_lite0", epochs=1)
    with serving(settings.data_dir) as address:
        for name in ("coverage", "attributes", "overview"):
            visit(page, f"{address}/{name}", PAGES[name])
            charts = page.get_by_test_id("stVegaLiteChart")
            for place in range(charts.count()):
                expect(charts.nth(place).locator(MARK).first).to_be_attached()
            assert_no_error(page)
        for text in (
            "val5k training: finished at",
            "val5k labels: finished at",
            "n = 40 labelled images",
        ):
            assert text in page.inner_text("body")
        visit(
            page,
            f"{address}/explore?by=predictions&attribute=person&kind=present",
            PAGES["explore"],
        )
        expect(page.get_by_role("img", name=re.compile(r"Image \d")).first).to_be_visible(
            timeout=WAIT
        )
        assert_no_error(page)


def test_val_baselines_are_those_of_the_training_labels():
    counts = pd.DataFrame(
        [
            ("train", "red", 8, 2), ("val", "red", 3, 1),
            ("train", "blue", 1, 9), ("val", "blue", 1, 4),
            ("val", "open", 2, 0),
        ],
        columns=["split", "attribute", "present", "absent"],
    )  # fmt: skip
    found = val_baselines(counts)
    assert found is not None
    assert found.cells == 11
    assert found.all_absent == pytest.approx(5 / 11)
    assert found.accuracy == pytest.approx((3 + 4 + 0) / 11)
    assert found.map == pytest.approx((3 / 4 + 1 / 5) / 2)
    assert val_baselines(counts.head(0)) is None


def test_another_source_has_figures_of_its_own(page: Page, address: str):
    visit(page, f"{address}/labels?source=combined", PAGES["labels"])
    body = page.inner_text("body")
    assert "Figures of dev are optimistic" in body
    assert "38 of its 40 images are not in the store" in body
    assert "n = 68 cells, 2 images" in body
    person = page.get_by_test_id("stDataFrame").first.locator("tr", has_text="person")
    expect(person.locator("td", has_text="0 of 1")).to_have_count(1)
    assert marks(page, "Share of present labels that are right for each attribute, with its 95 % interval, "
                       "beside calling every cell present")  # fmt: skip
    page.get_by_role("combobox", name="Labels of").click()
    page.get_by_role("option", name="panoptic alone").click()
    expect(person.locator("td", has_text="1 of 1")).to_have_count(1)
    expect(person.locator("td", has_text="0 of 1")).to_have_count(0)
    expect(page.locator("svg text", has_text="undefined: no present label").first).to_be_attached(
        timeout=WAIT
    )
    expect(page).to_have_url(re.compile(re.escape("source=panoptic")), timeout=WAIT)
    expect(page.get_by_text("where gold and labels both know a cell, they agree")).to_be_visible()
    assert_no_error(page)


def test_a_wrong_label_shows_its_evidence_and_that_its_photo_is_missing(page: Page, address: str):
    visit(page, f"{address}/labels?attribute=person", PAGES["labels"])
    expect(page.get_by_text("person: gold says absent, the label says present")).to_be_visible()
    evidence = page.get_by_test_id("stDataFrame").nth(1)
    for text in ("unit-test words", "unit-test segments"):
        expect(evidence.locator("td", has_text=text)).to_have_count(1)
    expect(page.get_by_text("The photo cannot be read")).to_be_visible()
    expect(page).to_have_url(re.compile(re.escape("attribute=person")), timeout=WAIT)
    assert_no_error(page)


def test_a_part_without_labelled_images_says_so(page: Page, address: str):
    visit(page, f"{address}/labels?part=test", PAGES["labels"])
    expect(page.get_by_text("No labelled image of this part")).to_be_visible()
    assert_no_error(page)


def test_agreement_has_baselines_intervals_and_wrong_cells():
    rest = [-1] * (len(ATTRIBUTES) - 1)
    gold = {1: [1, *rest], 2: [0, *rest], 3: [0, *rest], 4: [-1, *rest]}
    labels = {1: [1, *rest], 2: [1, *rest], 4: [1, *rest]}
    table, summary = compare(labels, gold)
    person = table.iloc[0]
    assert (person["present_right"], person["present"], person["known"]) == (1, 2, 0.75)
    assert person["present_precision_low"] == pytest.approx(0.0945, abs=1e-4)
    assert pd.isna(person["absent_precision"])
    assert summary.defined == {"present_precision": 1, "absent_precision": 0, "recall": 1}
    assert (
        summary.baselines["present_macro"]
        == summary.baselines["present_micro"]
        == pytest.approx(1 / 3)
    )
    assert wrong_cells(labels, gold) == [Wrong("person", 2, "absent", "present")]
