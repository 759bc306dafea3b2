"""Starting a deployment from the page Review."""

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
    name = prefect_api.start(deployment)
    with get_client(sync_client=True) as client:
        (run,) = [run for run in client.read_flow_runs() if run.name == name]
    assert run.parameters == {"dataset": "val5k"}
    assert run.state_name == "Scheduled"


def test_without_a_server_there_is_no_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert prefect_api.find_deployment("train/val5k") is None
    with pytest.raises(prefect_api.PrefectError):
        prefect_api.start("x")
