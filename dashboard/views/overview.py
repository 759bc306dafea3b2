"""Overview: which data is stored, how good labels and model are, and what runs now."""

import altair as alt
import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES
from dashboard import formats, prefect_api
from dashboard.charts import common
from dashboard.data import Row, engine, read, read_counts, rows_by, run_to_show
from dashboard.figures import agreement
from dashboard.figures.verdict import is_few
from dashboard.i18n import _
from dashboard.parts import layout, notices, pickers
from dashboard.parts.progress import show_progress
from dashboard.parts.verdict import attribute_counts, verdict
from db import counts
from db.judgements import kinds_of_truth, truth_of_part
from db.runs import attribute_scores, run_scores, run_summaries

REFRESH = 10  # seconds
EXTREMES = 5  # attributes at either end


def page() -> None:
    """Show a dataset, its labels and its run to show, and running work."""
    (picker,) = layout.header(_("Overview"), 2)
    summaries = rows_by(read_counts(counts.dataset_summaries), "dataset")
    filled = {name: row for name, row in summaries.items() if row["images"]}
    run = None
    if not filled:
        notices.empty(
            _("No images yet"),
            _("The database has no image of any dataset. To download, label, train and evaluate:"),
        )
    else:
        dataset = next(iter(filled))
        if len(filled) > 1:
            with picker:
                names = layout.dataset_namer(filled)
                dataset = pickers.choose(_("Dataset"), list(filled), "dataset", names)
        if not filled[dataset]["is_coconut"]:
            notices.not_coconut(dataset, filled[dataset]["title"])
        run = _shown_run(dataset)
        _cards(filled[dataset], run)
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
                _("No run on this dataset has been evaluated. To train and evaluate one:"),
                f"coconut-attr train {dataset}",
            )
    if filled:
        _datasets(summaries)
    layout.watch(REFRESH)


def _running() -> None:
    st.subheader(_("Now running"), anchor=False)
    show_progress()
    if address := prefect_api.ui():
        st.link_button(_("Flow runs in Prefect"), address, icon=":material/open_in_new:")


def _shown_run(dataset: str) -> Row | None:
    """Return the scores of a dataset's run to show: on test, if it has been scored on that."""
    shown, runs = run_to_show(dataset), read(run_summaries)
    if shown is None:
        return None
    scored = runs[(runs["run_id"] == shown) & (runs["evaluated_on"] == dataset)]
    return next(iter(rows_by(scored.sort_values("split"), "run_id").values()), None)


def _cards(summary: Row, run: Row | None) -> None:
    images, labelled = summary["images"], summary["labelled"]
    cells = labelled * len(ATTRIBUTES)
    failed, untried = summary["failed"], images - summary["downloaded"] - summary["failed"]
    known = formats.count(summary["known"])
    cards = [
        (
            _("Images of {dataset}", dataset=summary["dataset"]),
            formats.count(summary["downloaded"]),
            _("downloaded of {n} known", n=formats.count(images)),
            _(
                "{failed} failed, {missing} not tried yet",
                failed=formats.count(failed),
                missing=formats.count(untried),
            ),
            layout.as_of(summary),
        ),
        (
            _("Labelled cells"),
            formats.percent(summary["known"] / cells) if cells else formats.DASH,
            _("{known} of {n} cells", known=known, n=formats.count(cells)),
            _("n = {n} labelled images", n=formats.count(labelled)),
            _("{n} of them with a mask", n=formats.count(summary["with_mask"])),
        ),
        _labels_card(summary["dataset"]),
    ]
    if run:
        cards.append(_run_card(run))
    layout.cards(*cards)


