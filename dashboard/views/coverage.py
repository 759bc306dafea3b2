"""Coverage: how much of a dataset is there, and what is known about its attributes."""

import altair as alt
import pandas as pd
import streamlit as st

from dashboard import charts, ui
from dashboard.data import Row, by, read, read_labels

STATES = {"present": charts.ACCENT, "absent": charts.AMBER, "unknown": charts.GREY}
REFRESH = 30  # seconds; counting the labels of a large dataset takes some


def page() -> None:
    """The page."""
    title, picker = st.columns([3, 2], vertical_alignment="bottom")
    title.title("Dataset coverage", anchor=False)
    filled = {name: row for name, row in by(read("dataset_summaries"), "dataset").items() if row["images"]}
    if not filled:
        ui.empty("No images yet", "The database is there, but no dataset in it has an image. To fetch and label one:")
        ui.watch(REFRESH / 6)
        return
    with picker:
        name = ui.choose("Dataset", list(filled), "dataset", lambda d: f"{d} · {filled[d]['title']}")
    ui.write_address(dataset=name)
    summary = filled[name]
    if not summary["is_coconut"]:
        ui.not_coconut(name, summary["title"])
    _counts(summary)
    _labels(read_labels("coverage", name))
    _sources(name, summary)
    ui.watch(REFRESH)


def _counts(summary: Row) -> None:
    expected = summary["expected_images"]
    of = f"of {ui.count(expected)} expected ({ui.percent(summary['images'] / expected)})"
    known = of if pd.notna(expected) else "upstream states no count"
    images = summary["images"]
    cards = [
        ("Images known", summary["images"], known),
        ("Downloaded", summary["downloaded"], f"of {ui.count(images)} known · {ui.size(summary['bytes'])}"),
        ("Failed", summary["failed"], f"of {ui.count(images)} known"),
        ("With panoptic mask", summary["with_mask"], f"{ui.count(summary['segments'])} segments"),
        ("Labelled", summary["labelled"], f"{ui.count(summary['captions'])} captions read"),
    ]
    for column, (label, value, note) in zip(st.columns(len(cards)), cards, strict=True):
        with column:
            ui.card(label, ui.count(value), note)
    parts = []
    if pd.notna(expected) and images < expected:
        parts.append(
            f"**The store holds part of this dataset:** {ui.count(images)} of {ui.count(expected)} expected images "
            f"and {ui.count(summary['segments'])} of {ui.count(summary['expected_segments'])} expected segments. "
            "Every figure below is of that part."
        )
    if summary["with_mask"] < summary["labelled"]:
        without = summary["labelled"] - summary["with_mask"]
        parts.append(f"{ui.count(without)} labelled images have no mask: their labels rest on pixels and captions.")
    if masks := ui.masks_from(summary["dataset"]):
        parts.append(masks)
    if parts:
        st.info(" ".join(parts), icon=":material/info:")


def _labels(coverage: pd.DataFrame) -> None:
    st.subheader("Labels by attribute", anchor=False)
    if not len(coverage):
        ui.empty("No labels yet", "The images of this dataset have not been labelled. To label them:")
        return
    groups = ui.choose_groups()
    table = ui.in_label_order(coverage, groups)
    images = int(table["images"].max())
    chart, figures = st.columns(2, gap="medium")
    with chart:
        symbols = [("pale" if state == "unknown" else "square", color, state) for state, color in STATES.items()]
        charts.legend([charts.Entry(*symbol) for symbol in symbols])
        rows = charts.grouped(table["attribute"].tolist())
        charts.show(
            _chart(table, rows, images), charts.height(rows), "Present, absent and unknown cells", "coverage chart"
        )
        st.caption(
            f"n = {ui.count(images)} labelled images for each attribute. Known: share of them that are present or "
            "absent. Training and scores skip unknown cells."
        )
    with figures:
        _table(table, charts.height(rows) + 20)


