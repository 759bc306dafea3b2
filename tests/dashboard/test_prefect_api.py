"""Starting a deployment from the page Review, and the addresses of Prefect's UI."""

from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from dashboard import prefect_api
from flows import deployments


@pytest.mark.usefixtures("prefect_server")
def test_a_deployment_is_found_and_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    deployments.register()
    monkeypatch.setenv("PREFECT_API_URL", str(get_current_settings().api.url))
    assert prefect_api.find_deployment("train/none") is None
    deployment = prefect_api.find_deployment("train/val5k")
    assert deployment is not None
    started = prefect_api.start(deployment)
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(started))
    assert run.parameters == {"dataset": "val5k"}
    assert run.state_name == "Scheduled"


def test_without_a_server_there_is_no_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert prefect_api.find_deployment("train/val5k") is None
    with pytest.raises(prefect_api.PrefectError):
        prefect_api.start("x")


def test_a_flow_run_has_a_page_where_a_browser_reaches_the_ui(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_UI_URL"):
        monkeypatch.delenv(name, raising=False)
    assert prefect_api.flow_run_page("7") is None
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect-server:4200/api")
    assert prefect_api.ui() == "http://prefect-server:4200"
    monkeypatch.setenv("PREFECT_UI_URL", "http://127.0.0.1:4200")
    assert prefect_api.flow_run_page("7") == "http://127.0.0.1:4200/runs/flow-run/7"
