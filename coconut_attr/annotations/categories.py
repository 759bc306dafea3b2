"""COCO's 133 panoptic categories, and annotation files that number them in their own way."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from coconut_attr.annotations.values import OddValueError, shown, whole
from coconut_attr.errors import SourceError

#: A file is refused from this share of odd segments on, if they have so many category ids. Where
#: the file numbers categories in its own way, one is enough: COCO's ids then show which is right.
ODD_SHARE, ODD_IDS = 0.05, 3


@dataclass(frozen=True)
class Category:
    """A category of a file: COCO's id (None: the name is not one of COCO's), and its name."""

    coco_id: int | None
    name: str
    thing: bool | None


@cache
def coco_categories() -> Mapping[int, Category]:
    """Return COCO's categories by id, as the packaged rules list them."""
    rules = resources.files("coconut_attr.labels") / "rules.toml"
    table = tomllib.loads(rules.read_text(encoding="utf-8"))["category"]
    return {
        row["id"]: Category(row["id"], name, row.get("thing", True)) for name, row in table.items()
    }


def own_categories(entries: Any) -> Mapping[int, Category]:
    """Return the categories of a file's `categories` list by the file's ids: names decide.

    Raises:
        SourceError: the list contradicts itself, or has COCO's ids under other names.
    """
    ids = {_plain(category.name): id for id, category in coco_categories().items()}
    found: dict[int, Category] = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        try:
            own, name = whole(entry, "id"), entry.get("name")
        except OddValueError as error:
            raise SourceError(f"its list of categories cannot be read: {error}") from error
        if not isinstance(name, str):
            raise SourceError(f"its category {own} has no name: {shown(name)}")
        isthing = entry.get("isthing")
        coco_id = ids.get(_plain(name))
        thing = coco_categories()[coco_id].thing if coco_id is not None else None
        if isinstance(isthing, int) and isthing in (0, 1):
            thing = bool(isthing)
        category = Category(coco_id, name, thing)
        if found.setdefault(own, category).name != name:
            raise SourceError(f"its category {own} is both {found[own].name!r} and {name!r}")
    _refuse_shifted(found)
    return found


def _refuse_shifted(found: Mapping[int, Category]) -> None:
    """Refuse COCO's own ids (they have gaps) with other names: either may be the right one."""
    coco = coco_categories()
    known = {own: category for own, category in found.items() if category.coco_id is not None}
    wrong = {own: category for own, category in known.items() if own != category.coco_id}
    names = [category.coco_id for category in known.values()]
    if len(set(names)) != len(names):
        raise SourceError("its list of categories has one name under two ids")
    has_gaps = found and max(found) - min(found) + 1 > len(found)
    if wrong and has_gaps and found.keys() <= coco.keys():
        own, category = next(iter(wrong.items()))
        raise SourceError(
            f"its category ids are COCO's but its names are not: {own} is {category.name!r},"
            f" in COCO {coco[own].name!r}; {len(wrong)} of {len(found)} differ"
        )


def refuse_other_numbering(
    segments: Iterable[tuple[Any, Any]], categories: Mapping[int, Category]
) -> None:
    """Refuse segments that are numbered in another way than a list of categories says.

    Args:
        segments: category_id and isthing of each segment of a file.

    Raises:
        SourceError: more than single segments name ids that the list lacks, or say thing where
            the list says stuff.
    """
    coco = coco_categories()
    numbers_its_own = any(c.coco_id not in {None, own} for own, c in categories.items())
    total = odd = 0
    ids: dict[int, None] = {}
    for own, isthing in segments:
        try:
            own_id = whole({"category_id": own}, "category_id")
        except OddValueError:  # the row with that segment becomes a finding
            continue
        total += 1
        category = categories.get(own_id)
        is_unlisted = category is None and (own_id in coco or not numbers_its_own)
        if is_unlisted or (category and contradicts(category, isthing)):
            odd += 1
            ids[own_id] = None
    if len(ids) >= (1 if numbers_its_own else ODD_IDS) and odd >= ODD_SHARE * total:
        shown_ids = ", ".join(map(str, list(ids)[:ODD_IDS]))
        raise SourceError(
            f"its category ids do not fit their names ({odd:,} of {total:,} segments, such as"
            f" categories {shown_ids}): it seems to number COCO's categories in another way"
        )


def contradicts(category: Category, isthing: Any) -> bool:
    """Return whether a segment's `isthing` (None: not stated) contradicts its category."""
    return (
        category.thing is not None
        and isinstance(isthing, int | float)
        and isthing in (0, 1)
        and bool(isthing) != category.thing
    )


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())
