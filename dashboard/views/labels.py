"""Labels: how right the weak labels are, measured against the gold set."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.labels.gold.agreement import Part, load_gold
from dashboard import formats
from dashboard.charts import common, scores
from dashboard.data import Row, by, read
from dashboard.figures import gold as agreement
from dashboard.figures.gold import Summary, Wrong
from dashboard.i18n import N_, _
from dashboard.parts import layout, notices, photos
from dashboard.parts.pickers import choose, choose_groups
from db.counts import datasets_holding
from db.labels import captions_of, evidence_of

REFRESH = 30
SHOWN = 6  # wrong cells on one page
PHOTO = 400  # pixels of a photo's longer side
ALL = "all"
PARTS: dict[Part, str] = {
    "dev": N_(
        "**Figures of dev are optimistic: the rules were set on it.** The final figure is that of test."
    ),
    "test": N_("**Test is kept for the final figure:** no rule was set on it."),
}


def _no_label(state: str, row: Row) -> str:
    return _("undefined: no {state} label", state=_(state))


PRESENT, ABSENT = (
    scores.Scored(
        title,
        f"{state}_precision",
        {baseline: baseline.replace(" ", "_")},
        tick_format=".0%",
        counts={state: labels, f"{state}_right": N_("of them right")},
        why=partial(_no_label, state),
    )
    for state, title, labels, baseline in (
        ("present", N_("present labels that are right"), N_("present labels"), scores.ALL_PRESENT),
        ("absent", N_("absent labels that are right"), N_("absent labels"), scores.ALL_ABSENT),
    )
)


def page() -> None:
    """The page."""
    pickers = layout.header(_("How right the labels are"), 3, 2, 2)
    every = tuple(sorted(coco_id for name in PARTS for coco_id in load_gold(name)))
    held = by(read(datasets_holding, every), "dataset")
    if not held:
        notices.empty(
            _("No gold images yet"),
            _(
                "No dataset in the store holds one of the {n} images of the gold set; they are images of val5k. "
                "To fetch and label some:",
                n=len(every),
            ),
        )
        layout.watch(REFRESH / 6)
        return
    with pickers[0]:
        dataset = choose(_("Dataset"), list(held), "dataset", lambda d: f"{d} · {held[d]['title']}")
    with pickers[1]:
        chosen = choose(_("Part of gold"), list(PARTS), "part", _part_name)
    part: Part = "test" if chosen == "test" else "dev"
    with pickers[2]:
        source = choose(_("Labels of"), agreement.CHOICES, "source", _source_name)
    if not held[dataset]["is_coconut"]:
        notices.not_coconut(dataset, held[dataset]["title"])
    gold = load_gold(part)
    labelled = agreement.labels(dataset, list(gold), agreement.COMBINED)
    there = {coco_id: states for coco_id, states in gold.items() if coco_id in labelled}
    if not there:
        notices.empty(
            _("No labelled image of this part"),
            _(
                "{dataset} holds no labelled image of the {n} of the gold set's {part} part. To label it:",
                dataset=dataset,
                n=len(gold),
                part=part,
            ),
            f"prefect deployment run extract/{dataset}",
        )
        layout.watch(REFRESH / 6)
        return
    told = _(PARTS[part])
    if missing := len(gold) - len(there):
        told += " " + _(
            "{missing} of its {n} images are not in the store or not labelled: no figure is of them.",
            missing=missing,
            n=len(gold),
        )
    st.info(told, icon=":material/info:")
    found = (
        labelled if source == agreement.COMBINED else agreement.labels(dataset, list(there), source)
    )
    table, summary = agreement.compare(found, there)
    _cards(summary)
    if masks := notices.masks_from(dataset):
        st.caption(masks)
    _by_attribute(table)
    _confusions(dataset, part, agreement.wrong_cells(found, there))
    layout.watch(REFRESH)


def _part_name(part: str) -> str:
    return _(
        "{part} · {n} images", part=part, n=len(load_gold("test" if part == "test" else "dev"))
    )


def _source_name(source: str) -> str:
    return _("combined") if source == agreement.COMBINED else _("{source} alone", source=_(source))


def _cards(summary: Summary) -> None:
    total, baselines = summary.overall, summary.baselines

    def n(cells: int) -> str:
        return _(
            "n = {cells} cells, {images} images",
            cells=formats.count(cells),
            images=formats.count(summary.images),
        )

    def macro(name: str, baseline: float) -> str:
        return _(
            "macro over {n} attributes; baseline {baseline}",
            n=summary.defined[name],
            baseline=formats.percent(baseline),
        )

    def interval(name: str) -> str:
        return _(
            "95 % interval {interval}",
            interval=formats.interval(*summary.intervals[name], formats.percent),
        )

    def micro(value: float, baseline: float) -> str:
        return _(
            "micro {value}; baseline {baseline}",
            value=formats.percent(value),
            baseline=formats.percent(baseline),
        )

    cards = [
        (
            _("Labels known"),
            formats.percent(total.coverage),
            n(summary.images * len(ATTRIBUTES)),
            _("gold knows {n} of them", n=formats.count(summary.gold_cells)),
            _("and calls {n} present", n=formats.count(summary.gold_present)),
        ),
        (
            _("Present labels right"),
            formats.percent(total.present_macro),
            interval("present_macro"),
            n(total.present),
            macro("present_precision", baselines["present_macro"]),
            micro(total.present_micro, baselines["present_micro"]),
        ),
        (
            _("Absent labels right"),
            formats.percent(total.absent_macro),
            interval("absent_macro"),
            n(total.absent),
            macro("absent_precision", baselines["absent_macro"]),
            micro(total.absent_micro, baselines["absent_micro"]),
        ),
        (
            _("Present cells found"),
            formats.percent(total.recall_macro),
            interval("recall_macro"),
            n(summary.gold_present),
            macro("recall", 1.0),  # calling every cell present finds them all
            _("micro {value}", value=formats.percent(summary.recall_micro)),
        ),
    ]
    layout.cards(*cards)
    st.caption(
        _(
            "**Macro**: mean over the attributes for which a figure is defined; **micro**: over all cells. **Right** "
            "(precision): of the labels of a state, those that gold agrees with; cells that gold does not know are "
            "left out. **Baseline**: what calling every cell present, or every cell absent, would reach. **Found** "
            "(recall): of gold's present cells, those labelled present; an unknown label counts as not found."
        )
    )


def _by_attribute(table: pd.DataFrame) -> None:
    st.subheader(_("By attribute"), anchor=False)
    table = layout.in_label_order(table, choose_groups())
    height = common.height(common.grouped(table["attribute"].tolist()))
    common.legend(
        [
            common.Entry("interval", common.ACCENT, _("labels, 95 % interval")),
            common.Entry(
                "diamond", common.AMBER, _("baseline of present"), _("calling every cell present")
            ),
            common.Entry(
                "triangle", common.GREY, _("baseline of absent"), _("calling every cell absent")
            ),
        ]
    )
    drawn = (
        ("present", PRESENT, _("Share of present labels that are right for each attribute, with its 95 % interval, "
                               "beside calling every cell present")),
        ("absent", ABSENT, _("Share of absent labels that are right for each attribute, with its 95 % interval, "
                             "beside calling every cell absent")),
    )  # fmt: skip
    for column, (state, score, description) in zip(st.columns(2, gap="medium"), drawn, strict=True):
        with column:
            chart = scores.score_chart(table.assign(n=table[state]), score)
            common.show(chart, height, description, f"{state} labels chart")
    st.caption(
        _(
            "n: labels of that state in cells that gold knows. Wilson 95 % intervals. Pale, †: fewer than {few} "
            "labels.",
            few=scores.FEW,
        )
    )
    _table(table)


def _table(table: pd.DataFrame) -> None:
    shown = common.named(table)[["attribute", "group_name"]].assign(
        group_name=table["group_name"].map(_), known=100 * table["known"]
    )
    for state in ("present", "absent"):
        pairs = zip(table[f"{state}_right"], table[state], strict=True)
        shown[f"{state}_right"] = [_("{right} of {n}", right=right, n=n) for right, n in pairs]
        shown[state] = 100 * table[f"{state}_precision"]
    shown["gold_present"] = table["gold_present"]
    shown["recall"] = 100 * table["recall"]
    share: dict[str, Any] = {"format": "%.1f %%", "width": 88}
    number, words = st.column_config.NumberColumn, st.column_config.TextColumn
    st.dataframe(
        shown,
        hide_index=True,
        height=min(35 * len(shown) + 38, 700),
        placeholder=_("undefined"),
        alt=_("How right the labels of each attribute are"),
        column_config={
            "attribute": _("attribute"),
            "group_name": words(_("group"), width=100),
            "known": number(_("known"), format="%.0f %%", width=70),
            "present_right": words(_("present right"), width=100, alignment="right"),
            "present": number(_("precision"), **share, help=_("of present labels")),
            "absent_right": words(_("absent right"), width=100, alignment="right"),
            "absent": number(_("precision") + " ", **share, help=_("of absent labels")),
            "gold_present": number(_("present in gold"), width=110),
            "recall": number(_("of them found"), **share, help=_("recall")),
        },
    )


def _confusions(dataset: str, part: str, wrong: Sequence[Wrong]) -> None:
    st.subheader(_("Wrong labels"), anchor=False)
    if not wrong:
        st.write(_("None: where gold and labels both know a cell, they agree."))
        return
    if part == "test" and not st.toggle(
        _("Show the {n} wrong labels of the test part", n=len(wrong))
    ):
        st.caption(
            _(
                "A rule that is changed after a look at them makes the test part's figure optimistic too."
            )
        )
        return
    counts = {ALL: len(wrong)}
    for cell in wrong:
        counts[cell.attribute] = counts.get(cell.attribute, 0) + 1
    which, where, _rest = st.columns([2, 1, 2], vertical_alignment="bottom")
    with which:
        attribute = choose(
            _("Attribute"),
            list(counts),
            "attribute",
            lambda name: _(
                "{name} · {n} wrong",
                name=_("all attributes") if name == ALL else _(name),
                n=counts[name],
            ),
        )
    chosen = [cell for cell in wrong if attribute in (ALL, cell.attribute)]
    with where:
        starts = range(0, len(chosen), SHOWN)
        start = st.selectbox(
            _("Shown"),
            starts,
            format_func=lambda at: _span(at, len(chosen)),
            key=f"from {attribute}",
        )
    cells = chosen[start : start + SHOWN]
    ids = tuple(sorted({cell.coco_id for cell in cells}))
    pictures, evidence = read(captions_of, dataset, ids), read(evidence_of, dataset, ids)
    for pair in (cells[k : k + 2] for k in range(0, len(cells), 2)):
        for column, cell in zip(st.columns(2, gap="medium"), pair, strict=False):
            with column:
                rows = evidence
                if len(rows):
                    rows = rows[
                        (rows["coco_id"] == cell.coco_id) & (rows["attribute"] == cell.attribute)
                    ]
                _confusion(cell, pictures[pictures["coco_id"] == cell.coco_id], rows)


def _span(start: int, count: int) -> str:
    return _("{first}–{last} of {n}", first=start + 1, last=min(start + SHOWN, count), n=count)


def _confusion(cell: Wrong, picture: pd.DataFrame, evidence: pd.DataFrame) -> None:
    """One wrong cell: its photo, its captions, and the evidence that there is for the attribute."""
    with st.container(border=True):
        st.markdown(
            _(
                "**{attribute}**: gold says **{gold}**, the label says **{label}**",
                attribute=_(cell.attribute),
                gold=_(cell.gold),
                label=_(cell.label),
            )
        )
        photo, words = st.columns([2, 3])
        with photo:
            photos.show(picture["path"].iloc[0], _("Image {id}", id=cell.coco_id), size=PHOTO)
        with words:
            photos.captions(cell.coco_id, picture["text"].tolist())
        photos.evidence_table(evidence)
