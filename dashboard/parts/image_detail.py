"""One image in full: photo with segments, captions, labels, predictions and evidence."""

import re
from collections.abc import Callable
from typing import Any, Final

import pandas as pd
import streamlit as st

from coconut_attr.attributes import GROUPS
from coconut_attr.errors import UserError
from dashboard import data, formats
from dashboard.data import offered, read
from dashboard.i18n import _
from dashboard.parts import photos, pickers
from db import browse
from db.labels import captions_of, evidence_of

SIMILAR: Final = 6  # photos


def image_detail(
    dataset: str,
    requested: str,
    before: Callable[[], None] | None = None,
    after: Callable[[], None] | None = None,
) -> None:
    """Show one image, or that there is none.

    Args:
        requested: the COCO image id as the address gives it, which may be any text.
        before, after: open the image before and after it; None if there is none.
    """
    image = None
    if re.fullmatch("[0-9]{1,17}", requested):
        image = browse.image(data.engine(), dataset, int(requested))
    if image is None:
        st.warning(_("{dataset} has no image {id}.", dataset=dataset, id=requested[:40]))
        return
    pickers.remember("image", requested)
    coco_id = int(requested)
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(_("Image {id}", id=coco_id), anchor=False)
            for label, step, key, icon in (
                (_("Previous image"), before, "Left", ":material/chevron_left:"),
                (_("Next image"), after, "Right", ":material/chevron_right:"),
            ):
                st.button(label, on_click=step, disabled=step is None, shortcut=key, icon=icon)
            st.button(_("Close"), on_click=_close, shortcut="Esc", icon=":material/close:")
        left, right = st.columns([2, 3], gap="medium")
        runs = offered(read(browse.predicting_runs), dataset)
        runs = runs[runs["dataset"] == dataset] if len(runs) else runs
        run = int(runs["run_id"].iloc[0]) if len(runs) else None
        with left:
            _photo(image, coco_id)
        with right:
            _labels(data.to_frame(browse.cells_of(data.engine(), image["id"], run)), run)
            st.markdown("**" + _("Evidence") + "**")
            photos.evidence_table(read(evidence_of, dataset, (coco_id,)), with_attribute=True)
        if run is not None:
            _similar(dataset, image, run)


def _similar(dataset: str, image: Any, run: int) -> None:
    """Offer the photos of the split for which a run predicts the most similar probabilities."""
    box = st.expander(_("Photos for which the model predicts the like"), on_change="rerun")
    if not box.open:
        return
    with box:
        cells = browse.cells_of(data.engine(), image["id"], run)
        probabilities = [cell["probability"] for cell in cells]
        if None in probabilities:
            st.caption(
                _(
                    "Run {run} has no prediction for this image: it was not scored on the image's "
                    "split.",
                    run=run,
                )
            )
            return
        near = browse.images_near(
            data.engine(), run, dataset, image["split"], probabilities, SIMILAR + 1
        )
        others = data.to_frame(near)
        others = others[others["id"] != image["id"]].head(SIMILAR)
        photos.gallery(dataset, others, pd.DataFrame(), "similar")
        st.caption(
            _(
                "Of the {split} split, by the distance between the probabilities that run {run} "
                "predicts.",
                split=_(image["split"]),
                run=run,
            )
        )


def _close() -> None:
    st.query_params.pop("image", None)


def _photo(image: Any, coco_id: int) -> None:
    name = _("Image {id}", id=coco_id)
    place = st.container()  # above the picker of segments, whose choice it shows
    segments = data.to_frame(browse.segments_of(data.engine(), image["id"]))
    highlighted: list[int] = []
    if image["mask_path"] and len(segments):
        titles = {
            int(row["segment_id"]): f"{row['category']} · {formats.count(row['area'])} px"
            for row in segments.to_dict("records")
        }
        highlighted = st.multiselect(
            _("Segments to highlight"),
            list(titles),
            format_func=titles.__getitem__,
            placeholder=_("all segments"),
        )
    with place:
        picture = None
        if image["mask_path"] and image["path"]:
            try:
                picture = photos.draw_segments(image["path"], image["mask_path"], highlighted)
            except (UserError, OSError) as error:
                st.caption(str(error))
        if picture is not None:
            st.image(picture, width="stretch", alt=name)
        else:
            photos.show_photo(image["path"], name, size=800)
    captions = read(captions_of, image["dataset"], (coco_id,))
    photos.show_captions(coco_id, captions["text"].tolist())
    st.caption(
        _(
            "{width} x {height} pixels · {split} split · licence: {licence} · [source]({url})",
            width=image["width"],
            height=image["height"],
            split=_(image["split"]),
            licence=image["licence"],
            url=image["url"],
        )
    )


def _labels(cells: pd.DataFrame, run: int | None) -> None:
    """Show all labels of the image by group, beside a run's probabilities."""
    order = cells["group_name"].map(list(GROUPS).index).sort_values(kind="stable").index
    table = cells.assign(
        attribute=cells["attribute"].map(_),
        group_name=cells["group_name"].map(_),
        state=cells["state"].map(_, na_action="ignore"),
        confidence=cells["confidence"].where(cells["state"] != "unknown"),
        conflict=cells["conflict"].fillna(0).astype(bool),
        judged=cells["judged"].fillna(0).astype(bool),
    ).loc[order]
    probability = st.column_config.ProgressColumn(
        _("model"),
        format="%.3f",
        min_value=0,
        max_value=1,
        help=_("probability that the model predicts"),
    )
    st.dataframe(
        table,
        hide_index=True,
        height=420,
        placeholder=formats.DASH,
        alt=_("Labels and predictions"),
        column_config={
            "attribute": _("attribute"),
            "group_name": _("group"),
            "state": _("label"),
            "label_probability": st.column_config.NumberColumn(
                _("probability"),
                format="%.2f",
                help=_("that the attribute is present, by the label model or a judgement"),
            ),
            "judged": st.column_config.CheckboxColumn(
                _("judged"), help=_("the label is what somebody saw in the photo")
            ),
            "confidence": st.column_config.NumberColumn(_("confidence"), format="%.2f"),
            "conflict": st.column_config.CheckboxColumn(_("conflict")),
            "probability": probability,
        },
    )
    if run is None:
        return
    if cells["probability"].notna().any():
        st.caption(_("Probabilities: run {run}.", run=run))
    else:
        st.caption(
            _(
                "Run {run} has no prediction for this image: it was not scored on the image's "
                "split.",
                run=run,
            )
        )
