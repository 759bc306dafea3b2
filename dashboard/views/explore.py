"""Explore: images by label, by prediction, by a set of attributes; and one image in full."""

import re
from typing import Any

import pandas as pd
import streamlit as st

from coconut_attr.attributes import ATTRIBUTES, GROUPS, INDEX
from coconut_attr.errors import UserError
from coconut_attr.evaluation.retrieval import TOP
from dashboard import data, formats
from dashboard.data import Row, by, read, read_counts
from dashboard.i18n import N_, _
from dashboard.parts import layout, notices, photos, pickers
from db import browse
from db.counts import COMBINED, coverage, dataset_summaries
from db.labels import captions_of, evidence_of
from db.runs import attribute_scores, run_scores

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
    "false present": N_("wrong: predicted present, labelled absent"),
    "false absent": N_("wrong: predicted absent, labelled present"),
    "true present": N_("right: predicted and labelled present"),
}


def page() -> None:
    """The page."""
    dataset_picker, mode_picker = layout.header(_("Explore the images"), 2, 2)
    summaries = by(read_counts(dataset_summaries), "dataset")
    filled = {name: row for name, row in summaries.items() if row["images"]}
    if not filled:
        notices.empty(
            _("No images yet"), _("No dataset in the store has an image. To fetch and label one:")
        )
        layout.watch(5)
        return
    with dataset_picker:
        dataset = pickers.choose(
            _("Dataset"), list(filled), "dataset", layout.describe_dataset(filled)
        )
    if not filled[dataset]["is_coconut"]:
        notices.not_coconut(dataset, filled[dataset]["title"])
    with mode_picker:
        mode = pickers.choose(_("Find images"), list(MODES), "by", lambda name: _(MODES[name]))
    if wanted := st.query_params.get("image", ""):
        _one(dataset, wanted)
    runs = read(browse.predicting_runs)
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
        absent = pickers.choose_many(
            _("Absent"), [a for a in ATTRIBUTES if a not in present], "absent", _, _("any")
        )
    with split_box:
        names = (ALL, "train", "val", "test")
        split = pickers.choose(
            _("Split"), names, "split", lambda s: _("all splits") if s == ALL else _(s)
        )
    states = tuple(
        [(INDEX[name], "present") for name in present]
        + [(INDEX[name], "absent") for name in absent]
    )
    start = _start("labels", (present, absent, split))
    found = read(_labelled, dataset, None if split == ALL else split, states, start)
    if len(present) + len(absent) == 1:
        counts = read_counts(coverage, dataset)
        chosen = counts[
            (counts["source"] == COMBINED) & (counts["attribute"] == (present + absent)[0])
        ]
        chosen = chosen if split == ALL else chosen[chosen["split"] == split]
        n = int(chosen["present" if present else "absent"].sum())
        st.caption(_("n = {n} images, in the order of the store.", n=formats.count(n)))
    else:
        st.caption(_("Images in the order of the store."))
    _page(dataset, found, start)


def _labelled(
    engine: Any, dataset: str, split: str | None, states: tuple[tuple[int, str], ...], start: int
) -> Any:
    return browse.images_by_label(engine, dataset, split, dict(states), SIZE + 1, start)


def _choose_run(runs: pd.DataFrame) -> Row:
    keyed = runs.assign(key=runs["run_id"].astype(str) + "/" + runs["split"])
    rows = by(keyed, "key")
    chosen = pickers.choose(
        _("Run"),
        list(rows),
        "run",
        lambda key: layout.run_name(rows[key]) + f" · {_(rows[key]['split'])}",
    )
    return rows[chosen]


