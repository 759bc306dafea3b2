"""Explore: images by label, by prediction or by a set of attributes, and one image in full."""

import re
from typing import Any

import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES, INDEX
from coconut_attr.evaluation.retrieval import TOP
from dashboard import formats
from dashboard.data import Row, offered, read, read_counts, rows_by
from dashboard.i18n import N_, _, paragraph
from dashboard.parts import layout, notices, photos, pickers
from dashboard.parts.image_detail import image_detail
from db import browse
from db.counts import COMBINED, coverage, dataset_summaries
from db.labels import evidence_of
from db.runs import attribute_scores, run_scores

REFRESH = 5  # seconds
SIZE = 18  # images of a page
ALL = "all"
MODES = {
    "labels": N_("by label"),
    "predictions": N_("by prediction"),
    "set": N_("by a set of attributes"),
}
KINDS: dict[browse.Kind, str] = {
    "present": N_("predicted present"),
    "absent": N_("predicted absent"),
    "false present": N_("disagreement: predicted present, labelled absent"),
    "false absent": N_("disagreement: predicted absent, labelled present"),
    "true present": N_("agreement: predicted and labelled present"),
}
NO_EVIDENCE = pd.DataFrame()


def page() -> None:
    """Show the images that a query finds, and in full the one that the address names."""
    dataset_picker, mode_picker = layout.header(_("Explore the images"), 2, 2)
    summaries = rows_by(read_counts(dataset_summaries), "dataset")
    filled = {name: row for name, row in summaries.items() if row["images"]}
    if not filled:
        notices.empty(
            _("No images yet"),
            _("The database has no image of any dataset. To download and label one:"),
        )
        layout.watch(REFRESH)
        return
    with dataset_picker:
        names = layout.dataset_namer(filled)
        dataset = pickers.choose(_("Dataset"), list(filled), "dataset", names)
    if not filled[dataset]["is_coconut"]:
        notices.not_coconut(dataset, filled[dataset]["title"])
    with mode_picker:
        mode = pickers.choose(_("Find images"), list(MODES), "by", lambda name: _(MODES[name]))
    if image := st.query_params.get("image", ""):
        image_detail(dataset, image)
    runs = offered(read(browse.predicting_runs), dataset)
    runs = runs[runs["dataset"] == dataset] if len(runs) else runs
    if mode == "labels":
        _by_label(dataset)
    elif not len(runs):
        notices.empty(
            _("No predictions yet"),
            _("No run of this project has been evaluated on this dataset. To train one:"),
            f"prefect deployment run train/{dataset}",
        )
    elif mode == "predictions":
        _by_prediction(dataset, runs)
    else:
        _by_set(dataset, runs)
    pickers.write_address()


def _by_label(dataset: str) -> None:
    present_box, absent_box, split_box = st.columns([3, 3, 2], vertical_alignment="bottom")
    with present_box:
        present = pickers.choose_many(_("Present"), ATTRIBUTES, "present", _, _("any"))
    with absent_box:
        others = [name for name in ATTRIBUTES if name not in present]
        absent = pickers.choose_many(_("Absent"), others, "absent", _, _("any"))
    with split_box:
        names = (ALL, "train", "val", "test")
        split = pickers.choose(
            _("Split"), names, "split", lambda s: _("all splits") if s == ALL else _(s)
        )
    states = (
        *((INDEX[name], "present") for name in present),
        *((INDEX[name], "absent") for name in absent),
    )
    start = _start("labels", (present, absent, split))
    images = read(_labelled, dataset, None if split == ALL else split, states, start)
    if len(states) == 1:
        counts = read_counts(coverage, dataset)
        (attribute,) = present + absent
        counts = counts[(counts["source"] == COMBINED) & (counts["attribute"] == attribute)]
        if split != ALL:
            counts = counts[counts["split"] == split]
        n = int(counts["present" if present else "absent"].sum())
        st.caption(_("n = {n} images, in database order.", n=formats.count(n)))
    else:
        st.caption(_("Images in database order."))
    _gallery(dataset, images, start)


def _labelled(
    engine: Any, dataset: str, split: str | None, states: tuple[tuple[int, str], ...], start: int
) -> Any:
    # `read` caches by its arguments, which must be hashable.
    return browse.images_by_label(engine, dataset, split, dict(states), SIZE + 1, start)


def _choose_run(runs: pd.DataFrame) -> Row:
    rows = rows_by(runs.assign(id=runs["run_id"].astype(str) + "/" + runs["split"]), "id")

    def describe(run: str) -> str:
        return f"{layout.run_name(rows[run])} · {_(rows[run]['split'])}"

    return rows[pickers.choose(_("Run"), list(rows), "run", describe)]


