"""Photos, with the masks over them, their captions, and the evidence behind their labels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image
from skimage.segmentation import mark_boundaries

from coconut_attr.errors import UserError
from coconut_attr.files.images import ImageError, decode
from coconut_attr.files.object_store import read_file
from coconut_attr.labels.panoptic import decode_mask
from coconut_attr.settings import settings
from dashboard.i18n import _
from dashboard.parts import layout

THUMBNAIL = 320  # pixels of the longer side
BOUNDARY = (1.0, 0.85, 0.2)
SHADE = 0.35  # what is left of the brightness outside the segments that are looked at


def _decoded(path: str) -> Image.Image:
    try:
        return decode(read_file(settings(), path))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


@st.cache_data(max_entries=256, show_spinner=False)
def _photo(path: str, size: int, version: float) -> Image.Image:
    image = _decoded(path)
    image.thumbnail((size, size))
    return image


def photo(path: str, size: int = THUMBNAIL) -> Image.Image:
    """A photo of the data folder or the image store, at most so many pixels wide and high.

    Raises:
        ImageError: it is no whole image.
        OSError: it is not there.
        UserError: the image store fails.
    """
    file = settings().data_dir / path
    return _photo(path, size, file.stat().st_mtime if file.exists() else 0.0)


def show(path: object, description: str, size: int = THUMBNAIL) -> None:
    """A photo, or why there is none."""
    if not isinstance(path, str):
        st.caption(_("The photo has not been downloaded."))
        return
    try:
        image = photo(path, size)
    except (UserError, OSError):
        st.caption(_("The photo cannot be read: {path}", path=path))
        return
    st.image(image, width="stretch", alt=description)


def overlaid(
    path: str, mask_path: str, segments: Sequence[int] = (), size: int = 800
) -> Image.Image:
    """A photo with the boundaries of its segments drawn; what is in none of the given segments is darkened.

    Raises:
        ImageError: photo or mask is no whole image, or they differ in size.
        OSError: one is not there.
        UserError: the image store fails.
    """
    image = _decoded(path)
    ids = decode_mask(read_file(settings(), mask_path))
    if ids.shape != image.size[::-1]:
        raise ImageError(f"{mask_path}: the mask is not of the photo's size")
    small = image.copy()
    small.thumbnail((size, size))
    ids = ids[_nearest(ids.shape[0], small.height)][:, _nearest(ids.shape[1], small.width)]
    pixels = np.asarray(small) / 255
    if len(segments):
        pixels = np.where(np.isin(ids, segments)[..., None], pixels, SHADE * pixels)
    drawn = mark_boundaries(pixels, ids.astype(np.int64), color=BOUNDARY)
    return Image.fromarray((255 * drawn).astype(np.uint8))


@st.cache_data(max_entries=128, show_spinner=False)
def _overlaid(path: str, mask_path: str, segments: tuple[int, ...], size: int) -> Image.Image:
    return overlaid(path, mask_path, segments, size)


def gallery(
    dataset: str,
    found: pd.DataFrame,
    evidence: pd.DataFrame,
    key: str,
    *,
    width: int = 176,
    masks: bool = False,
) -> None:
    """Found images, as many in a row as there is room for: photo, what the model says, evidence behind the label.

    Args:
        found: rows of a query of `db.browse`.
        evidence: rows of the view `evidence` of these images, for one attribute.
        key: of its own on the page.
        width: of each, in pixels.
        masks: darken what the evidence does not rest on.
    """
    name = key.replace(" ", "-")
    with st.container(key=name, horizontal=True):
        st.html(f"<style>.st-key-{name} img {{aspect-ratio: 4 / 3; object-fit: contain}}</style>")
        for row in found.to_dict("records"):
            of_image = (
                evidence[evidence["coco_id"] == row["coco_id"]] if len(evidence) else evidence
            )
            with st.container(width=width, gap="small"):
                _card(row.get("dataset", dataset), row, of_image, masks)


def _card(dataset: str, row: Mapping[Any, Any], evidence: pd.DataFrame, masks: bool) -> None:
    name = _("Image {id}", id=row["coco_id"])
    segments = tuple(int(key) for key in evidence["segment_id"].dropna()) if len(evidence) else ()
    shown = False
    if masks and segments and isinstance(row["path"], str) and isinstance(row["mask_path"], str):
        try:
            st.image(
                _overlaid(row["path"], row["mask_path"], segments, THUMBNAIL),
                width="stretch",
                alt=name,
            )
            shown = True
        except (UserError, OSError):
            pass  # the photo alone is shown, or why it cannot be
    if not shown:
        show(row["path"], name)
    layout.link(name, "explore", dataset=dataset, image=str(row["coco_id"]))
    told = []
    if "probability" in row:
        told.append(_("probability {p}", p=f"{row['probability']:.3f}"))
    if "product" in row:
        told.append(_("product {p}", p=f"{row['product']:.3f}"))
    if "distance" in row:
        told.append(_("distance {d}", d=f"{math.sqrt(row['distance']):.3f}"))
    if isinstance(row.get("state"), str):
        told.append(_("label: {state}", state=_(row["state"])))
    told += [
        f"{_(piece['source'])}: {_(piece['state'])}, {piece['detail']} ({piece['confidence']:.2f})"
        for piece in evidence.to_dict("records")
    ]
    if told:
        st.caption("  \n".join(told))


def _nearest(old: int, new: int) -> np.ndarray:
    """The index in `old` of each of `new` pixels."""
    return ((np.arange(new) + 0.5) * old / new).astype(int)


def captions(coco_id: int, texts: Sequence[object]) -> None:
    """What people wrote about an image."""
    told = [" ".join(text.split()) for text in texts if isinstance(text, str)]
    name = _("Image {id}", id=coco_id)
    st.caption(
        _("{image}, its captions:", image=name)
        if told
        else _("{image}, without captions", image=name)
    )
    st.text("\n".join(f"• {text}" for text in told))


def evidence_table(evidence: pd.DataFrame, with_attribute: bool = False) -> None:
    """The evidence behind one label, or behind the labels of an image."""
    if not len(evidence):
        st.caption(_("The store holds no evidence for this label."))
        return
    columns = ["attribute"] * with_attribute + ["source", "state", "confidence", "detail"]
    words, number = st.column_config.TextColumn, st.column_config.NumberColumn
    shown = evidence.assign(
        **{name: evidence[name].map(_) for name in ("attribute", "source", "state")}
    )
    shown = (
        shown[columns]
        if with_attribute
        else shown[columns].sort_values("confidence", ascending=False)
    )
    st.dataframe(
        shown,
        hide_index=True,
        alt=_("Evidence"),
        column_config={
            "attribute": words(_("attribute"), width=90),
            "source": words(_("source"), width=75),
            "state": words(_("speaks for"), width=75),
            "confidence": number(_("confidence"), format="%.2f", width=80),
            "detail": _("detail"),
        },
    )
