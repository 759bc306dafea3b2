"""The labels that contradict judgements, each with its photo, captions and evidence."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from dashboard.data import read
from dashboard.figures.agreement import WrongCell
from dashboard.i18n import _
from dashboard.parts import photos, pickers
from db.labels import captions_of, evidence_of

SHOWN = 6  # wrong cells at once
PHOTO = 400  # pixels of a photo's longer side
ALL = "all"


def wrong_labels(dataset: str, part: str, wrong: Sequence[WrongCell]) -> None:
    """Show the wrong labels of a part; those of `test` only on request."""
    st.subheader(_("Wrong labels"), anchor=False)
    if not wrong:
        st.write(_("None: judgements and labels agree wherever both are decided."))
        return
    request = _("Show the {n} wrong labels of the test part", n=len(wrong))
    if part == "test" and not st.toggle(request):
        st.caption(
            _("Changing a rule after looking at them makes the test part's figure optimistic too.")
        )
        return
    counts = {ALL: len(wrong), **Counter(cell.attribute for cell in wrong)}

    def describe(name: str) -> str:
        attribute = _("all attributes") if name == ALL else _(name)
        return _("{name} · {n} wrong", name=attribute, n=counts[name])

    which, where, _rest = st.columns([2, 1, 2], vertical_alignment="bottom")
    with which:
        attribute = pickers.choose(_("Attribute"), list(counts), "attribute", describe)
    chosen = [cell for cell in wrong if attribute in (ALL, cell.attribute)]
    with where:
        start = st.selectbox(
            _("Shown"),
            range(0, len(chosen), SHOWN),
            format_func=lambda first: _span(first, len(chosen)),
            key=f"from {attribute}",
        )
    cells = chosen[start : start + SHOWN]
    ids = tuple(sorted({cell.coco_id for cell in cells}))
    captions, evidence = read(captions_of, dataset, ids), read(evidence_of, dataset, ids)
    for pair in (cells[k : k + 2] for k in range(0, len(cells), 2)):
        for column, cell in zip(st.columns(2, gap="medium"), pair, strict=False):
            rows = evidence
            if len(rows):
                of_image = rows["coco_id"] == cell.coco_id
                rows = rows[of_image & (rows["attribute"] == cell.attribute)]
            with column:
                _wrong_label(cell, captions[captions["coco_id"] == cell.coco_id], rows)


def _span(start: int, count: int) -> str:
    return _("{first}–{last} of {n}", first=start + 1, last=min(start + SHOWN, count), n=count)


def _wrong_label(cell: WrongCell, captions: pd.DataFrame, evidence: pd.DataFrame) -> None:
    with st.container(border=True):
        st.markdown(
            _(
                "**{attribute}**: judged **{truth}**, the label says **{label}**",
                attribute=_(cell.attribute),
                truth=_(cell.truth),
                label=_(cell.label),
            )
        )
        photo, words = st.columns([2, 3])
        with photo:
            name = _("Image {id}", id=cell.coco_id)
            photos.show_photo(captions["path"].iloc[0], name, size=PHOTO)
        with words:
            photos.show_captions(cell.coco_id, captions["text"].tolist())
        photos.evidence_table(evidence)
