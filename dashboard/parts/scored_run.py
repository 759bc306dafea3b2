"""Choosing a scored run, and the split that it was scored on."""

import pandas as pd
import streamlit as st

from dashboard.data import Row, offered, read, rows_by
from dashboard.i18n import _
from dashboard.parts import layout, notices, pickers
from db.runs import run_summaries


def scored_runs() -> pd.DataFrame:
    """Return a row of `run_summary` for each offered run and split; say so if there is none."""
    runs = offered(read(run_summaries))
    scored = runs[(runs["kind"] == "trained") & runs["split"].notna()] if len(runs) else runs
    if not len(scored):
        notices.empty(
            _("No scores yet"),
            _("No run of this project has been evaluated. To train and evaluate one:"),
        )
        return scored
    return scored.assign(
        id=scored["run_id"].astype(str), on=scored["evaluated_on"] + "/" + scored["split"]
    )


def choose_scored_run(
    scored: pd.DataFrame,
    run_picker: st.delta_generator.DeltaGenerator,
    split_picker: st.delta_generator.DeltaGenerator,
) -> Row:
    """Return the row of `scored_runs` that the user chooses."""
    by_id = rows_by(scored, "id")
    with run_picker:
        chosen = pickers.choose(_("Run"), list(by_id), "run", lambda i: layout.run_name(by_id[i]))
    splits = rows_by(scored[scored["id"] == chosen].sort_values("split"), "on")
    with split_picker:
        on = pickers.choose(_("Evaluated on"), list(splits), "on", lambda o: o.replace("/", " · "))
    return splits[on]


def mark_stand_ins(run: Row) -> None:
    """Say so if a run was trained or evaluated on stand-in photos."""
    for dataset, is_coconut in {
        (run["trained_on"], run["is_coconut"]),
        (run["evaluated_on"], run["evaluated_on_coconut"]),
    }:
        if not pd.isna(is_coconut) and not is_coconut:
            notices.not_coconut(dataset)
