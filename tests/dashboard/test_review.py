"""The page Review: judging by keys and by clicks, two people at once, and what they leave."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from sqlalchemy import Engine, make_url, text

from coconut_attr.attributes import ATTRIBUTES
from db.engine import connect
from db.sql import sql
from tests.dashboard.test_pages import serious
from tests.support import tiny_mirror as tiny
from tests.support.dashboard import assert_no_error, serving, visit, wait_until_drawn
from tests.support.dashboard_rows import add_run, fill_images, fill_reference, score

STATES = {"p": "present", "a": "absent", "u": "unsure"}


@pytest.fixture
def photos(store: Engine, tmp_path: Path) -> Engine:
    """A database of 20 photos, of which the 19 downloaded ones have a file, and a scored run."""
    fill_reference(store)
    fill_images(store, "val5k")
    score(store, add_run(store, "val5k", epochs=1, status="finished"), "val5k")
    folder = tmp_path / "data"
    folder.mkdir()
    for row in sql(store, "SELECT path, coco_id FROM image WHERE path IS NOT NULL"):
        (folder / row["path"]).write_bytes(tiny.jpeg(row["coco_id"]))
    with store.begin() as connection:
        connection.execute(text("UPDATE image_attribute SET estimate = 0.1, state = 'absent'"))
        connection.execute(text("UPDATE prediction SET probability = 0.9"))
    return store


@pytest.fixture
def review(
    photos: Engine, store_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The page's address; on PostgreSQL one account may only SELECT, another INSERT judgements."""
    urls = {"COCONUT_ATTR_DATABASE_URL": store_url}
    admin = None
    if photos.dialect.name == "postgresql":
        admin = connect(make_url(store_url).set(username="tests").render_as_string())
        with admin.begin() as connection:
            for statement in (
                "CREATE ROLE reads LOGIN",
                "CREATE ROLE judges LOGIN",
                "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reads",
                "GRANT INSERT ON judgement TO judges",
            ):
                connection.execute(text(statement))
        server, name = request.getfixturevalue("postgres_server"), make_url(store_url).database
        urls = {
            "COCONUT_ATTR_DATABASE_URL": server.url(name, "reads"),
            "COCONUT_ATTR_REVIEW_DATABASE_URL": server.url(name, "judges"),
        }
    urls["PREFECT_API_URL"] = "http://127.0.0.1:9/api"  # whatever runs on this machine
    with serving(tmp_path / "data", COCONUT_ATTR_REVIEW="1", **urls) as address:
        yield f"{address}/review"
    if admin:
        with admin.begin() as connection:
            connection.execute(text("DROP OWNED BY reads, judges"))
            connection.execute(text("DROP ROLE reads, judges"))
        admin.dispose()


def enter(page: Page, address: str, name: str) -> None:
    """Open the page and give a name."""
    visit(page, address, "Review")
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text(f"Judged by {name}, a person")).to_be_visible()
    expect(page.get_by_text("After reviewing: labels, training, scores")).to_be_visible()
    wait_until_drawn(page)


def answer(page: Page, key: str, place: int) -> None:
    """Answer the cell that is shown: the first one by a click, as its key may not be heard yet."""
    if place:
        page.keyboard.press(key)
    else:
        page.get_by_role("button", name=STATES[key].capitalize()).click()


def press(page: Page, key: str, place: int) -> None:
    """Press a key for a photo's attribute at a place; wait until the next one is shown."""
    expect(page.get_by_text(re.compile(rf"Image \d+ · {place + 1} of 34"))).to_be_visible()
    expect(page.get_by_role("heading", name=ATTRIBUTES[place], exact=True)).to_be_visible()
    wait_until_drawn(page)
    answer(page, key, place)
    expect(page.get_by_text(re.compile(rf"Image \d+ · {place + 2} of 34"))).to_be_visible()


def judgements(engine: Engine, annotator: str) -> list[tuple[str, str]]:
    query = """SELECT attribute, state FROM judgement_latest WHERE annotator = :annotator
               ORDER BY attribute_id"""
    return [(row["attribute"], row["state"]) for row in sql(engine, query, annotator=annotator)]


