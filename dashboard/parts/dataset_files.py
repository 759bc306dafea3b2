"""What was read and downloaded of a dataset: splits, annotation files, failures and findings."""

from typing import Any

import pandas as pd
import streamlit as st

from coconut_attr.attributes import SPLITS
from dashboard import formats
from dashboard.data import Row, read
from dashboard.i18n import _
from db import annotations, downloads

COUNT: dict[str, Any] = {"format": "localized"}


def dataset_files(name: str, summary: Row, sizes: pd.DataFrame) -> None:
    """Show a dataset's splits, failed downloads, findings and annotation files.

    Args:
        summary: the dataset's row of `dataset_summary`.
        sizes: rows of `db.counts.counted_splits` by split.
    """
    splits, failures, files = st.columns(3, gap="medium")
    with splits:
        _splits(sizes)
    with failures:
        _failures(name, summary)
        _findings(name)
    with files:
        _annotation_files(name)


def _splits(sizes: pd.DataFrame) -> None:
    st.subheader(_("Splits"), anchor=False)
    table = sizes[["images", "downloaded", "labelled"]].reindex(SPLITS).fillna(0).astype(int)
    table.insert(0, "split", [_(split) for split in table.index])
    table.insert(2, "share", 100 * table["images"] / max(1, table["images"].sum()))
    number = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        alt=_("Splits"),
        column_config={
            "split": _("split"),
            "images": number(_("images"), **COUNT),
            "share": number(_("share"), format="%.1f %%"),
            "downloaded": number(_("downloaded"), **COUNT),
            "labelled": number(_("labelled"), **COUNT),
        },
    )


def _failures(name: str, summary: Row) -> None:
    st.subheader(_("Failed downloads"), anchor=False)
    if not summary["failed"]:
        waiting = int(summary["images"] - summary["downloaded"])
        if waiting:
            st.write(_("None. {n} images have not been tried yet.", n=formats.count(waiting)))
        else:
            st.write(_("None."))
        return
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
    st.caption(_("To retry them:"))
    st.code(f"coconut-attr download {name} --retry-failed", language="bash")


def _findings(name: str) -> None:
    st.subheader(_("Findings"), anchor=False)
    rows = read(annotations.findings, name)
    if not len(rows):
        st.write(_("None: every photo, mask and caption could be used."))
        return
    st.dataframe(
        rows,
        hide_index=True,
        alt=_("Findings"),
        column_config={
            "stage": _("stage"),
            "kind": _("finding"),
            "findings": _("count"),
            "images": _("images"),
            "example": _("example"),
        },
    )


def _annotation_files(name: str) -> None:
    st.subheader(_("Annotation files"), anchor=False)
    files = read(annotations.annotation_progress, name)
    if not len(files):
        st.write(_("None: no panoptic annotation file of this dataset has been read."))
        return
    state = files["complete"].map(lambda done: _("complete") if done else _("incomplete"))
    st.dataframe(
        files.assign(complete=state),
        hide_index=True,
        alt=_("Annotation files"),
        column_order=["rows_done", "complete", "origin", "name"],
        column_config={
            "name": _("file"),
            "rows_done": st.column_config.NumberColumn(_("images"), **COUNT),
            "complete": _("state"),
            "origin": _("read from"),
        },
    )
