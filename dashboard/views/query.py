"""SQL: read-only questions to the store."""

import altair as alt
import pandas as pd
import streamlit as st

from dashboard import data, formats
from dashboard.charts import common
from dashboard.i18n import N_, _
from dashboard.parts import layout, pickers
from db.adhoc import ROWS, SECONDS, Answer, QueryError, ask

SHOWN_VIEWS = {
    "attribute_accuracy": N_(
        "an attribute in a run: accuracy, AP, precision, recall, F1, intervals, baselines, n"
    ),
    "dataset_coverage": N_("an attribute of a dataset: images present, absent, unknown"),
    "dataset_coverage_by_source": N_("the same, of each source"),
    "epoch_curve": N_("an epoch of a run, the reported run's too (kind = 'reported')"),
    "run_summary": N_("a run on a split"),
    "dataset_summary": N_("a dataset"),
    "label": N_("an attribute of an image: its state"),
    "evidence": N_("what speaks for or against a label"),
    "attribute_cooccurrence": N_("of the images that have one attribute, how many have another"),
}
EXAMPLES = {
    N_("How good is the model, attribute by attribute, beside the baselines?"): """\
SELECT attribute, n, ROUND(CAST(accuracy AS NUMERIC), 3) AS accuracy,
  ROUND(CAST(all_absent_accuracy AS NUMERIC), 3) AS all_absent, ROUND(CAST(prior_accuracy AS NUMERIC), 3) AS prior,
  ROUND(CAST(ap AS NUMERIC), 3) AS ap, ROUND(CAST(prior_ap AS NUMERIC), 3) AS prior_ap
FROM attribute_accuracy
WHERE run_id = (SELECT MAX(run_id) FROM attribute_accuracy) AND split = 'test' ORDER BY n DESC""",
    N_("Which images show a red vehicle scene outdoors?"): """\
SELECT coco_id, file_name FROM label
WHERE dataset = 'val5k' AND state = 'present' AND attribute IN ('red', 'vehicle', 'outdoor')
GROUP BY coco_id, file_name HAVING COUNT(*) = 3 ORDER BY coco_id""",
    N_("Why is image 139 said to have furniture?"): """\
SELECT source, state, confidence, detail FROM evidence
WHERE dataset = 'val5k' AND coco_id = 139 AND attribute = 'furniture'""",
    N_("Where do the sources contradict each other most?"): """\
SELECT e.attribute, e.source AS says_present, f.source AS says_absent, COUNT(*) AS images
FROM evidence e JOIN evidence f ON f.image_id = e.image_id AND f.attribute = e.attribute
WHERE e.dataset = 'val5k' AND e.state = 'present' AND f.state = 'absent' GROUP BY 1, 2, 3 ORDER BY images DESC""",
    N_("What are the cars, buses and trains painted?"): """\
SELECT c.name AS category, s.color, COUNT(*) AS segments FROM segment s JOIN category c ON c.id = s.category_id
JOIN image i ON i.id = s.image_id WHERE i.dataset = 'val5k' AND c.name IN ('car', 'bus', 'train')
GROUP BY 1, 2 ORDER BY 3 DESC""",
    N_("How did the runs learn?"): """\
SELECT epoch, backbone, accuracy, decisions FROM epoch_curve ORDER BY run_id, epoch""",
}
TEXT, ANSWER = "sql text", "sql answer"
NO_CHART = "none"


def page() -> None:
    """The page."""
    layout.header(_("SQL"))
    st.write(
        _(
            "Any query; nothing can be written from here. At most {rows} rows and {seconds} seconds.",
            rows=formats.count(ROWS),
            seconds=formats.count(SECONDS),
        )
    )
    box, help_column = st.columns([3, 2], gap="medium")
    with help_column:
        with st.expander(_("Views"), expanded=True):
            st.markdown("\n".join(f"- `{name}`: {_(text)}" for name, text in SHOWN_VIEWS.items()))
        st.caption(_("Tables: {names}.", names=", ".join(_tables())))
    with box:
        query = _box()
    if query and (answer := _answer(query)):
        _table(answer)
    pickers.remember("sql", query)
    pickers.write_address()


def _tables() -> list[str]:
    from db.models import Base

    return sorted(Base.metadata.tables)