def _by_prediction(dataset: str, runs: pd.DataFrame) -> None:
    run_box, attribute_box, kind_box = st.columns([3, 2, 3], vertical_alignment="bottom")
    with run_box:
        run = _choose_run(runs)
    with attribute_box:
        attribute = pickers.choose(_("Attribute"), ATTRIBUTES, "attribute", _)
    with kind_box:
        kind = pickers.choose(_("Shown"), list(KINDS), "kind", lambda k: _(KINDS[k]))  # type: ignore[index]
    scores = by(read(attribute_scores, run["run_id"], dataset, run["split"]), "attribute").get(
        attribute, {}
    )
    threshold = scores.get("threshold")
    threshold = 0.5 if threshold is None or pd.isna(threshold) else float(threshold)
    start = _start("predictions", (run["run_id"], run["split"], attribute, kind))
    where = (run["run_id"], dataset, run["split"], INDEX[attribute])
    found = read(browse.images_by_prediction, *where, kind, threshold, SIZE + 1, start)
    st.caption(
        _(
            "Those that the model is surest of come first. Threshold {threshold}, chosen on val; AP {ap} ({interval}), "
            "prior {prior}, n = {n} known cells of the {split} split.",
            threshold=formats.number(threshold),
            ap=formats.number(scores.get("ap")),
            interval=formats.interval(scores.get("ap_low"), scores.get("ap_high")),
            prior=formats.number(scores.get("prior_ap")),
            n=formats.count(scores.get("n")),
            split=_(run["split"]),
        )
    )
    evidence = _evidence(dataset, found)
    _page(
        dataset,
        found,
        start,
        evidence[evidence["attribute"] == attribute] if len(evidence) else evidence,
    )


def _by_set(dataset: str, runs: pd.DataFrame) -> None:
    run_box, set_box = st.columns([2, 4], vertical_alignment="bottom")
    with run_box:
        run = _choose_run(runs)
    with set_box:
        names = pickers.choose_many(_("Attributes"), ATTRIBUTES, "set", _, _("Choose attributes"))
    scores = by(read(run_scores, run["run_id"], dataset, run["split"]), "name")
    told = [
        _(
            "recall@{k} {value} ({interval}), chance {chance}",
            k=k,
            value=formats.percent(scores[f"retrieval product recall@{k}"]["value"]),
            interval=formats.interval(
                *(scores[f"retrieval product recall@{k}"][end] for end in ("low", "high")),
                formats.percent,
            ),
            chance=formats.percent(scores[f"retrieval chance recall@{k}"]["value"]),
        )
        for k in TOP
        if f"retrieval product recall@{k}" in scores
    ]
    note = _(
        "Ranked by the product of the run's stored probabilities on the {split} split.",
        split=_(run["split"]),
    )
    if told:
        n = scores["retrieval product recall@1"]
        note += " " + _(
            "How well that finds the image whose present attributes are asked for: {told}; n = {n} queries among "
            "{images} images.",
            told="; ".join(told),
            n=formats.count(n["n"]),
            images=formats.count(n["images"]),
        )
    st.caption(note)
    if not names:
        st.info(
            _(
                "Choose one attribute or more: the images that the model thinks have all of them come first."
            )
        )
        return
    start = _start("set", (run["run_id"], run["split"], names))
    ids = tuple(INDEX[name] for name in names)
    found = read(browse.images_with_all, run["run_id"], dataset, run["split"], ids, SIZE + 1, start)
    _page(dataset, found, start)


def _start(mode: str, query: Any) -> int:
    """The place of the first image: another query begins at its first page."""
    if st.session_state.get("gallery of") != (mode, query):
        first = "gallery of" not in st.session_state
        asked = st.query_params.get("page", "1") if first else "1"
        st.session_state["gallery page"] = (
            max(1, int(asked)) if re.fullmatch("[0-9]{1,4}", asked) else 1
        )
        st.session_state["gallery of"] = (mode, query)
    return (st.session_state["gallery page"] - 1) * SIZE


def _page(
    dataset: str, found: pd.DataFrame, start: int, evidence: pd.DataFrame | None = None
) -> None:
    """One page of found images, and the way to the next."""
    number = st.session_state["gallery page"]
    pickers.remember("page", str(number) if number > 1 else "")
    if not len(found):
        st.write(_("No image is like that.") if start == 0 else _("There are no more images."))
    else:
        nothing = pd.DataFrame()
        photos.gallery(
            dataset, found.head(SIZE), nothing if evidence is None else evidence, "gallery"
        )

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
            disabled=len(found) <= SIZE,
            icon=":material/chevron_right:",
        )


