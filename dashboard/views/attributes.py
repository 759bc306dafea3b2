"""Attributes: the scores of a run, overall and for each attribute, beside baselines and beside another run."""

from typing import Any

import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES
from dashboard import formats
from dashboard.charts import common
from dashboard.charts import scores as score_chart
from dashboard.data import Row, by, read
from dashboard.i18n import N_, _
from dashboard.parts import layout, notices, pickers
from dashboard.parts.attribute_detail import detail
from db.runs import attribute_scores, run_scores, run_summaries

REFRESH = 10
NONE = "none"
SCORES = ("prior_ap", "probe_ap")
INTERVALS = ("precision", "recall", "f1", "balanced_accuracy", "ece")
#: Orders of the attributes: by which column, and whether the highest comes first.
ORDERS = {
    "label": N_("label order"), "ap": N_("average precision"), "gain": N_("gain over prior"),
    "accuracy": N_("accuracy"), "f1": N_("F1"), "ece": N_("calibration error"), "n": N_("known cells"),
}  # fmt: skip


def page() -> None:
    """The page."""
    run_picker, split_picker, other_picker = layout.header(_("Scores by attribute"), 3, 2, 2)
    runs = read(run_summaries)
    scored = runs[(runs["kind"] == "trained") & runs["split"].notna()] if len(runs) else runs
    if not len(scored):
        notices.empty(
            _("No scores yet"),
            _("No run of this project has been evaluated. To train and evaluate one:"),
        )
        layout.watch(REFRESH / 2)
        return
    scored = scored.assign(
        key=scored["run_id"].astype(str), on=scored["evaluated_on"] + "/" + scored["split"]
    )
    by_run = by(scored, "key")
    with run_picker:
        key = pickers.choose(_("Run"), list(by_run), "run", lambda k: layout.run_name(by_run[k]))
    splits = by(scored[scored["key"] == key].sort_values("split"), "on")
    with split_picker:
        on = pickers.choose(_("Evaluated on"), list(splits), "on", lambda o: o.replace("/", " · "))
    run = splits[on]
    others = by(scored[(scored["on"] == on) & (scored["key"] != key)], "key")
    with other_picker:
        other = pickers.choose(
            _("Compare with"),
            [NONE, *others],
            "with",
            lambda k: _("no other run") if k == NONE else layout.run_name(others[k]),
        )
    for dataset, real in {
        (run["trained_on"], run["is_coconut"]),
        (run["evaluated_on"], run["evaluated_on_coconut"]),
    }:
        if not pd.isna(real) and not real:
            notices.not_coconut(dataset)
    _overall(run)
    scores = read(attribute_scores, run["run_id"], run["evaluated_on"], run["split"])
    if len(scores):
        _by_attribute(run, scores, others.get(other))
    else:
        notices.empty(_("No scores by attribute"), _("This run has overall scores only."), None)
    layout.watch(REFRESH)


def _overall(run: Row) -> None:
    images = formats.count(run["images"])
    scores = by(read(run_scores, run["run_id"], run["evaluated_on"], run["split"]), "name")
    probe, gain = scores.get("probe_map"), scores.get("map_over_probe")
    notes = [_("baseline: prior {prior}", prior=formats.number(run["prior_map"]))]
    if probe and gain and pd.notna(gain["value"]):
        notes.append(
            _(
                "linear probe {probe}; gain {gain} ({low} to {high})",
                probe=formats.number(probe["value"]),
                gain=f"{gain['value']:+.3f}",
                low=f"{gain['low']:+.3f}",
                high=f"{gain['high']:+.3f}",
            )
        )
    layout.cards(
        (
            _("mAP"),
            formats.number(run["map"]),
            _(
                "95 % interval {interval}",
                interval=formats.interval(run["map_low"], run["map_high"]),
            ),
            *notes,
        ),
        (
            _("Accuracy"),
            formats.percent(run["accuracy"]),
            _(
                "95 % interval {interval}",
                interval=formats.interval(
                    run["accuracy_low"], run["accuracy_high"], formats.percent
                ),
            ),
            _(
                "baselines: prior {prior}, all absent {absent}",
                prior=formats.percent(run["prior_accuracy"]),
                absent=formats.percent(run["all_absent_accuracy"]),
            ),
        ),
        (
            _("Known cells"),
            formats.count(run["decisions"]),
            _(
                "of {n} in the {split} split",
                n=formats.count(run["images"] * len(ATTRIBUTES)),
                split=_(run["split"]),
            ),
            _("unknown cells are skipped"),
        ),
        (
            _("Images"),
            images,
            _("{split} split of {dataset}", split=_(run["split"]), dataset=run["evaluated_on"]),
            _("trained on {n}", n=formats.count(run["train_images"])),
        ),
    )
    verdicts = [
        _verdict(
            _("mAP"), run["map"], run["map_low"], run["map_high"], run["prior_map"], formats.number
        ),
        _verdict(
            _("Accuracy"),
            run["accuracy"],
            run["accuracy_low"],
            run["accuracy_high"],
            run["prior_accuracy"],
        ),
    ]
    basis = _(
        "Both on n = {cells} cells, {images} images.",
        cells=formats.count(run["decisions"]),
        images=images,
    )
    st.write(" ".join([*filter(None, verdicts), basis]))
    if masks := notices.masks_from(run["evaluated_on"]):
        st.caption(masks)


