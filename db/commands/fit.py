"""The command `labels fit`: fit the label model on one's own judgements."""

from pathlib import Path
from typing import Annotated

import typer

from coconut_attr import terminal
from coconut_attr.datasets import get_dataset
from coconut_attr.errors import UserError


def fit(
    to: Annotated[Path, typer.Option(help="File to write.", show_default=False)],
    dataset: Annotated[str, typer.Option(help="Dataset with judged images.")] = "val5k",
) -> None:
    """Fit the label model on what was seen in photos of train and val; say what it gains.

    Images of the test split are never fitted on. Both scores are by eyes, on images that the model
    was not fitted on: the new model's by cross-validation, the present model's in its file.
    """
    name = get_dataset(dataset).name
    import numpy as np

    from coconut_attr.files.atomic import write_atomically
    from coconut_attr.labels.fit import fit_label_model
    from coconut_attr.labels.label_model import load_label_model
    from coconut_attr.labels.rules import load_rules
    from coconut_attr.settings import settings
    from db.judgements import SPLITS_OF, judged_cells, states_by, truth_rows
    from db.labels import model_probabilities
    from db.schema import open_for_reading
    from db.work.extract import signals_of

    present = load_label_model()
    engine = open_for_reading(settings().sqlalchemy_url)
    rows = truth_rows(engine, name, SPLITS_OF["dev"])
    truth, judged = states_by("image_id", rows), judged_cells(rows)
    signals = signals_of(engine, sorted(truth))
    image_ids = list(signals)
    states = np.array([truth[image_id] for image_id in image_ids], np.int8)
    cells = np.array([judged[image_id] for image_id in image_ids], bool)
    stored = model_probabilities(engine, image_ids)
    complete = [image_id for image_id in image_ids if None not in stored.get(image_id, [None])]
    predictions = None
    if len(complete) == len(image_ids):
        predictions = np.array([stored[image_id] for image_id in image_ids], float)
    facts = {
        "truth": f"judged images of {name}, splits train and val",
        "rules": load_rules().version,
    }
    result = fit_label_model([signals[k] for k in image_ids], states, cells, facts, predictions)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(to, (result.model.to_json() + "\n").encode())
    except OSError as error:
        raise UserError(f"cannot write {to}: {error}; choose another --to") from error
    table = terminal.table(
        "by eyes", "this fit, cross-validated", "95 %", "the model in use, as its file says"
    )
    for title, scores, fact in (
        ("", result.scores, "cross_validated"),
        (", second pass", result.second_scores, "second_pass_cross_validated"),
    ):
        if scores is None:
            continue
        for score_name in ("map", "accuracy", "balanced_accuracy", "ece"):
            score = scores[score_name]
            before = present.facts.get(fact, {}).get(score_name, {}).get("value")
            table.add_row(
                score_name + title,
                f"{score.value:.3f}",
                f"{score.low:.3f} to {score.high:.3f}",
                "–" if before is None else f"{before:.3f}",
            )
    terminal.console().print(table)
    if result.second_scores is None:
        typer.echo(
            "no second pass: not every judged image has an out-of-fold prediction; train, and fit "
            "again"
        )
    typer.echo(
        f"fitted on {len(image_ids)} images; present from {result.model.present:.2f}, absent up to "
        f"{result.model.absent:.2f}; wrote {to}\n"
        f"use it: COCONUT_ATTR_LABEL_MODEL_FILE={to.absolute()}, then extract and train again"
    )
