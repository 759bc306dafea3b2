"""The dashboard: `streamlit run dashboard/app.py`, from the repository root."""

import streamlit as st

from coconut_attr.errors import UserError
from coconut_attr.settings import settings
from dashboard import data, logo
from dashboard.i18n import _, language_switch
from dashboard.parts import layout, notices
from dashboard.views import (
    attributes,
    coverage,
    explore,
    labels,
    overview,
    predict,
    query,
    review,
    runs,
    trust,
)
from db.sql import DatabaseError


def is_admitted() -> bool:
    """Check whether the visitor may see the pages.

    Everybody may, unless `.streamlit/secrets.toml` asks for a login.
    """
    try:
        needs_login = "auth" in st.secrets
    except FileNotFoundError:  # no secrets file
        return True
    return not needs_login or bool(st.user.get("is_logged_in"))


@st.cache_resource(show_spinner=False)
def freeze_imports_once() -> None:
    """Freeze the imports of all pages, once for the server."""
    layout.freeze_imports()


def pages() -> list:
    """Return the pages in the order of the menu."""
    return [
        st.Page(view.page, title=title, icon=f":material/{icon}:", url_path=path)
        for view, path, title, icon in (
            (overview, "overview", _("Overview"), "dashboard"),
            (coverage, "coverage", _("Coverage"), "grid_on"),
            (labels, "labels", _("Labels"), "fact_check"),
            (trust, "trust", _("Trust"), "verified"),
            (attributes, "attributes", _("Attributes"), "label"),
            (runs, "runs", _("Runs"), "show_chart"),
            (explore, "explore", _("Explore"), "image_search"),
            *([(review, "review", _("Review"), "rate_review")] if settings().review else []),
            (predict, "predict", _("Predict"), "photo_camera"),
            (query, "sql", _("SQL"), "database"),
        )
    ]


def main() -> None:
    """Show the page that the address names; without a database, say how to create one."""
    freeze_imports_once()
    st.set_page_config(page_title="COCONut attributes", page_icon=logo.MARK, layout="wide")
    st.logo(logo.FULL)
    layout.add_style()
    language_switch()
    menu = pages()
    st.session_state[layout.PAGES] = {page.url_path: page for page in menu}
    # Streamlit gives its default page no address of its own: ours only redirects to the overview.
    start = st.Page(
        lambda: st.switch_page(menu[0], query_params=st.query_params.to_dict()),
        title="Start",
        url_path="start",
        default=True,
        visibility="hidden",
    )
    page = st.navigation([start, *menu], position="top")
    if not is_admitted():
        notices.empty(
            _("Please log in"), _("Only people whom its owner admits see this dashboard."), None
        )
        st.button(_("Log in"), on_click=st.login, icon=":material/login:")
        return
    try:
        data.refresh()
        page.run()
    except UserError as error:
        notices.no_database(str(error))
    except DatabaseError as error:
        reason = getattr(error, "orig", None) or error
        notices.no_database(_("the database cannot be read: {reason}", reason=reason))


main()