def _verdict(
    name: str, value: float, low: float, high: float, baseline: float, show=formats.percent
) -> str:
    """One sentence that sets a score beside the baseline that is hardest to beat."""
    if any(pd.isna(x) for x in (value, low, high, baseline)):
        return ""
    if low > baseline:
        told = _("{name} {value}: its 95 % interval lies above the prior baseline ({baseline}).", name=name,
                 value=show(value), baseline=show(baseline))  # fmt: skip
    elif high < baseline:
        told = _("{name} {value}: its 95 % interval lies below the prior baseline ({baseline}).", name=name,
                 value=show(value), baseline=show(baseline))  # fmt: skip
    else:
        told = _("{name} {value}: its 95 % interval **contains** the prior baseline ({baseline}).", name=name,
                 value=show(value), baseline=show(baseline))  # fmt: skip
    return told


def _by_attribute(run: Row, scores: pd.DataFrame, other: Row | None) -> None:
    st.subheader(_("By attribute"), anchor=False)
    pills, sort_picker = st.columns([4, 1], vertical_alignment="bottom")
    with pills:
        groups = pickers.choose_groups()
    with sort_picker:
        order = pickers.choose(_("Sorted by"), list(ORDERS), "sort", lambda name: _(ORDERS[name]))
    table = layout.in_label_order(scores.assign(gain=scores["ap"] - scores["prior_ap"]), groups)
    if other:
        beside = read(attribute_scores, other["run_id"], other["evaluated_on"], other["split"])
        columns = beside.set_index("attribute")[
            ["accuracy", "ap", "ap_low", "ap_high", "f1", "f1_low", "f1_high"]
        ]
        table = table.join(columns, on="attribute", rsuffix=" of other")
    if order != "label":
        table = table.sort_values(order, ascending=False, na_position="last").reset_index(drop=True)
    _charts(table, layout.run_name(other) if other else "", grouped=order == "label")
    picked = _table(
        table, bool(other), f"scores of {run['run_id']} {run['split']} {order} {groups}"
    )
    _one(run, scores, picked)


def _charts(table: pd.DataFrame, other: str, *, grouped: bool) -> None:
    names = table["attribute"].tolist()
    height = common.height(common.grouped(names) if grouped else ["", *names])
    score_chart.legend(other)
    accuracy, precision = st.columns(2, gap="medium")
    with accuracy:
        common.show(
            score_chart.score_chart(table, score_chart.ACCURACY, grouped=grouped),
            height,
            _(
                "Accuracy of each attribute with its 95 % interval, beside the prior and all-absent baselines"
            ),
            "accuracy chart",
        )
    with precision:
        common.show(
            score_chart.score_chart(table, score_chart.PRECISION, grouped=grouped),
            height,
            _(
                "Average precision of each attribute with its 95 % interval, beside the prior and the linear probe"
            ),
            "precision chart",
        )
    st.caption(
        _(
            "n: known cells. Baselines: **prior** decides as the majority of the training labels (for average "
            "precision: the share of present cells, which is what any constant score reaches); **all absent** says no "
            "to everything; **linear probe**: logistic regression on the same encoder's pooled features. Pale, †: "
            "fewer than {few} known cells. Average precision is undefined where the known cells are all of one state. "
            "Accuracy is at 0.5; precision, recall, F1 and balanced accuracy are at the threshold chosen on val "
            "(older runs: 0.5).",
            few=score_chart.FEW,
        )
    )