def _box() -> str:
    """Examples, the text of the query and its button; returns the query that is asked, if one is."""
    names = list(EXAMPLES)

    def fill() -> None:
        example = st.session_state["sql example"]
        if example is not None:
            st.session_state[TEXT] = EXAMPLES[names[example]]

    st.selectbox(
        _("Examples"),
        range(len(names)),
        index=None,
        format_func=lambda k: _(names[k]),
        key="sql example",
        on_change=fill,
        placeholder=_("Choose a question"),
    )
    asked = pickers.asked("sql") or ""
    if TEXT not in st.session_state:
        st.session_state[TEXT] = asked or EXAMPLES[names[0]]
    with st.form("sql form", border=False):
        text = st.text_area(_("Query"), key=TEXT, height=190)
        if st.form_submit_button(_("Ask"), icon=":material/play_arrow:"):
            return text
    return asked


@st.cache_data(ttl=30, max_entries=8, show_spinner=False)
def _ask(url: str, query: str) -> Answer:
    return ask(data.engine(), query)


def _answer(query: str) -> Answer | None:
    try:
        with st.spinner(_("The database is at work")):
            return _ask(str(data.engine().url), query)
    except QueryError as error:
        message = _(
            "The database refuses: {error}. One query is run at a time, and nothing can be written from here.",
            error=str(error).rstrip("."),
        )
        st.error(message, icon=":material/block:")
        return None


def _table(answer: Answer) -> None:
    names = [f"{name} ({place})" if name in answer.columns[:place] else name
             for place, name in enumerate(answer.columns)]  # fmt: skip
    table = pd.DataFrame(answer.rows, columns=names)
    for name in table.columns:  # PostgreSQL's numerics come as decimals
        numbers = pd.to_numeric(table[name], errors="coerce")
        if table[name].dtype == object and numbers.notna().sum() == table[name].notna().sum():
            table[name] = numbers
    told = _(
        "{n} rows in {seconds} s.", n=formats.count(len(table)), seconds=f"{answer.seconds:.2f}"
    )
    if answer.truncated:
        told += " " + _("**There are more: only the first {n} are shown.**", n=formats.count(ROWS))
    st.caption(told)
    st.dataframe(table, hide_index=True, placeholder="NULL", alt=_("Answer"))
    st.download_button(
        _("Download (CSV)"),
        table.to_csv(index=False),
        "answer.csv",
        "text/csv",
        icon=":material/download:",
    )
    _chart(table)


def _chart(table: pd.DataFrame) -> None:
    numbers = [name for name in table.columns if pd.api.types.is_numeric_dtype(table[name])]
    if not len(table) or not numbers or len(table.columns) < 2:
        return
    x_box, y_box, color_box, _rest = st.columns([1, 1, 1, 2])
    with x_box:
        x = pickers.choose(_("Horizontal"), list(table.columns), "x")
    with y_box:
        values = [name for name in numbers if name != x] or numbers
        y = pickers.choose(_("Vertical"), values, "y")
    with color_box:
        colors = [NO_CHART, *(name for name in table.columns if name not in (x, y))]
        color = pickers.choose(
            _("Colour"), colors, "color", lambda c: _("no colour") if c == NO_CHART else c
        )
    drawn = table[[*dict.fromkeys([x, y, *([color] if color != NO_CHART else [])])]].head(1000)
    # Columns are given neutral names: those of the answer may have any sign that Vega reads as a path.
    drawn = drawn.set_axis([f"c{place}" for place in range(len(drawn.columns))], axis="columns")
    ordered = x in numbers
    ticks = (
        {"tickMinStep": 1, "format": ",d"}
        if ordered and pd.api.types.is_integer_dtype(table[x])
        else {}
    )
    base = alt.Chart(drawn)
    mark = base.mark_line(point=True) if ordered else base.mark_bar()
    encoding = {
        "x": alt.X(
            f"c0:{'Q' if ordered else 'N'}",
            title=x,
            sort=None,
            axis=alt.Axis(labelLimit=140, grid=False, **ticks),
        ),
        "y": alt.Y(f"c{0 if y == x else 1}:Q", title=y),
    }
    if color != NO_CHART:
        kind = alt.Color(
            f"c{len(drawn.columns) - 1}:N", title=color, scale=alt.Scale(range=list(common.SERIES))
        )
        chart = mark.encode(**encoding, color=kind)
    else:
        chart = mark.encode(**encoding, color=alt.value(common.ACCENT))
    common.show(alt.layer(chart), 320, _("{y} by {x}", y=y, x=x), "sql chart")
    st.caption(_("n = {n} rows.", n=formats.count(len(drawn))))
