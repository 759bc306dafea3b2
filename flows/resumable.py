"""What the database says of a run that is to be resumed; imports neither Prefect nor torch."""

from collections.abc import Mapping

from sqlalchemy import Engine, RowMapping

from coconut_attr.training.config import TrainingError
from db import runs


class NotResumable(TrainingError):
    """A run cannot be resumed."""

    def __init__(self, run_id: int, why: str) -> None:
        super().__init__(f"run {run_id} cannot be resumed: {why}")


def refuse_other_settings(
    engine: Engine, run_id: int, dataset: str | None, settings: Mapping[str, object]
) -> None:
    """Refuse to resume a run with another dataset or with settings beside its own.

    Raises:
        NotResumable: the message names what is in the way.
    """
    given = [name.replace("_", " ") for name, value in settings.items() if value is not None]
    if given:
        raise NotResumable(
            run_id, f"it continues with its own settings; leave out: {', '.join(given)}"
        )
    run = runs.get_run(engine, run_id)
    if run and dataset not in (None, run["dataset"]):
        raise NotResumable(run_id, f"it trains on {run['dataset']}, not on {dataset}")


def unfinished_run(engine: Engine, run_id: int) -> RowMapping:
    """Return the row of a run that has not finished.

    Raises:
        NotResumable: there is no such run, or it is finished.
    """
    run = runs.get_run(engine, run_id)
    if run is None:
        raise NotResumable(run_id, "there is no such run")
    if run["status"] == "finished":
        raise NotResumable(run_id, "it is finished")
    return run
