"""Runs: how they learn, with the report's ten epochs beside them, and what they were made from."""

import math

import pandas as pd
import streamlit as st

from dashboard import formats
from dashboard.charts import common
from dashboard.charts.curves import Figure, Line, curve_chart
from dashboard.data import Row, by, read, read_counts
from dashboard.figures.baselines import val_baselines
from dashboard.i18n import _
from dashboard.parts import layout, notices, pickers
from dashboard.parts.run_tables import details, runs_table
from db import counts
from db.runs import epoch_curves, run_summaries

RUNNING_REFRESH = 2  # seconds
IDLE_REFRESH = 10


def _report_name() -> str:
    return _("report, n = 5 images (170 decisions)")


def page() -> None:
    """The page."""
    (picker,) = layout.header(_("Epoch curves"), 6)
    summaries = read(run_summaries)
    runs = by(summaries, "run_id")
    curves = read(epoch_curves)
    report = (
        curves[curves["kind"] == "reported"].assign(name=_("report")) if len(curves) else curves
    )
    trained = {key: run for key, run in runs.items() if run["kind"] == "trained"}
    if not trained:
        notices.empty(
            _("No run of this project yet"),
            _("The report's ten epochs are drawn below. To train a model beside them:"),
        )
        chosen: list[int] = []
    else:
        with picker:
            chosen = _choose_runs(trained)
    if not runs:
        layout.watch(IDLE_REFRESH / 2)
        return
    names = {key: layout.run_name(trained[key]) for key in chosen}
    colors = {
        name: common.SERIES[place % len(common.SERIES)] for place, name in enumerate(names.values())
    }
    drawn = curves[curves["run_id"].isin(chosen)].assign(name=lambda t: t["run_id"].map(names))
    for dataset in sorted(
        {trained[key]["trained_on"] for key in chosen if trained[key]["is_coconut"] == 0}
    ):
        notices.not_coconut(dataset)
    _legend(drawn, trained, names, colors)
    for dataset in sorted({trained[key]["trained_on"] for key in chosen}):
        if masks := notices.masks_from(dataset):
            st.caption(masks)
    _charts(drawn, report, colors)
    _download(pd.concat([drawn, report]))
    runs_table(summaries)
    for key, run in runs.items():
        if run["kind"] == "reported" or key in chosen:
            details(key, names.get(key, _("the report")))
    running = any(run["status"] == "running" for run in trained.values())
    layout.watch(RUNNING_REFRESH if running else IDLE_REFRESH)


def _choose_runs(trained: dict[int, Row]) -> list[int]:
    """The runs to draw: those that the address names, else the newest."""
    key = "choices of runs"
    if key not in st.session_state and not pickers.asked("runs"):
        st.session_state[key] = [str(next(iter(trained)))]
    chosen = pickers.choose_many(
        _("Runs"),
        [str(run) for run in trained],
        "runs",
        lambda run: _("Run {run}", run=run) + f" · {trained[int(run)]['backbone']}",
        placeholder=_("Choose runs to draw"),
    )
    return [int(run) for run in chosen]


def _legend(
    drawn: pd.DataFrame, runs: dict[int, Row], names: dict[int, str], colors: dict[str, str]
) -> None:
    """One legend for all four charts; it says the n of each curve."""
    entries = []
    for key, name in names.items():
        rows = drawn[drawn["run_id"] == key]
        n = _("n = {n} val images", n=formats.count(runs[key]["val_images"]))
        if len(rows):
            n += " " + _("({n} known cells)", n=formats.count(rows["decisions"].iloc[-1]))
        entries.append(
            common.Entry("line", colors[name], f"{name}, {n}", _progress(runs[key], rows))
        )
    entries.append(common.Entry("dashed", common.GREY, _report_name(), _("not reproduced here")))
    common.legend(entries)


def _progress(run: Row, rows: pd.DataFrame) -> str:
    done = int(rows["epoch"].max()) if len(rows) else 0
    if run["status"] == "running":
        return _("running, epoch {epoch} done", epoch=done)
    told = _("{status}, {epochs} epochs", status=_(run["status"]), epochs=done)
    if pd.notna(run["best_epoch"]):
        told += ", " + _("checkpoint of epoch {epoch}", epoch=int(run["best_epoch"]))
    return told


