"""Queries written as SQL text, and functions that outlast a lost connection."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, Engine, RowMapping, bindparam, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from tenacity import retry, retry_if_exception, stop_after_attempt

Rows = Sequence[RowMapping]
DatabaseError = SQLAlchemyError  #: A query failed: the database is away, damaged or locked.


def _connection_lost(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


#: Decorator of idempotent functions: repeats them when the database server drops the connection.
persistent = retry(
    retry=retry_if_exception(_connection_lost), stop=stop_after_attempt(4), reraise=True
)


@persistent
def sql(engine: Engine, query: str, **parameters: Any) -> Rows:
    """Return the rows of a SQL query with named parameters (`:name`).

    Args:
        parameters: their values; a list fills the right side of an IN.
    """
    lists: list[BindParameter[Any]] = [
        bindparam(name, expanding=True)
        for name, value in parameters.items()
        if isinstance(value, list)
    ]
    with engine.connect() as connection:
        return connection.execute(text(query).bindparams(*lists), parameters).mappings().all()
