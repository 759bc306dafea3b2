"""Files of judgements: our CSV, OVAD's JSON, and COCO's instance JSON."""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from coconut_attr.attributes import GROUPS, INDEX
from coconut_attr.errors import UserError
from coconut_attr.judgements.records import KINDS, STATES, Judgement, Origin, Readings, State
from coconut_attr.labels.rules import Category

COLUMNS = (
    *("coco_id", "attribute", "state", "annotator", "kind"),
    *("guideline", "chosen", "judged_at"),
)
REQUIRED = ("coco_id", "attribute", "state")
#: Words of OVAD's attributes (`type:word/word`) that mean the same as one of ours.
_COLORS = ("red", "blue", "green", "yellow", "black", "white")
OVAD: dict[str, dict[str, str]] = {
    "color": {name: name for name in _COLORS},
    "material": {
        **{name: name for name in ("wood", "metal", "glass", "plastic", "fabric")},
        **{"wooden": "wood", "metallic": "metal", "textile": "fabric", "cloth": "fabric"},
    },
    "state": {"open": "open", "closed": "closed"},
    "size": {"large": "large", "big": "large", "small": "small"},
    "texture": {"soft": "soft", "hard": "hard"},
}
MAX_ID = 2**31 - 1  # of the column


class _OddRowError(Exception):
    """A row that cannot be used; the message says why."""


