"""What a review shows so far, and what follows from it: labels, runs and their scores."""

from typing import Any

import streamlit as st

from dashboard import data, formats, prefect_api
from dashboard.figures.review import changes, figures
from dashboard.i18n import _
from dashboard.parts import layout
from dashboard.parts.reviewing import Reviewer
from db import review


def progress(dataset: str, reviewer: Reviewer, version: object) -> None:
    """Show a reviewer's figures.

    Args:
        version: changes when they are to be computed again.
    """
    st.subheader(_("So far"), anchor=False)
    now = figures(dataset, reviewer.name, version)
    right = now.precision
    known = right.labels > 0
    layout.cards(
        (
            _("Judged by you"),
            formats.count(now.cells),
            _("cells; photos: {n}", n=formats.count(now.images)),
        ),
        (
            _("Labels right, by your random photos"),
            formats.percent(right.value),
            _(
                "95 % interval {interval}",
                interval=formats.interval(*right.interval, formats.percent),
            ),
            _(
                "n = {cells} known labels, {images} photos",
                cells=formats.count(right.labels),
                images=formats.count(right.images),
            ),
            _("{n} more random photos would halve the interval", n=right.more_to_halve)
            if known
            else _("judge the queue *random* for it"),
        ),
        (
            _("Agreement with others (kappa)"),
            " · ".join(formats.number(kappa.kappa, 2) for kappa in now.kappas) or formats.DASH,
            *(
                _(
                    "{other}: {alike} of {n} cells alike",
                    other=kappa.other,
                    alike=formats.percent(kappa.alike),
                    n=formats.count(kappa.cells),
                )
                for kappa in now.kappas
            ),
        ),
    )
    st.caption(
        _(
            "Only the queue *random* gives an unbiased estimate: the others choose cells that are "
            "probably wrong. Photos that the label model was fitted on make it optimistic."
        )
    )


def after_review(dataset: str) -> None:
    """Show what judgements change, and the commands and the button that make it so."""
    box = st.expander(_("After reviewing: labels, training, scores"), on_change="rerun")
    if not box.open:  # counting takes a while
        return
    with box:
        counts = changes(dataset)
        st.markdown(
            _(
                "**Labels follow at the next extraction**, which this page must not do itself: it "
                "adds judgements and nothing else. It will turn {flipping} labels round and decide "
                "{deciding} unknown ones. By judgement, {flipped} labels have been turned round "
                "and {decided} decided so far.",
                flipping=formats.count(counts.flipping),
                deciding=formats.count(counts.deciding),
                flipped=formats.count(counts.flipped),
                decided=formats.count(counts.decided),
            )
        )
        st.markdown(_("Fit the label model on all judgements, label again, train and score:"))
        st.code(
            f"coconut-attr labels fit --to labels.json --dataset {dataset}\n"
            "export COCONUT_ATTR_LABEL_MODEL_FILE=$PWD/labels.json\n"
            f"coconut-attr train {dataset}",
            language="bash",
        )
        _start_button(f"train/{dataset}")
        _scores(dataset)


def _start_button(name: str) -> None:
    deployment = prefect_api.find_deployment(name)
    if deployment is None:
        st.caption(
            _(
                "No Prefect server with the deployment {name} answers here: use the commands.",
                name=name,
            )
        )
        return
    label = _("Label again, train and score: start {name}", name=name)
    if st.button(label, icon=":material/play_arrow:"):
        try:
            run = prefect_api.start(deployment)
        except prefect_api.PrefectError as error:
            st.error(_("Prefect did not start it: {reason}", reason=error))
        else:
            address = prefect_api.flow_run_page(run)
            queued = f"[{run}]({address})" if address else run
            st.success(_("Prefect has queued the flow run {run}.", run=queued))
    st.caption(_("It keeps the label model that its worker has; the judgements become labels."))


def _scores(dataset: str) -> None:
    """Show how the runs score by eyes, beside how many judgements there were when each began."""
    scores = data.to_frame(review.scores_by_judgements(data.engine(), dataset))
    if not len(scores):
        return
    st.markdown("**" + _("mAP by eyes on the test split, before and after") + "**")
    score: dict[str, Any] = {"format": "%.3f"}
    number = st.column_config.NumberColumn
    st.dataframe(
        scores.assign(
            interval=formats.intervals(
                scores.rename(columns={"low": "map_low", "high": "map_high"}), "map", formats.number
            )
        ),
        hide_index=True,
        alt=_("mAP by eyes of each run"),
        column_order=[
            "run_id",
            "backbone",
            "started_at",
            "judgements",
            "value",
            "interval",
            "images",
        ],
        column_config={
            "run_id": number(_("run"), format="%d"),
            "backbone": _("backbone"),
            "started_at": st.column_config.DatetimeColumn(
                _("started (UTC)"), format="YYYY-MM-DD HH:mm"
            ),
            "judgements": number(_("judgements when it began"), format="localized"),
            "value": number("mAP", **score),
            "interval": _("95 % interval"),
            "images": number(_("judged photos"), format="%d"),
        },
    )
