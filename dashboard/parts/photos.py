"""Photos, the masks over them, their captions, and the evidence behind their labels."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from coconut_attr.errors import UserError
from coconut_attr.files.images import ImageError, decode
from coconut_attr.files.object_store import read_file
from coconut_attr.labels.panoptic import decode_mask
from coconut_attr.settings import settings
from dashboard.i18n import _
from dashboard.parts import layout

THUMBNAIL = 320  # pixels of the longer side
BOUNDARY = (1.0, 0.85, 0.2)
CHIPS = 5  # of each image
#: The link under a photo covers the photo too.
GALLERY_STYLE = """<style>
.st-key-NAME img {aspect-ratio: 4 / 3; object-fit: contain}
.st-key-NAME [data-testid=stVerticalBlock] {position: relative}
.st-key-NAME :is(:has(> [data-testid=stPageLink]), [data-testid=stPageLink] *) {position: static}
.st-key-NAME [data-testid=stPageLink] a::after
  {content: ""; position: absolute; top: 0; left: 0; width: 100%; aspect-ratio: 4 / 3}
</style>"""
SHADE = 0.35  # brightness of pixels outside the highlighted segments


def photo(path: str, size: int = THUMBNAIL) -> Image.Image:
    """Return a photo of the data folder or the object store, scaled to fit `size` pixels.

    Raises:
        ImageError: the file is no complete image.
        OSError: the file is missing.
        UserError: the object store fails.
    """
    file = settings().data_dir / path
    return _photo(path, size, file.stat().st_mtime if file.exists() else 0.0)


@st.cache_data(max_entries=256, show_spinner=False)
def _photo(path: str, size: int, version: float) -> Image.Image:
    image = _decode(path)
    image.thumbnail((size, size))
    return image


def _decode(path: str) -> Image.Image:
    try:
        return decode(read_file(settings(), path))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def show_photo(path: object, description: str, size: int = THUMBNAIL) -> None:
    """Show a photo, or why it cannot be shown; a `path` that is no string was not downloaded."""
    if not isinstance(path, str):
        st.caption(_("The photo has not been downloaded."))
        return
    try:
        image = photo(path, size)
    except (UserError, OSError):
        st.caption(_("The photo cannot be read: {path}", path=path))
        return
    st.image(image, width="stretch", alt=description)


@st.cache_resource(show_spinner=False)
def _mark_boundaries() -> Any:
    """Return scikit-image's function; importing it takes a second, once for the server."""
    from skimage.segmentation import mark_boundaries

    layout.freeze_imports()
    return mark_boundaries


def draw_segments(
    path: str, mask_path: str, highlighted: Sequence[int] = (), size: int = 800
) -> Image.Image:
    """Return a photo with its segments' boundaries, dark outside the highlighted segments.

    Raises:
        ImageError: photo or mask is no complete image, or they differ in size.
        OSError: one of them is missing.
        UserError: the object store fails.
    """
    image = _decode(path)
    segments = decode_mask(read_file(settings(), mask_path))
    if segments.shape != image.size[::-1]:
        raise ImageError(f"{mask_path}: the mask is not of the photo's size")
    height, width = segments.shape
    image.thumbnail((size, size))
    segments = segments[_nearest(height, image.height)][:, _nearest(width, image.width)]
    pixels = np.asarray(image) / 255
    if len(highlighted):
        pixels = np.where(np.isin(segments, highlighted)[..., None], pixels, SHADE * pixels)
    pixels = _mark_boundaries()(pixels, segments.astype(np.int64), color=BOUNDARY)
    return Image.fromarray((255 * pixels).astype(np.uint8))


def _nearest(old: int, new: int) -> np.ndarray:
    """Return the index among `old` pixels of each of `new` pixels."""
    return ((np.arange(new) + 0.5) * old / new).astype(int)


@st.cache_data(max_entries=128, show_spinner=False)
def _thumbnail_with_segments(path: str, mask_path: str, highlighted: tuple[int, ...]):
    return draw_segments(path, mask_path, highlighted, THUMBNAIL)


