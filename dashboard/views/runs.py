"""Runs: how they learn, beside the report's ten epochs, and what they were made from."""

import math

import pandas as pd
import streamlit as st

from dashboard import formats
from dashboard.charts import common
from dashboard.charts.curves import Measure, ReferenceLine, curve_chart
from dashboard.data import Row, read, rows_by, run_to_show
from dashboard.i18n import _, paragraph
from dashboard.parts import layout, notices, pickers
from dashboard.parts.run_tables import run_details, runs_table
from db.runs import epoch_curves, run_summaries

REFRESH = 10  # seconds
REFRESH_RUNNING = 2
BASELINES = ["val_all_absent_accuracy", "val_prior_accuracy", "val_prior_map"]


def page() -> None:
    """Show the curves of the chosen runs and of the report, all runs, and their details."""
    (picker,) = layout.header(_("Epoch curves"), 6)
    summaries = read(run_summaries)
    runs = rows_by(summaries, "run_id")
    curves = read(epoch_curves)
    report = curves
    if len(curves):
        report = curves[curves["kind"] == "reported"].assign(name=_("report"))
    trained = {run_id: run for run_id, run in runs.items() if run["kind"] == "trained"}
    chosen: list[int] = []
    if trained:
        with picker:
            chosen = _choose_runs(trained)
    else:
        notices.empty(
            _("No run of this project yet"),
            _("The report's ten epochs are drawn below. To train a model beside them:"),
        )
    if not runs:
        layout.watch(REFRESH / 2)
        return
    names = {run_id: layout.run_name(trained[run_id]) for run_id in chosen}
    colors = {name: common.SERIES[k % len(common.SERIES)] for k, name in enumerate(names.values())}
    curves = curves[curves["run_id"].isin(chosen)].assign(name=lambda t: t["run_id"].map(names))
    is_coconut = {trained[run_id]["trained_on"]: trained[run_id]["is_coconut"] for run_id in chosen}
    for dataset in sorted(is_coconut):
        if is_coconut[dataset] == 0:
            notices.not_coconut(dataset)
    _legend(curves, trained, names, colors)
    for dataset in sorted(is_coconut):
        if origins := notices.mask_origins(dataset):
            st.caption(origins)
    _charts(curves, report, colors)
    _download(pd.concat([curves, report]))
    runs_table(summaries)
    for run_id, run in runs.items():
        if run["kind"] == "reported" or run_id in chosen:
            run_details(run_id, names.get(run_id, _("the report")))
    running = any(run["status"] == "running" for run in trained.values())
    layout.watch(REFRESH_RUNNING if running else REFRESH)


def _report_name() -> str:
    return _("report, n = 5 images (170 decisions)")


def _choose_runs(trained: dict[int, Row]) -> list[int]:
    """Let the user choose runs; at first those of the address, else running ones and the shown.

    Archived runs are offered only where the address has them.
    """
    key = "choices of runs"
    asked = (pickers.requested("runs") or "").split(",")
    if key not in st.session_state and asked == [""]:
        running = [str(run_id) for run_id, run in trained.items() if run["status"] == "running"]
        shown = run_to_show()
        st.session_state[key] = [*running, *([str(shown)] if shown in trained else [])] or [
            str(next(iter(trained)))
        ]
    chosen = pickers.choose_many(
        _("Runs"),
        [
            str(run_id)
            for run_id, run in trained.items()
            if not run["archived"] or str(run_id) in asked
        ],
        "runs",
        lambda run: layout.run_name(trained[int(run)]),
        placeholder=_("Choose runs to draw"),
    )
    return [int(run) for run in chosen]


def _legend(
    curves: pd.DataFrame, runs: dict[int, Row], names: dict[int, str], colors: dict[str, str]
) -> None:
    """Show one legend for all four charts, with the n of each curve."""
    entries = []
    for run_id, name in names.items():
        rows = curves[curves["run_id"] == run_id]
        n = _("n = {n} val images", n=formats.count(runs[run_id]["val_images"]))
        if len(rows):
            n += " " + _("({n} labelled cells)", n=formats.count(rows["decisions"].iloc[-1]))
        status = _status(runs[run_id], rows)
        entries.append(common.Entry("line", colors[name], f"{name}, {n}", status))
    entries.append(common.Entry("dashed", common.GREY, _report_name(), _("not reproduced here")))
    common.legend(entries)


def _status(run: Row, rows: pd.DataFrame) -> str:
    done = int(rows["epoch"].max()) if len(rows) else 0
    if layout.is_interrupted(run):
        return _(
            "interrupted after epoch {epoch}; to resume: coconut-attr train --resume {run}",
            epoch=done,
            run=run["run_id"],
        )
    if run["status"] == "running":
        return _("running, epoch {epoch} done", epoch=done)
    status = _(run["status"])
    if pd.isna(run["best_epoch"]):
        return _("{status}, {epochs} epochs", status=status, epochs=done)
    return _(
        "{status}, {epochs} epochs, checkpoint of epoch {best}",
        status=status,
        epochs=done,
        best=int(run["best_epoch"]),
    )