def _labels_card(dataset: str) -> tuple[str, ...]:
    """Return how right the labels are on the judged images that no rule was tuned on."""
    truth = truth_of_part(engine(), dataset, "test")
    states = agreement.label_states(dataset, list(truth), agreement.COMBINED)
    labelled = {coco_id: cells for coco_id, cells in truth.items() if coco_id in states}
    if not labelled:
        return (
            _("Labels that agree with judgements"),
            formats.DASH,
            _("no judged image of the test part is labelled"),
        )
    kinds = kinds_of_truth(engine(), dataset, "test")
    title = (
        _("Labels that agree with people")
        if "human" in kinds
        else _("Labels that agree with an AI model")
    )
    _table, summary = agreement.compare(states, labelled)
    total, baselines = summary.overall, summary.baselines
    interval = formats.interval(*summary.intervals["right"], formats.percent)
    return (
        title,
        formats.percent(total.right),
        _("95 % interval {interval}", interval=interval),
        _(
            "present {value} of {n}; baseline {baseline}",
            value=formats.percent(total.present_micro),
            n=formats.count(total.present),
            baseline=formats.percent(baselines["present_micro"]),
        ),
        _(
            "absent {value} of {n}; baseline {baseline}",
            value=formats.percent(total.absent_micro),
            n=formats.count(total.absent),
            baseline=formats.percent(baselines["absent_micro"]),
        ),
        _("n = {images} images of the test part", images=summary.images),
    )


def _run_card(run: Row) -> tuple[str, ...]:
    return (
        _("mAP of run {run}", run=run["run_id"]),
        formats.number(run["map"]),
        formats.against(run["against"], run["judged_by"]) or formats.DASH,
        layout.counted(run["map_attributes"]),
        _("95 % interval {interval}", interval=formats.interval(run["map_low"], run["map_high"])),
        _(
            "baselines: linear probe {probe}, prior {prior}",
            probe=formats.number(run["probe_map"]),
            prior=formats.number(run["prior_map"]),
        ),
        _(
            "accuracy {accuracy}, balanced {balanced}",
            accuracy=formats.percent(run["accuracy"]),
            balanced=formats.percent(run["balanced_accuracy"]),
        ),
        _(
            "n = {cells} cells, {images} images",
            cells=formats.count(run["decisions"]),
            images=formats.count(run["images"]),
        ),
        *_by_labels(run),
    )


def _by_labels(run: Row) -> list[str]:
    """Return the by-line that gives the mAP against labels beside a headline by eyes."""
    if run["against"] != "eyes":
        return []
    of_labels = read(run_scores, run["run_id"], run["evaluated_on"], run["split"], "labels")
    score = rows_by(of_labels, "name").get("map") if len(of_labels) else None
    if score is None:
        return []
    return [
        _(
            "{value} ({interval}) against our labels, which err; n = {n} cells",
            value=formats.number(score["value"]),
            interval=formats.interval(score["low"], score["high"]),
            n=formats.count(score["n"]),
        )
    ]


def _model(run: Row) -> None:
    st.subheader(_("How good the model is"), anchor=False)
    scores = rows_by(read(run_scores, run["run_id"], run["evaluated_on"], run["split"]), "name")
    bars = pd.DataFrame(
        {
            "what": what,
            "color": color,
            "text": formats.number(scores[name]["value"]),
            **{column: scores[name][column] for column in ("value", "low", "high")},
        }
        for what, name, color in (
            (_("this model"), "map", common.ACCENT),
            (_("linear probe"), "probe_map", common.SERIES[3]),
            (_("prior"), "prior_map", common.AMBER),
        )
        if name in scores and pd.notna(scores[name]["value"])
    )
    against = formats.against(run["against"], run["judged_by"])
    if len(bars):
        common.show(
            _bars(bars, f"{_('mAP')}, {against}"),
            40 * len(bars) + 60,
            _("mAP beside its baselines"),
            "map chart",
        )
    else:
        st.write(_("The mAP is undefined: no attribute has 5 cells or more of both states."))
    basis = _(
        "{name} on the {split} split of {dataset}, {against}: n = {cells} cells of {images} "
        "images.",
        name=layout.run_name(run),
        against=against,
        split=_(run["split"]),
        dataset=run["evaluated_on"],
        cells=formats.count(run["decisions"]),
        images=formats.count(run["images"]),
    )
    st.write(verdict(scores, "map", _("mAP"), formats.number))
    by_attribute = read(attribute_scores, run["run_id"], run["evaluated_on"], run["split"])
    if len(by_attribute):
        st.write(attribute_counts(by_attribute))
        for sentence in layout.cannot_say(by_attribute):
            st.warning(sentence)
    st.caption(basis)
    layout.link(_("What can I trust?"), "trust")
    if warning := layout.only_labels(run):
        st.warning(warning)


