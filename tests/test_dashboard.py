"""The dashboard in a real Chromium, over a real Streamlit process and a real SQLite store.

The rows of these stores are made up: UNIT-TEST INPUT that shows only that pages show what a store holds.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pandas as pd
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect
from sqlalchemy import Engine

from coconut_attr.attributes import ATTRIBUTES, GROUP_OF, OURS
from coconut_attr.gold import load_gold
from dashboard.agreement import Wrong, compare, wrong_cells
from dashboard.baselines import val_baselines
from db import queries, store
from db.engine import open_store
from tests.browser import chromium

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
LICENCE = "unit-test input"
PAGES = {
    "coverage": "Dataset coverage",
    "labels": "How right the labels are",
    "attributes": "Scores by attribute",
    "runs": "Epoch curves",
}
WAIT = 10_000  # milliseconds
MARK = "[role=graphics-symbol]:not([aria-roledescription=axis])"  # what a chart draws for its data


def fill_reference(engine: Engine) -> None:
    store.sync_reference(
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
    """Images 0 to count - 1: every fifth is val, every seventh test, the last failed to download."""
    images = [
        {"dataset": dataset, "coco_id": k, "file_name": f"{k}.jpg", "url": f"http://images.invalid/{k}.jpg",
         "licence": LICENCE, "width": 8, "height": 8, "mask_path": f"{k}.png",
         "split": "val" if k % 5 == 0 else "test" if k % 7 == 0 else "train"}
        for k in range(count)
    ]  # fmt: skip
    store.add_panoptic(
        engine, dataset, images, [], file="unit-test.parquet", origin="mirror of unit tests", rows_done=count
    )
    store.finish_file(engine, dataset, "unit-test.parquet")
    ids = [
        row["id"] for row in queries.sql(engine, "SELECT id FROM image WHERE dataset = :name ORDER BY id", name=dataset)
    ]
    done = {"state": "done", "attempts": 1, "seconds": 0.1, "error_class": None, "error": None}
    failed = {"state": "failed", "attempts": 5, "seconds": 9.0, "error_class": "timeout", "error": "unit-test failure"}
    store.record_downloads(
        engine,
        [{"image_id": key, **done, "path": f"{key}.jpg", "sha256": f"{key}", "bytes": 1_000} for key in ids[:-1]]
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
    store.record_labels(engine, "unit-test", labels, [], [])


GOLD = (724, 776)  # of the gold set's dev part; on neither does gold see a person


def fill_gold(engine: Engine) -> None:
    """Two gold images labelled as gold says, but for the person that a caption puts in the first."""
    gold = load_gold("dev")
    images = [
        {"dataset": "gold", "coco_id": k, "file_name": f"{k}.jpg", "url": f"http://images.invalid/{k}.jpg",
         "licence": LICENCE, "width": 8, "height": 8, "mask_path": None, "split": "train"}
        for k in GOLD
    ]  # fmt: skip
    store.add_panoptic(engine, "gold", images, [], file="unit-test.parquet", origin="mirror of unit tests", rows_done=2)
    ids = [
        row["id"] for row in queries.sql(engine, "SELECT id FROM image WHERE dataset = :name ORDER BY id", name="gold")
    ]
    done = {"state": "done", "attempts": 1, "seconds": 0.1, "error_class": None, "error": None, "bytes": 1_000}
    store.record_downloads(
        engine, [{"image_id": key, **done, "path": f"missing/{key}.jpg", "sha256": f"{key}"} for key in ids]
    )
    state = {1: "present", 0: "absent", -1: "unknown"}
    labels = {
        key: [
            {"image_id": key, "attribute_id": k, "confidence": 1.0, "conflict": False, "state": state[code]}
            for k, code in enumerate(gold[coco_id])
        ]
        for key, coco_id in zip(ids, GOLD, strict=True)
    }
    labels[ids[0]][0]["state"] = "present"
    cell = {"image_id": ids[0], "attribute_id": 0, "segment_id": None, "caption_id": None}
    evidence = [
        {**cell, "source": "caption", "state": "present", "confidence": 0.8, "detail": "unit-test words"},
        {**cell, "source": "panoptic", "state": "absent", "confidence": 0.4, "detail": "unit-test segments"},
    ]
    store.record_labels(engine, "unit-test", labels, evidence, [])


def add_run(engine: Engine, dataset: str, epochs: int, status: str) -> int:
    run = store.start_run(
        engine, dataset=dataset, backbone="unit-test-net", total_parameters=100, trainable_parameters=60,
        train_images=13, val_images=4, seed=0, config={"epochs": 3, "contrastive_weight": 0.1},
        environment={"device": "cpu"}, rule_version="unit-test", data_fingerprint="0" * 64,
    )  # fmt: skip
    for epoch in range(1, epochs + 1):
        add_epoch(engine, run, epoch)
    if status != "running":
        store.finish_run(engine, run, status)
    return run


def add_epoch(engine: Engine, run: int, epoch: int) -> None:
    store.record_epoch(
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
             "prior_ap": value and 0.3, "precision": value, "recall": value, "f1": value}
        )  # fmt: skip
    store.record_evaluation(
        engine, run, dataset, "test",
        [{"name": name, "value": value, "low": value - 0.1, "high": value + 0.1, "n": 660, "images": 20}
         for name, value in overall],
        rows, [],
    )  # fmt: skip


@contextmanager
def serving(data_dir: Path) -> Iterator[str]:
    """The address of a dashboard over a data folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COCONUT_ATTR_")}
    log = (data_dir.parent / f"{data_dir.name}.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "dashboard/app.py", "--server.address", "127.0.0.1",
         "--server.port", str(port), "--server.headless", "true"],
        cwd=ROOT, env={**environment, "COCONUT_ATTR_DATA_DIR": str(data_dir)}, stdout=log, stderr=subprocess.STDOUT,
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
    opened = open_store(f"sqlite:///{data_dir / 'coconut_attr.db'}")
    fill_reference(opened)
    for dataset in ("val5k", "sample"):
        fill_images(opened, dataset)
    fill_gold(opened)
    for dataset in ("sample", "val5k"):
        score(opened, add_run(opened, dataset, epochs=3, status="finished"), dataset)
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
    page.wait_for_function("document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'")


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


