"""The dashboard: `streamlit run dashboard/app.py`, from the repository root."""

import streamlit as st

from coconut_attr.errors import UserError
from dashboard import data, logo, ui
from dashboard.views import attributes, coverage, labels, runs
from db.queries import DatabaseError


def main() -> None:
    """Show the page that the address names; without a store, say how to make one."""
    st.set_page_config(page_title="COCONut attributes", page_icon=logo.MARK, layout="wide")
    st.logo(logo.FULL)
    pages = [
        st.Page(coverage.page, title="Coverage", icon=":material/grid_on:", url_path="coverage"),
        st.Page(labels.page, title="Labels", icon=":material/fact_check:", url_path="labels"),
        st.Page(attributes.page, title="Attributes", icon=":material/label:", url_path="attributes"),
        st.Page(runs.page, title="Epoch curves", icon=":material/show_chart:", url_path="runs"),
    ]
    # Streamlit gives its default page no address of its own, so that page is one which only leads on.
    start = st.Page(
        lambda: st.switch_page(pages[0], query_params=st.query_params.to_dict()),
        title="Start",
        url_path="start",
        default=True,
        visibility="hidden",
    )
    page = st.navigation([start, *pages], position="top")
    try:
        data.refresh()
        page.run()
    except UserError as error:
        ui.no_store(str(error))
    except DatabaseError as error:
        ui.no_store(f"the database cannot be read: {getattr(error, 'orig', None) or error}")


main()
