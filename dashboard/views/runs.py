"""Epoch curves: how the runs learn, with the report's ten epochs beside them."""

import math

import pandas as pd
import streamlit as st

from dashboard import charts, ui
from dashboard.baselines import val_baselines
from dashboard.curve_chart import Figure, Line, curve_chart
from dashboard.data import Row, by, read, read_labels
from dashboard.run_tables import details, runs_table

RUNNING_REFRESH = 2  # seconds
IDLE_REFRESH = 10
REPORT = "report, n = 5 images (170 decisions)"


def page() -> None:
    """The page."""
    title, picker = st.columns([2, 3], vertical_alignment="bottom")
    title.title("Epoch curves", anchor=False)
    summaries = read("run_summaries")
    runs = by(summaries, "run_id")
    curves = read("epoch_curves")
    report = curves[curves["kind"] == "reported"].assign(name="report") if len(curves) else curves
    trained = {key: run for key, run in runs.items() if run["kind"] == "trained"}
    if not trained:
        ui.empty("No run of this project yet", "The report's ten epochs are drawn below. To train a model beside them:")
        chosen: list[int] = []
    else:
        with picker:
            chosen = _choose_runs(trained)
    if not runs:
        ui.watch(IDLE_REFRESH / 2)
        return
    names = {key: ui.run_name(trained[key]) for key in chosen}
    colors = {name: charts.SERIES[place % len(charts.SERIES)] for place, name in enumerate(names.values())}
    drawn = curves[curves["run_id"].isin(chosen)].assign(name=lambda t: t["run_id"].map(names))
    for dataset in sorted({trained[key]["trained_on"] for key in chosen if trained[key]["is_coconut"] == 0}):
        ui.not_coconut(dataset)
    _legend(drawn, trained, names, colors)
    for dataset in sorted({trained[key]["trained_on"] for key in chosen}):
        if masks := ui.masks_from(dataset):
            st.caption(masks)
    _charts(drawn, report, colors)
    _download(pd.concat([drawn, report]))
    runs_table(summaries)
    for key, run in runs.items():
        if run["kind"] == "reported" or key in chosen:
            details(key, names.get(key, "the report"))
    running = any(run["status"] == "running" for run in trained.values())
    ui.watch(RUNNING_REFRESH if running else IDLE_REFRESH)


def _choose_runs(trained: dict[int, Row]) -> list[int]:
    """The runs to draw: those that the address names, else the newest."""
    ids = list(trained)
    if "chosen runs" not in st.session_state:
        named = [int(part) for part in st.query_params.get("runs", "").split(",") if part.isdigit()]
        kept = st.session_state.get("kept runs", [])
        st.session_state["chosen runs"] = [run for run in named or kept if run in ids] or ids[:1]
    chosen = st.multiselect(
        "Runs",
        ids,
        key="chosen runs",
        format_func=lambda key: f"Run {key} · {trained[key]['backbone']}",
        placeholder="Choose runs to draw",
    )
    st.session_state["kept runs"] = chosen
    ui.write_address(runs=",".join(map(str, chosen)))
    return chosen


def _legend(drawn: pd.DataFrame, runs: dict[int, Row], names: dict[int, str], colors: dict[str, str]) -> None:
    """One legend for all four charts; it says the n of each curve."""
    entries = []
    for key, name in names.items():
        rows = drawn[drawn["run_id"] == key]
        n = f"n = {ui.count(runs[key]['val_images'])} val images"
        if len(rows):
            n += f" ({ui.count(rows['decisions'].iloc[-1])} known cells)"
        entries.append(charts.Entry("line", colors[name], f"{name}, {n}", _progress(runs[key], rows)))
    entries.append(charts.Entry("dashed", charts.GREY, REPORT, "not reproduced here"))
    charts.legend(entries)


def _progress(run: Row, rows: pd.DataFrame) -> str:
    done = int(rows["epoch"].max()) if len(rows) else 0
    if run["status"] == "running":
        return f"running, epoch {done} done"
    best = f", checkpoint of epoch {int(run['best_epoch'])}" if pd.notna(run["best_epoch"]) else ""
    return f"{run['status']}, {done} epochs{best}"


def _charts(drawn: pd.DataFrame, report: pd.DataFrame, colors: dict[str, str]) -> None:
    with_training = st.toggle("Draw the training loss too", key="training loss")
    lines, note = _baseline_lines(drawn)
    figures = [
        Figure(
            "val loss, and training loss (dotted)" if with_training else "val loss",
            ("val_loss", "loss") if with_training else ("val_loss",),
            ".2f",
            reported="loss",
            lines=[Line(math.log(2), "chance (ln 2)")],
        ),
        Figure("val accuracy", ("accuracy",), ".0%", reported="accuracy", share=True, lines=lines["accuracy"]),
        Figure("val mAP", ("map",), ".1f", share=True, lines=lines["map"]),
        Figure("learning rate", ("learning_rate",), "~e", zero=True, padding=0),
    ]
    captions = [
        "Val loss: binary cross-entropy over known cells. Training loss adds a contrastive term and smooths the "
        "labels. How the report's loss is defined is not stated. Losses of different definitions or datasets are not "
        "comparable.",
        f"Share of known cells decided rightly at 0.5. {note}",
        f"Mean over attributes of the average precision. {note} The report gives none.",
        "At the start of the epoch. The report gives none.",
    ]
    for start in (0, 2):
        for column, place in zip(st.columns(2, gap="medium"), (start, start + 1), strict=True):
            with column:
                _one(drawn, report, figures[place], colors, captions[place])


def _one(drawn: pd.DataFrame, report: pd.DataFrame, figure: Figure, colors: dict[str, str], caption: str) -> None:
    st.markdown(f"**{figure.title[0].upper()}{figure.title[1:]}**")
    known = len(drawn) and drawn[list(figure.columns)].notna().any(axis=None)
    if known or (figure.reported and len(report)):
        chart = curve_chart(drawn, report, figure, colors, REPORT)
        charts.show(chart, 300, f"{figure.title} over epochs", f"{figure.columns[0]} chart")
    else:
        with st.container(height=300, border=True, horizontal_alignment="center", vertical_alignment="center"):
            st.caption("Nothing to draw yet.")
    st.caption(caption)


def _baseline_lines(drawn: pd.DataFrame) -> tuple[dict[str, list[Line]], str]:
    """The trivial baselines on the val split of the drawn runs, where all were scored on the same cells."""
    lines: dict[str, list[Line]] = {"accuracy": [], "map": []}
    if not len(drawn):
        return lines, ""
    datasets, decisions = drawn["dataset"].unique(), drawn["decisions"].unique()
    known = val_baselines(read_labels("label_counts", datasets[0])) if len(datasets) == len(decisions) == 1 else None
    if known is None or known.cells != decisions[0]:
        return lines, "No baselines drawn: the runs were scored on different labels, or on labels made anew since."
    lines["accuracy"] = [
        Line(known.accuracy, f"prior {ui.percent(known.accuracy)}", charts.AMBER),
        Line(known.all_absent, f"all absent {ui.percent(known.all_absent)}"),
    ]
    if known.map is not None:
        lines["map"] = [Line(known.map, f"prior {ui.number(known.map)}", charts.AMBER)]
    return lines, f"Baselines on the same {ui.count(known.cells)} known val cells."


def _download(curves: pd.DataFrame) -> None:
    text = curves.drop(columns="name").to_csv(index=False)
    st.download_button("Download the curves (CSV)", text, "epoch_curves.csv", "text/csv", icon=":material/download:")
