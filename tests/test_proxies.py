"""Real local proxies of each kind: upstream through them, this machine never."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prefect.settings import PREFECT_API_URL

from coconut_attr.errors import UserError
from coconut_attr.files.proxies import prepare_proxies
from tests.support import tiny_mirror as tiny
from tests.support.hub_server import serve_hub
from tests.support.proxy import host_proxy
from tests.support.web_server import serve

ROOT = Path(__file__).parent.parent
PROGRAM = Path(sys.executable).parent / "coconut-attr"
VARIABLES = [f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "ALL", "NO")]


def port(url: str) -> int:
    return urlsplit(url).port or 80


@pytest.mark.server
@pytest.mark.parametrize("kind", ["http", "socks5h"])
def test_a_download_reaches_upstream_through_a_proxy_and_itself_without(
    kind: str, tmp_path: Path, prefect_server: None
) -> None:
    mirror = tiny.write_mirror(tmp_path / "mirror")
    (tmp_path / "hub" / "xdeng77").mkdir(parents=True)
    repository = mirror / "huggingface.co" / "datasets" / tiny.REPO
    repository.rename(tmp_path / "hub" / tiny.REPO)
    with serve_hub(tmp_path / "hub") as hub, serve(mirror / "images.cocodataset.org") as images:
        ports = {"hub.test": port(hub.endpoint), "images.cocodataset.org": port(images.url)}
        with host_proxy(kind, ports) as proxy:
            gone = {name for n in VARIABLES for name in (n, n.lower())} | {"COCONUT_ATTR_MIRROR"}
            env = {
                **{name: value for name, value in os.environ.items() if name not in gone},
                "ALL_PROXY" if kind == "socks5h" else "HTTP_PROXY": proxy.url,
                "HF_ENDPOINT": "http://hub.test",
                "HF_HOME": str(tmp_path / "home"),
                "COCONUT_ATTR_DATA_DIR": str(tmp_path / "data"),
                "PREFECT_HOME": str(tmp_path / "prefect"),
                "PREFECT_API_URL": PREFECT_API_URL.value(),
                "DO_NOT_TRACK": "1",
            }
            result = subprocess.run(
                [PROGRAM, "download", "val5k"], env=env, cwd=ROOT, capture_output=True, text=True
            )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "24 of 24 images are there" in result.stdout
    assert proxy.hosts["images.cocodataset.org"] >= 1 and proxy.hosts["hub.test"] >= 1
    assert not proxy.hosts.keys() & {"127.0.0.1", "localhost"}


def test_loopback_is_added_to_the_exempt_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("no_proxy", "intranet")
    monkeypatch.setenv("NO_PROXY", "")
    prepare_proxies()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "intranet,localhost,127.0.0.1,::1"


@pytest.mark.parametrize("scheme", ["socks", "socks4", "ftp"])
def test_a_proxy_of_another_kind_is_refused_in_one_line(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:1080/")
    monkeypatch.delenv("all_proxy", raising=False)
    with pytest.raises(UserError, match=rf"^ALL_PROXY={scheme}://.* must be one of .*socks5h$"):
        prepare_proxies()
