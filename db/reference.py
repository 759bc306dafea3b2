"""Reference rows that other tables point to: datasets, attributes, categories."""

from collections.abc import Iterable

from sqlalchemy import Engine, RowMapping

from db.bulk import Row, upsert
from db.models import Attribute, Category, Dataset
from db.sql import Rows, persistent, sql


def dataset_row(engine: Engine, dataset: str) -> RowMapping | None:
    """Return the row of a dataset; None if the database has no such dataset."""
    rows = sql(engine, "SELECT * FROM dataset WHERE name = :dataset", dataset=dataset)
    return rows[0] if rows else None


def categories(engine: Engine) -> Rows:
    """Return all categories, by id."""
    return sql(engine, "SELECT id, name, isthing FROM category ORDER BY id")


@persistent
def sync_reference(
    engine: Engine, datasets: Iterable[Row], attributes: Iterable[Row], categories: Iterable[Row]
) -> None:
    """Upsert the registry's datasets, the attributes and the categories, for SQL to join."""
    with engine.begin() as connection:
        upsert(connection, Dataset, datasets)
        upsert(connection, Attribute, attributes)
        upsert(connection, Category, categories)