def read_csv(path: Path, default: Origin) -> Readings:
    """Read judgements, one a row; odd rows are skipped.

    Args:
        default: who judged and how, where the file has no such column or no such value.

    Raises:
        UserError: the file cannot be read, or lacks a column whose value `default` lacks, too.
    """
    readings = Readings()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            needed = [*REQUIRED, *(n for n in ("annotator", "kind") if not getattr(default, n))]
            missing = [name for name in needed if name not in columns]
            if missing:
                raise UserError(
                    f"{path} line 1: no column {', '.join(missing)}; the columns are"
                    f" {', '.join(COLUMNS)}, of which the last five may be left out if"
                    " --annotator and --kind are given"
                )
            for row in reader:
                try:
                    readings.judgements.append(_judgement(row, default))
                except _OddRowError as error:
                    readings.skipped.append(f"{path.name} line {reader.line_num}: {error}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from error
    return readings


def _judgement(row: Mapping[str, str | None], default: Origin) -> Judgement:
    values = {name: (row.get(name) or "").strip() for name in COLUMNS}
    coco_id = _coco_id(values["coco_id"])
    if values["attribute"] not in INDEX:
        raise _OddRowError(f"unknown attribute {values['attribute']!r}")
    state = _choice(values["state"], STATES, "state")
    changes: dict[str, Any] = {
        name: values[name] for name in ("annotator", "guideline", "chosen") if values[name]
    }
    if values["kind"]:
        changes["kind"] = _choice(values["kind"], KINDS, "kind")
    if values["judged_at"]:
        changes["judged_at"] = _time(values["judged_at"])
    origin = replace(default, **changes)
    if not origin.annotator or not origin.kind:
        raise _OddRowError(f"no {'kind' if origin.annotator else 'annotator'}")
    return Judgement(coco_id, values["attribute"], state, origin)


def _coco_id(value: object) -> int:
    """Return an image id that a file states as a number, or as digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:20])
    if type(value) is not int or not 0 <= value <= MAX_ID:
        raise _OddRowError(f"image id {str(value)[:40]!r} is not a number of COCO's")
    return value


def _choice(value: str, choices: tuple[Any, ...], what: str) -> Any:
    if value not in choices:
        raise _OddRowError(f"unknown {what} {value[:40]!r}; it is one of: {', '.join(choices)}")
    return value


def _time(value: str) -> datetime:
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise _OddRowError(f"judged_at {value[:40]!r} is not an ISO time") from None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def write_csv(file: TextIO, judgements: Iterable[Mapping[str, Any]]) -> None:
    """Write judgements, one a row, as `read_csv` takes them; other keys are left out."""
    writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(judgements)


def read_ovad(path: Path, origin: Origin) -> Readings:
    """Read OVAD's JSON, whose objects have an `att_vec` of 1 (has), 0 (lacks), -1 (not known).

    An image has an attribute if one of its objects has it. It lacks the attribute if all of its
    objects lack it. Otherwise there is no judgement. Attributes of ours that OVAD lacks, and those
    of OVAD's that we lack, are left out. Two attributes of OVAD that mean the same one of ours
    count as one.

    Raises:
        UserError: the file cannot be read or is not of that form.
    """
    content = _load(path, "OVAD", ("annotations", "attributes"))
    names: dict[int, str] = {}  # our attribute by the index in `att_vec`
    for entry in content["attributes"]:
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            kind, _, words = entry["name"].partition(":")
            ours = {OVAD.get(kind, {}).get(word.strip()) for word in words.split("/")} - {None}
            if len(ours) == 1 and type(entry.get("id")) is int:
                names[entry["id"]] = str(*ours)
    if not names:
        raise UserError(f"{path} names no attribute that means the same as one of ours")
    objects: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))

    def read(annotation: dict[str, Any]) -> None:
        vector = annotation.get("att_vec")
        if not isinstance(vector, list) or len(vector) <= max(names):
            raise _OddRowError("att_vec has not one number for each attribute")
        states = {index: vector[index] for index in names}
        if odd := [state for state in states.values() if state not in (1, 0, -1)]:
            raise _OddRowError(f"att_vec has {str(odd[0])[:40]!r}, which is not 1, 0 or -1")
        of_image = objects[_coco_id(annotation.get("image_id"))]
        for index, name in names.items():
            of_image[name].append(states[index])

    readings = Readings(skipped=_read_all(path, content["annotations"], read))
    for coco_id, attributes in objects.items():
        for attribute, values in attributes.items():
            if 1 in values or -1 not in values:
                state: State = "present" if 1 in values else "absent"
                readings.judgements.append(Judgement(coco_id, attribute, state, origin))
    return readings


def read_coco(
    path: Path,
    origin: Origin,
    categories: Mapping[str, Category],
    *,
    exhaustive: bool = False,
) -> Readings:
    """Read COCO instance JSON as judgements of the object group.

    Args:
        categories: of the labelling rules, by name. A box makes its category's `present`
            attributes present.
        exhaustive: every object has a box. Then attributes that no box's category makes present or
            possible are absent, in each image that the file lists. A crowd's box makes nothing
            present, but keeps its attributes from being absent.

    Raises:
        UserError: the file cannot be read or is not of that form, or it names no category that
            `categories` has.
    """
    content = _load(path, "COCO instance", ("annotations", "categories", "images"))
    by_id = {
        entry["id"]: categories[entry["name"]]
        for entry in content["categories"]
        if isinstance(entry, dict) and type(entry.get("id")) is int
        if isinstance(entry.get("name"), str) and entry["name"] in categories
    }
    if not by_id:
        raise UserError(f"{path} names no category that the labelling rules have")
    present: dict[int, set[str]] = {}
    possible: dict[int, set[str]] = defaultdict(set)

    def read_image(image: dict[str, Any]) -> None:
        present.setdefault(_coco_id(image.get("id")), set())

    def read_box(annotation: dict[str, Any]) -> None:
        category = annotation.get("category_id")
        if type(category) is not int:
            raise _OddRowError(f"category_id {str(category)[:40]!r} is not a number")
        coco_id = _coco_id(annotation.get("image_id"))
        if rule := by_id.get(category):
            possible[coco_id].update(rule.present, rule.maybe)
            if not annotation.get("iscrowd"):
                shown = set(rule.present).intersection(GROUPS["object"])
                present.setdefault(coco_id, set()).update(shown)

    skipped = _read_all(path, content["images"], read_image, "image")
    skipped += _read_all(path, content["annotations"], read_box)
    readings = Readings(skipped=skipped)
    # Of a skipped box, the image may not be known: then nothing can be called absent.
    complete = exhaustive and not skipped
    for coco_id, names in present.items():
        states = dict.fromkeys(sorted(names), "present")
        if complete:
            states |= dict.fromkeys(
                (n for n in GROUPS["object"] if n not in possible[coco_id]), "absent"
            )
        readings.judgements += [
            Judgement(coco_id, attribute, state, origin)  # type: ignore[arg-type]
            for attribute, state in states.items()
        ]
    return readings


def _load(path: Path, form: str, lists: tuple[str, ...]) -> dict[str, list[Any]]:
    """Return a JSON object that has these lists.

    Raises:
        UserError: the file cannot be read, or is not of that form.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # json's and Unicode's errors are ValueErrors
        raise UserError(f"{path} cannot be read as JSON: {error}") from error
    odd = [
        name
        for name in lists
        if not isinstance(content, dict) or not isinstance(content.get(name), list)
    ]
    if odd:
        raise UserError(f"{path} is not {form} JSON: it has no list {', '.join(odd)}")
    return content


def _read_all(
    path: Path,
    entries: list[Any],
    read: Callable[[dict[str, Any]], None],
    what: str = "annotation",
) -> list[str]:
    """Call `read` with each entry; return a message for each that cannot be used."""
    skipped = []
    for number, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise _OddRowError("is no object")
            read(entry)
        except _OddRowError as error:
            skipped.append(f"{path.name} {what} {number}: {error}")
    return skipped