@pytest.mark.parametrize("name", PAGES)
def test_pages_open_at_their_address_and_draw_their_charts(page: Page, address: str, name: str):
    visit(page, f"{address}/{name}", PAGES[name])
    charts = page.get_by_test_id("stVegaLiteChart")
    expect(charts).to_have_count({"coverage": 1, "labels": 2, "attributes": 2, "runs": 4}[name], timeout=WAIT)
    for place in range(charts.count()):
        expect(charts.nth(place).locator(MARK).first).to_be_attached(timeout=WAIT)
    assert "NOT COCONut" not in page.inner_text("body")
    assert_no_error(page)


def test_coverage_says_what_part_is_there_and_why_downloads_failed(page: Page, address: str):
    visit(page, address, PAGES["coverage"])
    assert page.url.endswith("/coverage?dataset=val5k")  # the start page leads here
    body = page.inner_text("body")
    assert "20 of 5,000 expected images" in body
    assert "of 5,000 expected (0.4 %)" in body
    assert "n = 19 labelled images" in body
    assert "COCONut's own only if the mirror's are" in body
    failures = page.get_by_test_id("stDataFrame").nth(2)
    expect(failures.locator("td", has_text="timeout")).to_have_count(1)
    assert_no_error(page)


@pytest.mark.parametrize("name, description", [
    ("coverage", "Present, absent and unknown cells"),
    ("attributes", "Accuracy of each attribute with its 95 % interval, beside the prior and all-absent baselines"),
])  # fmt: skip
def test_the_group_filter_narrows_chart_and_table(page: Page, address: str, name: str, description: str):
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
        expect(drawn.locator("text", has_text="report, n = 5 images (170 decisions)")).to_have_count(1)
        expect(drawn.locator('path[stroke-dasharray="6,4"]')).to_have_count(1)
    expect(chart(page, "val loss over epochs").locator("text", has_text="chance (ln 2)")).to_have_count(1)
    assert "not comparable" in page.inner_text("body")


@pytest.mark.parametrize("query", ["coverage?dataset=sample", "attributes?run=2", "runs?runs=2"])
def test_what_is_not_coconut_says_so(page: Page, address: str, query: str):
    visit(page, f"{address}/{query}", PAGES[query.partition("?")[0]])
    notice = page.get_by_test_id("stAlert").filter(has_text="THESE ARE NOT COCONut RESULTS")
    expect(notice).to_have_count(1, timeout=WAIT)


def test_a_new_epoch_of_a_running_run_appears_without_reload(page: Page, address: str, engine: Engine):
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
        store.finish_run(engine, run, "failed", note="unit-test end")


def test_without_a_database_it_says_what_to_run_until_there_is_one(page: Page, tmp_path: Path):
    data = tmp_path / "data"
    with serving(data) as address:
        for name in PAGES:
            page.goto(f"{address}/{name}")
            expect(page.get_by_test_id("stCode")).to_have_text("make run", timeout=WAIT)
            assert_no_error(page)
        data.mkdir()
        (data / "coconut_attr.db").touch()
        page.goto(f"{address}/coverage")
        expect(page.get_by_text("is empty", exact=False)).to_be_visible(timeout=WAIT)
        assert_no_error(page)

        (data / "coconut_attr.db").unlink()
        fresh = open_store(f"sqlite:///{data / 'coconut_attr.db'}")
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
    expect(page.locator("svg text", has_text="undefined: no present label").first).to_be_attached(timeout=WAIT)
    assert "source=panoptic" in page.url
    expect(page.get_by_text("where gold and labels both know a cell, they agree")).to_be_visible()
    assert_no_error(page)


def test_a_wrong_label_shows_its_evidence_and_that_its_photo_is_missing(page: Page, address: str):
    visit(page, f"{address}/labels?attribute=person", PAGES["labels"])
    expect(page.get_by_text("person: gold says absent, the label says present")).to_be_visible()
    evidence = page.get_by_test_id("stDataFrame").nth(1)
    for text in ("unit-test words", "unit-test segments"):
        expect(evidence.locator("td", has_text=text)).to_have_count(1)
    expect(page.get_by_text("The photo cannot be read")).to_be_visible()
    assert "attribute=person" in page.url
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
    assert summary.baselines["present_macro"] == summary.baselines["present_micro"] == pytest.approx(1 / 3)
    assert wrong_cells(labels, gold) == [Wrong("person", 2, "absent", "present")]
