"""Coverage: how much of a dataset is there, and what is known about its attributes."""

from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from dashboard import formats
from dashboard.charts import common
from dashboard.charts import cooccurrence as cooccurrence_chart
from dashboard.data import Row, by, read, read_counts
from dashboard.i18n import _
from dashboard.parts import layout, notices, pickers
from db import annotations, downloads
from db.counts import COMBINED, cooccurrence, counted_splits, coverage, dataset_summaries
from db.labels import SOURCES

STATES = {"present": common.ACCENT, "absent": common.AMBER, "unknown": common.GREY}
ALL = "all"
SPLITS = ("train", "val", "test")
REFRESH = 10  # seconds


def page() -> None:
    """The page."""
    (picker,) = layout.header(_("Dataset coverage"), 3)
    summaries = by(read_counts(dataset_summaries), "dataset")
    filled = {name: row for name, row in summaries.items() if row["images"]}
    if not filled:
        notices.empty(
            _("No images yet"),
            _("The database is there, but no dataset in it has an image. To fetch and label one:"),
        )
        layout.watch(REFRESH / 2)
        return
    with picker:
        name = pickers.choose(
            _("Dataset"), list(filled), "dataset", layout.describe_dataset(filled)
        )
    summary = filled[name]
    if not summary["is_coconut"]:
        notices.not_coconut(name, summary["title"])
    _counts(summary)
    sizes = read_counts(counted_splits, name).set_index("split")
    cells = read_counts(coverage, name)
    if len(cells):
        _labels(cells, sizes)
        _sources(cells, int(summary["labelled"]))
        cooccurrence_chart.cooccurrence(read_counts(cooccurrence, name))
    else:
        notices.empty(_("No labels yet"), _("The images of this dataset have not been labelled. To label them:"),
                 f"prefect deployment run extract/{name}")  # fmt: skip
    _files(name, summary, sizes)
    layout.watch(REFRESH)


