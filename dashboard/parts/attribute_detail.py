"""One attribute in a run: precision-recall and reliability curves, and the surest predictions."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from coconut_attr.attributes import INDEX
from dashboard import formats
from dashboard.charts import common
from dashboard.data import Row, read, threshold_of
from dashboard.i18n import N_, _
from dashboard.parts import layout, photos
from db import browse, labels

BINS = 10  # as for the expected calibration error
POINTS = 300  # of a drawn curve, at most about twice that
IMAGES = 4  # of each kind
KINDS: dict[browse.Kind, str] = {
    "true present": N_("Agreement: label and model say present"),
    "false present": N_("Disagreement: the model is confident of present, the label says absent"),
    "false absent": N_("Disagreement: the label says present, the model is confident of absent"),
}
SHARE_AXIS: dict[str, Any] = {"format": ".0%", "tickCount": 5}


def attribute_detail(run: Row, scores: Row) -> None:
    """Show an attribute's curves, its scores at the threshold, and images.

    Args:
        run: a row of `run_summary`.
        scores: the attribute's row of `attribute_accuracy`.
    """
    attribute = scores["attribute"]
    query = (run["run_id"], run["evaluated_on"], run["split"], INDEX[attribute])
    cells = read(browse.scored_cells, *query, scores["against"])
    if not len(cells):
        st.caption(_("No predictions of this attribute are stored, or it has no scored cell."))
        return
    against = formats.against(scores["against"], run["judged_by"])
    st.caption(_("Curves and scores are {against}.", against=against))
    states, probabilities = cells["present"].to_numpy(int), cells["probability"].to_numpy(float)
    if 0 < states.sum() < len(states):
        left, right = st.columns(2, gap="medium")
        with left:
            _precision_recall(states, probabilities, scores)
        with right:
            _reliability(states, probabilities, scores)
    else:
        st.caption(_("All scored cells have the same state: there are no curves to draw."))
    threshold = threshold_of(scores)
    if states.any():
        st.caption(
            _(
                "At the threshold {threshold}: precision {precision}, recall {recall}, F1 {f1} "
                "(95 % interval {interval}, bootstrap over images), balanced accuracy "
                "{balanced}; n = {n}. Calling every cell present has an F1 of {baseline}.",
                threshold=formats.number(threshold),
                precision=formats.number(scores["precision"]),
                recall=formats.number(scores["recall"]),
                f1=formats.number(scores["f1"]),
                interval=formats.interval(scores["f1_low"], scores["f1_high"]),
                balanced=formats.number(scores["balanced_accuracy"]),
                n=formats.count(len(states)),
                baseline=formats.number(2 * states.mean() / (1 + states.mean())),
            )
        )
    _images(run, attribute, threshold)


@st.cache_resource(show_spinner=False)
def _curves() -> tuple[Any, Any]:
    """Return scikit-learn's curve functions; importing them takes seconds, once for the server."""
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import precision_recall_curve

    layout.freeze_imports()
    return precision_recall_curve, calibration_curve


