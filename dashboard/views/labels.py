"""Labels: how right the weak labels are, measured against judgements."""

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES
from dashboard import formats
from dashboard.charts import common
from dashboard.charts.scores import ALL_ABSENT, ALL_PRESENT, FEW, Score, score_chart
from dashboard.data import Row, engine, read, rows_by
from dashboard.figures import agreement
from dashboard.i18n import N_, _, paragraph
from dashboard.parts import layout, notices
from dashboard.parts.pickers import choose, choose_groups
from dashboard.parts.wrong_labels import wrong_labels
from db.judgements import Part, judged_datasets, kinds_of_truth, truth_of_part

REFRESH = 30  # seconds
PARTS: dict[Part, str] = {
    "dev": N_(
        "**The figures of dev (train and val) are optimistic: the label rules were tuned on it.** "
        "The final figures are those of test."
    ),
    "test": N_("**Test is reserved for the final figures:** no label rule was tuned on it."),
}


#: Who judged, by the kinds of the annotators.
JUDGES: dict[frozenset[str], str] = {
    frozenset({"ai"}): N_("Judged by an AI model: independent people may judge otherwise."),
    frozenset({"human"}): N_("Judged by people."),
    frozenset({"ai", "human"}): N_("Judged by people, and where none did by an AI model."),
}


def _no_label(state: str, row: Row) -> str:
    return _("undefined: no {state} label", state=_(state))


PRESENT = Score(
    N_("present labels that are right"),
    "present_precision",
    {ALL_PRESENT: "all_present"},
    tick_format=".0%",
    counts={"present": N_("present labels"), "present_right": N_("of them right")},
    why_undefined=partial(_no_label, "present"),
)
ABSENT = Score(
    N_("absent labels that are right"),
    "absent_precision",
    {ALL_ABSENT: "all_absent"},
    tick_format=".0%",
    counts={"absent": N_("absent labels"), "absent_right": N_("of them right")},
    why_undefined=partial(_no_label, "absent"),
)


def page() -> None:
    """Show how the labels of a dataset agree with the judgements of a part of it."""
    dataset_picker, part_picker, source_picker = layout.header(
        _("How right the labels are"), 3, 2, 2
    )
    datasets = rows_by(read(judged_datasets), "dataset")
    if not datasets:
        notices.empty(
            _("No judged images yet"),
            _(
                "The database has no judgement of any image. Labelling val5k adds those of the "
                "gold set:"
            ),
        )
        layout.watch(REFRESH / 6)
        return
    with dataset_picker:
        names = layout.dataset_namer(datasets)
        dataset = choose(_("Dataset"), list(datasets), "dataset", names)
    truths = {part: truth_of_part(engine(), dataset, part) for part in PARTS}

    def name_part(name: str) -> str:
        return _("{part} · {n} images", part=name, n=len(truths[_part(name)]))

    with part_picker:
        # The part with the final figures, where it has any.
        parts = sorted(
            PARTS, key=lambda part: (not _labelled(dataset, truths[part]), part != "test")
        )
        part = _part(choose(_("Part"), parts, "part", name_part))
    with source_picker:
        source = choose(_("Labels of"), agreement.CHOICES, "source", _source_name)
    if not datasets[dataset]["is_coconut"]:
        notices.not_coconut(dataset, datasets[dataset]["title"])
    truth = truths[part]
    labelled = _labelled(dataset, truth)
    if not labelled:
        notices.empty(
            _("No labelled image of this part"),
            _(
                "None of the {n} judged images of the {part} part is labelled in {dataset}. "
                "To label them:",
                dataset=dataset,
                n=len(truth),
                part=part,
            ),
            f"prefect deployment run extract/{dataset}",
        )
        layout.watch(REFRESH / 6)
        return
    note = paragraph(_(PARTS[part]), _(JUDGES[frozenset(kinds_of_truth(engine(), dataset, part))]))
    if missing := len(truth) - len(labelled):
        left_out = _(
            "{missing} of its {n} judged images are not labelled, and are left out.",
            missing=missing,
            n=len(truth),
        )
        note = paragraph(note, left_out)
    st.info(note, icon=":material/info:")
    states = agreement.label_states(dataset, list(labelled), source)
    table, summary = agreement.compare(states, labelled)
    _cards(summary)
    if origins := notices.mask_origins(dataset):
        st.caption(origins)
    _by_attribute(table)
    wrong_labels(dataset, part, agreement.wrong_cells(states, labelled))
    layout.watch(REFRESH)


