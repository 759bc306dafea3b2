"""The chart of one measure over the epochs of runs, beside the report's and reference lines."""

from dataclasses import dataclass, field
from typing import Any

import altair as alt
import pandas as pd

from dashboard.charts import common
from dashboard.i18n import _

REPORT_DASH = [6, 4]


@dataclass(frozen=True)
class ReferenceLine:
    """A horizontal line to compare with, and its label."""

    value: float
    label: str
    color: str = common.GREY


@dataclass(frozen=True)
class Measure:
    """A measure to draw over epochs.

    Attributes:
        columns: of `epoch_curve`; the first is drawn as a full line, a further one dotted.
        reported: the column that the report gives for it, if any.
        share: draw it from 0 to 1, so that a small change looks small.
        zero: else, let the scale begin at 0.
    """

    title: str
    columns: tuple[str, ...]
    tick_format: str
    reported: str | None = None
    share: bool = False
    zero: bool = False
    padding: int = 24
    lines: list[ReferenceLine] = field(default_factory=list)


def curve_chart(
    curves: pd.DataFrame,
    report: pd.DataFrame,
    measure: Measure,
    colors: dict[str, str],
    report_label: str,
) -> common.Chart:
    """Return the chart of a measure.

    Args:
        curves: rows of `epoch_curve` with `name`, by which `colors` has each run's colour.
        report: rows of the reported run.
    """
    epochs = int(max([*curves["epoch"], *report["epoch"], 1]))
    x_axis = alt.Axis(title=_("epoch"), format="d", values=_ticks(epochs), grid=False)
    x_scale = alt.Scale(domain=[1, max(2, epochs)], nice=False, padding=12)
    x = alt.X("epoch:Q", scale=x_scale, axis=x_axis)
    y_scale = alt.Scale(zero=measure.zero, nice=True, padding=measure.padding)
    if measure.share:
        y_scale = alt.Scale(domain=[0, 1])
    label = f"datum.value === 0 ? '0' : format(datum.value, '{measure.tick_format}')"
    y_axis = alt.Axis(title=None, labelExpr=label, tickCount=5)

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", scale=y_scale, axis=y_axis)

    layers: list[Any] = []
    for line in measure.lines:
        at = pd.DataFrame({"at": [line.value], "epoch": [max(2, epochs)], "label": [line.label]})
        rule = alt.Chart(at).mark_rule(color=line.color, strokeWidth=1, strokeDash=[2, 3])
        text = alt.Chart(at).mark_text(
            align="right", baseline="top", dx=8, dy=4, fontSize=11, color=line.color
        )
        layers += [rule.encode(y=y("at")), text.encode(x=x, y=y("at"), text="label:N")]
    if measure.reported and len(report):
        layers += _report(report, measure.reported, x, y(measure.reported), report_label)
    color_scale = alt.Scale(domain=list(colors), range=list(colors.values()))
    for place, column in enumerate(measure.columns):
        rows = curves[curves[column].notna()] if len(curves) else curves
        if not len(rows):
            continue
        base = alt.Chart(rows).encode(
            x=x,
            y=y(column),
            color=alt.Color("name:N", scale=color_scale, legend=None),
            tooltip=_tooltip(rows),
        )
        dotted: dict[str, Any] = {"strokeDash": [1, 3]} if place else {}
        layers += [
            base.mark_line(strokeWidth=2, **dotted),
            base.mark_point(filled=True, opacity=1, size=24 if place else 42),
        ]
    return alt.layer(*layers)


def _report(report: pd.DataFrame, column: str, x: alt.X, y: alt.Y, label: str) -> list[Any]:
    tooltip = [
        alt.Tooltip("name:N", title=_("run")),
        alt.Tooltip("epoch:Q", title=_("epoch")),
        alt.Tooltip("loss:Q", title=_("loss"), format=".4f"),
        alt.Tooltip("accuracy:Q", title=_("accuracy"), format=".2%"),
        alt.Tooltip("decisions:Q", title=_("decisions")),
    ]
    base = alt.Chart(report).encode(x=x, y=y, tooltip=tooltip)
    last = report[report["epoch"] == report["epoch"].max()]
    # The label stands above the curve's maximum, so that it crosses no part of the curve.
    last = last.assign(label=label, **{column: report[column].max()})
    text = alt.Chart(last).mark_text(
        align="right", baseline="bottom", dx=6, dy=-7, fontSize=11, color=common.GREY
    )
    return [
        base.mark_line(strokeWidth=2, strokeDash=REPORT_DASH, color=common.GREY),
        base.mark_point(filled=True, opacity=1, size=22, color=common.GREY),
        text.encode(x=x, y=y, text="label:N"),
    ]


def _tooltip(rows: pd.DataFrame) -> list[alt.Tooltip]:
    fields = [
        ("loss", _("training loss"), ".4f"),
        ("val_loss", _("val loss"), ".4f"),
        ("accuracy", _("val accuracy"), ".1%"),
        ("map", _("val mAP"), ".3f"),
        ("decisions", _("known val cells"), ","),
        ("val_images", _("val images"), ","),
        ("learning_rate", _("learning rate"), ".2e"),
        ("images_per_second", _("images per second"), ".1f"),
    ]
    return [
        alt.Tooltip("name:N", title=_("run")),
        alt.Tooltip("epoch:Q", title=_("epoch")),
        *(
            alt.Tooltip(f"{name}:Q", title=title, format=tick_format)
            for name, title, tick_format in fields
            if rows[name].notna().any()
        ),
    ]


def _ticks(epochs: int) -> list[int]:
    """Return about ten whole epochs, the first among them."""
    step = max(1, -(-epochs // 10))
    return sorted({1, *range(step, epochs + 1, step)})