def _table(table: pd.DataFrame, with_other: bool, key: str) -> str | None:
    """The table; returns the attribute of the row that is clicked."""
    number, words = st.column_config.NumberColumn, st.column_config.TextColumn
    share: dict[str, Any] = {"format": "%.1f %%", "width": 88}
    score: dict[str, Any] = {"format": "%.3f", "width": 88}
    few = common.named(table)["attribute"]
    shown = pd.DataFrame(
        {
            "attribute": few.where(table["n"] >= score_chart.FEW, few + score_chart.FEW_MARK),
            "group_name": table["group_name"].map(_),
            "n": table["n"],
            "positives": table["positives"],
            "accuracy": 100 * table["accuracy"],
            "accuracy_interval": formats.intervals(table, "accuracy", formats.percent),
            "prior_accuracy": 100 * table["prior_accuracy"],
            "all_absent_accuracy": 100 * table["all_absent_accuracy"],
            "ap": table["ap"],
            "ap_interval": formats.intervals(table, "ap", formats.number),
            **{name: table[name] for name in SCORES},
            "threshold": table["threshold"],
            **{
                column: values
                for name in INTERVALS
                for column, values in (
                    (name, table[name]),
                    (f"{name}_interval", formats.intervals(table, name, formats.number)),
                )
            },
        }
    )
    config = {
        "attribute": words(_("attribute"), pinned=True),
        "group_name": words(_("group"), width=100),
        "n": number(_("n"), help=_("known cells")),
        "positives": number(_("present"), help=_("known cells that are present")),
        "accuracy": number(_("accuracy"), **share),
        "accuracy_interval": words(_("95 % interval")),
        "prior_accuracy": number(_("prior"), **share),
        "all_absent_accuracy": number(_("all absent"), **share),
        "ap": number(_("AP"), help=_("average precision"), **score),
        "ap_interval": words(_("95 % interval of AP")),
        "prior_ap": number(_("prior AP"), **score),
        "probe_ap": number(_("probe AP"), help=_("average precision of the linear probe"), **score),
        "precision": number(_("precision"), **score),
        "recall": number(_("recall"), **score),
        "f1": number(_("F1"), **score),
        "balanced_accuracy": number(_("balanced accuracy"), **score),
        "threshold": number(_("threshold"), help=_("chosen on val"), **score),
        "ece": number(_("ECE"), help=_("expected calibration error"), **score),
    }
    config |= {f"{name}_interval": words(_("95 % interval")) for name in INTERVALS}
    if with_other:
        of_other = table[[name for name in table if name.endswith(" of other")]]
        of_other = of_other.rename(columns=lambda name: name.removesuffix(" of other"))
        for name, title in (("ap", _("AP of other run")), ("f1", _("F1 of other run"))):
            shown[f"{name} other"] = of_other[name]
            config[f"{name} other"] = number(title, **score)
            shown[f"{name}_interval other"] = formats.intervals(of_other, name, formats.number)
            config[f"{name}_interval other"] = words(_("95 % interval"))
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


def _one(run: Row, scores: pd.DataFrame, picked: str | None) -> None:
    """One attribute: the one that was clicked in the table or chosen in the box, whichever came last."""
    st.subheader(_("One attribute"), anchor=False)
    names = layout.in_label_order(scores, list(scores["group_name"].unique()))["attribute"].tolist()
    if picked and picked != st.session_state.get("picked attribute"):
        st.session_state["choice of attribute"] = picked
    st.session_state["picked attribute"] = picked
    which, _rest = st.columns([1, 3])
    with which:
        attribute = pickers.choose(
            _("Attribute (or click a row of the table)"), names, "attribute", _
        )
    detail(run, by(scores, "attribute")[attribute])