def test_two_reviewers_at_once_lose_no_judgement(
    browser: BrowserContext, page: Page, review: str, photos: Engine
) -> None:
    other_browser = browser.browser.new_context()
    other_browser.set_default_timeout(180_000)
    other = other_browser.new_page()
    keys = {"eva": "paupap", "ann": "auppau"}
    for who, name in ((page, "eva"), (other, "ann")):
        enter(who, review, name)
    for place in range(6):
        for who in (page, other):
            heading = who.get_by_role("heading", name=ATTRIBUTES[place], exact=True)
            expect(heading).to_be_visible()
            wait_until_drawn(who)
        with photos.begin() as connection:  # while a third process writes
            connection.execute(text("UPDATE image SET licence = licence"))
            for who, name in ((page, "eva"), (other, "ann")):
                answer(who, keys[name][place], place)
        for who in (page, other):
            expect(who.get_by_text(f"{place + 2} of 34")).to_be_visible()
    for name, pressed in keys.items():
        expected = [(ATTRIBUTES[k], STATES[key]) for k, key in enumerate(pressed)]
        assert judgements(photos, name) == expected
    rows = sql(photos, "SELECT DISTINCT kind, chosen, guideline FROM judgement")
    assert [tuple(row.values()) for row in rows] == [("human", "random", "2")]
    assert len(sql(photos, "SELECT * FROM judgement")) == 12
    other_browser.close()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_undo_leads_back_to_a_cell_whose_next_answer_replaces_the_first(
    page: Page, review: str, photos: Engine
) -> None:
    enter(page, review, "eva")
    expect(page.get_by_text("Label, model and evidence")).to_have_count(0)  # it would lead the eye
    press(page, "p", 0)
    expect(page.get_by_text("person: you say present. Label, model")).to_be_visible()
    page.keyboard.press("z")
    expect(page.get_by_text("Your answer was: present")).to_be_visible()
    press(page, "a", 0)
    press(page, "s", 1)
    press(page, "u", 2)
    assert judgements(photos, "eva") == [("person", "absent"), ("animal", "unsure")]
    assert len(sql(photos, "SELECT * FROM judgement")) == 3
    before = page.get_by_text(re.compile(r"Image \d+ · 4 of 34")).inner_text()
    page.keyboard.press("n")
    after = page.get_by_text(re.compile(r"Image \d+ · 1 of 34"))
    expect(after).to_be_visible()
    assert after.inner_text().split(" · ")[0] != before.split(" · ")[0]
    expect(page.get_by_test_id("stMetricValue").first).to_have_text("2")
    assert_no_error(page)
    assert serious(page) == []


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_click_on_a_photo_says_present_and_confirming_says_absent_of_all_others(
    page: Page, review: str, photos: Engine, tmp_path: Path
) -> None:
    damaged, image = "the photo of image 3", sql(photos, "SELECT * FROM image WHERE coco_id = 3")[0]
    (tmp_path / "data" / image["path"]).write_bytes(damaged.encode())
    enter(page, f"{review}?mode=attribute&queue=uncertain&attribute=red", "eva")
    expect(page.get_by_role("img", name="Image 7")).to_be_visible()
    assert serious(page) == []
    page.get_by_role("img", name="Image 7").click(force=True, position={"x": 40, "y": 40})
    expect(page.get_by_role("checkbox", name="Image 7", exact=True)).to_be_checked()
    page.get_by_text("unsure", exact=True).first.click()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text("18 photos, 1 of them present, 1 unsure (red)")).to_be_visible()
    expect(page.get_by_text("Nothing is left in this queue")).to_be_visible()
    rows = sql(photos, "SELECT * FROM judgement_latest")
    assert len(rows) == 18 and 3 not in {row["coco_id"] for row in rows}
    assert {row["chosen"] for row in rows} == {"uncertain"}
    assert [row["coco_id"] for row in rows if row["state"] == "present"] == [7]
    page.get_by_role("button", name="Undo").click()
    box = page.get_by_role("checkbox", name="Image 7", exact=True)
    expect(box).to_be_checked()
    page.get_by_role("img", name="Image 7").click(force=True, position={"x": 40, "y": 40})
    expect(box).not_to_be_checked()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("18 photos, 0 of them present, 1 unsure (red)")).to_be_visible()
    assert_no_error(page)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_label_issues_are_listed_and_judged_one_by_one(
    page: Page, review: str, photos: Engine
) -> None:
    with photos.begin() as connection:
        connection.execute(text("UPDATE image_attribute SET estimate = 0.4 WHERE attribute_id = 2"))
    enter(page, f"{review}?mode=issues&issues=animal", "eva")
    table = page.get_by_test_id("stDataFrame").first
    expect(table.locator("td", has_text="animal").first).to_be_attached()
    assert serious(page) == []
    page.get_by_text("After reviewing: labels, training, scores").click()
    expect(page.get_by_text("Labels follow at the next extraction")).to_be_visible()
    expect(page.get_by_text("No Prefect server with the deployment train/val5k")).to_be_visible()
    page.get_by_role("button", name="Judge these one by one").click()
    expect(page.get_by_text("1 of 5")).to_be_visible()  # downloaded photos of the test split
    page.get_by_role("button", name="Present").click()
    expect(page.get_by_text("2 of 5")).to_be_visible()
    page.get_by_role("button", name="Back to the table").click()
    expect(page.get_by_role("button", name="Judge these one by one")).to_be_visible()
    (row,) = sql(photos, "SELECT * FROM judgement_latest")
    assert (row["attribute"], row["state"], row["chosen"]) == ("animal", "present", "issues")
    expect(page.get_by_text("It will turn 1 labels round")).to_be_visible()
    assert_no_error(page)


def test_without_the_setting_there_is_no_such_page(page: Page, address: str) -> None:
    visit(page, f"{address}/explore", "Explore the images")
    expect(page.get_by_role("link", name="Predict")).to_be_visible()
    expect(page.get_by_role("link", name="Review")).to_have_count(0)
