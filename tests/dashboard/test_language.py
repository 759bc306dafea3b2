"""The languages of the pages."""

import re
from string import Formatter

from babel.messages.extract import extract_from_dir
from playwright.sync_api import Page, expect

from coconut_attr.attributes import ATTRIBUTES, GROUPS, SPLITS
from dashboard.i18n import catalogue
from dashboard.parts.progress import WORK
from flows.local import ROOT
from tests.support.dashboard import PAGES, assert_no_error, visit


def test_the_language_is_switched_and_stays(page: Page, address: str):
    visit(page, f"{address}/coverage", PAGES["coverage"])
    page.get_by_role("radio", name="中文").click()
    expect(page.get_by_role("heading", name="数据集覆盖率")).to_be_visible()
    page.wait_for_url("**lang=zh**")
    page.get_by_role("link", name="训练运行").click()
    expect(page.get_by_role("heading", name="训练曲线")).to_be_visible()
    page.wait_for_url("**/runs?*lang=zh*")
    page.wait_for_function("document.documentElement.lang === 'zh'")
    for name in ("overview", "attributes", "explore"):
        visit(page, f"{address}/{name}?lang=zh")
        expect(page.get_by_role("link", name="训练运行")).to_be_visible()
        assert_no_error(page)
        assert page.get_by_role("heading", name=PAGES[name], exact=True).count() == 0


def test_every_message_has_a_chinese_translation_with_the_same_values():
    keywords = {"_": None, "N_": None}
    messages = {entry[2] for entry in extract_from_dir(ROOT / "dashboard", keywords=keywords)}
    messages |= {*GROUPS, *ATTRIBUTES}
    chinese = catalogue("zh")
    assert messages == set(chinese)

    def values(text: str) -> set[str]:
        return {name for _text, name, _format, _conversion in Formatter().parse(text) if name}

    assert [text for text in messages if values(text) != values(chinese[text])] == []
    names = [chinese[name] for name in (*GROUPS, *ATTRIBUTES)]
    assert len(names) == len(set(names))  # rows of charts are told apart by them


def test_every_piece_of_work_that_flows_report_has_a_name_in_both_languages():
    reported = {
        what.replace("{split}", split)
        for file in (ROOT / "flows").glob("*.py")
        for what in re.findall(r'Progress\(f"\{[\w.]+\} ([^"]+)"', file.read_text())
        for split in SPLITS
    }
    reported |= {"features", "training"}  # TrainingProgress shows one after the other
    assert reported - {"{what}"} == set(WORK)
