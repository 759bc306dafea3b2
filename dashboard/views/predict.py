"""Predict: the attributes of a photo that is uploaded or named by its URL, without storing it."""

import hashlib
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from coconut_attr.attributes import ATTRIBUTES, GROUP_OF
from coconut_attr.errors import UserError
from coconut_attr.files.images import TRANSPARENT, ImageError
from coconut_attr.files.photos import SUFFIXES, upright
from coconut_attr.files.public_http import fetch
from coconut_attr.files.run_files import newest
from coconut_attr.settings import settings
from dashboard import formats
from dashboard.charts import common
from dashboard.charts.scores import FEW_MARK
from dashboard.data import Row, offered, read, read_counts, rows_by
from dashboard.figures.verdict import is_few
from dashboard.i18n import _
from dashboard.parts import layout, notices, photos, pickers
from db import browse
from db.counts import label_counts
from db.runs import attribute_scores, trust

REFRESH = 5  # seconds
MEGABYTES = 50
NEAREST = 6
AP_EDGE = 1.32  # where the column of average precisions ends, relative to probability 1
FETCHED, RESULT = "fetched photo", "prediction"  # keys of the session


def page() -> None:
    """Ask for a photo, and show what a run's model predicts for it."""
    (picker,) = layout.header(_("Predict the attributes of a photo"), 3)
    table = offered(read(browse.predicting_runs))
    runs = {}
    if len(table):
        rows = rows_by(table, "run_id").values()
        runs = {str(run["run_id"]): run for run in rows if _may_load(run)}
    if not runs:
        notices.empty(
            _("No model yet"),
            _("No run has a checkpoint that this machine can read. To train and evaluate one:"),
        )
        layout.watch(REFRESH)
        return
    with picker:
        name = pickers.choose(_("Run"), list(runs), "run", lambda key: layout.run_name(runs[key]))
    if not runs[name]["is_coconut"]:
        notices.not_coconut(runs[name]["trained_on"])
    content = _ask_for_photo()
    answer = st.empty()  # the answer for another photo goes at once, while this one is predicted
    if content is None:
        st.caption(
            _(
                "JPEG, PNG, WebP, AVIF or HEIC of at most {size} MB. The photo is decoded in "
                "memory and not stored; a URL must lead to a public address.",
                size=MEGABYTES,
            )
        )
    else:
        try:
            prediction = _predict(runs[name], content)
            with answer.container():
                _show(runs[name], *prediction)
        except ImageError as error:
            message = _("The photo cannot be used: {error}", error=str(error))
            st.error(message, icon=":material/broken_image:")
        except UserError as error:
            st.error(str(error), icon=":material/error:")
    pickers.write_address()


def _may_load(run: Row) -> bool:
    """Check whether a run's checkpoint is here; in an object store, only reading it can tell."""
    name = run["checkpoint"]
    return isinstance(name, str) and (
        bool(settings().image_store) or (settings().data_dir / name).is_file()
    )


def _ask_for_photo() -> bytes | None:
    """Ask for an upload or a URL; return the photo that was given last."""
    upload, named = st.columns(2, gap="medium")
    with upload:
        file = st.file_uploader(
            _("Upload a photo"),
            sorted(suffix.removeprefix(".") for suffix in SUFFIXES),
            max_upload_size=MEGABYTES,
            key="photo",
            on_change=lambda: st.session_state.pop(FETCHED, None),
        )
    with named, st.form("url form", border=False):
        url = st.text_input(_("Or enter its URL"), placeholder="https://", key="photo url")
        submitted = st.form_submit_button(_("Fetch"), icon=":material/link:")
    if submitted and url:
        try:
            with st.spinner(_("Fetching")):
                st.session_state[FETCHED] = fetch(url.strip(), max_bytes=MEGABYTES * 2**20)
        except UserError as error:
            st.session_state.pop(FETCHED, None)
            st.error(str(error), icon=":material/link_off:")
            return None
    return st.session_state.get(FETCHED) or (file.getvalue() if file else None)


