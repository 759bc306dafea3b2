"""The chart of one figure over the epochs of some runs, with the report's ten epochs and lines to compare with."""

from dataclasses import dataclass, field
from typing import Any

import altair as alt
import pandas as pd

from dashboard.charts import common
from dashboard.i18n import _

REPORT_DASH = [6, 4]


@dataclass(frozen=True)
class Line:
    """A horizontal line to compare with, and its label."""

    value: float
    label: str
    color: str = common.GREY


@dataclass(frozen=True)
class Figure:
    """A figure to draw: its columns in `epoch_curve` (the first is drawn fully, a further one dotted).

    Attributes:
        reported: the column that the report gives for it, if it does.
    """

    title: str
    columns: tuple[str, ...]
    tick_format: str
    reported: str | None = None
    share: bool = False
    zero: bool = False
    padding: int = 24
    lines: list[Line] = field(default_factory=list)


def curve_chart(
    curves: pd.DataFrame,
    report: pd.DataFrame,
    figure: Figure,
    colors: dict[str, str],
    report_label: str,
) -> common.Layered:
    """The chart.

    Args:
        curves: rows of `epoch_curve` with `name`, by which `colors` has each run's colour.
        report: those of the reported run, empty if it is not to be drawn.
    """
    epochs = int(max([*curves["epoch"], *report["epoch"], 1]))
    ticks = alt.Axis(title=_("epoch"), format="d", values=_whole(epochs), grid=False)
    x = alt.X(
        "epoch:Q", scale=alt.Scale(domain=[1, max(2, epochs)], nice=False, padding=12), axis=ticks
    )
    # A share is drawn from 0 to 1, so that no small change looks large; a loss has no such ends.
    scale = (
        alt.Scale(domain=[0, 1])
        if figure.share
        else alt.Scale(zero=figure.zero, nice=True, padding=figure.padding)
    )
    label = f"datum.value === 0 ? '0' : format(datum.value, '{figure.tick_format}')"
    axis = alt.Axis(title=None, labelExpr=label, tickCount=5)

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", scale=scale, axis=axis)

    layers: list[Any] = []
    for line in figure.lines:
        at = pd.DataFrame({"at": [line.value], "epoch": [max(2, epochs)], "label": [line.label]})
        layers.append(
            alt.Chart(at)
            .mark_rule(color=line.color, strokeWidth=1, strokeDash=[2, 3])
            .encode(y=y("at"))
        )
        text = alt.Chart(at).mark_text(
            align="right", baseline="top", dx=8, dy=4, fontSize=11, color=line.color
        )
        layers.append(text.encode(x=x, y=y("at"), text="label:N"))
    if figure.reported and len(report):
        layers += _report(report, figure, x, y(figure.reported), report_label)
    scale_of_colors = alt.Scale(domain=list(colors), range=list(colors.values()))
    for place, column in enumerate(figure.columns):
        known = curves[curves[column].notna()] if len(curves) else curves
        if not len(known):
            continue
        base = alt.Chart(known).encode(
            x=x,
            y=y(column),
            color=alt.Color("name:N", scale=scale_of_colors, legend=None),
            tooltip=_tooltip(known),
        )
        dotted: dict[str, Any] = {"strokeDash": [1, 3]} if place else {}
        layers += [
            base.mark_line(strokeWidth=2, **dotted),
            base.mark_point(filled=True, opacity=1, size=24 if place else 42),
        ]
    return alt.layer(*layers)


def _report(report: pd.DataFrame, figure: Figure, x: alt.X, y: alt.Y, label: str) -> list[Any]:
    tooltip = [
        alt.Tooltip("name:N", title=_("run")),
        alt.Tooltip("epoch:Q", title=_("epoch")),
        alt.Tooltip("loss:Q", title=_("loss"), format=".4f"),
        alt.Tooltip("accuracy:Q", title=_("accuracy"), format=".2%"),
        alt.Tooltip("decisions:Q", title=_("decisions")),
    ]
    base = alt.Chart(report).encode(x=x, y=y, tooltip=tooltip)
    column = figure.reported or ""
    last = report[report["epoch"] == report["epoch"].max()]
    last = last.assign(
        label=label, **{column: report[column].max()}
    )  # above the whole line, so that it crosses none
    text = alt.Chart(last).mark_text(
        align="right", baseline="bottom", dx=6, dy=-7, fontSize=11, color=common.GREY
    )
    return [
        base.mark_line(strokeWidth=2, strokeDash=REPORT_DASH, color=common.GREY),
        base.mark_point(filled=True, opacity=1, size=22, color=common.GREY),
        text.encode(x=x, y=y, text="label:N"),
    ]


def _tooltip(known: pd.DataFrame) -> list[alt.Tooltip]:
    fields = [
        ("loss", _("training loss"), ".4f"),
        ("val_loss", _("val loss"), ".4f"),
        ("accuracy", _("val accuracy"), ".1%"),
        ("map", _("val mAP"), ".3f"),
        ("decisions", _("known val cells"), ","),
        ("val_images", _("val images"), ","),
        ("learning_rate", _("learning rate"), ".2e"),
        ("images_per_second", _("images a second"), ".1f"),
    ]
    fields = [field for field in fields if known[field[0]].notna().any()]
    shown = [alt.Tooltip(f"{name}:Q", title=title, format=form) for name, title, form in fields]
    return [alt.Tooltip("name:N", title=_("run")), alt.Tooltip("epoch:Q", title=_("epoch")), *shown]


def _whole(epochs: int) -> list[int]:
    step = max(1, -(-epochs // 10))
    return sorted({1, *range(step, epochs + 1, step)})
