"""Reads and writes in the middle of long work outlast a connection that is cut off."""

from sqlalchemy.exc import DBAPIError
from tenacity import retry, retry_if_exception, stop_after_attempt


def _cut_off(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


#: Of a function that may be repeated: where its connection is lost, it is done again, when the server is back.
persistent = retry(retry=retry_if_exception(_cut_off), stop=stop_after_attempt(4), reraise=True)