@st.cache_resource(max_entries=1, show_spinner=False)
def _load(checkpoint: str, version: str) -> Any:
    # These import torch, which takes seconds.
    from coconut_attr.model.checkpoint import CheckpointError, read_checkpoint
    from coconut_attr.model.checkpoint_metadata import epoch_of
    from coconut_attr.model.predict import choose_device

    device = choose_device(settings().device)
    path = settings().data_dir / checkpoint
    content = newest(settings(), path, epoch_of)
    if content is None:
        raise CheckpointError(f"{path} is neither here nor in the object store")
    model = read_checkpoint(content, path, device)
    layout.freeze_imports()
    return model, device


def _predict(run: Row, content: bytes) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """Return the photo, its probabilities and the model's thresholds, both float [34].

    The last result stays in the session.
    """
    # The number of a run does not tell apart its epochs, or the runs of two databases.
    version = f"{run['started_at']} {run['best_epoch']}"
    key = (run["checkpoint"], version, hashlib.sha256(content).hexdigest())
    if st.session_state.get(RESULT, (None,))[0] != key:
        from coconut_attr.model.predict import predict_images

        image = upright(content)
        with st.spinner(_("Predicting")):
            loaded, device = _load(run["checkpoint"], version)
            probabilities = predict_images(loaded.model, [image], device)[0]
        image.thumbnail((photos.THUMBNAIL * 2,) * 2)
        st.session_state[RESULT] = (key, image, probabilities, loaded.thresholds)
    return st.session_state[RESULT][1:]


def _show(run: Row, image: Image.Image, probabilities: np.ndarray, thresholds: np.ndarray) -> None:
    left, right = st.columns([2, 3], gap="medium")
    table = pd.DataFrame(
        {"attribute": ATTRIBUTES, "probability": probabilities, "threshold": thresholds}
    )
    table["group_name"] = table["attribute"].map(GROUP_OF)
    scores = read(attribute_scores, run["run_id"], run["dataset"], run["split"])
    columns = ["ap", "ap_low", "ap_high", "n", "rarer_n"]
    table = table.join(scores.set_index("attribute")[columns], on="attribute")
    verdicts = read(trust, run["run_id"], run["dataset"], run["split"])
    table = table.join(verdicts.set_index("attribute")[["verdict", "reason"]], on="attribute")
    table = table.join(_priors(run["trained_on"]), on="attribute")
    table["called"] = table["probability"] >= table["threshold"]
    table["lift"] = table["probability"] - table["prior"]
    table = table.sort_values("lift", ascending=False, kind="stable")
    with left:
        st.image(image, width="stretch", alt=_("The photo"))
        if TRANSPARENT in image.info:
            st.caption(_("Transparent pixels are shown on white."))
        st.markdown("**" + _("Called present") + "**")
        called = table[table["called"]]
        trusted = called["verdict"] == "yes"
        st.write(_names(called[trusted]) or _("Nothing."))
        if not trusted.all():
            st.markdown("**" + _("Called present, but the model is not shown to know them") + "**")
            st.write(_names(called[~trusted]))
    with right:
        _chart(table, run)
    _nearest(run, probabilities)


def _names(called: pd.DataFrame) -> str:
    return ", ".join(
        f"{_(row['attribute'])} ({row['probability']:.2f})" for row in called.to_dict("records")
    )


def _priors(dataset: str) -> pd.Series:
    """Return the share of present among each attribute's known cells in the training split."""
    counts = read_counts(label_counts, dataset)
    if not len(counts):
        return pd.Series(dtype=float, name="prior")
    counts = counts[counts["split"] == "train"].set_index("attribute")
    return (counts["present"] / (counts["present"] + counts["absent"])).rename("prior")


