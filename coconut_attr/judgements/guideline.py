"""The definitions of the attributes in the guideline for judgements."""

import re
from functools import cache
from importlib import resources

_HEADING = re.compile(r"## \w+(?: \((?P<size>.*)\))?$")
_ENTRY = re.compile(r"- (?P<name>\w+): (?P<text>.*)$")


@cache
def definitions() -> dict[str, str]:
    """Return the guideline's text on each attribute, after the size that its group asks for."""
    texts: dict[str, str] = {}
    size = ""
    file = resources.files("coconut_attr.judgements") / "GUIDELINE.md"
    for line in file.read_text(encoding="utf-8").splitlines():
        if heading := _HEADING.match(line):
            size = heading["size"] or ""
        elif entry := _ENTRY.match(line):
            texts[entry["name"]] = f"({size}) {entry['text']}" if size else entry["text"]
    return texts
