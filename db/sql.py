"""TODO."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, Engine, RowMapping, bindparam, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from tenacity import retry, retry_if_exception, stop_after_attempt


def _cut_off(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


#: Of a function that may be repeated: where its connection is lost, it is done again, when the server is back.
persistent = retry(retry=retry_if_exception(_cut_off), stop=stop_after_attempt(4), reraise=True)
Rows = Sequence[RowMapping]
DatabaseError = (
    SQLAlchemyError  #: a query could not be answered: the database is gone, damaged or locked
)


@persistent
def sql(engine: Engine, query: str, **parameters: Any) -> Rows:
    """Rows of a SQL query with named parameters (:name); a list fills the right side of an IN."""
    lists: list[BindParameter[Any]] = [
        bindparam(name, expanding=True)
        for name, value in parameters.items()
        if isinstance(value, list)
    ]
    with engine.connect() as connection:
        return connection.execute(text(query).bindparams(*lists), parameters).mappings().all()
