"""How far long pieces of work have come."""

from typing import Any

from sqlalchemy import Engine

from db.bulk import clock, upsert
from db.models import Progress
from db.sql import Rows, persistent, sql


def list_progress(engine: Engine) -> Rows:
    """Return the table `progress`, latest update first."""
    return sql(engine, "SELECT * FROM progress ORDER BY updated_at DESC")


@persistent
def record_progress(engine: Engine, **columns: Any) -> None:
    """Store how far a piece of work has come.

    Args:
        columns: all columns of `progress` except `updated_at`.
    """
    with engine.begin() as connection:
        upsert(connection, Progress, [{**columns, "updated_at": clock(connection)}])
