"""Predict: the attributes of a photo that is uploaded or named by its URL. The photo is not kept."""

import hashlib
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from coconut_attr.attributes import ATTRIBUTES, GROUP_OF
from coconut_attr.errors import UserError
from coconut_attr.files.images import ImageError
from coconut_attr.files.photos import upright
from coconut_attr.files.public_http import fetch
from coconut_attr.files.run_files import newest
from coconut_attr.settings import settings
from dashboard.charts import common
from dashboard.data import Row, by, read, read_counts
from dashboard.i18n import _
from dashboard.parts import layout, notices, photos, pickers
from db import browse
from db.counts import label_counts
from db.runs import attribute_scores

MEGABYTES = 20
NEAREST = 6
FETCHED, RESULT = "fetched photo", "predicted"  # of this session


def page() -> None:
    """The page."""
    (picker,) = layout.header(_("Predict the attributes of a photo"), 3)
    runs = read(browse.predicting_runs)
    here = [row for row in by(runs, "run_id").values() if _may_load(row)] if len(runs) else []
    if not here:
        notices.empty(
            _("No model yet"),
            _("No run of the store has its checkpoint here. To train and evaluate one:"),
        )
        layout.watch(5)
        return
    rows = {str(row["run_id"]): row for row in here}
    with picker:
        run = rows[
            pickers.choose(_("Run"), list(rows), "run", lambda key: layout.run_name(rows[key]))
        ]
    content = _photo()
    if content is None:
        st.caption(
            _(
                "JPEG or PNG of at most {size} MB. The photo is decoded in memory and not kept; an URL must lead to a "
                "public address.",
                size=MEGABYTES,
            )
        )
    else:
        try:
            _show(run, content)
        except ImageError as error:
            st.error(
                _("The photo cannot be used: {error}", error=str(error)),
                icon=":material/broken_image:",
            )
        except UserError as error:
            st.error(str(error), icon=":material/error:")
    pickers.write_address()


def _may_load(run: Row) -> bool:
    """Whether a run has a checkpoint; that the image store has one shows when it is read."""
    name = run["checkpoint"]
    return isinstance(name, str) and (
        bool(settings().image_store) or (settings().data_dir / name).is_file()
    )


def _version(run: Row) -> str:
    """Tells a run's checkpoint from an earlier epoch's, and from another store's run of the same number."""
    return f"{run['started_at']} {run['best_epoch']}"


def _photo() -> bytes | None:
    """The photo that was given last, as bytes."""
    upload, named = st.columns(2, gap="medium")
    with upload:
        file = st.file_uploader(
            _("Upload a photo"),
            ["jpg", "jpeg", "png"],
            max_upload_size=MEGABYTES,
            key="photo",
            on_change=lambda: st.session_state.pop(FETCHED, None),
        )
    with named, st.form("url form", border=False):
        url = st.text_input(_("Or the URL of one"), placeholder="https://", key="photo url")
        asked = st.form_submit_button(_("Fetch it"), icon=":material/link:")
    if asked and url:
        try:
            with st.spinner(_("Fetching")):
                st.session_state[FETCHED] = fetch(url.strip(), max_bytes=MEGABYTES * 2**20)
        except UserError as error:
            st.session_state.pop(FETCHED, None)
            st.error(str(error), icon=":material/link_off:")
            return None
    return st.session_state.get(FETCHED) or (file.getvalue() if file else None)


@st.cache_resource(max_entries=1, show_spinner=False)
def _load(checkpoint: str, of: str) -> Any:
    from coconut_attr.model.checkpoint import (  # imports torch, which takes seconds
        CheckpointError,
        epoch_of,
        read_checkpoint,
    )
    from coconut_attr.model.predict import choose_device

    device = choose_device(settings().device)
    path = settings().data_dir / checkpoint
    content = newest(settings(), path, epoch_of)
    if content is None:
        raise CheckpointError(f"{path} is neither there nor in the image store")
    loaded = read_checkpoint(content, path, device)
    layout.keep_modules()
    return loaded, device


def _predict(run: Row, content: bytes) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """The photo, its probabilities and the model's thresholds, both float [34]; the last answer is kept."""
    key = (run["checkpoint"], _version(run), hashlib.sha256(content).hexdigest())
    if st.session_state.get(RESULT, (None,))[0] != key:
        from coconut_attr.model.predict import predict_images

        image = upright(content)
        with st.spinner(_("The model looks at it")):
            loaded, device = _load(run["checkpoint"], _version(run))
            found = predict_images(loaded.model, [image], device)[0]
        image.thumbnail((photos.THUMBNAIL * 2,) * 2)
        st.session_state[RESULT] = (key, image, found, loaded.thresholds)
    return st.session_state[RESULT][1:]


