"""The attribute store as the flows use it: opened, upgraded, and filled with the registry's reference rows."""

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
    """The store of this process; a server that is away is waited for, as in the middle of the work.

    Raises:
        db.engine.DatabaseUnavailable: it cannot be opened.
    """
    engine = open_database(settings().sqlalchemy_url, patient=True)
    write_reference(engine)
    return engine


def write_reference(engine: Engine) -> None:
    """Write the registry's datasets, the attributes and the categories of the rules to a store."""
    fields = ("name", "title", "is_coconut", "licence", "expected_images", "expected_segments")
    categories = load_rules().rules.category
    sync_reference(
        engine,
        datasets=[
            {field: getattr(entry, field) for field in fields} for entry in DATASETS.values()
        ],
        attributes=[
            {"id": k, "name": name, "group_name": GROUP_OF[name], "ours": name in OURS}
            for k, name in enumerate(ATTRIBUTES)
        ],
        categories=[
            {"id": c.id, "name": name, "isthing": c.thing} for name, c in categories.items()
        ],
    )