def _charts(drawn: pd.DataFrame, report: pd.DataFrame, colors: dict[str, str]) -> None:
    with_training = st.toggle(_("Draw the training loss too"), key="training loss")
    lines, note = _baseline_lines(drawn)
    figures = [
        Figure(
            _("val loss, and training loss (dotted)") if with_training else _("val loss"),
            ("val_loss", "loss") if with_training else ("val_loss",),
            ".2f",
            reported="loss",
            lines=[Line(math.log(2), _("chance (ln 2)"))],
        ),
        Figure(
            _("val accuracy"),
            ("accuracy",),
            ".0%",
            reported="accuracy",
            share=True,
            lines=lines["accuracy"],
        ),
        Figure(_("val mAP"), ("map",), ".1f", share=True, lines=lines["map"]),
        Figure(_("learning rate"), ("learning_rate",), "~e", zero=True, padding=0),
    ]
    captions = [
        _(
            "Val loss: binary cross-entropy over known cells. Training loss adds a contrastive term and smooths the "
            "labels. How the report's loss is defined is not stated. Losses of different definitions or datasets are "
            "not comparable."
        ),
        _("Share of known cells decided rightly at 0.5.") + " " + note,
        _("Mean over attributes of the average precision.")
        + " "
        + note
        + " "
        + _("The report gives none."),
        _("At the start of the epoch.") + " " + _("The report gives none."),
    ]
    for start in (0, 2):
        for column, place in zip(st.columns(2, gap="medium"), (start, start + 1), strict=True):
            with column:
                _one(drawn, report, figures[place], colors, captions[place])


def _one(
    drawn: pd.DataFrame, report: pd.DataFrame, figure: Figure, colors: dict[str, str], caption: str
) -> None:
    st.markdown(f"**{figure.title[0].upper()}{figure.title[1:]}**")
    known = len(drawn) and drawn[list(figure.columns)].notna().any(axis=None)
    if known or (figure.reported and len(report)):
        chart = curve_chart(drawn, report, figure, colors, _report_name())
        described = _("{figure} over epochs", figure=figure.title)
        common.show(chart, 300, described, f"{figure.columns[0]} chart")
    else:
        with st.container(
            height=300, border=True, horizontal_alignment="center", vertical_alignment="center"
        ):
            st.caption(_("Nothing to draw yet."))
    st.caption(caption)


def _baseline_lines(drawn: pd.DataFrame) -> tuple[dict[str, list[Line]], str]:
    """The trivial baselines on the val split of the drawn runs, where all were scored on the same cells."""
    lines: dict[str, list[Line]] = {"accuracy": [], "map": []}
    if not len(drawn):
        return lines, ""
    datasets, decisions = drawn["dataset"].unique(), drawn["decisions"].unique()
    one = len(datasets) == len(decisions) == 1
    known = val_baselines(read_counts(counts.label_counts, datasets[0])) if one else None
    if known is None or known.cells != decisions[0]:
        return lines, _(
            "No baselines drawn: the runs were scored on different labels, or on labels made anew since."
        )
    lines["accuracy"] = [
        Line(
            known.accuracy, _("prior {value}", value=formats.percent(known.accuracy)), common.AMBER
        ),
        Line(known.all_absent, _("all absent {value}", value=formats.percent(known.all_absent))),
    ]
    if known.map is not None:
        lines["map"] = [
            Line(known.map, _("prior {value}", value=formats.number(known.map)), common.AMBER)
        ]
    return lines, _("Baselines on the same {n} known val cells.", n=formats.count(known.cells))


def _download(curves: pd.DataFrame) -> None:
    text = curves.drop(columns="name").to_csv(index=False)
    st.caption(_("The toolbar of a chart, which appears when it is pointed at, saves it as PNG."))
    st.download_button(
        _("Download the curves (CSV)"),
        text,
        "epoch_curves.csv",
        "text/csv",
        icon=":material/download:",
    )