def _precision_recall(states: np.ndarray, probabilities: np.ndarray, scores: Row) -> None:
    precision, recall, thresholds = _curves()[0](states, probabilities)
    curve = pd.DataFrame(
        {"precision": precision, "recall": recall, "threshold": [*thresholds, np.nan]}
    )
    curve["order"] = range(len(curve))
    curve = curve.iloc[:: max(1, len(curve) // POINTS)]
    prior = states.mean()
    scale = alt.Scale(domain=[0, 1])
    x = alt.X("recall:Q", scale=scale, axis=alt.Axis(title=_("recall"), **SHARE_AXIS))
    y = alt.Y("precision:Q", scale=scale, axis=alt.Axis(title=_("precision"), **SHARE_AXIS))
    tooltip = [
        alt.Tooltip("recall:Q", title=_("recall"), format=".1%"),
        alt.Tooltip("precision:Q", title=_("precision"), format=".1%"),
        alt.Tooltip("threshold:Q", title=_("threshold"), format=".3f"),
    ]
    line = alt.Chart(curve).mark_line(strokeWidth=2, color=common.ACCENT, interpolate="step-after")
    layers: list[Any] = [
        _level(prior, _("prior {value}", value=formats.percent(prior))),
        line.encode(x=x, y=y, order="order:Q", tooltip=tooltip),
    ]
    chosen = pd.DataFrame([{name: scores[name] for name in ("precision", "recall", "threshold")}])
    if chosen.notna().all(axis=None):
        point = alt.Chart(chosen).mark_point(filled=True, size=90, color=common.ACCENT, opacity=1)
        layers.append(point.encode(x=x, y=y, tooltip=tooltip))
    st.markdown("**" + _("Precision and recall") + "**")
    common.show(alt.layer(*layers), 280, _("Precision-recall curve"), "precision-recall chart")
    st.caption(
        _(
            "AP {ap} ({interval}), prior {prior}, linear probe {probe}. n = {n} scored cells, "
            "{positives} present. The point: the threshold {threshold}.",
            ap=formats.number(scores["ap"]),
            interval=formats.interval(scores["ap_low"], scores["ap_high"]),
            prior=formats.number(prior),
            probe=formats.number(scores["probe_ap"]),
            n=formats.count(len(states)),
            positives=formats.count(states.sum()),
            threshold=formats.number(scores["threshold"]),
        )
    )


def _level(value: float, label: str) -> alt.LayerChart:
    """Draw a horizontal reference line."""
    at = pd.DataFrame({"at": [value], "x": [0.0], "label": [label]})
    y = alt.Y("at:Q", title=_("precision"))
    rule = alt.Chart(at).mark_rule(color=common.AMBER, strokeDash=[2, 3]).encode(y=y)
    text = alt.Chart(at).mark_text(
        align="left", baseline="bottom", dx=4, dy=-3, fontSize=11, color=common.AMBER
    )
    return rule + text.encode(x="x:Q", y=y, text="label:N")


def _reliability(states: np.ndarray, probabilities: np.ndarray, scores: Row) -> None:
    share, mean = _curves()[1](states, probabilities, n_bins=BINS)
    edges = np.linspace(0, 1, BINS + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], probabilities), minlength=BINS)
    bins = pd.DataFrame({"predicted": mean, "observed": share, "n": counts[counts > 0]})
    scale = alt.Scale(domain=[0, 1])
    x_axis = alt.Axis(title=_("predicted probability"), **SHARE_AXIS)
    x = alt.X("predicted:Q", scale=scale, axis=x_axis)
    y = alt.Y("observed:Q", scale=scale, axis=alt.Axis(title=_("share present"), **SHARE_AXIS))
    ideal = alt.Chart(pd.DataFrame({"predicted": [0, 1], "observed": [0, 1]}))
    base = alt.Chart(bins).encode(
        x=x,
        y=y,
        tooltip=[
            alt.Tooltip("predicted:Q", title=_("predicted probability"), format=".1%"),
            alt.Tooltip("observed:Q", title=_("share present"), format=".1%"),
            alt.Tooltip("n:Q", title=_("scored cells"), format=","),
        ],
    )
    layers = [
        ideal.mark_line(color=common.GREY, strokeDash=[2, 3], strokeWidth=1).encode(x=x, y=y),
        base.mark_line(color=common.ACCENT, strokeWidth=2),
        base.mark_point(color=common.ACCENT, filled=True, opacity=1).encode(
            size=alt.Size("n:Q", legend=None, scale=alt.Scale(range=[30, 300]))
        ),
    ]
    st.markdown("**" + _("Reliability") + "**")
    common.show(alt.layer(*layers), 280, _("Reliability curve"), "reliability chart")
    st.caption(
        _(
            "Expected calibration error {ece} ({interval}) over {bins} bins; a point's area is "
            "its n. Dotted: perfect calibration.",
            ece=formats.number(scores["ece"]),
            interval=formats.interval(scores["ece_low"], scores["ece_high"]),
            bins=BINS,
        )
    )


def _images(run: Row, attribute: str, threshold: float) -> None:
    masks = st.toggle(
        _("Darken the segments that the label is not based on, where there is a mask"),
        value=True,
        key="masks",
    )
    of_run = run["run_id"], run["evaluated_on"], run["split"]
    for kind, title in KINDS.items():
        st.markdown(f"**{_(title)}**")
        wanted = browse.Predicted(*of_run, INDEX[attribute], kind, threshold)
        images = read(browse.images_by_prediction, wanted, IMAGES)
        if not len(images):
            st.caption(_("None."))
            continue
        ids = tuple(int(coco_id) for coco_id in images["coco_id"])
        evidence = read(labels.evidence_of, run["evaluated_on"], ids)
        if len(evidence):
            evidence = evidence[evidence["attribute"] == attribute]
        key = f"{kind} images"
        photos.gallery(run["evaluated_on"], images, evidence, key, width=290, masks=masks)
