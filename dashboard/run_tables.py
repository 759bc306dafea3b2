"""The table of all runs, and what one run was made from."""

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import data, ui


def runs_table(summaries: pd.DataFrame) -> None:
    """All runs, newest first, with the scores of each split that they were evaluated on."""
    st.subheader("Runs", anchor=False)
    shown = summaries.assign(
        seconds=(summaries["finished_at"] - summaries["started_at"]).dt.total_seconds(),
        map_interval=ui.intervals(summaries, "map", ui.number),
        accuracy_interval=ui.intervals(summaries, "accuracy", ui.percent),
        duration=lambda t: t["seconds"].map(_duration),
    )
    for name in ("accuracy", "prior_accuracy", "all_absent_accuracy"):
        shown[name] *= 100
    share: dict[str, Any] = {"format": "%.1f %%"}
    score: dict[str, Any] = {"format": "%.3f"}
    whole: dict[str, Any] = {"format": "localized"}
    config: dict[str, Any] = {
        "run_id": "run",
        "kind": "kind",
        "status": "status",
        "backbone": "backbone",
        "trained_on": "trained on",
        "epochs": st.column_config.NumberColumn("epochs"),
        "best_epoch": st.column_config.NumberColumn("best epoch"),
        "evaluated_on": "scored on",
        "split": "split",
        "images": st.column_config.NumberColumn("images", **whole),
        "decisions": st.column_config.NumberColumn("n", help="known cells", **whole),
        "map": st.column_config.NumberColumn("mAP", **score),
        "map_interval": "95 % interval of mAP",
        "prior_map": st.column_config.NumberColumn("prior mAP", **score),
        "accuracy": st.column_config.NumberColumn("accuracy", **share),
        "accuracy_interval": "95 % interval of accuracy",
        "prior_accuracy": st.column_config.NumberColumn("prior", **share),
        "all_absent_accuracy": st.column_config.NumberColumn("all absent", **share),
        "train_images": st.column_config.NumberColumn("train images", **whole),
        "val_images": st.column_config.NumberColumn("val images", **whole),
        "started_at": st.column_config.DatetimeColumn("started (UTC)", format="YYYY-MM-DD HH:mm"),
        "duration": "duration",
        "note": st.column_config.TextColumn("note", width="large"),
    }
    st.dataframe(shown, hide_index=True, placeholder=ui.DASH, column_order=list(config), column_config=config)


def _duration(seconds: float) -> str | None:
    if pd.isna(seconds):
        return None
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def details(run_id: int, name: str) -> None:
    """What a run was made from: data, settings, code and machine."""
    with st.expander(f"Provenance of {name}"):
        run = data.run(run_id)
        if run.get("note"):
            (st.warning if run["status"] == "failed" else st.info)(run["note"])
        total, trainable = run["total_parameters"], run["trainable_parameters"]
        facts = {
            "parameters": f"{total:,}",
            "trainable": f"{trainable:,}",
            "frozen": f"{total - trainable:,}",
            "seed": run["seed"],
            "label rules": run["rule_version"],
            "data fingerprint": run["data_fingerprint"],
            "checkpoint": run["checkpoint"],
            "Prefect flow run": run["flow_run_id"],
        }
        for column, (title, values) in zip(
            st.columns(3, gap="medium"),
            {"Model and data": facts, "Settings": run["config"], "Code and machine": run["environment"]}.items(),
            strict=True,
        ):
            column.markdown(f"**{title}**")
            rows = pd.DataFrame({"fact": list(values), "value": [_text(value) for value in values.values()]})
            if len(rows):
                column.dataframe(rows, hide_index=True)
            else:
                column.caption("Not stated.")


def _text(value: object) -> str:
    return ui.DASH if value is None else str(value)