def _chart(table: pd.DataFrame, rows: list[str], images: int) -> charts.Layered:
    table = table.assign(known=table["coverage"].map(lambda share: ui.percent(share, 0)))
    cells = table.melt(["attribute", "group_name", "known"], list(STATES), "state", "cells")
    cells["place"] = cells["state"].map(list(STATES).index)
    cells["share"] = cells["cells"] / images
    end = images * charts.RIGHT
    ticks = alt.Axis(title="images", format=",d", values=_ticks(images), domain=False)
    bars = (
        alt.Chart(cells)
        .mark_bar(height=charts.ROW - 6)
        .encode(
            x=alt.X("cells:Q", stack="zero", scale=alt.Scale(domain=[0, end], nice=False), axis=ticks),
            y=charts.attribute_axis(rows),
            color=alt.Color(
                "state:N",
                scale=alt.Scale(domain=list(STATES), range=list(STATES.values())),
                legend=None,
            ),
            opacity=alt.condition("datum.state === 'unknown'", alt.value(charts.PALE), alt.value(1)),
            order="place:Q",
            tooltip=[
                alt.Tooltip("attribute:N", title="attribute"),
                alt.Tooltip("state:N", title="state"),
                alt.Tooltip("cells:Q", title="images", format=","),
                alt.Tooltip("share:Q", title=f"share of {images:,}", format=".1%"),
            ],
        )
    )
    return alt.layer(bars, charts.figures(table, "known", "known", rows, end))


def _ticks(images: int) -> list[int]:
    """Round ticks, and the number of images itself."""
    step = next(s for k in range(9) for s in (10**k, 2 * 10**k, 5 * 10**k) if images <= 5 * s)
    return [*(tick for tick in range(0, images, step) if images - tick > step / 2), images]


def _table(table: pd.DataFrame, height: int) -> None:
    shown = table[["attribute", "group_name", "present", "absent", "unknown", "coverage", "conflicts"]]
    whole = {name: st.column_config.NumberColumn(name, format="localized", width=70) for name in STATES}
    st.dataframe(
        shown.assign(coverage=100 * shown["coverage"]),
        hide_index=True,
        height=min(height, 35 * len(shown) + 38),
        column_config={
            "attribute": st.column_config.TextColumn("attribute", width=95),
            "group_name": st.column_config.TextColumn("group", width=95),
            **whole,
            "coverage": st.column_config.ProgressColumn(
                "known", format="%.0f %%", min_value=0, max_value=100, width=120
            ),
            "conflicts": st.column_config.NumberColumn(
                "conflicts", width=70, help="Images in which some evidence spoke for the other state"
            ),
        },
    )


def _sources(name: str, summary: Row) -> None:
    splits, failures, files = st.columns(3, gap="medium")
    with splits:
        st.subheader("Splits", anchor=False)
        sizes = read("split_sizes", name).set_index("split").reindex(["train", "val", "test"]).fillna(0).astype(int)
        sizes.insert(1, "share", 100 * sizes["images"] / max(1, sizes["images"].sum()))
        st.dataframe(sizes, column_config={"share": st.column_config.NumberColumn("share", format="%.1f %%")})
    with failures:
        st.subheader("Failed downloads", anchor=False)
        if summary["failed"]:
            st.dataframe(read("download_failures", name), hide_index=True, column_config={"error_class": "cause"})
        else:
            waiting = int(summary["images"] - summary["downloaded"])
            st.write(f"None. {ui.count(waiting)} images have not been tried yet." if waiting else "None.")
        st.subheader("Findings", anchor=False)
        found = read("findings", name)
        if len(found):
            st.dataframe(found, hide_index=True, column_config={"kind": "not used, or does not fit"})
        else:
            st.write("None: every photo, mask and caption could be used.")
    with files:
        st.subheader("Annotation files", anchor=False)
        read_files = read("annotation_progress", name)
        if len(read_files):
            state = read_files["complete"].map(lambda done: "read to its end" if done else "not finished")
            st.dataframe(
                read_files.assign(complete=state),
                hide_index=True,
                column_order=["rows_done", "complete", "origin", "name"],
                column_config={
                    "name": "file",
                    "rows_done": st.column_config.NumberColumn("images", format="localized"),
                    "complete": "state",
                    "origin": "read from",
                },
            )
        else:
            st.write("None: this dataset has no panoptic annotation file in the store.")
