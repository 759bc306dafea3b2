"""Overview: what data is there, how good are labels and model, and what is going on, in a minute."""

from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.labels.gold.agreement import load_gold
from dashboard import formats
from dashboard.charts import common
from dashboard.charts import scores as score_chart
from dashboard.data import Row, by, read, read_counts
from dashboard.figures import gold as agreement
from dashboard.i18n import _
from dashboard.parts import layout, notices, progress
from db import counts
from db.runs import attribute_scores, run_scores, run_summaries

REFRESH = 10
EXTREMES = 5  # attributes at either end


def page() -> None:
    """The page."""
    layout.header(_("Overview"))
    summaries = by(read_counts(counts.dataset_summaries), "dataset")
    filled = {name: row for name, row in summaries.items() if row["images"]}
    run = _latest_run()
    if not filled:
        notices.empty(
            _("No images yet"),
            _(
                "The database is there, but no dataset in it has an image. To fetch, label, train and score:"
            ),
        )
    else:
        for name, row in filled.items():
            if not row["is_coconut"]:
                notices.not_coconut(name, row["title"])
        _cards(next(iter(filled.values())), run)
    if run:
        left, right = st.columns(2, gap="medium")
        with left:
            _model(run)
            _running()
        with right:
            _extremes(run)
    else:
        _running()
        if filled:
            notices.empty(
                _("No scores yet"),
                _("No run of this project has been evaluated. To train and evaluate one:"),
            )
    if filled:
        _datasets(summaries)
    layout.watch(REFRESH)


def _running() -> None:
    st.subheader(_("Now running"), anchor=False)
    progress.live()


def _latest_run() -> Row | None:
    """The newest scored run, on its test split if it has been scored on that."""
    runs = read(run_summaries)
    if not len(runs):
        return None
    scored = runs[(runs["kind"] == "trained") & runs["split"].notna()]
    scored = scored.sort_values(["run_id", "split"], ascending=[False, True])
    found: list[Row] = list(by(scored.assign(key=scored["run_id"]), "key").values())
    return found[0] if found else None


def _cards(summary: Row, run: Row | None) -> None:
    images, labelled = summary["images"], summary["labelled"]
    cells = labelled * len(ATTRIBUTES)
    missing = images - summary["downloaded"] - summary["failed"]
    entries = [
        (
            _("Images of {dataset}", dataset=summary["dataset"]),
            formats.count(summary["downloaded"]),
            _("downloaded of {n} known", n=formats.count(images)),
            _("{failed} failed, {missing} not tried yet", failed=formats.count(summary["failed"]),
              missing=formats.count(missing)),
            layout.counted(summary),
        ),
        (
            _("Known cells"),
            formats.percent(summary["known"] / cells) if cells else formats.DASH,
            _("{known} of {n} cells", known=formats.count(summary["known"]), n=formats.count(cells)),
            _("n = {n} labelled images", n=formats.count(labelled)),
            _("{n} of them with a mask", n=formats.count(summary["with_mask"])),
        ),
        _labels_card(summary["dataset"]),
    ]  # fmt: skip
    if run:
        entries.append(
            (
                _("mAP of run {run}", run=run["run_id"]),
                formats.number(run["map"]),
                _("95 % interval {interval}", interval=formats.interval(run["map_low"], run["map_high"])),
                _("baseline: prior {prior}", prior=formats.number(run["prior_map"])),
                _("n = {cells} cells, {images} images", cells=formats.count(run["decisions"]),
                  images=formats.count(run["images"])),
            )
        )  # fmt: skip
    layout.cards(*entries)


def _labels_card(dataset: str) -> tuple[str, ...]:
    """How right the labels are on the part of the gold set that no rule was set on."""
    gold = load_gold("test")
    found = agreement.labels(dataset, list(gold), agreement.COMBINED)
    there = {coco_id: states for coco_id, states in gold.items() if coco_id in found}
    title = _("Labels right, by gold")
    if not there:
        return title, formats.DASH, _("no image of the gold set's test part is labelled")
    _table, summary = agreement.compare(found, there)
    total, baselines = summary.overall, summary.baselines
    return (
        title,
        formats.percent(total.right),
        _("95 % interval {interval}", interval=formats.interval(*summary.intervals["right"], formats.percent)),
        _("present {value} of {n}; baseline {baseline}", value=formats.percent(total.present_micro),
          n=formats.count(total.present), baseline=formats.percent(baselines["present_micro"])),
        _("absent {value} of {n}; baseline {baseline}", value=formats.percent(total.absent_micro),
          n=formats.count(total.absent), baseline=formats.percent(baselines["absent_micro"])),
        _("n = {images} images of the test part", images=summary.images),
    )  # fmt: skip