def gallery(
    dataset: str,
    images: pd.DataFrame,
    evidence: pd.DataFrame,
    key: str,
    *,
    width: int = 176,
    masks: bool = False,
    chips: Mapping[int, Sequence[str]] | None = None,
) -> None:
    """Show photos with what model and label say, as many in a row as fit; a click opens one.

    Args:
        images: rows of a query of `db.browse`.
        evidence: rows of the view `evidence` of these images, for one attribute.
        key: unique on the page.
        width: of each photo, in pixels.
        masks: darken the segments that the evidence is not based on.
        chips: attributes of each image by its id, of which the first are shown with it.
    """
    name = key.replace(" ", "-")
    with st.container(key=name, horizontal=True):
        st.html(GALLERY_STYLE.replace("NAME", name))
        for row in images.to_dict("records"):
            of_image = evidence
            if len(evidence):
                of_image = evidence[evidence["coco_id"] == row["coco_id"]]
            with st.container(width=width, gap="small"):
                _gallery_item(row.get("dataset", dataset), row, of_image, masks)
                if chips:
                    _chips(chips.get(row["id"], ()))


def _chips(attributes: Sequence[str]) -> None:
    shown = [f":gray-badge[{_(name)}]" for name in attributes[:CHIPS]]
    if len(attributes) > CHIPS:
        shown.append(f":gray-badge[+{len(attributes) - CHIPS}]")
    st.markdown(" ".join(shown))


def _gallery_item(
    dataset: str, row: Mapping[Any, Any], evidence: pd.DataFrame, masks: bool
) -> None:
    name = _("Image {id}", id=row["coco_id"])
    segments = tuple(map(int, evidence["segment_id"].dropna())) if len(evidence) else ()
    image = None
    if masks and segments and isinstance(row["path"], str) and isinstance(row["mask_path"], str):
        with suppress(UserError, OSError):  # `show_photo` shows the photo alone, or says why not
            image = _thumbnail_with_segments(row["path"], row["mask_path"], segments)
    if image is not None:
        st.image(image, width="stretch", alt=name)
    else:
        show_photo(row["path"], name)
    layout.link(name, "explore", dataset=dataset, image=str(row["coco_id"]))
    notes = []
    if "probability" in row:
        notes.append(_("probability {p}", p=f"{row['probability']:.3f}"))
    if "product" in row:
        notes.append(_("product {p}", p=f"{row['product']:.3f}"))
    if "distance" in row:
        notes.append(_("distance {d}", d=f"{math.sqrt(row['distance']):.3f}"))
    if isinstance(row.get("state"), str):
        notes.append(_("label: {state}", state=_(row["state"])))
    notes += [
        f"{_(piece['source'])}: {_(piece['state'])}, {piece['detail']} ({piece['confidence']:.2f})"
        for piece in evidence.to_dict("records")
    ]
    if notes:
        st.caption("  \n".join(notes))


def show_captions(coco_id: int, texts: Sequence[object]) -> None:
    """Show the captions that people wrote for an image; entries that are no strings are skipped."""
    captions = [" ".join(text.split()) for text in texts if isinstance(text, str)]
    name = _("Image {id}", id=coco_id)
    if captions:
        st.caption(_("{image}, its captions:", image=name))
    else:
        st.caption(_("{image}, without captions", image=name))
    st.text("\n".join(f"• {caption}" for caption in captions))


def evidence_table(evidence: pd.DataFrame, with_attribute: bool = False) -> None:
    """Show the evidence behind one label, or with attributes that behind an image's labels."""
    if not len(evidence):
        st.caption(_("The database has no evidence for this label."))
        return
    columns = ["attribute"] * with_attribute + ["source", "state", "confidence", "detail"]
    words, number = st.column_config.TextColumn, st.column_config.NumberColumn
    table = evidence.assign(
        **{name: evidence[name].map(_) for name in ("attribute", "source", "state")}
    )
    if not with_attribute:
        table = table.sort_values("confidence", ascending=False)
    st.dataframe(
        table[columns],
        hide_index=True,
        alt=_("Evidence"),
        column_config={
            "attribute": words(_("attribute"), width=90),
            "source": words(_("source"), width=75),
            "state": words(_("says"), width=75),
            "confidence": number(_("confidence"), format="%.2f", width=80),
            "detail": _("detail"),
        },
    )
