"""Explore: images by label, by prediction or by a set of attributes, and one image in full."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES, INDEX
from coconut_attr.evaluation.retrieval import TOP
from coconut_attr.labels.rules import load_rules
from dashboard import formats
from dashboard.data import (
    Row,
    engine,
    offered,
    read,
    read_counts,
    rows_by,
    threshold_of,
    to_frame,
)
from dashboard.i18n import N_, _, paragraph
from dashboard.parts import layout, notices, photos, pickers
from dashboard.parts.image_detail import image_detail
from db import browse, reference
from db.counts import dataset_summaries
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
ANY = N_("any")
#: Colours of segments that are no attributes, by their names in rules.toml.
OTHER_COLORS = (N_("grey"), N_("brown"), N_("orange"), N_("pink"), N_("purple"), N_("beige"))
Step = Callable[[], None]  # what a button does


def page() -> None:
    """Show the images that a query finds, and in full the one that the address names."""
    dataset_picker, mode_picker, id_box = layout.header(_("Explore the images"), 2, 2, 1)
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
    with id_box:
        st.text_input(
            _("Image id"), key="image id", on_change=_open_typed, placeholder="139", max_chars=40
        )
    viewer = st.container()
    runs = offered(read(browse.predicting_runs), dataset)
    runs = runs[runs["dataset"] == dataset] if len(runs) else runs
    found: Found | None = None
    if mode == "labels":
        found = _by_label(dataset)
    elif not len(runs):
        notices.empty(
            _("No predictions yet"),
            _("No run of this project has been evaluated on this dataset. To train one:"),
            f"prefect deployment run train/{dataset}",
        )
    elif mode == "predictions":
        found = _by_prediction(dataset, runs)
    else:
        found = _by_set(dataset, runs)
    _view(viewer, dataset, found)
    if found:
        _gallery(dataset, found)
    pickers.write_address()


@dataclass(frozen=True)
class Found:
    """One page of the images that a query finds.

    Attributes:
        images: those of the page, and one more if there is another page.
        start: the place of the first one.
        total: how many the query finds; None: not counted.
        evidence: rows of the view `evidence` of the images, for one attribute.
        chips: attributes of each image by its id, to show with it.
    """

    images: pd.DataFrame
    start: int
    total: int | None = None
    evidence: pd.DataFrame = field(default_factory=pd.DataFrame)
    chips: dict[int, list[str]] = field(default_factory=dict)


def _open_typed() -> None:
    """Open the image whose id was typed."""
    if typed := st.session_state["image id"].strip():
        st.query_params["image"] = typed
    st.session_state["image id"] = ""


def _view(place: Any, dataset: str, found: Found | None) -> None:
    """Show the image that the address names in full, with ways to its neighbours on the page."""
    shown: list[str] = []
    if found and len(found.images):
        shown = [str(coco_id) for coco_id in found.images["coco_id"].head(SIZE)]
    end = st.session_state.pop("image after a page turn", None)
    if end is not None and shown:
        st.query_params["image"] = shown[end]
    image = st.query_params.get("image", "")
    if not image:
        return
    before: Step | None = None
    after: Step | None = None
    if found and image in shown:
        position = shown.index(image)
        if position > 0:
            before = partial(_open, shown[position - 1])
        elif found.start > 0:
            before = partial(_turn, -1, -1)
        if position + 1 < len(shown):
            after = partial(_open, shown[position + 1])
        elif len(found.images) > SIZE:
            after = partial(_turn, 1, 0)
    with place:
        image_detail(dataset, image, before, after)


def _open(image: str) -> None:
    st.query_params["image"] = image


def _turn(pages: int, image: int | None = None) -> None:
    """Turn pages; with an image's place on the new page, open that."""
    st.session_state["gallery page"] += pages
    if image is not None:
        st.session_state["image after a page turn"] = image


def _by_label(dataset: str) -> Found:
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
    wanted = replace(_more_filters(), split="" if split == ALL else split, states=states)
    start = _start("labels", wanted)
    images = read(browse.find_images, dataset, wanted, SIZE + 1, start)
    total = int(read(browse.count_images, dataset, wanted)["n"].iloc[0])
    chips: dict[int, list[str]] = {}
    if len(images):
        ids = tuple(int(image_id) for image_id in images["id"].head(SIZE))
        labels = read(browse.present_labels, ids)
        if len(labels):
            chips = labels.groupby("image_id")["attribute"].apply(list).to_dict()
    count, download = st.columns([3, 2], vertical_alignment="center")
    count.caption(_("n = {n} images, in database order.", n=formats.count(total)))
    with download:
        _download(dataset, wanted)
    return Found(images, start, total, chips=chips)


