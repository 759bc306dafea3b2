"""The dashboard: `streamlit run dashboard/app.py`, from the repository root."""

import streamlit as st

from coconut_attr.errors import UserError
from dashboard import data, i18n, logo
from dashboard.i18n import _
from dashboard.parts import layout, notices
from dashboard.views import attributes, coverage, explore, labels, overview, predict, query, runs
from db.sql import DatabaseError


def may_see() -> bool:
    """Whether the visitor may see the pages: everybody, unless `.streamlit/secrets.toml` asks for a login."""
    try:
        asked = "auth" in st.secrets
    except FileNotFoundError:  # there is no such file
        return True
    return not asked or bool(st.user.get("is_logged_in"))


@st.cache_resource(show_spinner=False)
def settle() -> None:
    """What all pages import is loaded."""
    layout.keep_modules()


def main() -> None:
    """Show the page that the address names; without a store, say how to make one."""
    settle()
    st.set_page_config(page_title="COCONut attributes", page_icon=logo.MARK, layout="wide")
    st.logo(logo.FULL)
    layout.style()
    i18n.switch()
    pages = [
        st.Page(
            overview.page, title=_("Overview"), icon=":material/dashboard:", url_path="overview"
        ),
        st.Page(coverage.page, title=_("Coverage"), icon=":material/grid_on:", url_path="coverage"),
        st.Page(labels.page, title=_("Labels"), icon=":material/fact_check:", url_path="labels"),
        st.Page(
            attributes.page, title=_("Attributes"), icon=":material/label:", url_path="attributes"
        ),
        st.Page(runs.page, title=_("Runs"), icon=":material/show_chart:", url_path="runs"),
        st.Page(
            explore.page, title=_("Explore"), icon=":material/image_search:", url_path="explore"
        ),
        st.Page(
            predict.page, title=_("Predict"), icon=":material/photo_camera:", url_path="predict"
        ),
        st.Page(query.page, title=_("SQL"), icon=":material/database:", url_path="sql"),
    ]
    st.session_state[layout.PAGES] = {page.url_path: page for page in pages}
    # Streamlit gives its default page no address of its own, so that page is one which only leads on.
    start = st.Page(
        lambda: st.switch_page(pages[0], query_params=st.query_params.to_dict()),
        title="Start",
        url_path="start",
        default=True,
        visibility="hidden",
    )
    page = st.navigation([start, *pages], position="top")
    if not may_see():
        notices.empty(
            _("Please log in"), _("This dashboard is for people whom its owner knows."), None
        )
        st.button(_("Log in"), on_click=st.login, icon=":material/login:")
        return
    try:
        data.refresh()
        page.run()
    except UserError as error:
        notices.no_store(str(error))
    except DatabaseError as error:
        reason = getattr(error, "orig", None) or error
        notices.no_store(_("the database cannot be read: {reason}", reason=reason))


main()
