"""What can I trust? Attribute by attribute: labels, model, a verdict and its reason."""

from typing import Any

import pandas as pd
import streamlit as st

from coconut_attr.evaluation.intervals import wilson
from dashboard import formats
from dashboard.charts import common
from dashboard.data import Row, read
from dashboard.i18n import N_, _
from dashboard.parts import layout, notices
from dashboard.parts.scored_run import choose_scored_run, mark_stand_ins, scored_runs
from db.runs import trust

REFRESH = 10  # seconds
#: Verdicts of the view, in their order.
VERDICTS = {
    "yes": N_("yes"),
    "no": N_("no"),
    "too few cells": N_("too few cells"),
    "not measured": N_("not measured"),
}
#: Reasons of the view.
REASONS = (
    N_("nobody judged photos of this split"),
    N_("under 5 judged cells of the rarer state"),
    N_("scored by an older version: evaluate again"),
    N_("worse than the prior"),
    N_("not distinguishable from the prior"),
    N_("better than the prior, worse than the linear probe"),
    N_("better than the prior in order, but cannot say no"),
    N_("better than the prior in order, but cannot say yes"),
    N_("better than the prior and the linear probe"),
    N_("better than the prior, without a linear probe to compare"),
    N_("better than the prior, not distinguishable from the linear probe"),
)


def page() -> None:
    """Show the view `trust` of a run on a split."""
    run_picker, split_picker = layout.header(_("What can I trust?"), 3, 2)
    scored = scored_runs()
    if not len(scored):
        layout.watch(REFRESH)
        return
    run = choose_scored_run(scored, run_picker, split_picker)
    mark_stand_ins(run)
    table = read(trust, run["run_id"], run["evaluated_on"], run["split"])
    if len(table):
        _show(run, table)
    else:
        notices.empty(_("No scores by attribute"), _("This run has overall scores only."), None)
    layout.watch(REFRESH)


def _show(run: Row, table: pd.DataFrame) -> None:
    counts = table["verdict"].value_counts()
    layout.cards(
        *(
            (_(VERDICTS[verdict]).capitalize(), formats.count(counts.get(verdict, 0)), note)
            for verdict, note in (
                ("yes", _("better than the prior, and says both yes and no")),
                ("no", _("not shown to be better, or the same of nearly every photo")),
                ("too few cells", _("under 5 judged cells of the rarer state")),
                ("not measured", _("no photo judged by eye, or an older score")),
            )
        )
    )
    st.write(
        _(
            "{name} on the {split} split of {dataset}, {against}.",
            name=layout.run_name(run),
            split=_(run["split"]),
            dataset=run["evaluated_on"],
            against=formats.against(run["against"], run["judged_by"]),
        )
    )
    if warning := layout.only_labels(run):
        st.warning(warning)
    for sentence in layout.cannot_say(table):
        st.warning(sentence)
    _table(table)
    st.caption(
        _(
            "**Labels right**: of the labels that the label model gives the judged cells, those "
            "that the judgement agrees with (Wilson 95 % interval); **labels known**: the share of "
            "judged cells with such a label. **Gain**: of average precision, with the 95 % "
            "interval of a bootstrap over photos; over the prior means over a random order of the "
            "same photos, which is all that a prior gives. **Rarer state**: judged cells of the "
            "state that fewer of them have. A click on a column's head sorts by it. The same in "
            "SQL: the view `trust`."
        )
    )
    st.download_button(
        _("Download the table (CSV)"),
        formats.csv(table.assign(judged_by=run["judged_by"])),
        "trust.csv",
        "text/csv",
        icon=":material/download:",
    )


def _table(table: pd.DataFrame) -> None:
    number, words = st.column_config.NumberColumn, st.column_config.TextColumn
    ranked = table.sort_values(
        "verdict", key=lambda verdicts: verdicts.map(list(VERDICTS).index), kind="stable"
    )
    pairs = zip(ranked["labels_right"], ranked["labels_judged"], strict=True)
    intervals = [
        formats.DASH
        if not n or pd.isna(n)
        else formats.interval(*wilson(int(right), int(n)), formats.percent)
        for right, n in pairs
    ]
    shown = pd.DataFrame(
        {
            "attribute": common.translated(ranked)["attribute"],
            "verdict": ranked["verdict"].map(_),
            "reason": ranked["reason"].map(_),
            "rarer_n": ranked["rarer_n"],
            "over_prior": ranked["over_prior"],
            "over_prior_interval": formats.intervals(ranked, "over_prior", formats.signed),
            "over_probe": ranked["over_probe"],
            "over_probe_interval": formats.intervals(ranked, "over_probe", formats.signed),
            "label_precision": 100 * ranked["label_precision"],
            "label_interval": intervals,
            "label_coverage": 100 * ranked["label_coverage"],
            "group_name": ranked["group_name"].map(_),
        }
    )
    gain: dict[str, Any] = {"format": "%+.3f", "width": 110}
    share: dict[str, Any] = {"format": "%.1f %%", "width": 100}
    st.dataframe(
        shown,
        hide_index=True,
        height=35 * len(shown) + 38,
        placeholder=formats.DASH,
        alt=_("What can I trust?"),
        column_config={
            "attribute": words(_("attribute"), pinned=True, width=90),
            "verdict": words(_("trust it?"), width=100),
            "reason": words(_("reason"), width=380),
            "rarer_n": number(_("rarer state"), help=_("judged cells"), width=90),
            "over_prior": number(_("gain over prior"), **gain),
            "over_prior_interval": words(_("95 % interval"), width=130),
            "over_probe": number(_("gain over probe"), **gain),
            "over_probe_interval": words(_("95 % interval"), width=130),
            "label_precision": number(_("labels right"), **share),
            "label_interval": words(_("95 % interval"), width=110),
            "label_coverage": number(_("labels known"), **share),
            "group_name": words(_("group"), width=100),
        },
    )
