"""Coverage: how much of a dataset is stored, and what is known about its attributes."""

import pandas as pd
import streamlit as st

from coconut_attr.attributes import SOURCES, SPLITS
from dashboard import formats
from dashboard.charts import common
from dashboard.charts.cooccurrence import show_cooccurrence
from dashboard.charts.coverage import STATE_COLORS, source_chart, state_chart
from dashboard.data import Row, read_counts, rows_by
from dashboard.i18n import _, paragraph
from dashboard.parts import layout, notices, pickers
from dashboard.parts.dataset_files import dataset_files
from db.counts import COMBINED, cooccurrence, counted_splits, coverage, dataset_summaries

ALL = "all"
REFRESH = 10  # seconds


def page() -> None:
    """Show a dataset's counts, its labels by attribute and source, and its files."""
    (picker,) = layout.header(_("Dataset coverage"), 3)
    summaries = rows_by(read_counts(dataset_summaries), "dataset")
    filled = {name: row for name, row in summaries.items() if row["images"]}
    if not filled:
        notices.empty(
            _("No images yet"),
            _("The database has no image of any dataset. To download and label one:"),
        )
        layout.watch(REFRESH / 2)
        return
    with picker:
        name = pickers.choose(_("Dataset"), list(filled), "dataset", layout.dataset_namer(filled))
    summary = filled[name]
    if not summary["is_coconut"]:
        notices.not_coconut(name, summary["title"])
    _counts(summary)
    _what_is_missing(summary)
    sizes = read_counts(counted_splits, name).set_index("split")
    cells = read_counts(coverage, name)
    if len(cells):
        _labels(cells, sizes)
        _sources(cells, int(summary["labelled"]))
        show_cooccurrence(read_counts(cooccurrence, name))
    else:
        notices.empty(
            _("No labels yet"),
            _("The images of this dataset have not been labelled. To label them:"),
            f"prefect deployment run extract/{name}",
        )
    dataset_files(name, summary, sizes)
    layout.watch(REFRESH)


def _counts(summary: Row) -> None:
    images, expected = summary["images"], summary["expected_images"]
    n = formats.count(images)
    if pd.notna(expected):
        share = formats.percent(images / expected)
        expectation = _("of {n} expected ({share})", n=formats.count(expected), share=share)
    else:
        expectation = _("upstream states no count")
    untried = formats.count(images - summary["downloaded"] - summary["failed"])
    layout.cards(
        (_("Images known"), n, expectation, layout.as_of(summary)),
        (
            _("Downloaded"),
            formats.count(summary["downloaded"]),
            _("of {n} known · {size}", n=n, size=formats.size(summary["bytes"])),
        ),
        (
            _("Failed"),
            formats.count(summary["failed"]),
            _("of {n} known", n=n),
            _("{n} more not tried yet", n=untried),
        ),
        (
            _("With panoptic mask"),
            formats.count(summary["with_mask"]),
            _("{n} segments", n=formats.count(summary["segments"])),
        ),
        (
            _("Labelled"),
            formats.count(summary["labelled"]),
            _("{n} captions read", n=formats.count(summary["captions"])),
        ),
    )


def _what_is_missing(summary: Row) -> None:
    """Say what part of the dataset the figures are of, and where its masks come from."""
    sentences = []
    if pd.notna(summary["expected_images"]) and summary["images"] < summary["expected_images"]:
        sentences.append(
            _(
                "**The database holds part of this dataset:** {images} of {expected} expected "
                "images and {segments} of {expected_segments} expected segments. All figures "
                "below are of that part.",
                images=formats.count(summary["images"]),
                expected=formats.count(summary["expected_images"]),
                segments=formats.count(summary["segments"]),
                expected_segments=formats.count(summary["expected_segments"]),
            )
        )
    if summary["with_mask"] < summary["labelled"]:
        sentences.append(
            _(
                "{n} labelled images have no mask: their labels come from pixels and captions.",
                n=formats.count(summary["labelled"] - summary["with_mask"]),
            )
        )
    if origins := notices.mask_origins(summary["dataset"]):
        sentences.append(origins)
    if sentences:
        st.info(paragraph(*sentences), icon=":material/info:")


