"""Which run is shown, and the commands that people say it with."""

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from coconut_attr.cli import all_commands
from db.commands.runs import checkpoint_of
from db.runs import RunError, describe_run, pin, record_evaluation, runs_to_show, trust
from db.schema import open_database
from tests.support.runs import start_run

SCORE = {"low": 0.1, "high": 0.9, "n": 4, "images": 2}


@pytest.fixture
def engine(configure) -> Engine:
    return open_database(configure().sqlalchemy_url)


def finished(engine: Engine, val_map: float | None, dataset: str = "val5k") -> int:
    lease = start_run(engine, dataset=dataset)
    figures = {"loss": 0.5, "val_loss": 0.5, "accuracy": 0.5, "decisions": 9, "map": val_map}
    figures |= dict.fromkeys(("learning_rate", "images_per_second", "seconds"))
    lease.record_epoch({"epoch": 1, **figures}, checkpoint=f"runs/{lease.run_id}/best.safetensors")
    # The last epoch is better by chance, but not that of the checkpoint.
    lease.record_epoch({"epoch": 2, **figures, "map": 1.0})
    lease.finish("finished")
    return lease.run_id


def shown(engine: Engine) -> dict[str, int]:
    return {row["dataset"]: row["run_id"] for row in runs_to_show(engine)}


def runs(*arguments: object) -> str:
    result = CliRunner().invoke(all_commands(), ["runs", *map(str, arguments)])
    if result.exception:
        raise result.exception
    return result.stdout


def test_the_best_by_val_is_shown_until_another_is_pinned(engine: Engine) -> None:
    best, newest = finished(engine, 0.9), finished(engine, 0.4)
    unscored, elsewhere = finished(engine, None), finished(engine, 0.1, "sample")
    running = start_run(engine, dataset="val5k").run_id
    assert shown(engine) == {"val5k": best, "sample": elsewhere}
    assert "is pinned" in runs("pin", newest)
    assert shown(engine) == {"val5k": newest, "sample": elsewhere}
    runs("pin", unscored)
    assert shown(engine)["val5k"] == unscored, "one of a dataset"
    with pytest.raises(RunError, match="is running"):
        runs("pin", running)
    runs("archive", unscored)
    assert shown(engine)["val5k"] == best, "an archived run is not pinned"
    with pytest.raises(RunError, match="is archived"):
        runs("pin", unscored)
    runs("pin", newest)
    runs("unpin", newest)
    assert shown(engine)["val5k"] == best
    with pytest.raises(RunError, match="there is no run 99"):
        runs("pin", 99)
    with pytest.raises(RunError, match="was not trained here"):
        describe_run(engine, 1, archived=True)


def test_runs_are_listed_with_names_and_scores_by_eyes(engine: Engine) -> None:
    first, second = finished(engine, 0.9), finished(engine, 0.8)
    overall = [{"name": "map", "value": 0.625, **SCORE, "attributes": 27}]
    record_evaluation(engine, first, "val5k", "test", "labels", overall, [])
    overall[0]["value"] = 0.375
    record_evaluation(engine, first, "val5k", "test", "eyes", overall, [], judged_by="ai")
    runs("name", second, "two\nlines \x1b[31m")
    runs("note", first, "a note")
    runs("pin", first)
    table = runs()
    for words in (f"{first}*", "pinned", "0.375", "0.625", "27 of 34", "a note", "two"):
        assert words in table
    assert "\x1b" not in table
    runs("archive", second)
    assert "two" not in runs() and "archived" in runs("--archived")


def test_the_checkpoint_is_that_of_the_shown_run_or_of_the_one_asked_for(
    engine: Engine,
) -> None:
    best, other = finished(engine, 0.9), finished(engine, 0.8)
    assert checkpoint_of(None).parts[-2] == str(best)
    assert checkpoint_of(other).parts[-2] == str(other)
    pin(engine, other)
    assert checkpoint_of(None).parts[-2] == str(other)


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({}, "yes", "not distinguishable from the linear probe"),
        ({"over_probe_low": 0.01}, "yes", "better than the prior and the linear probe"),
        ({"over_probe_high": -0.01}, "no", "worse than the linear probe"),
        ({"over_prior_low": -0.1}, "no", "not distinguishable from the prior"),
        ({"over_prior_low": -0.3, "over_prior_high": -0.1}, "no", "worse than the prior"),
        ({"positives": 4}, "too few cells", "rarer state"),
        ({"positives": 16}, "too few cells", "rarer state"),
        ({"specificity": 0.1}, "no", "cannot say no"),
        ({"recall": 0.1}, "no", "cannot say yes"),
        ({"over_prior_low": None}, "not measured", "evaluate again"),
    ],
)
def test_trust_says_why(engine: Engine, changes: dict, verdict: str, reason: str) -> None:
    run = finished(engine, 0.9)
    row = {"attribute_id": 0, "n": 20, "positives": 10, "ap": 0.8, "recall": 0.9}
    row |= {"specificity": 0.9, "over_prior": 0.3, "over_prior_low": 0.1, "over_prior_high": 0.4}
    row |= {"over_probe": 0.0, "over_probe_low": -0.1, "over_probe_high": 0.1}
    row |= {"label_present": 10, "label_present_right": 9, "label_absent": 6}
    row |= {"label_absent_right": 3, **changes}
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO attribute (id, name, group_name, ours)"
            " VALUES (0, 'person', 'object', false)"
        )
    record_evaluation(engine, run, "val5k", "test", "labels", [], [row])
    (found,) = trust(engine, run, "val5k", "test")
    assert found["verdict"] == "not measured" and "nobody judged" in found["reason"]
    record_evaluation(engine, run, "val5k", "test", "eyes", [], [row])
    (found,) = trust(engine, run, "val5k", "test")
    assert (found["verdict"], reason in found["reason"]) == (verdict, True), found["reason"]
    assert (found["label_precision"], found["label_coverage"]) == (0.75, 0.8)
    assert found["rarer_n"] == min(row["positives"], 20 - row["positives"])
