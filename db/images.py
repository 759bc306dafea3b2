"""Images of the store together with their files."""

from collections.abc import Sequence

from sqlalchemy import Engine

from coconut_attr.image_store import bring_missing
from coconut_attr.settings import settings
from db.queries import Annotated, annotated_images


def images_at_hand(engine: Engine, image_ids: Sequence[int]) -> list[Annotated]:
    """`annotated_images` whose photos and masks are in the data folder: what only the image store has is fetched.

    Raises:
        db.queries.OtherStoreError: as `annotated_images`.
        coconut_attr.image_store.ImageStoreError, UnreachableError: as `bring_missing`.
    """
    items = annotated_images(engine, image_ids)
    bring_missing(settings(), [file for item in items for file in item.files])
    return items
