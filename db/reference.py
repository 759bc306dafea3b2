"""TODO."""

from collections.abc import Iterable

from sqlalchemy import Engine, RowMapping

from db.bulk import Row, upsert
from db.models import Attribute, Category, Dataset
from db.sql import Rows, persistent, sql


def dataset_row(engine: Engine, dataset: str) -> RowMapping | None:
    """A row of `dataset`; None if the store has never heard of it."""
    rows = sql(engine, "SELECT * FROM dataset WHERE name = :dataset", dataset=dataset)
    return rows[0] if rows else None


def categories(engine: Engine) -> Rows:
    """All rows of `category`, by id."""
    return sql(engine, "SELECT id, name, isthing FROM category ORDER BY id")


@persistent
def sync_reference(
    engine: Engine, datasets: Iterable[Row], attributes: Iterable[Row], categories: Iterable[Row]
) -> None:
    """Write the registry's datasets, the attributes and the categories, so that SQL can join them."""
    with engine.begin() as connection:
        upsert(connection, Dataset, datasets)
        upsert(connection, Attribute, attributes)
        upsert(connection, Category, categories)