def _labels(cells: pd.DataFrame, sizes: pd.DataFrame) -> None:
    st.subheader(_("Labels by attribute"), anchor=False)
    pills, which_split, which_source = st.columns([3, 1, 1], vertical_alignment="bottom")
    with pills:
        groups = pickers.choose_groups()
    with which_split:
        split = pickers.choose(
            _("Split"), (ALL, *SPLITS), "split", lambda s: _("all splits") if s == ALL else _(s)
        )
    with which_source:
        source = pickers.choose(_("Labels of"), _sources_in(cells), "of", _)
    images = int(sizes["labelled"].sum() if split == ALL else sizes["labelled"].get(split, 0))
    if not images:
        st.write(_("No image of this split has been labelled."))
        return
    table = layout.in_label_order(by_attribute(cells, split, source, images), groups)
    rows = common.grouped_rows(table["attribute"].tolist())
    chart, figures = st.columns(2, gap="medium")
    with chart:
        symbols = {state: "pale" if state == "unknown" else "square" for state in STATE_COLORS}
        common.legend(
            [common.Entry(symbols[state], color, _(state)) for state, color in STATE_COLORS.items()]
        )
        common.show(
            state_chart(table, rows, images),
            common.height(rows),
            _("Present, absent and unknown cells"),
            "coverage chart",
        )
        st.caption(
            _(
                "n = {n} labelled images for each attribute. Known: the share that is present or "
                "absent. Scores against labels skip unknown cells.",
                n=formats.count(images),
            )
        )
    with figures:
        _table(table, common.height(rows) + 20)


def by_attribute(cells: pd.DataFrame, split: str, source: str, images: int) -> pd.DataFrame:
    """Count the cells of each attribute by state, by one source, in one split or in all.

    Args:
        cells: rows of `db.counts.coverage`.
        images: number of labelled images; those without evidence of the source are unknown.
    """
    chosen = cells[(cells["source"] == source) & ((cells["split"] == split) | (split == ALL))]
    attributes = cells[["attribute", "group_name"]].drop_duplicates()
    counts = chosen.groupby("attribute")[["present", "absent", "conflicts"]].sum()
    table = attributes.join(counts, on="attribute").fillna(0)
    known = (table["present"] + table["absent"]).clip(upper=images)
    return table.assign(unknown=images - known, coverage=known / images)


def _table(table: pd.DataFrame, height: int) -> None:
    columns = ["attribute", "group_name", *STATE_COLORS, "coverage", "conflicts"]
    shown = common.translated(table)[columns].assign(
        coverage=100 * table["coverage"], group_name=table["group_name"].map(_)
    )
    words, number = st.column_config.TextColumn, st.column_config.NumberColumn
    known = st.column_config.ProgressColumn(
        _("known"), format="%.0f %%", min_value=0, max_value=100, width=120
    )
    conflicts = number(
        _("conflicts"), width=70, help=_("Images with evidence for the other state too")
    )
    st.dataframe(
        shown,
        hide_index=True,
        height=min(height, 35 * len(shown) + 38),
        alt=_("Labels by attribute"),
        column_config={
            "attribute": words(_("attribute"), width=95),
            "group_name": words(_("group"), width=95),
            **{state: number(_(state), format="localized", width=70) for state in STATE_COLORS},
            "coverage": known,
            "conflicts": conflicts,
        },
    )


def _sources_in(cells: pd.DataFrame) -> list[str]:
    """Return `combined` and the sources that have evidence; most datasets have no PanCap texts."""
    evident = set(cells.get("source", ()))
    return [COMBINED, *(source for source in SOURCES if source in evident)]


def _sources(cells: pd.DataFrame, images: int) -> None:
    st.subheader(_("Labelled cells by group and source"), anchor=False)
    known = cells.assign(known=cells["present"] + cells["absent"])
    table = known.groupby(["group_name", "source"])["known"].sum().reset_index()
    table["cells"] = images * table["group_name"].map(
        cells.groupby("group_name")["attribute"].nunique()
    )
    table["share"] = table["known"] / table["cells"]
    colors = dict(zip(_sources_in(cells), common.SERIES, strict=False))
    common.legend([common.Entry("square", color, _(source)) for source, color in colors.items()])
    common.show(
        source_chart(table, colors), 260, _("Share of cells known, by group and source"), "sources"
    )
    st.caption(
        _(
            "n = {n} labelled images times the attributes of a group. A source with evidence for "
            "both states of a cell counts in both.",
            n=formats.count(images),
        )
    )
