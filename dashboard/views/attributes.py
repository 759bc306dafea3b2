"""Attributes: a run's scores, overall and by attribute, beside baselines and another run."""

import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES
from dashboard import formats
from dashboard.charts import common
from dashboard.charts.scores import ACCURACY, PRECISION, score_chart, score_legend
from dashboard.data import Row, read, rows_by
from dashboard.i18n import N_, _, paragraph
from dashboard.parts import layout, notices, pickers
from dashboard.parts.attribute_detail import attribute_detail
from dashboard.parts.comparison import comparison
from dashboard.parts.score_table import score_table
from dashboard.parts.scored_run import choose_scored_run, mark_stand_ins, scored_runs
from dashboard.parts.verdict import attribute_counts, verdict
from db.runs import attribute_scores, run_scores

REFRESH = 10  # seconds
NONE = "none"
#: Orders of the attributes: "label", or a column of which the highest comes first.
ORDERS = {
    "label": N_("label order"),
    "ap": N_("average precision"),
    "gain": N_("gain over prior"),
    "accuracy": N_("accuracy"),
    "f1": N_("F1"),
    "ece": N_("calibration error"),
    "n": N_("scored cells"),
}
COMPARED = ["accuracy", "ap", "ap_low", "ap_high", "f1", "f1_low", "f1_high"]  # with another run


def page() -> None:
    """Show the scores of a run on a split, and one attribute in detail."""
    run_picker, split_picker, other_picker = layout.header(_("Scores by attribute"), 3, 2, 2)
    scored = scored_runs()
    if not len(scored):
        layout.watch(REFRESH / 2)
        return
    run = choose_scored_run(scored, run_picker, split_picker)
    others = rows_by(scored[(scored["on"] == run["on"]) & (scored["id"] != run["id"])], "id")

    def describe(other: str) -> str:
        return _("no other run") if other == NONE else layout.run_name(others[other])

    with other_picker:
        other = pickers.choose(_("Compare with"), [NONE, *others], "with", describe)
    mark_stand_ins(run)
    scores = read(attribute_scores, run["run_id"], run["evaluated_on"], run["split"])
    _overall(run, scores)
    if other in others:
        comparison(run, others[other])
    if len(scores):
        _by_attribute(run, scores, others.get(other))
    else:
        notices.empty(_("No scores by attribute"), _("This run has overall scores only."), None)
    layout.watch(REFRESH)


def _overall(run: Row, by_attribute: pd.DataFrame) -> None:
    images = formats.count(run["images"])
    scores = rows_by(read(run_scores, run["run_id"], run["evaluated_on"], run["split"]), "name")
    probe, gain = scores.get("probe_map"), scores.get("map_over_probe")
    map_interval = formats.interval(run["map_low"], run["map_high"])
    ends = (run["accuracy_low"], run["accuracy_high"])
    accuracy_interval = formats.interval(*ends, formats.percent)
    calibration = []
    if ece := scores.get("ece"):
        error, interval = formats.number(ece["value"]), formats.interval(ece["low"], ece["high"])
        text = _("expected calibration error {ece} ({interval})", ece=error, interval=interval)
        calibration.append(text)
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
    against = formats.against(run["against"], run["judged_by"]) or formats.DASH
    balanced = formats.interval(
        run["balanced_accuracy_low"], run["balanced_accuracy_high"], formats.percent
    )
    layout.cards(
        (
            _("mAP"),
            formats.number(run["map"]),
            against,
            layout.counted(run["map_attributes"]),
            _("95 % interval {interval}", interval=map_interval),
            *notes,
        ),
        (
            _("Accuracy"),
            formats.percent(run["accuracy"]),
            against,
            _("95 % interval {interval}", interval=accuracy_interval),
            _(
                "baselines: prior {prior}, all absent {absent}",
                prior=formats.percent(run["prior_accuracy"]),
                absent=formats.percent(run["all_absent_accuracy"]),
            ),
            _(
                "balanced accuracy {value} ({interval}); a constant reaches 50 %",
                value=formats.percent(run["balanced_accuracy"]),
                interval=balanced,
            ),
            *calibration,
        ),
        (
            _("Judged cells") if run["against"] == "eyes" else _("Labelled cells"),
            formats.count(run["decisions"]),
            _(
                "of {n} in the {split} split",
                n=formats.count(run["images"] * len(ATTRIBUTES)),
                split=_(run["split"]),
            ),
            _("unsure and unjudged cells are skipped")
            if run["against"] == "eyes"
            else _("unknown cells are skipped"),
        ),
        (
            _("Images"),
            images,
            _("{split} split of {dataset}", split=_(run["split"]), dataset=run["evaluated_on"]),
            _("trained on {n}", n=formats.count(run["train_images"])),
        ),
    )
    verdicts = [
        verdict(scores, "map", _("mAP"), formats.number),
        verdict(scores, "accuracy", _("Accuracy"), formats.percent),
    ]
    cells = formats.count(run["decisions"])
    basis = _("Both on n = {cells} cells, {images} images.", cells=cells, images=images)
    st.write(paragraph(*verdicts, basis))
    if len(by_attribute):
        st.write(attribute_counts(by_attribute))
        for sentence in layout.cannot_say(by_attribute):
            st.warning(sentence)
    if warning := layout.only_labels(run):
        st.warning(warning)
    if origins := notices.mask_origins(run["evaluated_on"]):
        st.caption(origins)


