"""The chart of one score of each attribute: its value and interval, beside the trivial baselines."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import altair as alt
import pandas as pd

from dashboard import charts, ui
from dashboard.data import Row, by

FEW = 10  # known cells below which an attribute's scores say little
FEW_MARK = " †"
MODEL = "model, 95 % interval"
COLORS = {MODEL: charts.ACCENT, "prior": charts.AMBER, "all present": charts.AMBER, "all absent": charts.GREY}
SHAPES = {MODEL: "circle", "prior": "diamond", "all present": "diamond", "all absent": "triangle-up"}
LEGEND = (
    charts.Entry("interval", charts.ACCENT, MODEL),
    charts.Entry("diamond", charts.AMBER, "prior baseline"),
    charts.Entry("triangle", charts.GREY, "all-absent baseline", "accuracy only"),
)


def why_undefined(row: Row) -> str:
    """Why a score of an attribute has no value."""
    if not row["n"]:
        return "undefined: no known cell"
    if row["positives"] == row["n"]:
        return f"undefined: all {ui.count(row['n'])} present"
    if not row["positives"]:
        return f"undefined: all {ui.count(row['n'])} absent"
    return "undefined"


@dataclass(frozen=True)
class Scored:
    """A score to draw: its column, the columns of its baselines by their names, and how its counts are called."""

    title: str
    column: str
    baselines: dict[str, str]
    tick_format: str
    counts: dict[str, str] = field(default_factory=lambda: {"n": "known cells", "positives": "of them present"})
    why: Callable[[Row], str] = why_undefined

    def show(self, value: float) -> str:
        return ui.percent(value) if self.tick_format == ".0%" else ui.number(value)


ACCURACY = Scored(
    "accuracy", "accuracy", {"prior": "prior_accuracy", "all absent": "all_absent_accuracy"}, tick_format=".0%"
)
PRECISION = Scored("average precision", "ap", {"prior": "prior_ap"}, tick_format=".2~f")


def score_chart(table: pd.DataFrame, score: Scored) -> charts.Layered:
    """The chart.

    Args:
        table: rows of `attribute_accuracy`, or others with the columns that the score names, in label order.
    """
    rows = charts.grouped(table["attribute"].tolist())
    low, high = f"{score.column}_low", f"{score.column}_high"
    table = table.assign(
        few=table["n"] < FEW,
        cells=[f"{ui.count(n)}{FEW_MARK if n < FEW else ''}" for n in table["n"]],
        value=table[score.column].map(score.show),
        interval=[ui.interval(*pair, score.show) for pair in zip(table[low], table[high], strict=True)],
        **{f"of {name}": table[column].map(score.show) for name, column in score.baselines.items()},
    )
    defined, undefined = table[table[score.column].notna()], table[table[score.column].isna()]
    undefined = undefined.assign(why=[score.why(row) for row in by(undefined, "attribute").values()])
    tooltip = [
        alt.Tooltip("attribute:N", title="attribute"),
        alt.Tooltip("value:N", title=score.title),
        alt.Tooltip("interval:N", title="95 % interval"),
        *(alt.Tooltip(f"of {name}:N", title=f"{name} baseline") for name in score.baselines),
        *(alt.Tooltip(f"{column}:Q", title=title) for column, title in score.counts.items()),
    ]
    columns = {MODEL: score.column, **score.baselines}
    points = pd.concat([defined.assign(series=name, at=defined[column]) for name, column in columns.items()])
    x_scale = alt.Scale(domain=[0, charts.RIGHT], nice=False)
    axis = alt.Axis(title=score.title, format=score.tick_format, values=[0, 0.25, 0.5, 0.75, 1], domain=False)
    y = charts.attribute_axis(rows)
    pale = alt.condition("datum.few", alt.value(0.4), alt.value(1))
    bars = (
        alt.Chart(defined)
        .mark_rule(strokeWidth=2, color=charts.ACCENT)
        .encode(x=alt.X(f"{low}:Q", scale=x_scale, axis=axis), x2=f"{high}:Q", y=y, opacity=pale, tooltip=tooltip)
    )
    names = list(columns)
    domain: dict[str, Any] = {"domain": names, "range": [COLORS[name] for name in names]}
    shapes: dict[str, Any] = {"domain": names, "range": [SHAPES[name] for name in names]}

    def marks(chosen: pd.Series, **style: Any) -> alt.Chart:
        chart = alt.Chart(points[chosen]).mark_point(**style)
        return chart.encode(
            x=alt.X("at:Q", scale=x_scale, axis=axis),
            y=y,
            color=alt.Color("series:N", scale=alt.Scale(**domain), legend=None),
            shape=alt.Shape("series:N", scale=alt.Scale(**shapes), legend=None),
            opacity=pale,
            tooltip=tooltip,
        )

    # A baseline is an outline around the model's point, so that both are seen where they agree.
    of_model = points["series"] == MODEL
    layers = [
        bars,
        marks(of_model, filled=True, size=40),
        marks(~of_model, filled=False, size=90, strokeWidth=1.6),
        charts.figures(table, "cells", "n", rows, charts.RIGHT),
    ]
    if len(undefined):
        text = alt.Chart(undefined).mark_text(align="left", fontSize=11, fontStyle="italic", color=charts.GREY, dx=4)
        layers.append(text.encode(x=alt.XDatum(0), y=y, text="why:N", tooltip=tooltip))
    return alt.layer(*layers)