def _show(run: Row, content: bytes) -> None:
    image, probabilities, thresholds = _predict(run, content)
    left, right = st.columns([2, 3], gap="medium")
    table = pd.DataFrame(
        {"attribute": ATTRIBUTES, "probability": probabilities, "threshold": thresholds}
    )
    table["group_name"] = table["attribute"].map(GROUP_OF)
    scores = read(attribute_scores, run["run_id"], run["dataset"], run["split"])
    table = table.join(scores.set_index("attribute")[["ap", "n"]], on="attribute").join(
        _priors(run["trained_on"]), on="attribute"
    )
    table["called"] = table["probability"] >= table["threshold"]
    with left:
        st.image(image, width="stretch", alt=_("The photo"))
        st.markdown("**" + _("Called present") + "**")
        called = table[table["called"]].sort_values("probability", ascending=False)
        named = [
            f"{_(row['attribute'])} ({row['probability']:.2f})" for row in called.to_dict("records")
        ]
        st.write(", ".join(named) or _("Nothing."))
    with right:
        _chart(table, run["split"])
    _nearest(run, probabilities)


def _priors(dataset: str) -> pd.Series:
    """Share of present among the known cells of each attribute in the training split."""
    counts = read_counts(label_counts, dataset)
    if not len(counts):
        return pd.Series(dtype=float, name="prior")
    counts = counts[counts["split"] == "train"].set_index("attribute")
    return (counts["present"] / (counts["present"] + counts["absent"])).rename("prior")


def _chart(table: pd.DataFrame, split: str) -> None:
    common.legend(
        [
            common.Entry("square", common.ACCENT, _("called present")),
            common.Entry("pale", common.GREY, _("called absent")),
            common.Entry("tick", common.SERIES[1], _("threshold"), _("chosen on val")),
            common.Entry("diamond", common.AMBER, _("prior"), _("share present in training")),
        ]
    )
    rows = common.grouped(table["attribute"].tolist())
    y = common.attribute_axis(rows)
    drawn = common.named(table.assign(figure=table["probability"].map("{:.2f}".format)))
    scale = alt.Scale(domain=[0, common.RIGHT], nice=False)
    x = alt.X(
        "probability:Q",
        scale=scale,
        axis=alt.Axis(
            title=_("probability"), values=[0, 0.25, 0.5, 0.75, 1], format=".2~f", domain=False
        ),
    )
    base = alt.Chart(drawn).encode(
        y=y,
        tooltip=[
            alt.Tooltip("attribute:N", title=_("attribute")),
            alt.Tooltip("probability:Q", title=_("probability"), format=".3f"),
            alt.Tooltip("threshold:Q", title=_("threshold"), format=".3f"),
            alt.Tooltip("prior:Q", title=_("prior"), format=".3f"),
            alt.Tooltip("ap:Q", title=_("average precision"), format=".3f"),
            alt.Tooltip("n:Q", title=_("known cells"), format=","),
        ],
    )
    layers = [
        base.mark_bar(height=common.ROW - 8).encode(
            x=x,
            color=alt.condition("datum.called", alt.value(common.ACCENT), alt.value(common.GREY)),
            opacity=alt.condition("datum.called", alt.value(1), alt.value(common.PALE)),
        ),
        base.mark_tick(color=common.SERIES[1], thickness=2, size=common.ROW - 4).encode(
            x=alt.X("threshold:Q", scale=scale)
        ),
        base.mark_point(color=common.AMBER, shape="diamond", size=60, filled=False).encode(
            x=alt.X("prior:Q", scale=scale)
        ),
        common.figures(drawn, "figure", "p", rows, common.RIGHT),
    ]
    common.show(
        alt.layer(*layers),
        common.height(rows),
        _("Probability of each attribute"),
        "probability chart",
    )
    st.caption(
        _(
            "n = 1 photo. How far to trust each figure: the tooltip has the average precision of its attribute on the "
            "{split} split, with the n behind it.",
            split=_(split),
        )
    )


def _nearest(run: Row, probabilities: np.ndarray) -> None:
    st.subheader(_("Nearest images of the store"), anchor=False)
    rounded = tuple(round(float(p), 6) for p in probabilities)
    found = read(browse.images_near, run["run_id"], run["dataset"], run["split"], rounded, NEAREST)
    st.caption(
        _(
            "By the run's stored predictions, not by looks: Euclidean distance between the {n} probabilities, among "
            "the images of the {split} split of {dataset}.",
            n=len(ATTRIBUTES),
            split=_(run["split"]),
            dataset=run["dataset"],
        )
    )
    photos.gallery(run["dataset"], found, pd.DataFrame(), "nearest")
