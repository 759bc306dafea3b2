"""Strategies of hypothesis for files and documents that somebody else wrote."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

#: The same examples in every run, so that a failure can be reproduced.
FUZZ = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def damaged(original: bytes) -> st.SearchStrategy[bytes]:
    """Return files with bytes changed, removed or inserted, or with their end missing."""

    def change(edits: list[tuple[int, int, bytes]]) -> bytes:
        content = bytearray(original)
        for place, length, put in edits:
            content[place : place + length] = put
        return bytes(content)

    # The header matters most: change it more often than its length asks for.
    places = st.integers(0, len(original)) | st.integers(0, min(len(original), 100))
    edit = st.tuples(places, st.integers(0, 4) | st.just(len(original)), st.binary(max_size=6))
    return st.lists(edit, min_size=1, max_size=4).map(change) | st.binary(max_size=40)


#: What JSON can hold, Python's extensions of it too.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["..", "a/b", "http://["]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)


def with_a_part_replaced(document: Any) -> st.SearchStrategy[Any]:
    """Return JSON documents with one value, at any depth, replaced or missing."""
    if isinstance(document, dict | list) and document:
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))

        def at(key: Any) -> st.SearchStrategy[Any]:
            changed = with_a_part_replaced(document[key]).map(
                lambda value: _set(document, key, value)
            )
            return changed | st.just(_without(document, key))

        return JSON | st.sampled_from(keys).flatmap(at)
    return JSON


def _set(document: Any, key: Any, value: Any) -> Any:
    copy = document.copy()
    copy[key] = value
    return copy


def _without(document: Any, key: Any) -> Any:
    copy = document.copy()
    del copy[key]
    return copy