def _by_prediction(dataset: str, runs: pd.DataFrame) -> None:
    run_box, attribute_box, kind_box = st.columns([3, 2, 3], vertical_alignment="bottom")
    with run_box:
        run = _choose_run(runs)
    with attribute_box:
        attribute = pickers.choose(_("Attribute"), ATTRIBUTES, "attribute", _)
    with kind_box:
        kind = pickers.choose(_("Shown"), list(KINDS), "kind", lambda k: _(KINDS[k]))  # type: ignore[index]
    table = read(attribute_scores, run["run_id"], dataset, run["split"])
    scores = rows_by(table, "attribute").get(attribute, {})
    threshold = scores.get("threshold")
    threshold = 0.5 if threshold is None or pd.isna(threshold) else float(threshold)
    start = _start("predictions", (run["run_id"], run["split"], attribute, kind))
    query = (run["run_id"], dataset, run["split"], INDEX[attribute], kind, threshold)
    images = read(browse.images_by_prediction, *query, SIZE + 1, start)
    st.caption(
        _(
            "The most confident predictions come first. Threshold {threshold}; AP {ap} "
            "({interval}), prior {prior}, {against}; n = {n} cells of the {split} split.",
            against=layout.against(run["run_id"], dataset, run["split"]),
            threshold=formats.number(threshold),
            ap=formats.number(scores.get("ap")),
            interval=formats.interval(scores.get("ap_low"), scores.get("ap_high")),
            prior=formats.number(scores.get("prior_ap")),
            n=formats.count(scores.get("n")),
            split=_(run["split"]),
        )
    )
    evidence = NO_EVIDENCE
    if len(images):
        ids = tuple(int(coco_id) for coco_id in images["coco_id"].head(SIZE))
        evidence = read(evidence_of, dataset, ids)
    if len(evidence):
        evidence = evidence[evidence["attribute"] == attribute]
    _gallery(dataset, images, start, evidence)


def _by_set(dataset: str, runs: pd.DataFrame) -> None:
    run_box, set_box = st.columns([2, 4], vertical_alignment="bottom")
    with run_box:
        run = _choose_run(runs)
    with set_box:
        names = pickers.choose_many(_("Attributes"), ATTRIBUTES, "set", _, _("Choose attributes"))
    ranking = _(
        "Ranked by the product of the run's stored probabilities on the {split} split.",
        split=_(run["split"]),
    )
    scores = rows_by(read(run_scores, run["run_id"], dataset, run["split"]), "name")
    st.caption(paragraph(ranking, _retrieval(scores)))
    if not names:
        st.info(
            _(
                "Choose one or more attributes: images for which the model predicts all of them "
                "come first."
            )
        )
        return
    start = _start("set", (run["run_id"], run["split"], names))
    ids = tuple(INDEX[name] for name in names)
    query = (run["run_id"], dataset, run["split"], ids)
    _gallery(dataset, read(browse.images_with_all, *query, SIZE + 1, start), start)


def _retrieval(scores: dict[str, Row]) -> str:
    """Say how well a run retrieves images by sets of attributes; empty if it was not scored."""
    recalls, by_embedding = [], []
    for k in TOP:
        recall = scores.get(f"retrieval product recall@{k}")
        embedding = scores.get(f"retrieval embedding recall@{k}")
        if not recall:
            continue
        chance = scores[f"retrieval chance recall@{k}"]["value"]
        recalls.append(
            _(
                "recall@{k} {value} ({interval}), chance {chance}",
                k=k,
                value=formats.percent(recall["value"]),
                interval=formats.interval(recall["low"], recall["high"], formats.percent),
                chance=formats.percent(chance),
            )
        )
        if embedding:
            by_embedding.append(f"recall@{k} {formats.percent(embedding['value'])}")
    if not recalls:
        return ""
    n = scores["retrieval product recall@1"]
    sentence = _(
        "Searching for each image by all of its present attributes, {against}: {recalls}; n = {n} "
        "queries among {images} images.",
        against=formats.against(n["against"], n["judged_by"]),
        recalls="; ".join(recalls),
        n=formats.count(n["n"]),
        images=formats.count(n["images"]),
    )
    if not by_embedding:
        return sentence
    return paragraph(
        sentence,
        _("Ranked by embeddings instead: {recalls}.", recalls=", ".join(by_embedding)),
    )


def _start(mode: str, query: Any) -> int:
    """Return the place of the first image to show; a new query begins at its first page."""
    if st.session_state.get("gallery of") != (mode, query):
        first = "gallery of" not in st.session_state
        requested = st.query_params.get("page", "1") if first else "1"
        number = int(requested) if re.fullmatch("[0-9]{1,4}", requested) else 1
        st.session_state["gallery page"] = max(1, number)
        st.session_state["gallery of"] = (mode, query)
    return (st.session_state["gallery page"] - 1) * SIZE


def _gallery(
    dataset: str, images: pd.DataFrame, start: int, evidence: pd.DataFrame = NO_EVIDENCE
) -> None:
    """Show one page of images, and buttons to the others.

    Args:
        images: those of the page, and one more if there is another page.
    """
    number = st.session_state["gallery page"]
    pickers.remember("page", str(number) if number > 1 else "")
    if len(images):
        photos.gallery(dataset, images.head(SIZE), evidence, "gallery")
    elif start == 0:
        st.write(_("No image matches."))
    else:
        st.write(_("There are no more images."))

    def turn(pages: int) -> None:
        st.session_state["gallery page"] += pages

    with st.container(horizontal=True, horizontal_alignment="center", vertical_alignment="center"):
        st.button(
            _("Previous"),
            on_click=turn,
            args=(-1,),
            disabled=number == 1,
            icon=":material/chevron_left:",
        )
        st.write(_("Page {page}", page=number))
        st.button(
            _("Next"),
            on_click=turn,
            args=(1,),
            disabled=len(images) <= SIZE,
            icon=":material/chevron_right:",
        )
