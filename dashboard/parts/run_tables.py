"""The table of all runs, and what one run was made from."""

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import data, formats, prefect_api
from dashboard.i18n import _
from dashboard.parts import layout


def runs_table(summaries: pd.DataFrame) -> None:
    """Show all runs, newest first, with their scores on each split.

    Args:
        summaries: rows of `run_summary`.
    """
    st.subheader(_("Runs"), anchor=False)
    seconds = (summaries["finished_at"] - summaries["started_at"]).dt.total_seconds()
    table = summaries.assign(
        map_interval=formats.intervals(summaries, "map", formats.number),
        accuracy_interval=formats.intervals(summaries, "accuracy", formats.percent),
        against=[
            formats.against(*pair)
            for pair in zip(summaries["against"], summaries["judged_by"], strict=True)
        ],
        duration=seconds.map(formats.duration),
        pinned=summaries["pinned"].astype(bool),
        archived=summaries["archived"].astype(bool),
        kind=summaries["kind"].map(_),
        status=[
            _("interrupted") if layout.is_interrupted(run) else _(run["status"])
            for run in summaries.to_dict("records")
        ],
        split=summaries["split"].map(_, na_action="ignore"),
    )
    for name in ("accuracy", "balanced_accuracy", "prior_accuracy", "all_absent_accuracy"):
        table[name] *= 100
    number = st.column_config.NumberColumn
    share: dict[str, Any] = {"format": "%.1f %%"}
    score: dict[str, Any] = {"format": "%.3f"}
    count: dict[str, Any] = {"format": "localized"}
    started = st.column_config.DatetimeColumn(_("started (UTC)"), format="YYYY-MM-DD HH:mm")
    config: dict[str, Any] = {
        "run_id": _("run"),
        "name": _("name"),
        "pinned": st.column_config.CheckboxColumn(_("pinned")),
        "archived": st.column_config.CheckboxColumn(_("archived")),
        "kind": _("kind"),
        "status": _("status"),
        "backbone": _("backbone"),
        "trained_on": _("trained on"),
        "epochs": number(_("epochs")),
        "best_epoch": number(_("best epoch")),
        "evaluated_on": _("scored on"),
        "split": _("split"),
        "against": _("scores against"),
        "images": number(_("images"), **count),
        "decisions": number(_("n"), help=_("scored cells"), **count),
        "map": number(_("mAP"), **score),
        "map_interval": _("95 % interval of mAP"),
        "map_attributes": number(_("attributes"), help=_("of which the mAP is the mean")),
        "probe_map": number(_("probe mAP"), **score),
        "prior_map": number(_("prior mAP"), **score),
        "accuracy": number(_("accuracy"), **share),
        "accuracy_interval": _("95 % interval of accuracy"),
        "balanced_accuracy": number(_("balanced accuracy"), **share),
        "prior_accuracy": number(_("prior"), **share),
        "all_absent_accuracy": number(_("all absent"), **share),
        "train_images": number(_("train images"), **count),
        "val_images": number(_("val images"), **count),
        "started_at": started,
        "duration": _("duration"),
        "note": st.column_config.TextColumn(_("note"), width="large"),
    }
    st.dataframe(
        table,
        hide_index=True,
        placeholder=formats.DASH,
        alt=_("Runs"),
        column_order=list(config),
        column_config=config,
    )
    st.caption(
        _(
            "The pages show the pinned run of a dataset, or without one the finished run with the "
            "highest val mAP. To pin, name or archive a run: `coconut-attr runs --help`."
        )
    )


def run_details(run_id: int, name: str) -> None:
    """Show what a run was made from: data, settings, code and machine."""
    with st.expander(_("Hyperparameters and provenance of {name}", name=name)):
        run = data.run(run_id)
        if run.get("note"):
            (st.warning if run["status"] == "failed" else st.info)(run["note"])
        total, trainable = run["total_parameters"], run["trainable_parameters"]
        facts = {
            _("parameters"): f"{total:,}",
            _("trainable"): f"{trainable:,}",
            _("frozen"): f"{total - trainable:,}",
            _("seed"): run["seed"],
            _("label rules"): run["rule_version"],
            _("data fingerprint"): run["data_fingerprint"],
            _("checkpoint"): run["checkpoint"],
            _("Prefect flow run"): run["flow_run_id"],
        }
        parts = {
            _("Model and data"): facts,
            _("Settings"): run["config"],
            _("Code and machine"): run["environment"],
        }
        if run["flow_run_id"] and (address := prefect_api.flow_run_page(run["flow_run_id"])):
            st.link_button(_("Its flow run in Prefect"), address, icon=":material/open_in_new:")
        for column, (title, values) in zip(st.columns(3, gap="medium"), parts.items(), strict=True):
            column.markdown(f"**{title}**")
            if not values:
                column.caption(_("Not stated."))
                continue
            texts = [formats.DASH if value is None else str(value) for value in values.values()]
            column.dataframe(
                pd.DataFrame({"fact": list(values), "value": texts}),
                hide_index=True,
                alt=title,
                column_config={"fact": _("fact"), "value": _("value")},
            )
