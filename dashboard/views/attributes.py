"""Attributes: the scores of a run, overall and for each attribute, beside the trivial baselines."""

from typing import Any

import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES
from dashboard import charts, score_chart, ui
from dashboard.data import Row, by, read

REFRESH = 10


def page() -> None:
    """The page."""
    title, run_picker, split_picker = st.columns([4, 3, 2], vertical_alignment="bottom")
    title.title("Scores by attribute", anchor=False)
    runs = read("run_summaries")
    scored = runs[(runs["kind"] == "trained") & runs["split"].notna()] if len(runs) else runs
    if not len(scored):
        ui.empty("No scores yet", "No run of this project has been evaluated. To train and evaluate one:")
        ui.watch(REFRESH / 2)
        return
    scored = scored.assign(key=scored["run_id"].astype(str), on=scored["evaluated_on"] + "/" + scored["split"])
    by_run = by(scored, "key")
    with run_picker:
        key = ui.choose("Run", list(by_run), "run", lambda k: ui.run_name(by_run[k]))
    splits = by(scored[scored["key"] == key].sort_values("split"), "on")
    with split_picker:
        on = ui.choose("Evaluated on", list(splits), "on", lambda o: o.replace("/", " · "))
    ui.write_address(run=key, on=on)
    run = splits[on]
    for dataset, real in {(run["trained_on"], run["is_coconut"]), (run["evaluated_on"], run["evaluated_on_coconut"])}:
        if not pd.isna(real) and not real:
            ui.not_coconut(dataset)
    _overall(run)
    _by_attribute(read("attribute_scores", run["run_id"], run["evaluated_on"], run["split"]))
    ui.watch(REFRESH)


def _overall(run: Row) -> None:
    cells = f"n = {ui.count(run['decisions'])} cells"
    cards = [
        (
            "mAP",
            ui.number(run["map"]),
            f"95 % interval {ui.interval(run['map_low'], run['map_high'])}",
            f"baseline: prior {ui.number(run['prior_map'])}",
        ),
        (
            "Accuracy",
            ui.percent(run["accuracy"]),
            f"95 % interval {ui.interval(run['accuracy_low'], run['accuracy_high'], ui.percent)}",
            f"baselines: prior {ui.percent(run['prior_accuracy'])}, "
            f"all absent {ui.percent(run['all_absent_accuracy'])}",
        ),
        (
            "Known cells",
            ui.count(run["decisions"]),
            f"of {ui.count(run['images'] * len(ATTRIBUTES))} in the {run['split']} split",
            "unknown cells are skipped",
        ),
        (
            "Images",
            ui.count(run["images"]),
            f"{run['split']} split of {run['evaluated_on']}",
            f"trained on {ui.count(run['train_images'])}",
        ),
    ]
    for column, (label, value, *notes) in zip(st.columns(len(cards)), cards, strict=True):
        with column:
            ui.card(label, value, *notes)
    verdicts = [
        _verdict("mAP", run["map"], run["map_low"], run["map_high"], run["prior_map"], ui.number),
        _verdict("Accuracy", run["accuracy"], run["accuracy_low"], run["accuracy_high"], run["prior_accuracy"]),
    ]
    basis = f"Both on {cells}, {ui.count(run['images'])} images."
    st.write(" ".join([*filter(None, verdicts), basis]))
    if masks := ui.masks_from(run["evaluated_on"]):
        st.caption(masks)


def _verdict(name: str, value: float, low: float, high: float, baseline: float, show=ui.percent) -> str:
    """One sentence that sets a score beside the baseline that is hardest to beat."""
    if any(pd.isna(x) for x in (value, low, high, baseline)):
        return ""
    where = "lies above" if low > baseline else "lies below" if high < baseline else "**contains**"
    return f"{name} {show(value)}: its 95 % interval {where} the prior baseline ({show(baseline)})."


def _by_attribute(scores: pd.DataFrame) -> None:
    if not len(scores):
        ui.empty("No scores by attribute", "This run has overall scores only.", None)
        return
    st.subheader("By attribute", anchor=False)
    table = ui.in_label_order(scores, ui.choose_groups())
    height = charts.height(charts.grouped(table["attribute"].tolist()))
    charts.legend(score_chart.LEGEND)
    accuracy, precision = st.columns(2, gap="medium")
    with accuracy:
        charts.show(
            score_chart.score_chart(table, score_chart.ACCURACY),
            height,
            "Accuracy of each attribute with its 95 % interval, beside the prior and all-absent baselines",
            "accuracy chart",
        )
    with precision:
        charts.show(
            score_chart.score_chart(table, score_chart.PRECISION),
            height,
            "Average precision of each attribute with its 95 % interval, beside the prior baseline",
            "precision chart",
        )
    st.caption(
        "n: known cells. Baselines: **prior** decides as the majority of the training labels (for average precision: "
        "the share of present cells, which is what any constant score reaches); **all absent** says no to everything. "
        f"Pale, †: fewer than {score_chart.FEW} known cells. Average precision is undefined where the known cells "
        "are all of one state. Accuracy is at 0.5; precision, recall and F1 are at the threshold chosen on val (older "
        "runs: 0.5)."
    )
    _table(table)


def _table(table: pd.DataFrame) -> None:
    few = table["attribute"].where(table["n"] >= score_chart.FEW, table["attribute"] + score_chart.FEW_MARK)
    shown = table[["attribute", "group_name", "n", "positives"]].assign(attribute=few)
    for name in ("accuracy", "prior_accuracy", "all_absent_accuracy"):
        shown[name] = 100 * table[name]
    shown.insert(5, "accuracy_interval", ui.intervals(table, "accuracy", ui.percent))
    for name in ("ap", "prior_ap", "precision", "recall", "f1"):
        shown[name] = table[name]
    shown.insert(9, "ap_interval", ui.intervals(table, "ap", ui.number))
    share: dict[str, Any] = {"format": "%.1f %%", "width": 88}
    score: dict[str, Any] = {"format": "%.3f", "width": 88}
    st.dataframe(
        shown,
        hide_index=True,
        height=min(35 * len(shown) + 38, 700),
        placeholder="undefined",
        column_config={
            "group_name": st.column_config.TextColumn("group", width=100),
            "n": st.column_config.NumberColumn("n", help="known cells"),
            "positives": st.column_config.NumberColumn("present", help="known cells that are present"),
            "accuracy": st.column_config.NumberColumn("accuracy", **share),
            "accuracy_interval": "95 % interval",
            "prior_accuracy": st.column_config.NumberColumn("prior", **share),
            "all_absent_accuracy": st.column_config.NumberColumn("all absent", **share),
            "ap": st.column_config.NumberColumn("AP", **score),
            "ap_interval": "95 % interval of AP",
            "prior_ap": st.column_config.NumberColumn("prior AP", **score),
            "precision": st.column_config.NumberColumn("precision", **score),
            "recall": st.column_config.NumberColumn("recall", **score),
            "f1": st.column_config.NumberColumn("F1", **score),
        },
    )
