"""The chart of one score of each attribute: its value and interval, beside the trivial baselines."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import altair as alt
import pandas as pd

from dashboard import formats
from dashboard.charts import common
from dashboard.data import Row, by
from dashboard.i18n import N_, _

FEW = 10  # known cells below which an attribute's scores say little
FEW_MARK = " †"
MODEL, OTHER = "model", N_("other run")
PRIOR, ALL_PRESENT, ALL_ABSENT, PROBE = (
    N_("prior"),
    N_("all present"),
    N_("all absent"),
    N_("linear probe"),
)
COLORS = {MODEL: common.ACCENT, OTHER: common.SERIES[1], PRIOR: common.AMBER, ALL_PRESENT: common.AMBER,
          ALL_ABSENT: common.GREY, PROBE: common.SERIES[3]}  # fmt: skip
SHAPES = {MODEL: "circle", OTHER: "square", PRIOR: "diamond", ALL_PRESENT: "diamond", ALL_ABSENT: "triangle-up",
          PROBE: "cross"}  # fmt: skip


def legend(other: str = "") -> None:
    """The legend of the charts of a run, and of another run beside it."""
    entries = [common.Entry("interval", common.ACCENT, _("model, 95 % interval"))]
    if other:
        entries.append(common.Entry("hollow", common.SERIES[1], other))
    entries += [
        common.Entry("diamond", common.AMBER, _("prior baseline")),
        common.Entry("triangle", common.GREY, _("all-absent baseline"), _("accuracy only")),
        common.Entry("cross", common.SERIES[3], _("linear probe"), _("average precision only")),
    ]
    common.legend(entries)


def why_undefined(row: Row) -> str:
    """Why a score of an attribute has no value."""
    if not row["n"]:
        return _("undefined: no known cell")
    if row["positives"] == row["n"]:
        return _("undefined: all {n} present", n=formats.count(row["n"]))
    if not row["positives"]:
        return _("undefined: all {n} absent", n=formats.count(row["n"]))
    return _("undefined")


@dataclass(frozen=True)
class Scored:
    """A score to draw: its column, the columns of its baselines by their names, and how its counts are called.

    Title, names and counts are messages, translated where they are shown.
    """

    title: str
    column: str
    baselines: dict[str, str]
    tick_format: str
    counts: dict[str, str] = field(
        default_factory=lambda: {"n": N_("known cells"), "positives": N_("of them present")}
    )
    why: Callable[[Row], str] = why_undefined

    def show(self, value: float) -> str:
        return formats.percent(value) if self.tick_format == ".0%" else formats.number(value)


ACCURACY = Scored(
    N_("accuracy"),
    "accuracy",
    {PRIOR: "prior_accuracy", ALL_ABSENT: "all_absent_accuracy"},
    tick_format=".0%",
)
PRECISION = Scored(
    N_("average precision"), "ap", {PRIOR: "prior_ap", PROBE: "probe_ap"}, tick_format=".2~f"
)


def score_chart(table: pd.DataFrame, score: Scored, *, grouped: bool = True) -> common.Layered:
    """The chart.

    Args:
        table: rows of `attribute_accuracy`, or others with the columns that the score names, in label order; the score
            of another run in a column of that name and ` of other`, if that is to be drawn too.
        grouped: rows under headings of groups; else in the order of the table.
    """
    rows = (
        common.grouped(table["attribute"].tolist())
        if grouped
        else [" ", *table["attribute"].map(_)]
    )
    baselines = score.baselines
    if f"{score.column} of other" in table:
        baselines = {OTHER: f"{score.column} of other", **baselines}
    low, high = f"{score.column}_low", f"{score.column}_high"
    table = table.assign(
        few=table["n"] < FEW,
        cells=[f"{formats.count(n)}{FEW_MARK if n < FEW else ''}" for n in table["n"]],
        value=table[score.column].map(score.show),
        interval=[
            formats.interval(*pair, score.show)
            for pair in zip(table[low], table[high], strict=True)
        ],
        **{f"of {name}": table[column].map(score.show) for name, column in baselines.items()},
    )
    table = common.named(table)
    defined, undefined = table[table[score.column].notna()], table[table[score.column].isna()]
    undefined = undefined.assign(
        why=[score.why(row) for row in by(undefined, "attribute").values()]
    )
    tooltip = [
        alt.Tooltip("attribute:N", title=_("attribute")),
        alt.Tooltip("value:N", title=_(score.title)),
        alt.Tooltip("interval:N", title=_("95 % interval")),
        *(alt.Tooltip(f"of {name}:N", title=_(name)) for name in baselines),
        *(alt.Tooltip(f"{column}:Q", title=_(title)) for column, title in score.counts.items()),
    ]
    columns = {MODEL: score.column, **baselines}
    points = pd.concat(
        [defined.assign(series=name, at=defined[column]) for name, column in columns.items()]
    )
    x_scale = alt.Scale(domain=[0, common.RIGHT], nice=False)
    axis = alt.Axis(
        title=_(score.title), format=score.tick_format, values=[0, 0.25, 0.5, 0.75, 1], domain=False
    )
    y = common.attribute_axis(rows)
    pale = alt.condition("datum.few", alt.value(0.4), alt.value(1))
    bars = (
        alt.Chart(defined)
        .mark_rule(strokeWidth=2, color=common.ACCENT)
        .encode(
            x=alt.X(f"{low}:Q", scale=x_scale, axis=axis),
            x2=f"{high}:Q",
            y=y,
            opacity=pale,
            tooltip=tooltip,
        )
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
        common.figures(table, "cells", "n", rows, common.RIGHT),
    ]
    if len(undefined):
        text = alt.Chart(undefined).mark_text(
            align="left", fontSize=11, fontStyle="italic", color=common.GREY, dx=4
        )
        layers.append(text.encode(x=alt.XDatum(0), y=y, text="why:N", tooltip=tooltip))
    return alt.layer(*layers)