def _charts(curves: pd.DataFrame, report: pd.DataFrame, colors: dict[str, str]) -> None:
    with_training = st.toggle(_("Draw the training loss too"), key="training loss")
    lines, note = _baseline_lines(curves)
    loss = Measure(
        _("val loss, and training loss (dotted)") if with_training else _("val loss"),
        ("val_loss", "loss") if with_training else ("val_loss",),
        ".2f",
        reported="loss",
        lines=[ReferenceLine(math.log(2), _("chance (ln 2)"))],
    )
    accuracy = Measure(
        _("val accuracy"),
        ("accuracy",),
        ".0%",
        reported="accuracy",
        share=True,
        lines=lines["accuracy"],
    )
    mean_ap = Measure(_("val mAP"), ("map",), ".1f", share=True, lines=lines["map"])
    rate = Measure(_("learning rate"), ("learning_rate",), "~e", zero=True, padding=0)
    not_reported = _("The report gives none.")
    captions = [
        (
            loss,
            _(
                "Val loss: binary cross-entropy over all cells, each by how sure its label is. "
                "Training loss is of mixed images (mixup), and adds a contrastive term for an "
                "attention head. The report does not say how its loss is defined. Losses of "
                "different definitions or datasets are not comparable."
            ),
        ),
        (
            accuracy,
            paragraph(
                _(
                    "Share of labelled cells at which the model agrees with our labels, which err, "
                    "at the threshold 0.5."
                ),
                note,
            ),
        ),
        (
            mean_ap,
            paragraph(
                _(
                    "Mean of the average precisions of all attributes with both states, however "
                    "few their cells; against our labels, which err."
                ),
                note,
                not_reported,
            ),
        ),
        (rate, paragraph(_("At the start of the epoch."), not_reported)),
    ]
    for pair in (captions[:2], captions[2:]):
        for column, (measure, caption) in zip(st.columns(2, gap="medium"), pair, strict=True):
            with column:
                _chart(curves, report, measure, colors, caption)


def _chart(
    curves: pd.DataFrame,
    report: pd.DataFrame,
    measure: Measure,
    colors: dict[str, str],
    caption: str,
) -> None:
    st.markdown(f"**{measure.title[0].upper()}{measure.title[1:]}**")
    has_values = len(curves) and curves[list(measure.columns)].notna().any(axis=None)
    if has_values or (measure.reported and len(report)):
        chart = curve_chart(curves, report, measure, colors, _report_name())
        description = _("{figure} over epochs", figure=measure.title)
        common.show(chart, 300, description, f"{measure.columns[0]} chart")
    else:
        with st.container(
            height=300, border=True, horizontal_alignment="center", vertical_alignment="center"
        ):
            st.caption(_("Nothing to draw yet."))
    st.caption(caption)


def _baseline_lines(curves: pd.DataFrame) -> tuple[dict[str, list[ReferenceLine]], str]:
    """Return the baselines of the runs' val split as lines by measure, and a note about them.

    There are no lines unless all runs were scored on the same cells.
    """
    lines: dict[str, list[ReferenceLine]] = {"accuracy": [], "map": []}
    if not len(curves):
        return lines, ""
    known = curves[["dataset", "decisions", *BASELINES]].drop_duplicates()
    if len(known) > 1 or known["val_prior_accuracy"].isna().any():
        return lines, _(
            "No baselines drawn: the runs were scored on different labels, or by an older version."
        )
    row = known.iloc[0]
    prior = _("prior {value}", value=formats.percent(row["val_prior_accuracy"]))
    absent = _("all absent {value}", value=formats.percent(row["val_all_absent_accuracy"]))
    lines["accuracy"] = [
        ReferenceLine(row["val_prior_accuracy"], prior, common.AMBER),
        ReferenceLine(row["val_all_absent_accuracy"], absent),
    ]
    if not pd.isna(row["val_prior_map"]):
        prior = _("prior {value}", value=formats.number(row["val_prior_map"]))
        lines["map"] = [ReferenceLine(row["val_prior_map"], prior, common.AMBER)]
    return lines, _("Baselines on the same {n} known val cells.", n=formats.count(row["decisions"]))


def _download(curves: pd.DataFrame) -> None:
    against = curves["kind"].map({"trained": "labels"})  # the report does not say
    st.caption(_("To save a chart as PNG, point at it and use its toolbar."))
    st.download_button(
        _("Download the curves (CSV)"),
        formats.csv(curves.drop(columns="name").assign(against=against)),
        "epoch_curves.csv",
        "text/csv",
        icon=":material/download:",
    )
