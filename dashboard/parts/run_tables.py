"""The table of all runs, and what one run was made from."""

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import data, formats
from dashboard.i18n import _


def runs_table(summaries: pd.DataFrame) -> None:
    """All runs, newest first, with the scores of each split that they were evaluated on."""
    st.subheader(_("Runs"), anchor=False)
    shown = summaries.assign(
        seconds=(summaries["finished_at"] - summaries["started_at"]).dt.total_seconds(),
        map_interval=formats.intervals(summaries, "map", formats.number),
        accuracy_interval=formats.intervals(summaries, "accuracy", formats.percent),
        duration=lambda t: t["seconds"].map(formats.duration),
        kind=summaries["kind"].map(_),
        status=summaries["status"].map(_),
        split=summaries["split"].map(_, na_action="ignore"),
    )
    for name in ("accuracy", "prior_accuracy", "all_absent_accuracy"):
        shown[name] *= 100
    share: dict[str, Any] = {"format": "%.1f %%"}
    score: dict[str, Any] = {"format": "%.3f"}
    whole: dict[str, Any] = {"format": "localized"}
    config: dict[str, Any] = {
        "run_id": _("run"),
        "kind": _("kind"),
        "status": _("status"),
        "backbone": _("backbone"),
        "trained_on": _("trained on"),
        "epochs": st.column_config.NumberColumn(_("epochs")),
        "best_epoch": st.column_config.NumberColumn(_("best epoch")),
        "evaluated_on": _("scored on"),
        "split": _("split"),
        "images": st.column_config.NumberColumn(_("images"), **whole),
        "decisions": st.column_config.NumberColumn(_("n"), help=_("known cells"), **whole),
        "map": st.column_config.NumberColumn(_("mAP"), **score),
        "map_interval": _("95 % interval of mAP"),
        "prior_map": st.column_config.NumberColumn(_("prior mAP"), **score),
        "accuracy": st.column_config.NumberColumn(_("accuracy"), **share),
        "accuracy_interval": _("95 % interval of accuracy"),
        "prior_accuracy": st.column_config.NumberColumn(_("prior"), **share),
        "all_absent_accuracy": st.column_config.NumberColumn(_("all absent"), **share),
        "train_images": st.column_config.NumberColumn(_("train images"), **whole),
        "val_images": st.column_config.NumberColumn(_("val images"), **whole),
        "started_at": st.column_config.DatetimeColumn(
            _("started (UTC)"), format="YYYY-MM-DD HH:mm"
        ),
        "duration": _("duration"),
        "note": st.column_config.TextColumn(_("note"), width="large"),
    }
    st.dataframe(
        shown,
        hide_index=True,
        placeholder=formats.DASH,
        alt=_("Runs"),
        column_order=list(config),
        column_config=config,
    )


def details(run_id: int, name: str) -> None:
    """What a run was made from: data, settings, code and machine."""
    with st.expander(_("Hyper-parameters and provenance of {name}", name=name)):
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
        for column, (title, values) in zip(st.columns(3, gap="medium"), parts.items(), strict=True):
            column.markdown(f"**{title}**")
            rows = pd.DataFrame(
                {"fact": list(values), "value": [_text(value) for value in values.values()]}
            )
            if len(rows):
                config = {"fact": _("fact"), "value": _("value")}
                column.dataframe(rows, hide_index=True, alt=title, column_config=config)
            else:
                column.caption(_("Not stated."))


def _text(value: object) -> str:
    return formats.DASH if value is None else str(value)
