"""The table of a run's scores by attribute, from which one attribute can be chosen."""

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import formats
from dashboard.charts import common
from dashboard.charts.scores import FEW_MARK
from dashboard.figures.verdict import is_few
from dashboard.i18n import _


def score_table(table: pd.DataFrame, with_other: bool, key: str) -> str | None:
    """Show scores and their intervals; return the attribute of the row that is clicked.

    Args:
        table: rows of `attribute_accuracy`, `against` in words; another run's scores in columns
            ending in ` of other`.
        with_other: show those of the other run.
        key: unique for what the table shows: a click belongs to it.
    """
    number, words = st.column_config.NumberColumn, st.column_config.TextColumn
    share: dict[str, Any] = {"format": "%.1f %%", "width": 88}
    score: dict[str, Any] = {"format": "%.3f", "width": 88}
    gain: dict[str, Any] = {"format": "%+.3f", "width": 110}
    names = common.translated(table)["attribute"]
    shown = pd.DataFrame(
        {
            "attribute": names.where(~is_few(table), names + FEW_MARK),
            "group_name": table["group_name"].map(_),
            "n": table["n"],
            "positives": table["positives"],
            "rarer_n": table["rarer_n"],
            "accuracy": 100 * table["accuracy"],
            "accuracy_interval": formats.intervals(table, "accuracy", formats.percent),
            "prior_accuracy": 100 * table["prior_accuracy"],
            "all_absent_accuracy": 100 * table["all_absent_accuracy"],
            "ap": table["ap"],
            "ap_interval": formats.intervals(table, "ap", formats.number),
            "prior_ap": table["prior_ap"],
            "probe_ap": table["probe_ap"],
            "over_prior": table["over_prior"],
            "over_prior_interval": formats.intervals(table, "over_prior", formats.signed),
            "over_probe": table["over_probe"],
            "over_probe_interval": formats.intervals(table, "over_probe", formats.signed),
            "threshold": table["threshold"],
        }
    )
    config = {
        "attribute": words(_("attribute"), pinned=True),
        "group_name": words(_("group"), width=100),
        "n": number(_("n"), help=_("scored cells")),
        "positives": number(_("present"), help=_("scored cells that are present")),
        "rarer_n": number(_("rarer state"), help=_("cells of the state that fewer cells have")),
        "accuracy": number(_("accuracy"), **share),
        "accuracy_interval": words(_("95 % interval")),
        "prior_accuracy": number(_("prior"), **share),
        "all_absent_accuracy": number(_("all absent"), **share),
        "ap": number(_("AP"), help=_("average precision"), **score),
        "ap_interval": words(_("95 % interval of AP")),
        "prior_ap": number(_("prior AP"), **score),
        "probe_ap": number(_("probe AP"), help=_("average precision of the linear probe"), **score),
        "over_prior": number(_("gain over prior"), **gain),
        "over_prior_interval": words(_("95 % interval")),
        "over_probe": number(_("gain over probe"), **gain),
        "over_probe_interval": words(_("95 % interval")),
        "threshold": number(_("threshold"), help=_("chosen without test images"), **score),
    }
    columns = {
        "precision": number(_("precision"), **score),
        "recall": number(_("recall"), **score),
        "specificity": number(_("specificity"), help=_("recall of absent"), **score),
        "f1": number(_("F1"), **score),
        "balanced_accuracy": number(_("balanced accuracy"), **score),
        "ece": number(_("ECE"), help=_("expected calibration error"), **score),
    }
    for name, column in columns.items():
        shown[name], config[name] = table[name], column
        shown[f"{name}_interval"] = formats.intervals(table, name, formats.number)
        config[f"{name}_interval"] = words(_("95 % interval"))
    if with_other:
        of_other = table[[name for name in table if name.endswith(" of other")]]
        of_other = of_other.rename(columns=lambda name: name.removesuffix(" of other"))
        for name, title in (("ap", _("AP of other run")), ("f1", _("F1 of other run"))):
            shown[f"{name} other"], config[f"{name} other"] = of_other[name], number(title, **score)
            shown[f"{name}_interval other"] = formats.intervals(of_other, name, formats.number)
            config[f"{name}_interval other"] = words(_("95 % interval"))
    shown["against"], config["against"] = table["against"], words(_("scores against"))
    event = st.dataframe(
        shown,
        hide_index=True,
        height=min(35 * len(shown) + 38, 500),
        placeholder=_("undefined"),
        alt=_("Scores by attribute"),
        column_config=config,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
    )
    rows = event.selection.rows  # type: ignore[attr-defined]
    return table["attribute"].iloc[rows[0]] if rows and rows[0] < len(table) else None