def _counts(summary: Row) -> None:
    expected = summary["expected_images"]
    images = summary["images"]
    missing = images - summary["downloaded"] - summary["failed"]
    layout.cards(
        (
            _("Images known"),
            formats.count(images),
            _(
                "of {n} expected ({share})",
                n=formats.count(expected),
                share=formats.percent(images / expected),
            )
            if pd.notna(expected)
            else _("upstream states no count"),
            layout.counted(summary),
        ),
        (
            _("Downloaded"),
            formats.count(summary["downloaded"]),
            _(
                "of {n} known · {size}",
                n=formats.count(images),
                size=formats.size(summary["bytes"]),
            ),
        ),
        (
            _("Failed"),
            formats.count(summary["failed"]),
            _("of {n} known", n=formats.count(images)),
            _("{n} more not tried yet", n=formats.count(missing)),
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
    parts = []
    if pd.notna(expected) and images < expected:
        parts.append(
            _(
                "**The store holds part of this dataset:** {images} of {expected} expected images and {segments} of "
                "{expected_segments} expected segments. Every figure below is of that part.",
                images=formats.count(images),
                expected=formats.count(expected),
                segments=formats.count(summary["segments"]),
                expected_segments=formats.count(summary["expected_segments"]),
            )
        )
    if summary["with_mask"] < summary["labelled"]:
        without = formats.count(summary["labelled"] - summary["with_mask"])
        parts.append(
            _(
                "{n} labelled images have no mask: their labels rest on pixels and captions.",
                n=without,
            )
        )
    if masks := notices.masks_from(summary["dataset"]):
        parts.append(masks)
    if parts:
        st.info(" ".join(parts), icon=":material/info:")


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
        source = pickers.choose(_("Labels of"), (COMBINED, *SOURCES), "of", _)
    images = int(sizes["labelled"].sum() if split == ALL else sizes["labelled"].get(split, 0))
    if not images:
        st.write(_("No image of this split has been labelled."))
        return
    table = layout.in_label_order(by_attribute(cells, split, source, images), groups)
    chart, figures = st.columns(2, gap="medium")
    with chart:
        common.legend(
            [
                common.Entry("pale" if state == "unknown" else "square", color, _(state))
                for state, color in STATES.items()
            ]
        )
        rows = common.grouped(table["attribute"].tolist())
        common.show(
            _chart(table, rows, images),
            common.height(rows),
            _("Present, absent and unknown cells"),
            "coverage chart",
        )
        st.caption(
            _(
                "n = {n} labelled images for each attribute. Known: share of them that are present or absent. Training "
                "and scores skip unknown cells.",
                n=formats.count(images),
            )
        )
    with figures:
        _table(table, common.height(rows) + 20)


def by_attribute(cells: pd.DataFrame, split: str, source: str, images: int) -> pd.DataFrame:
    """Counts of each attribute by one source, in one split or in all.

    Args:
        cells: rows of `db.counts.coverage`.
        images: how many are labelled. What a source does not speak about is unknown.
    """
    chosen = cells[(cells["source"] == source) & ((cells["split"] == split) | (split == ALL))]
    every = cells[["attribute", "group_name"]].drop_duplicates()
    counts = chosen.groupby("attribute")[["present", "absent", "conflicts"]].sum()
    table = every.join(counts, on="attribute").fillna(0)
    known = (table["present"] + table["absent"]).clip(upper=images)
    return table.assign(unknown=images - known, coverage=known / images)


def _sources(cells: pd.DataFrame, images: int) -> None:
    st.subheader(_("Known cells by group and source"), anchor=False)
    known = cells.assign(known=cells["present"] + cells["absent"])
    table = known.groupby(["group_name", "source"])["known"].sum().reset_index()
    attributes = cells.groupby("group_name")["attribute"].nunique()
    table["cells"] = table["group_name"].map(attributes) * images
    table["share"] = table["known"] / table["cells"]
    order = [COMBINED, *SOURCES]
    colors = dict(zip(order, common.SERIES, strict=False))
    common.legend([common.Entry("square", colors[source], _(source)) for source in order])
    groups = [name for name in cooccurrence_chart.GROUP_ORDER if name in attributes.index]
    drawn = table.assign(group=table["group_name"].map(_), name=table["source"].map(_))
    names = [_(source) for source in order]
    chart = (
        alt.Chart(drawn)
        .mark_bar()
        .encode(
            x=alt.X(
                "group:N",
                sort=[_(g) for g in groups],
                axis=alt.Axis(title=None, labelAngle=0, ticks=False),
            ),
            xOffset=alt.XOffset("name:N", sort=names, scale=alt.Scale(domain=names)),
            y=alt.Y(
                "share:Q",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(title=_("share of cells known"), format=".0%", tickCount=5),
            ),
            color=alt.Color(
                "name:N", scale=alt.Scale(domain=names, range=list(colors.values())), legend=None
            ),
            tooltip=[
                alt.Tooltip("group:N", title=_("group")),
                alt.Tooltip("name:N", title=_("source")),
                alt.Tooltip("share:Q", title=_("known"), format=".1%"),
                alt.Tooltip("known:Q", title=_("known cells"), format=","),
                alt.Tooltip("cells:Q", title=_("cells"), format=","),
            ],
        )
    )
    common.show(
        alt.layer(chart), 260, _("Share of cells known, by group and source"), "source chart"
    )
    st.caption(
        _(
            "n = {n} labelled images times the attributes of a group. A source that speaks for both states of a cell "
            "counts in both.",
            n=formats.count(images),
        )
    )


def _chart(table: pd.DataFrame, rows: list[str], images: int) -> common.Layered:
    table = common.named(
        table.assign(known=table["coverage"].map(lambda share: formats.percent(share, 0)))
    )
    cells = table.melt(["attribute", "group_name", "known"], list(STATES), "state", "cells")
    cells["shown"] = cells["state"].map(_)
    cells["place"] = cells["state"].map(list(STATES).index)
    cells["share"] = cells["cells"] / images
    end = images * common.RIGHT
    ticks = alt.Axis(title=_("images"), format=",d", values=_ticks(images), domain=False)
    bars = (
        alt.Chart(cells)
        .mark_bar(height=common.ROW - 6)
        .encode(
            x=alt.X(
                "cells:Q", stack="zero", scale=alt.Scale(domain=[0, end], nice=False), axis=ticks
            ),
            y=common.attribute_axis(rows),
            color=alt.Color(
                "state:N",
                scale=alt.Scale(domain=list(STATES), range=list(STATES.values())),
                legend=None,
            ),
            opacity=alt.condition(
                "datum.state === 'unknown'", alt.value(common.PALE), alt.value(1)
            ),
            order="place:Q",
            tooltip=[
                alt.Tooltip("attribute:N", title=_("attribute")),
                alt.Tooltip("shown:N", title=_("state")),
                alt.Tooltip("cells:Q", title=_("images"), format=","),
                alt.Tooltip(
                    "share:Q", title=_("share of {n}", n=formats.count(images)), format=".1%"
                ),
            ],
        )
    )
    return alt.layer(bars, common.figures(table, "known", _("known"), rows, end))


def _ticks(images: int) -> list[int]:
    """Round ticks, and the number of images itself."""
    step = next(s for k in range(9) for s in (10**k, 2 * 10**k, 5 * 10**k) if images <= 5 * s)
    return [*(tick for tick in range(0, images, step) if images - tick > step / 2), images]


def _table(table: pd.DataFrame, height: int) -> None:
    shown = common.named(table)[
        ["attribute", "group_name", "present", "absent", "unknown", "coverage", "conflicts"]
    ]
    words, number = st.column_config.TextColumn, st.column_config.NumberColumn
    st.dataframe(
        shown.assign(coverage=100 * shown["coverage"], group_name=shown["group_name"].map(_)),
        hide_index=True,
        height=min(height, 35 * len(shown) + 38),
        alt=_("Labels by attribute"),
        column_config={
            "attribute": words(_("attribute"), width=95),
            "group_name": words(_("group"), width=95),
            **{state: number(_(state), format="localized", width=70) for state in STATES},
            "coverage": st.column_config.ProgressColumn(
                _("known"), format="%.0f %%", min_value=0, max_value=100, width=120
            ),
            "conflicts": number(
                _("conflicts"),
                width=70,
                help=_("Images in which some evidence spoke for the other state"),
            ),
        },
    )


def _files(name: str, summary: Row, sizes: pd.DataFrame) -> None:
    splits, failures, files = st.columns(3, gap="medium")
    number = st.column_config.NumberColumn
    whole: dict[str, Any] = {"format": "localized"}
    with splits:
        st.subheader(_("Splits"), anchor=False)
        table = sizes[["images", "downloaded", "labelled"]].reindex(SPLITS).fillna(0).astype(int)
        table.insert(0, "split", [_(split) for split in table.index])
        table.insert(2, "share", 100 * table["images"] / max(1, table["images"].sum()))
        st.dataframe(
            table,
            hide_index=True,
            alt=_("Splits"),
            column_config={
                "split": _("split"),
                "images": number(_("images"), **whole),
                "share": number(_("share"), format="%.1f %%"),
                "downloaded": number(_("downloaded"), **whole),
                "labelled": number(_("labelled"), **whole),
            },
        )
    with failures:
        _failures(name, summary)
    with files:
        st.subheader(_("Annotation files"), anchor=False)
        read_files = read(annotations.annotation_progress, name)
        if len(read_files):
            state = read_files["complete"].map(
                lambda done: _("read to its end") if done else _("not finished")
            )
            st.dataframe(
                read_files.assign(complete=state),
                hide_index=True,
                alt=_("Annotation files"),
                column_order=["rows_done", "complete", "origin", "name"],
                column_config={
                    "name": _("file"),
                    "rows_done": number(_("images"), **whole),
                    "complete": _("state"),
                    "origin": _("read from"),
                },
            )
        else:
            st.write(_("None: this dataset has no panoptic annotation file in the store."))


def _failures(name: str, summary: Row) -> None:
    st.subheader(_("Failed downloads"), anchor=False)
    if summary["failed"]:
        st.dataframe(
            read(downloads.download_failures, name),
            hide_index=True,
            alt=_("Failed downloads"),
            column_config={
                "error_class": _("cause"),
                "images": _("images"),
                "attempts": _("attempts"),
                "example": _("example"),
            },
        )
        st.caption(_("To try them again:"))
        st.code(f"coconut-attr download {name} --retry-failed", language="bash")
    else:
        waiting = int(summary["images"] - summary["downloaded"])
        st.write(
            _("None. {n} images have not been tried yet.", n=formats.count(waiting))
            if waiting
            else _("None.")
        )
    st.subheader(_("Findings"), anchor=False)
    found = read(annotations.findings, name)
    if len(found):
        st.dataframe(
            found,
            hide_index=True,
            alt=_("Findings"),
            column_config={
                "stage": _("stage"),
                "kind": _("not used, or does not fit"),
                "findings": _("findings"),
                "images": _("images"),
                "example": _("example"),
            },
        )
    else:
        st.write(_("None: every photo, mask and caption could be used."))
