"""The database as flows use it: opened, upgraded, and filled with the registry's reference rows."""

from functools import cache

from sqlalchemy import Engine

from coconut_attr.attributes import ATTRIBUTES, GROUP_OF, OURS
from coconut_attr.datasets import DATASETS
from coconut_attr.labels.rules import load_rules
from coconut_attr.settings import settings
from db.reference import sync_reference
from db.schema import open_database


@cache
def engine() -> Engine:
    """Return this process's engine; waits for a database server that does not answer.

    Raises:
        db.engine.DatabaseUnavailable: the database cannot be opened.
    """
    engine = open_database(settings().sqlalchemy_url, patient=True)
    write_reference(engine)
    return engine


def write_reference(engine: Engine) -> None:
    """Write the registry's datasets, the attributes and the rules' categories to a database."""
    fields = ("name", "title", "is_coconut", "licence", "expected_images", "expected_segments")
    categories = load_rules().rules.category
    sync_reference(
        engine,
        datasets=[
            {field: getattr(dataset, field) for field in fields} for dataset in DATASETS.values()
        ],
        attributes=[
            {"id": k, "name": name, "group_name": GROUP_OF[name], "ours": name in OURS}
            for k, name in enumerate(ATTRIBUTES)
        ],
        categories=[
            {"id": category.id, "name": name, "isthing": category.thing}
            for name, category in categories.items()
        ],
    )
