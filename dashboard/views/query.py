"""SQL: read-only queries of the database, and a chart of their answers."""

from typing import Any, Final

import altair as alt
import pandas as pd
import streamlit as st

from dashboard import data, formats
from dashboard.charts import common
from dashboard.i18n import N_, _, paragraph
from dashboard.parts import layout, pickers
from db.adhoc import ROWS, SECONDS, Answer, QueryError, ask, columns_of
from db.models import Base

VIEWS = {
    "attribute_accuracy": N_(
        "an attribute in a run: accuracy, AP, precision, recall, F1, intervals, baselines, n"
    ),
    "dataset_coverage": N_("an attribute of a dataset: images present, absent, unknown"),
    "dataset_coverage_by_source": N_("the same, by source"),
    "epoch_curve": N_("an epoch of a run, including the reported run (kind = 'reported')"),
    "run_summary": N_("a run on a split"),
    "trust": N_("an attribute in a run: whether to trust it, and why"),
    "shown_run": N_("a dataset: the run that the pages show"),
    "dataset_summary": N_("a dataset"),
    "label": N_("an attribute of an image: its state"),
    "evidence": N_("evidence for or against a label"),
    "attribute_cooccurrence": N_("of the images that have one attribute, how many have another"),
}
EXAMPLES: Final = {
    N_("How good is the model, attribute by attribute, beside the baselines?"): """\
SELECT attribute, n,
  ROUND(CAST(accuracy AS NUMERIC), 3) AS accuracy,
  ROUND(CAST(all_absent_accuracy AS NUMERIC), 3) AS all_absent,
  ROUND(CAST(prior_accuracy AS NUMERIC), 3) AS prior,
  ROUND(CAST(ap AS NUMERIC), 3) AS ap,
  ROUND(CAST(prior_ap AS NUMERIC), 3) AS prior_ap
FROM attribute_accuracy
WHERE run_id = (SELECT run_id FROM shown_run WHERE dataset = 'val5k') AND split = 'test'
ORDER BY n DESC""",
    N_("Which images show a red vehicle scene outdoors?"): """\
SELECT coco_id, file_name FROM label
WHERE dataset = 'val5k' AND state = 'present' AND attribute IN ('red', 'vehicle', 'outdoor')
GROUP BY coco_id, file_name HAVING COUNT(*) = 3 ORDER BY coco_id""",
    N_("Why does image 139 have the label furniture?"): """\
SELECT source, state, confidence, detail FROM evidence
WHERE dataset = 'val5k' AND coco_id = 139 AND attribute = 'furniture'""",
    N_("Where do the sources contradict each other most?"): """\
SELECT e.attribute, e.source AS says_present, f.source AS says_absent, COUNT(*) AS images
FROM evidence e JOIN evidence f ON f.image_id = e.image_id AND f.attribute = e.attribute
WHERE e.dataset = 'val5k' AND e.state = 'present' AND f.state = 'absent'
GROUP BY 1, 2, 3 ORDER BY images DESC""",
    N_("Which colours do cars, buses and trains have?"): """\
SELECT c.name AS category, s.color, COUNT(*) AS segments
FROM segment s JOIN category c ON c.id = s.category_id JOIN image i ON i.id = s.image_id
WHERE i.dataset = 'val5k' AND c.name IN ('car', 'bus', 'train')
GROUP BY 1, 2 ORDER BY 3 DESC""",
    N_("How did the runs learn?"): """\
SELECT epoch, 'run ' || run_id AS run, accuracy, decisions FROM epoch_curve
ORDER BY run_id, epoch""",
}
#: What is drawn of an example's answer: horizontal, vertical, colour.
CHARTS: Final = {
    "How good is the model, attribute by attribute, beside the baselines?": ("attribute", "ap", ""),
    "Where do the sources contradict each other most?": ("attribute", "images", "says_present"),
    "Which colours do cars, buses and trains have?": ("category", "segments", "color"),
    "How did the runs learn?": ("epoch", "accuracy", "run"),
}
PHOTO: Final = "photo"  # column that is added to answers about images
TEXT = "sql text"  # key of the session
DRAWN = "sql chart drawn"  # and whether a chart is drawn
NO_COLOR = "none"


