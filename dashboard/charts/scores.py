"""The chart of one score of each attribute with its interval, beside trivial baselines."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import altair as alt
import pandas as pd

from dashboard import formats
from dashboard.charts import common
from dashboard.data import Row, rows_by
from dashboard.figures.verdict import is_few
from dashboard.i18n import N_, _

FEW = 10  # labels below which their precision says little
FEW_MARK = " †"
MODEL = "model"
OTHER = N_("other run")
PRIOR = N_("prior")
ALL_PRESENT = N_("all present")
ALL_ABSENT = N_("all absent")
PROBE = N_("linear probe")
#: Colour and shape of each series.
STYLES = {
    MODEL: (common.ACCENT, "circle"),
    OTHER: (common.SERIES[1], "square"),
    PRIOR: (common.AMBER, "diamond"),
    ALL_PRESENT: (common.AMBER, "diamond"),
    ALL_ABSENT: (common.GREY, "triangle-up"),
    PROBE: (common.SERIES[3], "cross"),
}


def score_legend(other: str = "") -> None:
    """Show the legend of a run's charts, and of another run beside it."""
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
    """Say why a score of an attribute has no value."""
    if not row["n"]:
        return _("undefined: no scored cell")
    if row["positives"] == row["n"]:
        return _("undefined: all {n} present", n=formats.count(row["n"]))
    if not row["positives"]:
        return _("undefined: all {n} absent", n=formats.count(row["n"]))
    return _("undefined")


@dataclass(frozen=True)
class Score:
    """A score to draw; its texts are messages, translated where they are shown.

    Attributes:
        column: of the score; its interval is in `{column}_low` and `{column}_high`.
        baselines: column of each baseline, by the baseline's name.
        counts: titles of the columns of counts in the tooltip.
        why_undefined: says for a row why its score has no value.
    """

    title: str
    column: str
    baselines: dict[str, str]
    tick_format: str
    counts: dict[str, str] = field(
        default_factory=lambda: {"n": N_("scored cells"), "positives": N_("of them present")}
    )
    why_undefined: Callable[[Row], str] = why_undefined

    def format(self, value: float) -> str:
        """Format a value of the score."""
        return formats.percent(value) if self.tick_format == ".0%" else formats.number(value)


ACCURACY = Score(
    N_("accuracy"),
    "accuracy",
    {PRIOR: "prior_accuracy", ALL_ABSENT: "all_absent_accuracy"},
    tick_format=".0%",
)
PRECISION = Score(
    N_("average precision"), "ap", {PRIOR: "prior_ap", PROBE: "probe_ap"}, tick_format=".2~f"
)


def score_chart(table: pd.DataFrame, score: Score, *, grouped: bool = True) -> common.Chart:
    """Return the chart of a score.

    Args:
        table: rows of `attribute_accuracy`, or others with the columns that the score names, in
            the order to draw. A column `{score.column} of other` is drawn as another run's.
        grouped: put rows under headings of groups.
    """
    names = table["attribute"].tolist()
    rows = common.grouped_rows(names) if grouped else [" ", *map(_, names)]
    baselines = score.baselines
    if f"{score.column} of other" in table:
        baselines = {OTHER: f"{score.column} of other", **baselines}
    low, high = f"{score.column}_low", f"{score.column}_high"
    few = is_few(table) if "rarer_n" in table else table["n"] < FEW
    ends = zip(table[low], table[high], strict=True)
    table = table.assign(
        few=few,
        cells=[
            f"{formats.count(n)}{FEW_MARK if marked else ''}"
            for n, marked in zip(table["n"], few, strict=True)
        ],
        value=table[score.column].map(score.format),
        interval=[formats.interval(*pair, score.format) for pair in ends],
        **{f"of {name}": table[column].map(score.format) for name, column in baselines.items()},
    )
    table = common.translated(table)
    defined, undefined = table[table[score.column].notna()], table[table[score.column].isna()]
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
    x_scale = alt.Scale(domain=[0, common.RIGHT_EDGE], nice=False)
    x_axis = alt.Axis(
        title=_(score.title), format=score.tick_format, values=[0, 0.25, 0.5, 0.75, 1], domain=False
    )
    y = common.attribute_axis(rows)
    opacity = alt.condition("datum.few", alt.value(0.4), alt.value(1))
    intervals = alt.Chart(defined).mark_rule(strokeWidth=2, color=common.ACCENT)
    colors, shapes = zip(*(STYLES[name] for name in columns), strict=True)
    color_scale = alt.Scale(domain=list(columns), range=list(colors))
    shape_scale = alt.Scale(domain=list(columns), range=list(shapes))

    def marks(chosen: pd.Series, **style: Any) -> alt.Chart:
        chart = alt.Chart(points[chosen]).mark_point(**style)
        return chart.encode(
            x=alt.X("at:Q", scale=x_scale, axis=x_axis),
            y=y,
            color=alt.Color("series:N", scale=color_scale, legend=None),
            shape=alt.Shape("series:N", scale=shape_scale, legend=None),
            opacity=opacity,
            tooltip=tooltip,
        )

    # A baseline is an outline around the model's point, so that both are seen where they agree.
    of_model = points["series"] == MODEL
    layers = [
        intervals.encode(
            x=alt.X(f"{low}:Q", scale=x_scale, axis=x_axis),
            x2=f"{high}:Q",
            y=y,
            opacity=opacity,
            tooltip=tooltip,
        ),
        marks(of_model, filled=True, size=40),
        marks(~of_model, filled=False, size=90, strokeWidth=1.6),
        common.number_column(table, "cells", "n", rows, common.RIGHT_EDGE),
    ]
    if len(undefined):
        reasons = [score.why_undefined(row) for row in rows_by(undefined, "attribute").values()]
        text = alt.Chart(undefined.assign(why=reasons)).mark_text(
            align="left", fontSize=11, fontStyle="italic", color=common.GREY, dx=4
        )
        layers.append(text.encode(x=alt.XDatum(0), y=y, text="why:N", tooltip=tooltip))
    return alt.layer(*layers)
