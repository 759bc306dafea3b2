"""Fetching what a user names: public addresses alone, bounded, with one clear error."""

import ipaddress
import socket
from pathlib import Path

import pytest

from coconut_attr.files import public_http
from coconut_attr.files.public_http import PrivateAddressError, RemoteError, fetch
from tests.support import web_server
from tests.support.web_server import serve


@pytest.fixture
def site(tmp_path: Path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "photo.jpg").write_bytes(b"x" * 1000)
    with serve(tmp_path / "site") as served:
        yield served


@pytest.fixture
def public(site, monkeypatch: pytest.MonkeyPatch):
    """Takes this machine's own address for a public one, as no other can be reached in a test."""

    class Address:
        is_global = True

    real = ipaddress.ip_address
    monkeypatch.setattr(
        public_http.ipaddress,
        "ip_address",
        lambda a: Address() if real(a) == real("127.0.0.1") else real(a),
    )
    return site


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_this_machine_and_its_network_are_refused(site, host: str) -> None:
    port = site.url.rsplit(":", 1)[1]
    with pytest.raises(PrivateAddressError, match=r"not a public address"):
        fetch(f"http://{host}:{port}/photo.jpg")
    assert not site.requests


def test_a_redirect_to_a_private_address_is_refused(public) -> None:
    with socket.create_server(("127.0.0.2", 0)) as inside:
        inside.settimeout(5)
        address = f"127.0.0.2:{inside.getsockname()[1]}"
        public.faults["/photo.jpg"] = [web_server.status(302, Location=f"http://{address}/secret")]
        with pytest.raises(PrivateAddressError, match=r"127\.0\.0\.2"):
            fetch(public.url + "/photo.jpg")
        asked, _ = inside.accept()
        with asked:
            assert asked.recv(1) == b""  # connected, and closed before a byte was sent


def test_what_a_public_address_answers_is_read_within_bounds(public) -> None:
    assert fetch(public.url + "/photo.jpg") == b"x" * 1000
    with pytest.raises(RemoteError, match="larger than 999 bytes"):
        fetch(public.url + "/photo.jpg", max_bytes=999)
    with pytest.raises(RemoteError, match="answers 404"):
        fetch(public.url + "/none.jpg")
    public.faults["/photo.jpg"] = [web_server.truncated]
    with pytest.raises(RemoteError, match="cannot fetch"):
        fetch(public.url + "/photo.jpg")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://x/y", "photo.jpg", "http://", "http://[::1"]
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(RemoteError):
        fetch(url)