def _chart(table: pd.DataFrame, run: Row) -> None:
    common.legend(
        [
            common.Entry("square", common.ACCENT, _("called present")),
            common.Entry("pale", common.GREY, _("called absent")),
            common.Entry("tick", common.SERIES[1], _("threshold"), _("chosen without test images")),
            common.Entry("diamond", common.AMBER, _("prior"), _("share present in training")),
        ]
    )
    rows = [" ", *map(_, table["attribute"])]
    few = is_few(table)
    table = common.translated(
        table.assign(
            text=table["probability"].map("{:.2f}".format),
            ap_text=table["ap"].map(formats.number) + few.map({True: FEW_MARK, False: ""}),
            interval=[
                formats.interval(*ends)
                for ends in zip(table["ap_low"], table["ap_high"], strict=True)
            ],
            verdict=table["verdict"].map(_, na_action="ignore"),
            reason=table["reason"].map(_, na_action="ignore"),
        )
    )
    scale = alt.Scale(domain=[0, AP_EDGE], nice=False)
    axis = alt.Axis(
        title=_("probability"), values=[0, 0.25, 0.5, 0.75, 1], format=".2~f", domain=False
    )
    base = alt.Chart(table).encode(
        y=common.attribute_axis(rows),
        tooltip=[
            alt.Tooltip("attribute:N", title=_("attribute")),
            alt.Tooltip("probability:Q", title=_("probability"), format=".3f"),
            alt.Tooltip("threshold:Q", title=_("threshold"), format=".3f"),
            alt.Tooltip("prior:Q", title=_("prior"), format=".3f"),
            alt.Tooltip("lift:Q", title=_("above prior"), format="+.3f"),
            alt.Tooltip("ap_text:N", title=_("average precision")),
            alt.Tooltip("interval:N", title=_("95 % interval")),
            alt.Tooltip("n:Q", title=_("scored cells"), format=","),
            alt.Tooltip("verdict:N", title=_("trust it?")),
            alt.Tooltip("reason:N", title=_("reason")),
        ],
    )
    layers = [
        base.mark_bar(height=common.ROW_HEIGHT - 8).encode(
            x=alt.X("probability:Q", scale=scale, axis=axis),
            color=alt.condition("datum.called", alt.value(common.ACCENT), alt.value(common.GREY)),
            opacity=alt.condition("datum.called", alt.value(1), alt.value(common.PALE)),
        ),
        base.mark_tick(color=common.SERIES[1], thickness=2, size=common.ROW_HEIGHT - 4).encode(
            x=alt.X("threshold:Q", scale=scale)
        ),
        base.mark_point(color=common.AMBER, shape="diamond", size=60, filled=False).encode(
            x=alt.X("prior:Q", scale=scale)
        ),
        common.number_column(table, "text", "p", rows, common.RIGHT_EDGE),
        common.number_column(table, "ap_text", "AP", rows, AP_EDGE),
    ]
    common.show(
        alt.layer(*layers),
        common.height(rows),
        _("Probability of each attribute"),
        "probability chart",
    )
    st.caption(
        _(
            "n = 1 photo. What it has more than the training photos comes first: sorted by "
            "probability less prior. AP: how good the model is at the attribute, its average "
            "precision on the {split} split, {against}; †: fewer than 5 cells of the rarer state. "
            "The tooltip has its interval, n, and whether to trust it.",
            split=_(run["split"]),
            against=layout.against(run["run_id"], run["dataset"], run["split"]),
        )
    )


def _nearest(run: Row, probabilities: np.ndarray) -> None:
    st.subheader(_("Nearest images in the database"), anchor=False)
    rounded = tuple(round(float(p), 6) for p in probabilities)
    query = (run["run_id"], run["dataset"], run["split"], rounded)
    images = read(browse.images_near, *query, NEAREST)
    st.caption(
        _(
            "By the run's stored predictions, not by appearance: Euclidean distance between the "
            "{n} probabilities, among the images of the {split} split of {dataset}.",
            n=len(ATTRIBUTES),
            split=_(run["split"]),
            dataset=run["dataset"],
        )
    )
    photos.gallery(run["dataset"], images, pd.DataFrame(), "nearest")
