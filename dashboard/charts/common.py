"""What all charts share: colours that read on light and dark, axes of attributes, legends."""

import html
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st
from altair.utils import schemapi

from coconut_attr.attributes import GROUP_OF, GROUPS
from dashboard.i18n import _

# Altair validates every part of a chart as it is made, a third of a page's time. What stays is the
# validation of the complete chart.
schemapi.disable_debug_mode()

Chart = alt.LayerChart | alt.FacetChart

ACCENT = "#2f86a6"
AMBER = "#c98a2b"
GREY = "#8b95a1"
PALE = 0.3  # opacity of unknown cells
SERIES = (ACCENT, "#c9622b", "#6f9440", "#8f68b5", "#bf4f69", "#a08425")

ROW_HEIGHT = 19  # pixels of one attribute
RIGHT_EDGE = (
    1.14  # where a scale ends, relative to its last tick: leaves room for a column of numbers
)


def group_heading(group: str) -> str:
    """Return the row that heads a group's attributes."""
    return _(group).upper()


def grouped_rows(attributes: Sequence[str]) -> list[str]:
    """Return a chart's rows as shown: attributes in their order, each group below its heading."""
    rows: list[str] = []
    for name in attributes:
        if group_heading(GROUP_OF[name]) not in rows:
            rows.append(group_heading(GROUP_OF[name]))
        rows.append(_(name))
    return rows


def translated(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose column `attribute` has the names that are shown."""
    return table.assign(attribute=table["attribute"].map(_))


def attribute_axis(rows: Sequence[str]) -> alt.Y:
    """Return the vertical axis over the rows of a chart."""
    is_group = f"indexof({[group_heading(group) for group in GROUPS]}, datum.label) >= 0"
    axis = alt.Axis(
        title=None,
        ticks=False,
        domain=False,
        grid=False,
        labelLimit=110,
        labelOverlap=False,
        labelPadding=12,
        labelFontWeight={"condition": {"test": is_group, "value": "bold"}, "value": "normal"},
        labelFontSize={"condition": {"test": is_group, "value": 10}, "value": 12},
    )
    return alt.Y("attribute:N", sort=None, scale=alt.Scale(domain=list(rows)), axis=axis)


def height(rows: Sequence[str]) -> int:
    """Return the height of a chart with these rows, in pixels."""
    return ROW_HEIGHT * len(rows) + 70


def number_column(
    table: pd.DataFrame, column: str, title: str, rows: Sequence[str], right: float
) -> alt.LayerChart:
    """Return a column of numbers below its title, one an attribute, right-aligned at `right`."""
    style: dict[str, Any] = {"align": "right", "fontSize": 11, "color": GREY}
    at = alt.XDatum(right)
    axis = attribute_axis(rows)
    text = alt.Chart(table).mark_text(**style).encode(x=at, y=axis, text=alt.Text(f"{column}:N"))
    top = alt.Chart(pd.DataFrame({"attribute": rows[:1]})).mark_text(
        **style, fontWeight="bold", text=title
    )
    return text + top.encode(x=at, y=axis)


def show(chart: Chart, height: int, description: str, key: str) -> None:
    """Draw a chart as wide as its column."""
    padding = {"left": 0, "right": 4, "top": 4, "bottom": 8}
    # SVG stays sharp at any zoom, and screen readers find the description in it.
    embed = {"embedOptions": {"renderer": "svg", "padding": padding}}
    finished = chart.properties(height=height, description=description, usermeta=embed)
    st.altair_chart(finished.configure_view(strokeWidth=0), width="stretch", key=key)


#: SVG elements of the symbols in legends, each drawn in a colour.
SYMBOLS = {
    "line": '<path d="M0 7H26" stroke="{0}" stroke-width="3"/>',
    "dashed": '<path d="M0 7H26" stroke="{0}" stroke-width="3" stroke-dasharray="6 4"/>',
    "interval": '<path d="M0 7H26" stroke="{0}" stroke-width="2"/>'
    '<circle cx="13" cy="7" r="4" fill="{0}"/>',
    "diamond": '<path d="M13 1L19 7L13 13L7 7Z" stroke="{0}" stroke-width="1.8" fill="none"/>',
    "triangle": '<path d="M13 1.5L19 12.5H7Z" stroke="{0}" stroke-width="1.8" fill="none"/>',
    "hollow": '<rect x="7" y="1.5" width="11" height="11" stroke="{0}" stroke-width="1.8"'
    ' fill="none"/>',
    "cross": '<path d="M11 1.5H15V5H18.5V9H15V12.5H11V9H7.5V5H11Z" stroke="{0}"'
    ' stroke-width="1.5" fill="none"/>',
    "tick": '<path d="M13 0V14" stroke="{0}" stroke-width="2.5"/>',
    "square": '<rect x="12" width="14" height="14" rx="2" fill="{0}"/>',
    "pale": '<rect x="12" width="14" height="14" rx="2" fill="{0}" fill-opacity="0.3"/>',
}


@dataclass(frozen=True)
class Entry:
    """An entry of a legend: a symbol of `SYMBOLS` in a colour, its text, and a minor remark."""

    symbol: str
    color: str
    text: str
    remark: str = ""


def legend(entries: Sequence[Entry]) -> None:
    """Show a legend for several charts that wraps on narrow screens; Vega's own can do neither."""
    items = "".join(f"<span>{_image(entry)}{_text(entry)}</span>" for entry in entries)
    style = "display:flex;flex-wrap:wrap;gap:.3rem 1.6rem;font-size:.9rem"
    st.html(f'<div class="legend" style="{style}">{items}</div>')


def _image(entry: Entry) -> str:
    """Return an entry's symbol as an image, for Streamlit removes SVG from HTML."""
    content = SYMBOLS[entry.symbol].format(entry.color)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="26" height="14">{content}</svg>'
    source = f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"
    return f'<img src="{source}" alt="" style="vertical-align:-2px;margin-right:.5rem">'


def _text(entry: Entry) -> str:
    remark = f'<span style="opacity:.65"> · {html.escape(entry.remark)}</span>'
    return html.escape(entry.text) + (remark if entry.remark else "")