def _evidence(dataset: str, found: pd.DataFrame) -> pd.DataFrame:
    if not len(found):
        return pd.DataFrame()
    return read(evidence_of, dataset, tuple(int(key) for key in found["coco_id"].head(SIZE)))


def _one(dataset: str, wanted: str) -> None:
    """One image: photo with masks, captions, segments, labels with predictions, and the evidence."""
    image = (
        browse.image(data.engine(), dataset, int(wanted))
        if re.fullmatch("[0-9]{1,17}", wanted)
        else None
    )
    if image is None:
        st.warning(_("{dataset} has no image {id}.", dataset=dataset, id=wanted[:40]))
        return
    pickers.remember("image", wanted)
    with st.container(border=True):
        heading, close = st.columns([6, 1], vertical_alignment="center")
        heading.subheader(_("Image {id}", id=wanted), anchor=False)
        close.button(
            _("Close"), on_click=lambda: st.query_params.pop("image", None), icon=":material/close:"
        )
        left, right = st.columns([2, 3], gap="medium")
        runs = read(browse.predicting_runs)
        run = int(runs["run_id"].iloc[0]) if len(runs) else None
        cells = data.frame(browse.cells_of(data.engine(), image["id"], run))
        with left:
            _picture(image, wanted)
        with right:
            _cells(cells, run)
            st.markdown("**" + _("Evidence") + "**")
            photos.evidence_table(read(evidence_of, dataset, (int(wanted),)), with_attribute=True)


def _picture(image: Any, wanted: str) -> None:
    segments = data.frame(browse.segments_of(data.engine(), image["id"]))
    picked: list[int] = []
    name = _("Image {id}", id=wanted)
    place = st.container()
    if image["mask_path"] and len(segments):
        labels = {
            int(row["segment_id"]): f"{row['category']} · {formats.count(row['area'])} px"
            for row in segments.to_dict("records")
        }
        picked = st.multiselect(
            _("Segments to show alone"),
            list(labels),
            format_func=labels.__getitem__,
            placeholder=_("all segments"),
        )
    with place:
        drawn = None
        if image["mask_path"] and image["path"]:
            try:
                drawn = photos.overlaid(image["path"], image["mask_path"], picked)
            except (UserError, OSError) as error:
                st.caption(str(error))
        if drawn is not None:
            st.image(drawn, width="stretch", alt=name)
        else:
            photos.show(image["path"], name, size=800)
    of_image = read(captions_of, image["dataset"], (int(wanted),))
    photos.captions(int(wanted), of_image["text"].tolist())
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


def _cells(cells: pd.DataFrame, run: int | None) -> None:
    shown = _named(cells)
    st.dataframe(
        shown,
        hide_index=True,
        height=420,
        placeholder=formats.DASH,
        alt=_("Labels and predictions"),
        column_config={
            "attribute": _("attribute"),
            "group_name": _("group"),
            "state": _("label"),
            "confidence": st.column_config.NumberColumn(_("confidence"), format="%.2f"),
            "conflict": st.column_config.CheckboxColumn(_("conflict")),
            "probability": st.column_config.ProgressColumn(
                _("probability"),
                format="%.3f",
                min_value=0,
                max_value=1,
                help=_("that the model gives"),
            ),
        },
    )
    if run is not None:
        known = cells["probability"].notna().any()
        st.caption(
            _("Probabilities: run {run}.", run=run)
            if known
            else _("Run {run} has stored no prediction of this image: it is not in a split that it was scored on.",
                   run=run)
        )  # fmt: skip


def _named(cells: pd.DataFrame) -> pd.DataFrame:
    """Labels by group, with the words that are shown."""
    order = cells["group_name"].map(list(GROUPS).index)
    known = cells["state"] != "unknown"
    table = cells.assign(
        conflict=cells["conflict"].fillna(0).astype(bool),
        confidence=cells["confidence"].where(known),
    )
    table = table.loc[order.sort_values(kind="stable").index]
    return table.assign(
        attribute=table["attribute"].map(_),
        group_name=table["group_name"].map(_),
        state=table["state"].map(_, na_action="ignore"),
    )