def _model(run: Row) -> None:
    st.subheader(_("How good the model is"), anchor=False)
    scores = by(read(run_scores, run["run_id"], run["evaluated_on"], run["split"]), "name")
    rows = [
        (_("this model"), "map", common.ACCENT),
        (_("linear probe"), "probe_map", common.SERIES[3]),
        (_("prior"), "prior_map", common.AMBER),
    ]
    drawn = pd.DataFrame(
        [
            {"what": what, "color": color, **{name: scores[key][name] for name in ("value", "low", "high")},
             "text": formats.number(scores[key]["value"])}
            for what, key, color in rows
            if key in scores and pd.notna(scores[key]["value"])
        ]
    )  # fmt: skip
    if not len(drawn):
        st.write(_("The mAP of this run is undefined: no attribute has both states on this split."))
        return
    common.show(_bars(drawn), 40 * len(drawn) + 60, _("mAP beside its baselines"), "map chart")
    gain = scores.get("map_over_probe")
    told = _(
        "{name} on the {split} split of {dataset}: n = {cells} known cells of {images} images.",
        name=layout.run_name(run),
        split=_(run["split"]),
        dataset=run["evaluated_on"],
        cells=formats.count(run["decisions"]),
        images=formats.count(run["images"]),
    )
    if gain and pd.notna(gain["value"]):
        told += " " + _(
            "Gain over the linear probe on the same features: {gain} ({low} to {high}, paired bootstrap over images).",
            gain=f"{gain['value']:+.3f}",
            low=f"{gain['low']:+.3f}",
            high=f"{gain['high']:+.3f}",
        )
    st.caption(told)


def _bars(drawn: pd.DataFrame) -> Any:
    scale = alt.Scale(domain=[0, common.RIGHT], nice=False)
    axis = alt.Axis(title=_("mAP"), values=[0, 0.25, 0.5, 0.75, 1], format=".2~f", domain=False)
    base = alt.Chart(drawn).encode(
        y=alt.Y(
            "what:N",
            sort=None,
            axis=alt.Axis(title=None, ticks=False, domain=False, labelLimit=160),
        ),
        tooltip=[
            alt.Tooltip("what:N", title=" "),
            alt.Tooltip("value:Q", title=_("mAP"), format=".3f"),
        ],
    )
    bars = base.mark_bar(height=18).encode(
        x=alt.X("value:Q", scale=scale, axis=axis), color=alt.Color("color:N", scale=None)
    )
    known = drawn[drawn["low"].notna()]
    whiskers = (
        alt.Chart(known)
        .mark_rule(strokeWidth=2, color=common.GREY)
        .encode(x="low:Q", x2="high:Q", y=base.encoding.y)
    )
    texts = base.mark_text(align="right", color=common.GREY, fontWeight="bold").encode(
        x=alt.XDatum(common.RIGHT), text="text:N"
    )
    return alt.layer(bars, whiskers, texts)


def _extremes(run: Row) -> None:
    st.subheader(_("What it gets right and wrong"), anchor=False)
    scores = read(attribute_scores, run["run_id"], run["evaluated_on"], run["split"])
    usable = (
        scores[scores["ap"].notna() & (scores["n"] >= score_chart.FEW)] if len(scores) else scores
    )
    if not len(usable):
        st.caption(
            _(
                "No attribute has an average precision over {n} known cells or more.",
                n=score_chart.FEW,
            )
        )
        return
    ranked = usable.assign(gain=usable["ap"] - usable["prior_ap"]).sort_values(
        "gain", ascending=False
    )
    count = min(EXTREMES, len(ranked) // 2)
    shown = common.named(pd.concat([ranked.head(count), ranked.tail(count)]))
    number = st.column_config.NumberColumn
    st.dataframe(
        shown[["attribute", "ap", "prior_ap", "gain", "n"]],
        hide_index=True,
        alt=_("Attributes with the highest and the lowest gain over the prior"),
        column_config={
            "attribute": _("attribute"),
            "ap": number(_("AP"), format="%.3f"),
            "prior_ap": number(_("prior AP"), format="%.3f"),
            "gain": st.column_config.ProgressColumn(
                _("gain over prior"), format="%.3f", min_value=0, max_value=1
            ),
            "n": number(_("n"), help=_("known cells"), format="localized"),
        },
    )
    st.caption(
        _(
            "The {count} attributes with the largest gain in average precision over the prior, and the {count} with "
            "the smallest, of those with {few} known cells or more. The page Attributes has all, with intervals.",
            count=count,
            few=score_chart.FEW,
        )
    )


def _datasets(summaries: dict[str, Row]) -> None:
    st.subheader(_("Datasets"), anchor=False)
    table = pd.DataFrame(summaries.values())
    table["missing"] = table["images"] - table["downloaded"] - table["failed"]
    cells = table["labelled"] * len(ATTRIBUTES)
    table["share"] = (100 * table["known"] / cells).where(cells > 0)
    whole = {
        "expected_images": _("expected"), "images": _("known"), "downloaded": _("downloaded"), "failed": _("failed"),
        "missing": _("missing"), "with_mask": _("with mask"), "segments": _("segments"), "captions": _("captions"),
        "labelled": _("labelled"),
    }  # fmt: skip
    st.dataframe(
        table,
        hide_index=True,
        placeholder=formats.DASH,
        alt=_("Datasets"),
        column_order=["dataset", "title", *whole, "share"],
        column_config={
            "dataset": _("dataset"),
            "title": _("title"),
            **{
                name: st.column_config.NumberColumn(title, format="localized")
                for name, title in whole.items()
            },
            "share": st.column_config.ProgressColumn(
                _("known cells"), format="%.0f %%", min_value=0, max_value=100
            ),
        },
    )
    st.caption(
        _("Expected: images that upstream states. Missing: known, neither downloaded nor failed.")
    )