def _bars(table: pd.DataFrame, title: str) -> common.Chart:
    scale = alt.Scale(domain=[0, common.RIGHT_EDGE], nice=False)
    x_axis = alt.Axis(title=title, values=[0, 0.25, 0.5, 0.75, 1], format=".2~f", domain=False)
    y_axis = alt.Axis(title=None, ticks=False, domain=False, labelLimit=160)
    y = alt.Y("what:N", sort=None, axis=y_axis)
    base = alt.Chart(table).encode(
        y=y,
        tooltip=[
            alt.Tooltip("what:N", title=" "),
            alt.Tooltip("value:Q", title=_("mAP"), format=".3f"),
        ],
    )
    bars = base.mark_bar(height=18).encode(
        x=alt.X("value:Q", scale=scale, axis=x_axis), color=alt.Color("color:N", scale=None)
    )
    intervals = alt.Chart(table[table["low"].notna()]).mark_rule(strokeWidth=2, color=common.GREY)
    texts = base.mark_text(align="right", color=common.GREY, fontWeight="bold").encode(
        x=alt.XDatum(common.RIGHT_EDGE), text="text:N"
    )
    return alt.layer(bars, intervals.encode(x="low:Q", x2="high:Q", y=y), texts)


def _extremes(run: Row) -> None:
    st.subheader(_("Where it gains most, and least"), anchor=False)
    scores = read(attribute_scores, run["run_id"], run["evaluated_on"], run["split"])
    if len(scores):
        scores = scores[scores["ap"].notna() & ~is_few(scores)]
    if not len(scores):
        st.caption(_("No attribute has 5 cells or more of both states."))
        return
    gains = scores.assign(gain=scores["over_prior"].fillna(scores["ap"] - scores["prior_ap"]))
    ranked = common.translated(gains.sort_values("gain", ascending=False))
    count = min(EXTREMES, len(ranked) // 2)
    number = st.column_config.NumberColumn
    st.dataframe(
        pd.concat([ranked.head(count), ranked.tail(count)]),
        hide_index=True,
        alt=_("Attributes with the highest and the lowest gain over the prior"),
        column_order=["attribute", "ap", "prior_ap", "gain", "n"],
        column_config={
            "attribute": _("attribute"),
            "ap": number(_("AP"), format="%.3f"),
            "prior_ap": number(_("prior AP"), format="%.3f"),
            "gain": st.column_config.ProgressColumn(
                _("gain over prior"), format="%.3f", min_value=0, max_value=1
            ),
            "n": number(_("n"), help=_("scored cells"), format="localized"),
        },
    )
    st.caption(
        _(
            "The {count} attributes with the largest gain in average precision over the prior, and "
            "the {count} with the smallest, of those with 5 cells or more of both states. The page "
            "Attributes has all, with intervals. Scores are {against}.",
            against=formats.against(run["against"], run["judged_by"]),
            count=count,
        )
    )


def _datasets(summaries: dict[str, Row]) -> None:
    st.subheader(_("Datasets"), anchor=False)
    table = pd.DataFrame(summaries.values())
    table["missing"] = table["images"] - table["downloaded"] - table["failed"]
    cells = table["labelled"] * len(ATTRIBUTES)
    table["share"] = (100 * table["known"] / cells).where(cells > 0)
    titles = {
        "expected_images": _("expected"),
        "images": _("known"),
        "downloaded": _("downloaded"),
        "failed": _("failed"),
        "missing": _("missing"),
        "with_mask": _("with mask"),
        "segments": _("segments"),
        "captions": _("captions"),
        "labelled": _("labelled"),
    }
    counts = {
        name: st.column_config.NumberColumn(title, format="localized")
        for name, title in titles.items()
    }
    share = st.column_config.ProgressColumn(
        _("labelled cells"), format="%.0f %%", min_value=0, max_value=100
    )
    st.dataframe(
        table,
        hide_index=True,
        placeholder=formats.DASH,
        alt=_("Datasets"),
        column_order=["dataset", "title", *counts, "share"],
        column_config={"dataset": _("dataset"), "title": _("title"), **counts, "share": share},
    )
    st.caption(
        _(
            "Expected: the number of images that upstream states. Missing: known, but neither "
            "downloaded nor failed."
        )
    )