def _labelled(dataset: str, truth: agreement.States) -> agreement.States:
    """Return what is true of those judged images that are labelled."""
    states = agreement.label_states(dataset, list(truth), agreement.COMBINED)
    return {coco_id: cells for coco_id, cells in truth.items() if coco_id in states}


def _part(name: str) -> Part:
    return "test" if name == "test" else "dev"


def _source_name(source: str) -> str:
    return _("combined") if source == agreement.COMBINED else _("{source} alone", source=_(source))


def _cards(summary: agreement.Summary) -> None:
    total, baselines = summary.overall, summary.baselines

    def n(cells: int) -> str:
        images = formats.count(summary.images)
        return _("n = {cells} cells, {images} images", cells=formats.count(cells), images=images)

    def macro(name: str, baseline: float) -> str:
        return _(
            "macro over {n} attributes; baseline {baseline}",
            n=summary.defined[name],
            baseline=formats.percent(baseline),
        )

    def interval(name: str) -> str:
        ends = summary.intervals[name]
        return _("95 % interval {interval}", interval=formats.interval(*ends, formats.percent))

    def micro(value: float, baseline: float) -> str:
        return _(
            "micro {value}; baseline {baseline}",
            value=formats.percent(value),
            baseline=formats.percent(baseline),
        )

    layout.cards(
        (
            _("Labels known"),
            formats.percent(total.coverage),
            n(summary.images * len(ATTRIBUTES)),
            _("{n} of them decided by judgement", n=formats.count(summary.judged_cells)),
            _("{n} of those judged present", n=formats.count(summary.truly_present)),
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
            n(summary.truly_present),
            macro("recall", 1.0),  # calling every cell present finds them all
            _("micro {value}", value=formats.percent(summary.recall_micro)),
        ),
    )
    st.caption(
        _(
            "**Macro**: mean over the attributes for which a figure is defined; **micro**: over "
            "all cells. **Right** (precision): of the labels of a state, those that the judgement "
            "agrees with; cells of which it is unsure are left out. **Baseline**: what calling "
            "every cell present, or every cell absent, would reach. **Found** (recall): of the "
            "cells judged present, those labelled present; an unknown label counts as not found."
        )
    )


def _by_attribute(table: pd.DataFrame) -> None:
    st.subheader(_("By attribute"), anchor=False)
    table = layout.in_label_order(table, choose_groups())
    height = common.height(common.grouped_rows(table["attribute"].tolist()))
    present, absent = _("calling every cell present"), _("calling every cell absent")
    common.legend(
        [
            common.Entry("interval", common.ACCENT, _("labels, 95 % interval")),
            common.Entry("diamond", common.AMBER, _("baseline of present"), present),
            common.Entry("triangle", common.GREY, _("baseline of absent"), absent),
        ]
    )
    left, right = st.columns(2, gap="medium")
    with left:
        common.show(
            score_chart(table.assign(n=table["present"]), PRESENT),
            height,
            _(
                "Share of present labels that are right for each attribute, with its 95 % "
                "interval, beside calling every cell present"
            ),
            "present labels chart",
        )
    with right:
        common.show(
            score_chart(table.assign(n=table["absent"]), ABSENT),
            height,
            _(
                "Share of absent labels that are right for each attribute, with its 95 % "
                "interval, beside calling every cell absent"
            ),
            "absent labels chart",
        )
    st.caption(
        _(
            "n: labels of that state in cells that a judgement decides. Wilson 95 % intervals. "
            "Pale, †: fewer than {few} labels.",
            few=FEW,
        )
    )
    _table(table)


def _table(table: pd.DataFrame) -> None:
    shown = common.translated(table)[["attribute", "group_name"]].assign(
        group_name=table["group_name"].map(_), known=100 * table["known"]
    )
    for state in ("present", "absent"):
        pairs = zip(table[f"{state}_right"], table[state], strict=True)
        shown[f"{state}_right"] = [_("{right} of {n}", right=right, n=n) for right, n in pairs]
        shown[state] = 100 * table[f"{state}_precision"]
    shown["truly_present"] = table["truly_present"]
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
            "absent": number(_("precision"), **share, help=_("of absent labels")),
            "truly_present": number(_("judged present"), width=110),
            "recall": number(_("of them found"), **share, help=_("recall")),
        },
    )
