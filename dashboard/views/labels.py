"""Labels: how right the weak labels are, measured against the gold set."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.gold import Part, load_gold
from coconut_attr.images import ImageError, decode
from coconut_attr.settings import settings
from dashboard import agreement, charts, score_chart, ui
from dashboard.agreement import Summary, Wrong
from dashboard.data import Row, by, read

REFRESH = 30
SHOWN = 6  # wrong cells on one page
PHOTO = 400  # pixels of a photo's longer side
ALL = "all"
PARTS: dict[Part, str] = {
    "dev": "**Figures of dev are optimistic: the rules were set on it.** The final figure is that of test.",
    "test": "**Test is kept for the final figure:** no rule was set on it.",
}


def _no_label(state: str, row: Row) -> str:
    return f"undefined: no {state} label"


PRESENT, ABSENT = (
    score_chart.Scored(
        f"{state} labels that are right",
        f"{state}_precision",
        {f"all {state}": f"all_{state}"},
        tick_format=".0%",
        counts={state: f"{state} labels", f"{state}_right": "of them right"},
        why=partial(_no_label, state),
    )
    for state in ("present", "absent")
)
LEGEND = (
    charts.Entry("interval", charts.ACCENT, "labels, 95 % interval"),
    charts.Entry("diamond", charts.AMBER, "baseline of present", "calling every cell present"),
    charts.Entry("triangle", charts.GREY, "baseline of absent", "calling every cell absent"),
)


def page() -> None:
    """The page."""
    title, *pickers = st.columns([4, 3, 2, 2], vertical_alignment="bottom")
    title.title("How right the labels are", anchor=False)
    every = tuple(sorted(coco_id for name in PARTS for coco_id in load_gold(name)))
    held = by(read("datasets_holding", every), "dataset")
    if not held:
        ui.empty(
            "No gold images yet",
            f"No dataset in the store holds one of the {len(every)} images of the gold set; they are images of val5k. "
            "To fetch and label some:",
        )
        ui.watch(REFRESH / 6)
        return
    with pickers[0]:
        dataset = ui.choose("Dataset", list(held), "dataset", lambda d: f"{d} · {held[d]['title']}")
    with pickers[1]:
        chosen = ui.choose("Part of gold", list(PARTS), "part", _part_name)
    part: Part = "test" if chosen == "test" else "dev"
    with pickers[2]:
        source = ui.choose("Labels of", agreement.CHOICES, "source", _source_name)
    if not held[dataset]["is_coconut"]:
        ui.not_coconut(dataset, held[dataset]["title"])
    gold = load_gold(part)
    labelled = agreement.labels(dataset, list(gold), agreement.COMBINED)
    there = {coco_id: states for coco_id, states in gold.items() if coco_id in labelled}
    address = {"dataset": dataset, "part": part, "source": source}
    if not there:
        ui.write_address(**address)
        ui.empty(
            "No labelled image of this part",
            f"{dataset} holds no labelled image of the {len(gold)} of the gold set's {part} part. To label it:",
        )
        ui.watch(REFRESH / 6)
        return
    missing = len(gold) - len(there)
    partly = f" {missing} of its {len(gold)} images are not in the store or not labelled: no figure is of them."
    st.info(PARTS[part] + (partly if missing else ""), icon=":material/info:")
    found = labelled if source == agreement.COMBINED else agreement.labels(dataset, list(there), source)
    table, summary = agreement.compare(found, there)
    _cards(summary)
    if masks := ui.masks_from(dataset):
        st.caption(masks)
    _by_attribute(table)
    ui.write_address(**address, **_confusions(dataset, part, agreement.wrong_cells(found, there)))
    ui.watch(REFRESH)


def _part_name(part: str) -> str:
    return f"{part} · {len(load_gold('test' if part == 'test' else 'dev'))} images"


def _source_name(source: str) -> str:
    return "combined" if source == agreement.COMBINED else f"{source} alone"


def _cards(summary: Summary) -> None:
    total, baselines = summary.overall, summary.baselines
    images = f"{summary.images} images"
    attributes = {name: f"over {n} attributes" for name, n in summary.defined.items()}
    cards = [
        (
            "Labels known",
            ui.percent(total.coverage),
            f"n = {ui.count(summary.images * len(ATTRIBUTES))} cells, {images}",
            f"gold knows {ui.count(summary.gold_cells)} of them",
            f"and calls {ui.count(summary.gold_present)} present",
        ),
        (
            "Present labels right",
            ui.percent(total.present_macro),
            f"n = {ui.count(total.present)} cells, {images}",
            f"macro {attributes['present_precision']}; baseline {ui.percent(baselines['present_macro'])}",
            f"micro {ui.percent(total.present_micro)}; baseline {ui.percent(baselines['present_micro'])}",
        ),
        (
            "Absent labels right",
            ui.percent(total.absent_macro),
            f"n = {ui.count(total.absent)} cells, {images}",
            f"macro {attributes['absent_precision']}; baseline {ui.percent(baselines['absent_macro'])}",
            f"micro {ui.percent(total.absent_micro)}; baseline {ui.percent(baselines['absent_micro'])}",
        ),
        (
            "Present cells found",
            ui.percent(summary.overall.recall_macro),
            f"n = {ui.count(summary.gold_present)} cells, {images}",
            f"macro {attributes['recall']} (recall)",
            f"micro {ui.percent(summary.recall_micro)}",
        ),
    ]
    for column, (label, value, *notes) in zip(st.columns(len(cards)), cards, strict=True):
        with column:
            ui.card(label, value, *notes)
    st.caption(
        "**Macro**: mean over the attributes for which a figure is defined; **micro**: over all cells. **Right** "
        "(precision): of the labels of a state, those that gold agrees with; cells that gold does not know are left "
        "out. **Baseline**: what calling every cell present, or every cell absent, would reach. **Found** (recall): "
        "of gold's present cells, those labelled present; an unknown label counts as not found."
    )


def _by_attribute(table: pd.DataFrame) -> None:
    st.subheader("By attribute", anchor=False)
    table = ui.in_label_order(table, ui.choose_groups())
    height = charts.height(charts.grouped(table["attribute"].tolist()))
    charts.legend(LEGEND)
    for column, state, score in zip(st.columns(2, gap="medium"), ("present", "absent"), (PRESENT, ABSENT), strict=True):
        with column:
            charts.show(
                score_chart.score_chart(table.assign(n=table[state]), score),
                height,
                f"Share of {state} labels that are right for each attribute, with its 95 % interval, "
                f"beside calling every cell {state}",
                f"{state} labels chart",
            )
    st.caption(
        "n: labels of that state in cells that gold knows. Wilson 95 % intervals. "
        f"Pale, †: fewer than {score_chart.FEW} labels."
    )
    _table(table)


def _table(table: pd.DataFrame) -> None:
    shown = table[["attribute", "group_name"]].assign(known=100 * table["known"])
    for state in ("present", "absent"):
        pairs = zip(table[f"{state}_right"], table[state], strict=True)
        shown[f"{state}_right"] = [f"{right} of {n}" for right, n in pairs]
        shown[state] = 100 * table[f"{state}_precision"]
    shown["gold_present"] = table["gold_present"]
    shown["recall"] = 100 * table["recall"]
    share: dict[str, Any] = {"format": "%.1f %%", "width": 88}
    st.dataframe(
        shown,
        hide_index=True,
        height=min(35 * len(shown) + 38, 700),
        placeholder="undefined",
        column_config={
            "group_name": st.column_config.TextColumn("group", width=100),
            "known": st.column_config.NumberColumn("known", format="%.0f %%", width=70),
            "present_right": st.column_config.TextColumn("present right", width=100, alignment="right"),
            "present": st.column_config.NumberColumn("precision", **share, help="of present labels"),
            "absent_right": st.column_config.TextColumn("absent right", width=100, alignment="right"),
            "absent": st.column_config.NumberColumn("precision ", **share, help="of absent labels"),
            "gold_present": st.column_config.NumberColumn("present in gold", width=110),
            "recall": st.column_config.NumberColumn("of them found", **share, help="recall"),
        },
    )


def _confusions(dataset: str, part: str, wrong: Sequence[Wrong]) -> dict[str, str]:
    """The wrong cells; returns what the address has to say of them."""
    st.subheader("Wrong labels", anchor=False)
    if not wrong:
        st.write("None: where gold and labels both know a cell, they agree.")
        return {}
    if part == "test" and not st.toggle(f"Show the {len(wrong)} wrong labels of the test part"):
        st.caption("A rule that is changed after a look at them makes the test part's figure optimistic too.")
        return {}
    counts = {ALL: len(wrong)}
    for cell in wrong:
        counts[cell.attribute] = counts.get(cell.attribute, 0) + 1
    which, where, _ = st.columns([2, 1, 2], vertical_alignment="bottom")
    with which:
        names = {name: f"{'all attributes' if name == ALL else name} · {n} wrong" for name, n in counts.items()}
        attribute = ui.choose("Attribute", list(names), "attribute", names.__getitem__)
    chosen = [cell for cell in wrong if attribute in (ALL, cell.attribute)]
    with where:
        starts = range(0, len(chosen), SHOWN)
        start = st.selectbox("Shown", starts, format_func=lambda at: _span(at, len(chosen)), key=f"from {attribute}")
    cells = chosen[start : start + SHOWN]
    ids = tuple(sorted({cell.coco_id for cell in cells}))
    pictures, evidence = read("captions_of", dataset, ids), read("evidence_of", dataset, ids)
    for pair in (cells[k : k + 2] for k in range(0, len(cells), 2)):
        for column, cell in zip(st.columns(2, gap="medium"), pair, strict=False):
            with column:
                rows = evidence
                if len(rows):
                    rows = rows[(rows["coco_id"] == cell.coco_id) & (rows["attribute"] == cell.attribute)]
                _confusion(cell, pictures[pictures["coco_id"] == cell.coco_id], rows)
    return {"attribute": attribute}


def _span(start: int, count: int) -> str:
    return f"{start + 1}–{min(start + SHOWN, count)} of {count}"


def _confusion(cell: Wrong, picture: pd.DataFrame, evidence: pd.DataFrame) -> None:
    """One wrong cell: its photo, its captions, and the evidence that there is for the attribute."""
    with st.container(border=True):
        st.markdown(f"**{cell.attribute}**: gold says **{cell.gold}**, the label says **{cell.label}**")
        photo, words = st.columns([2, 3])
        with photo:
            _photo(cell.coco_id, picture["path"].iloc[0])
        with words:
            captions = [" ".join(text.split()) for text in picture["text"] if isinstance(text, str)]
            st.caption(f"COCO image {cell.coco_id}" + (", its captions:" if captions else ", without captions"))
            st.text("\n".join(f"• {text}" for text in captions))
        if not len(evidence):
            st.caption("The store holds no evidence for this label.")
            return
        st.dataframe(
            evidence[["source", "state", "confidence", "detail"]].sort_values("confidence", ascending=False),
            hide_index=True,
            column_config={
                "source": st.column_config.TextColumn("source", width=75),
                "state": st.column_config.TextColumn("speaks for", width=75),
                "confidence": st.column_config.NumberColumn("confidence", format="%.2f", width=80),
                "detail": "detail",
            },
        )


def _photo(coco_id: int, path: object) -> None:
    if not isinstance(path, str):
        st.caption("The photo has not been downloaded.")
        return
    try:
        image = decode(settings().data_dir / path)
    except ImageError:
        st.caption(f"The photo cannot be read: {path}")
        return
    image.thumbnail((PHOTO, PHOTO))
    st.image(image, caption=None, width="stretch")
