"""Prefect's UI, and the two requests to its API by which the page Review starts a deployment.

By HTTP, because importing Prefect's client takes longer than any page.
"""

import os
from typing import Any, Final

import requests

TIMEOUT: Final = 3  # seconds
DEFAULT: Final = "http://127.0.0.1:4200/api"


class PrefectError(Exception):
    """The API does not answer, or refuses; the message says why."""


def flow_run_page(flow_run: str) -> str | None:
    """Return the address of a flow run's page in Prefect's UI; None if no UI is known."""
    address = ui()
    return f"{address}/runs/flow-run/{flow_run}" if address else None


def ui() -> str | None:
    """Return the address of Prefect's UI, as a browser reaches it; None if none is known."""
    api = os.environ.get("PREFECT_API_URL", "")
    return os.environ.get("PREFECT_UI_URL") or api.removesuffix("/api") or None


def find_deployment(name: str) -> str | None:
    """Return the id of a deployment FLOW/NAME; None if the API does not answer or lacks it."""
    try:
        return str(_request("get", f"deployments/name/{name}")["id"])
    except PrefectError:
        return None


def start(deployment: str) -> str:
    """Queue a run of a deployment by its id; return the flow run's id.

    Raises:
        PrefectError: it was not queued.
    """
    return str(_request("post", f"deployments/{deployment}/create_flow_run", json={})["id"])


def _request(method: str, path: str, **arguments: Any) -> dict[str, Any]:
    url = os.environ.get("PREFECT_API_URL", DEFAULT)
    user, _separator, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    auth = (user, password) if user else None
    try:
        answer = requests.request(method, f"{url}/{path}", auth=auth, timeout=TIMEOUT, **arguments)
        answer.raise_for_status()
        return dict(answer.json())
    except (requests.RequestException, ValueError) as error:
        raise PrefectError(str(error)) from error