def _by_attribute(run: Row, scores: pd.DataFrame, other: Row | None) -> None:
    st.subheader(_("By attribute"), anchor=False)
    pills, sort_picker = st.columns([4, 1], vertical_alignment="bottom")
    with pills:
        groups = pickers.choose_groups()
    with sort_picker:
        order = pickers.choose(_("Sorted by"), list(ORDERS), "sort", lambda name: _(ORDERS[name]))
    gain = scores["over_prior"].fillna(scores["ap"] - scores["prior_ap"])
    table = layout.in_label_order(scores.assign(gain=gain), groups)
    if other:
        of_other = read(attribute_scores, other["run_id"], other["evaluated_on"], other["split"])
        columns = of_other.set_index("attribute")[COMPARED]
        table = table.join(columns, on="attribute", rsuffix=" of other")
    if order != "label":
        table = table.sort_values(order, ascending=False, na_position="last").reset_index(drop=True)
    against = formats.against(run["against"], run["judged_by"])
    st.caption(_("Scores are {against}.", against=against))
    _charts(table, layout.run_name(other) if other else "", grouped=order == "label")
    key = f"scores of {run['run_id']} {run['split']} {order} {groups}"
    if other and other["against"] != run["against"]:
        st.warning(
            _(
                "Not comparable: the scores of {name} are {against}, those of {other} "
                "{other_against}.",
                name=layout.run_name(run),
                against=against,
                other=layout.run_name(other),
                other_against=formats.against(other["against"], other["judged_by"]),
            )
        )
    clicked = score_table(table.assign(against=against), bool(other), key)
    _one_attribute(run, scores, clicked)


def _charts(table: pd.DataFrame, other: str, *, grouped: bool) -> None:
    names = table["attribute"].tolist()
    height = common.height(common.grouped_rows(names) if grouped else ["", *names])
    score_legend(other)
    accuracy, precision = st.columns(2, gap="medium")
    with accuracy:
        common.show(
            score_chart(table, ACCURACY, grouped=grouped),
            height,
            _(
                "Accuracy of each attribute with its 95 % interval, beside the prior and "
                "all-absent baselines"
            ),
            "accuracy chart",
        )
    with precision:
        common.show(
            score_chart(table, PRECISION, grouped=grouped),
            height,
            _(
                "Average precision of each attribute with its 95 % interval, beside the prior and "
                "the linear probe"
            ),
            "precision chart",
        )
    st.caption(
        _(
            "n: scored cells, by eyes the judged ones. Baselines: **prior** predicts the majority "
            "of the training labels "
            "(for average precision: the share of present cells, which any constant score "
            "reaches); **all absent** predicts absent everywhere; **linear probe**: logistic "
            "regression on the same encoder's pooled features. Pale, †: fewer than 5 cells of the "
            "rarer state; scored, but not counted in means. "
            "Average precision is undefined where all scored cells have the same state. "
            "Accuracy is at the threshold 0.5; precision, recall, specificity, F1 and balanced "
            "accuracy are at the run's threshold of the attribute, which is chosen without the "
            "test split."
        )
    )


def _one_attribute(run: Row, scores: pd.DataFrame, clicked: str | None) -> None:
    """Show the attribute that was clicked in the table or chosen in the box, whichever was last."""
    st.subheader(_("One attribute"), anchor=False)
    names = layout.in_label_order(scores, list(scores["group_name"].unique()))["attribute"].tolist()
    if clicked and clicked != st.session_state.get("clicked attribute"):
        st.session_state["choice of attribute"] = clicked
    st.session_state["clicked attribute"] = clicked
    which, _rest = st.columns([1, 3])
    with which:
        title = _("Attribute (or click a row of the table)")
        attribute = pickers.choose(title, names, "attribute", _)
    attribute_detail(run, rows_by(scores, "attribute")[attribute])