def _more_filters() -> browse.ImageFilter:
    """Let the user ask for more than labels."""
    names = ("caption", "category", "color", "judged", "probability")
    box = st.expander(
        _("More filters: captions, segments, judgements, probabilities"),
        expanded=any(name in st.query_params for name in names),
    )
    with box:
        caption_box, category_box, color_box = st.columns([3, 2, 2], vertical_alignment="bottom")
        with caption_box:
            caption = pickers.enter(_("A caption contains"), "caption", "red car")
        categories = {
            name: int(row["id"])
            for name, row in sorted(rows_by(read(reference.categories), "name").items())
        }
        with category_box:
            category = pickers.choose(
                _("A segment shows"), [ANY, *categories], "category", _any, ANY
            )
        with color_box:
            rules = load_rules().rules.pixels
            colors = [ANY, *rules.colors, *rules.other_colors]
            color = pickers.choose(_("Its colour"), colors, "color", _any, ANY)
        judged_box, probability_box = st.columns([2, 5], vertical_alignment="bottom")
        with judged_box:
            options = {ANY: None, "yes": True, "no": False}
            judged = pickers.choose(_("Judged by eye"), list(options), "judged", _any, ANY)
        with probability_box:
            lowest, highest = pickers.choose_range(
                _("Probability of the labels chosen above"), "probability"
            )
    return browse.ImageFilter(
        lowest=lowest,
        highest=highest,
        judged=options[judged],
        caption=caption,
        category=categories.get(category),
        color="" if color == ANY else color,
    )


def _any(name: str) -> str:
    return _("any") if name == ANY else _(name)


def _download(dataset: str, wanted: browse.ImageFilter) -> None:
    """Offer the ids of all images that a filter lets through."""
    opened = engine()
    st.download_button(
        _("Download their ids (CSV)"),
        lambda: formats.csv(to_frame(browse.list_images(opened, dataset, wanted))),
        f"{dataset}_images.csv",
        "text/csv",
        on_click="ignore",  # a rerun would replace the file while the browser asks for it
        icon=":material/download:",
        help=_(
            "For COCO or Hugging Face files of these images: {command}",
            command=f"coconut-attr labels export {dataset} --images {dataset}_images.csv",
        ),
    )


def _choose_run(runs: pd.DataFrame) -> Row:
    rows = rows_by(runs.assign(id=runs["run_id"].astype(str) + "/" + runs["split"]), "id")

    def describe(run: str) -> str:
        return f"{layout.run_name(rows[run])} · {_(rows[run]['split'])}"

    return rows[pickers.choose(_("Run"), list(rows), "run", describe)]


def _by_prediction(dataset: str, runs: pd.DataFrame) -> Found:
    run_box, attribute_box, kind_box = st.columns([3, 2, 3], vertical_alignment="bottom")
    with run_box:
        run = _choose_run(runs)
    with attribute_box:
        attribute = pickers.choose(_("Attribute"), ATTRIBUTES, "attribute", _)
    with kind_box:
        kind = pickers.choose(_("Shown"), list(KINDS), "kind", lambda k: _(KINDS[k]))  # type: ignore[index]
    table = read(attribute_scores, run["run_id"], dataset, run["split"])
    scores = rows_by(table, "attribute").get(attribute, {})
    threshold = threshold_of(scores)
    start = _start("predictions", (run["run_id"], run["split"], attribute, kind))
    wanted = browse.Predicted(
        run["run_id"],
        dataset,
        run["split"],
        INDEX[attribute],
        kind,  # type: ignore[arg-type]
        threshold,
    )
    images = read(browse.images_by_prediction, wanted, SIZE + 1, start)
    total = int(read(browse.count_by_prediction, wanted)["n"].iloc[0])
    st.caption(
        _(
            "The most confident predictions come first. Threshold {threshold}; AP {ap} "
            "({interval}), prior {prior}, {against}; n = {n} cells of the {split} split. Found: "
            "{found} images.",
            found=formats.count(total),
            against=layout.against(run["run_id"], dataset, run["split"]),
            threshold=formats.number(threshold),
            ap=formats.number(scores.get("ap")),
            interval=formats.interval(scores.get("ap_low"), scores.get("ap_high")),
            prior=formats.number(scores.get("prior_ap")),
            n=formats.count(scores.get("n")),
            split=_(run["split"]),
        )
    )
    evidence = pd.DataFrame()
    if len(images):
        ids = tuple(int(coco_id) for coco_id in images["coco_id"].head(SIZE))
        evidence = read(evidence_of, dataset, ids)
    if len(evidence):
        evidence = evidence[evidence["attribute"] == attribute]
    return Found(images, start, total, evidence)


def _by_set(dataset: str, runs: pd.DataFrame) -> Found | None:
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
        return None
    start = _start("set", (run["run_id"], run["split"], names))
    ids = tuple(INDEX[name] for name in names)
    query = (run["run_id"], dataset, run["split"], ids)
    return Found(read(browse.images_with_all, *query, SIZE + 1, start), start)


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


def _gallery(dataset: str, found: Found) -> None:
    """Show one page of images, and buttons to the others."""
    number = st.session_state["gallery page"]
    pickers.remember("page", str(number) if number > 1 else "")
    if len(found.images):
        photos.gallery(
            dataset, found.images.head(SIZE), found.evidence, "gallery", chips=found.chips
        )
    elif found.start == 0:
        st.write(_("No image matches."))
    else:
        st.write(_("There are no more images."))
    page = _("Page {page}", page=number)
    if found.total:
        pages = formats.count(-(-found.total // SIZE))
        page = _("Page {page} of {pages}", page=number, pages=pages)
    with st.container(horizontal=True, horizontal_alignment="center", vertical_alignment="center"):
        st.button(
            _("Previous page"),
            on_click=_turn,
            args=(-1,),
            disabled=number == 1,
            icon=":material/chevron_left:",
        )
        st.write(page)
        st.button(
            _("Next page"),
            on_click=_turn,
            args=(1,),
            disabled=len(found.images) <= SIZE,
            icon=":material/chevron_right:",
        )