def page() -> None:
    """Ask for a query; show its answer as a table, a file and a chart."""
    layout.header(_("SQL"))
    st.write(
        _(
            "Only SELECT runs here. Answers have at most {rows} rows, and take at most {seconds} "
            "seconds.",
            rows=formats.count(ROWS),
            seconds=formats.count(SECONDS),
        )
    )
    box, help_column = st.columns([3, 2], gap="medium")
    with help_column:
        _describe_database()
    with box:
        query = _ask_for_query()
    if query and (answer := _answer(query)):
        _show(answer)
    pickers.remember("sql", query)
    pickers.write_address()


def _describe_database() -> None:
    """Show the views, and the columns of one of them or of a table."""
    with st.expander(_("Views")):
        st.markdown("\n".join(f"- `{name}`: {_(text)}" for name, text in VIEWS.items()))
    names = [*VIEWS, *sorted(Base.metadata.tables)]
    name = st.selectbox(_("Columns of a view or a table"), names, key="sql columns of")
    st.dataframe(
        _columns(str(data.engine().url), name),
        hide_index=True,
        height=220,
        alt=_("Columns of a view or a table"),
        column_config={"column": _("column"), "type": _("type"), "meaning": _("meaning")},
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _columns(url: str, name: str) -> pd.DataFrame:
    columns = columns_of(data.engine(), name)
    return pd.DataFrame(columns, columns=["column", "type", "meaning"])


def _ask_for_query() -> str:
    """Show examples and a box; return the query that was submitted, or that the address has."""
    questions = list(EXAMPLES)

    def fill() -> None:
        example = st.session_state["sql example"]
        if example is not None:
            question = questions[example]
            st.session_state[TEXT] = EXAMPLES[question]
            st.session_state[DRAWN] = question in CHARTS
            for name, column in zip(("x", "y", "color"), CHARTS.get(question, ()), strict=False):
                st.session_state[f"choice of {name}"] = column or NO_COLOR

    st.selectbox(
        _("Examples"),
        range(len(questions)),
        index=None,
        format_func=lambda k: _(questions[k]),
        key="sql example",
        on_change=fill,
        placeholder=_("Choose a question"),
    )
    requested = pickers.requested("sql") or ""
    if TEXT not in st.session_state:
        st.session_state[TEXT] = requested or EXAMPLES[questions[0]]
    with st.form("sql form", border=False):
        text = st.text_area(_("Query"), key=TEXT, height=190)
        if st.form_submit_button(_("Run"), icon=":material/play_arrow:"):
            return text
    return requested


@st.cache_data(ttl=30, max_entries=8, show_spinner=False)
def _ask(url: str, query: str) -> Answer:
    return ask(data.engine(), query)


def _answer(query: str) -> Answer | None:
    try:
        with st.spinner(_("Running the query")):
            return _ask(str(data.engine().url), query)
    except QueryError as error:
        message = _(
            "The database refused the query: {error}. Only one query at a time is run, and nothing "
            "can be written from here.",
            error=str(error).rstrip("."),
        )
        st.error(message, icon=":material/block:")
        return None


def _show(answer: Answer) -> None:
    names = [
        f"{name} ({place})" if name in answer.columns[:place] else name
        for place, name in enumerate(answer.columns)
    ]
    table = pd.DataFrame(answer.rows, columns=names)
    for name in table.columns:  # PostgreSQL's numerics come as decimals
        numbers = pd.to_numeric(table[name], errors="coerce")
        if table[name].dtype == object and numbers.notna().sum() == table[name].notna().sum():
            table[name] = numbers
    rows, seconds = formats.count(len(table)), f"{answer.seconds:.2f}"
    note = _("{n} rows in {seconds} s.", n=rows, seconds=seconds)
    if answer.truncated:
        more = _("**There are more: only the first {n} are shown.**", n=formats.count(ROWS))
        note = paragraph(note, more)
    st.caption(note)
    st.dataframe(
        _with_links(table),
        hide_index=True,
        placeholder="NULL",
        alt=_("Answer"),
        column_config={
            PHOTO: st.column_config.LinkColumn(
                _("photo"), display_text=_("view photo"), pinned=True
            )
        },
    )
    st.download_button(
        _("Download (CSV)"),
        formats.csv(table),
        "answer.csv",
        "text/csv",
        icon=":material/download:",
    )
    _chart(table)


def _with_links(table: pd.DataFrame) -> pd.DataFrame:
    """Return an answer about images with links to them."""
    if "coco_id" not in table or PHOTO in table:
        return table
    of_dataset = table["dataset"] if "dataset" in table else pd.Series("", index=table.index)
    links = [
        layout.image_address(image, dataset)
        for image, dataset in zip(table["coco_id"], of_dataset, strict=True)
    ]
    return table.assign(**{PHOTO: links})


def _is_id(name: str) -> bool:
    return name in ("id", "seed", "sha256") or name.endswith("_id")


def _chart(table: pd.DataFrame) -> None:
    """Draw a chart, if the answer has something to draw and the user asks for one."""
    numbers = [name for name in table.columns if pd.api.types.is_numeric_dtype(table[name])]
    values = [name for name in numbers if not _is_id(name)]
    if not len(table) or not values or len(table.columns) < 2:
        return
    if DRAWN not in st.session_state:
        st.session_state[DRAWN] = bool({"chart", "x", "y"} & set(st.query_params))
    drawn = st.toggle(_("Draw a chart"), key=DRAWN)
    pickers.remember("chart", "1" if drawn else "")
    if not drawn:
        return
    # Names and epochs are places; ids are neither places nor values.
    places = sorted(table.columns, key=lambda n: (n != "epoch", n in numbers, _is_id(n)))
    x_box, y_box, color_box, _rest = st.columns([1, 1, 1, 2])
    with x_box:
        x = pickers.choose(_("Horizontal"), places, "x")
    with y_box:
        y = pickers.choose(_("Vertical"), [name for name in values if name != x] or values, "y")
    with color_box:
        colors = [NO_COLOR, *(name for name in table.columns if name not in (x, y))]
        color = pickers.choose(
            _("Colour"), colors, "color", lambda c: _("no colour") if c == NO_COLOR else c
        )
    columns = list(dict.fromkeys([x, y] if color == NO_COLOR else [x, y, color]))
    # The answer's own names may hold characters that Vega reads as paths into a row.
    fields = [f"c{place}" for place in range(len(columns))]
    rows = table[columns].head(1000).set_axis(fields, axis="columns")
    is_line = x in numbers
    ticks: dict[str, Any] = {}
    if is_line and pd.api.types.is_integer_dtype(table[x]):
        ticks = {"tickMinStep": 1, "format": ",d"}
    x_axis = alt.Axis(labelLimit=140, grid=False, **ticks)
    y_field = fields[columns.index(y)]
    if color == NO_COLOR:
        colour: Any = alt.value(common.ACCENT)
    else:
        scale = alt.Scale(range=list(common.SERIES))
        colour = alt.Color(f"{fields[-1]}:N", title=color, scale=scale)
    base = alt.Chart(rows)
    chart = (base.mark_line(point=True) if is_line else base.mark_bar()).encode(
        x=alt.X(f"c0:{'Q' if is_line else 'N'}", title=x, sort=None, axis=x_axis),
        y=alt.Y(f"{y_field}:Q", title=y),
        color=colour,
    )
    common.show(alt.layer(chart), 320, _("{y} by {x}", y=y, x=x), "sql chart")
    st.caption(_("n = {n} rows.", n=formats.count(len(rows))))
