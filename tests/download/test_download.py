"""Image downloads against a real HTTP server that misbehaves on purpose."""

import fcntl
import gzip
import hashlib
import ipaddress
import socket
import struct
import time
import zlib
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

from coconut_attr.datasets import Dataset, get_dataset
from coconut_attr.download.download import download
from coconut_attr.download.fetcher import require_image_hosts
from coconut_attr.download.queue import Outcome, Wanted
from coconut_attr.files.atomic import SUFFIX, clear_leftovers
from coconut_attr.files.images import ImageError, checked_size
from coconut_attr.files.public_http import STAND_INS, PrivateAddressError
from tests.support import web_server
from tests.support.tiny_mirror import HEIGHT, WIDTH, jpeg, mask_png
from tests.support.web_server import Site, serve

VAL5K = get_dataset("val5k")
HOST = "/images.cocodataset.org"


def wanted(number: int, **changes) -> Wanted:
    url = f"http://images.cocodataset.org/val2017/{number:012d}.jpg"
    return Wanted(**{"image_id": number, "url": url, "width": WIDTH, "height": HEIGHT, **changes})


def path_of(number: int) -> str:
    return f"{HOST}/val2017/{number:012d}.jpg"


@pytest.fixture
def site(tiny_mirror: Path):
    with serve(tiny_mirror) as served:
        yield served


@pytest.fixture
def settings(site: Site, configure):
    return configure(mirror=site.url, retries=3, connect_timeout=2, read_timeout=1)


def fetch(settings, *items: Wanted) -> dict[int, Outcome]:
    return {outcome.image_id: outcome for outcome in download(items, VAL5K, settings)}


def test_images_arrive_whole_and_are_not_asked_for_again(site: Site, settings) -> None:
    items = [wanted(n) for n in range(1, 25)]
    outcomes = fetch(settings, *items)
    assert all(outcome.ok for outcome in outcomes.values())
    content = (settings.data_dir / outcomes[7].path).read_bytes()
    assert content == jpeg(7)
    assert outcomes[7].sha256 == hashlib.sha256(content).hexdigest()
    assert outcomes[7].bytes == len(content)
    site.requests.clear()
    again = fetch(settings, *items)
    assert all(outcome.ok and outcome.attempts == 0 for outcome in again.values())
    assert not site.requests
    assert not list(settings.data_dir.rglob("*.part"))


@pytest.mark.parametrize(
    "fault",
    [
        web_server.status(503, Retry_After="0"),
        web_server.status(429),
        web_server.status(500),
        web_server.truncated,
        web_server.short,
        web_server.wrong,
        web_server.reset,
        web_server.stall,
    ],
    ids=["503", "429", "500", "truncated", "short", "wrong bytes", "reset", "stall"],
)
def test_a_passing_fault_is_survived(site: Site, settings, fault) -> None:
    site.faults[path_of(1)] = [fault, fault]
    outcome = fetch(settings, wanted(1))[1]
    assert outcome.ok, outcome.error
    assert outcome.attempts == 3
    assert (settings.data_dir / outcome.path).read_bytes() == jpeg(1)


@pytest.mark.parametrize("code", [403, 404, 410])
def test_a_permanent_answer_is_recorded_at_once(site: Site, settings, code: int) -> None:
    site.faults[path_of(1)] = [web_server.status(code)] * 9
    outcome = fetch(settings, wanted(1))[1]
    assert (outcome.error_class, outcome.attempts) == (f"HTTP {code}", 1)
    assert site.requests[path_of(1)] == 1


def test_a_server_that_never_recovers_is_given_up(site: Site, settings) -> None:
    site.faults[path_of(1)] = [web_server.status(503)] * 9
    outcome = fetch(settings, wanted(1))[1]
    assert (outcome.error_class, outcome.attempts) == ("HTTP 503", 4)


def test_an_image_of_another_size_than_annotated_is_refused(settings) -> None:
    outcome = fetch(settings, wanted(1, width=100))[1]
    assert outcome.error_class == "wrong size"
    assert not (settings.data_dir / "images.cocodataset.org/val2017/000000000001.jpg").exists()


def test_a_damaged_file_in_place_is_fetched_again(settings) -> None:
    path = settings.data_dir / "images.cocodataset.org/val2017/000000000001.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(jpeg(1)[:-50])
    assert fetch(settings, wanted(1))[1].attempts == 1
    assert path.read_bytes() == jpeg(1)


def test_what_is_no_photo_is_refused_by_name(site: Site, configure) -> None:
    bomb = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", bomb), (b"IDAT", zlib.compress(bytes(10_000))), (b"IEND", b""))
    )
    causes = {
        1: ("too large", web_server.answer(b"", Content_Length=str(10**12))),
        2: ("too large", web_server.answer(png)),
        3: ("corrupt", web_server.answer(gzip.compress(jpeg(3)), Content_Encoding="gzip")),
        4: ("too slow", web_server.trickle),
        5: ("HTTP 302", web_server.status(302, Location="http://127.0.0.1:1/secret")),
    }
    for number, (_, fault) in causes.items():
        site.faults[path_of(number)] = [fault]
    url = "http://images.cocodataset.org/val2017/../../../etc/x.jpg"
    settings = configure(mirror=site.url, retries=0, body_timeout=0.3)
    outcomes = fetch(
        settings,
        *[wanted(n) for n in causes],
        wanted(6, url=url),
        wanted(7, url="http://h.org/x.jpg"),
    )
    found = {key: outcome.error_class for key, outcome in outcomes.items()}
    assert found == {key: cause for key, (cause, _) in causes.items()} | {
        6: "refused",
        7: "refused",
    }
    assert not list(settings.data_dir.rglob("*.jpg"))


def test_a_redirect_within_the_datasets_hosts_is_followed(site: Site, settings) -> None:
    site.faults[path_of(1)] = [web_server.status(301, Location=path_of(2))]
    assert fetch(settings, wanted(1))[1].sha256 == hashlib.sha256(jpeg(2)).hexdigest()
    site.faults[path_of(3)] = [web_server.status(301, Location=path_of(3))] * 20
    assert fetch(settings, wanted(3))[3].error_class == "redirects"


def test_a_redirect_to_another_host_is_reported_with_its_target(site: Site, settings) -> None:
    site.faults[path_of(1)] = [web_server.status(301, Location="https://elsewhere.org/1.jpg")]
    outcome = fetch(settings, wanted(1))[1]
    assert (outcome.error_class, outcome.permanent) == ("HTTP 301", True)
    assert outcome.error.endswith("moved to https://elsewhere.org/1.jpg")


@pytest.fixture
def stand_in_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this machine's own network one of those that stand in for public addresses."""
    networks = (ipaddress.ip_network("127.0.0.0/8"),)
    monkeypatch.setattr("coconut_attr.download.fetcher.STAND_INS", networks)


def test_the_datasets_own_hosts_may_be_in_a_stand_in_network(
    site: Site, configure, stand_in_network
) -> None:
    host = site.url.removeprefix("http://")
    dataset = Dataset(name="d", title="", image_hosts=(host,))
    require_image_hosts(dataset, configure())
    (outcome,) = download([wanted(1, url=f"{site.url}{path_of(1)}")], dataset, configure())
    assert outcome.ok, outcome.error


@pytest.mark.parametrize("address", ["198.18.0.7", "198.19.255.1", "100.64.3.2", "100.127.0.1"])
def test_fake_and_carrier_addresses_stand_in_for_public_ones(address: str) -> None:
    assert any(ipaddress.ip_address(address) in network for network in STAND_INS)


def test_an_image_host_in_a_private_network_is_reported_before_anything_is_fetched(
    configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: private)
    settings = configure()
    with pytest.raises(PrivateAddressError, match=r"10\.0\.0\.7.*COCONUT_ATTR_MIRROR"):
        require_image_hosts(VAL5K, settings)
    require_image_hosts(VAL5K, configure(mirror="http://mirror.example"))


def test_a_private_address_is_refused_where_no_mirror_is_named(site: Site, configure) -> None:
    host = site.url.removeprefix("http://")
    item = wanted(1, url=f"{site.url}{HOST}/val2017/000000000001.jpg")
    (outcome,) = download([item], Dataset(name="d", title="", image_hosts=(host,)), configure())
    assert (outcome.error_class, outcome.attempts, outcome.permanent) == (
        "private address",
        1,
        True,
    )
    assert not site.requests


@pytest.mark.parametrize("form", ["seconds", "date", "rate limit"])
def test_a_host_that_throttles_is_left_alone_as_long_as_it_asks(
    site: Site, configure, form: str
) -> None:
    settings = configure(mirror=site.url, retries=3, download_threads=2)
    headers = {
        "seconds": {"Retry_After": "1"},
        "date": {"Retry_After": formatdate(time.time() + 2, usegmt=True)},
        "rate limit": {"RateLimit": '"resolvers";r=0;t=1'},
    }[form]
    site.faults = {path_of(n): [web_server.status(429, **headers)] for n in (1, 2)}
    started = time.monotonic()
    times = {}
    for outcome in download([wanted(n) for n in range(1, 25)], VAL5K, settings):
        assert outcome.ok
        times[outcome.image_id] = time.monotonic() - started
    assert min(times.values()) >= 1  # the other images of the host wait, too
    assert site.requests.total() == 26


def test_a_fault_of_ours_ends_it_and_does_not_hang(
    settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coconut_attr.download.fetcher.write_atomically", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fetch(settings, *[wanted(n) for n in range(1, 25)])


def test_a_full_disk_is_told(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coconut_attr.download.fetcher.write_atomically", full)
    outcome = fetch(settings, wanted(1))[1]
    assert (outcome.error_class, outcome.attempts, outcome.permanent) == ("disk", 1, False)


def test_a_waiting_image_holds_up_no_other(site: Site, configure) -> None:
    settings = configure(mirror=site.url, retries=2, download_threads=2)
    site.faults = {path_of(n): [web_server.status(500)] * 2 for n in (1, 2)}
    order = [
        outcome.image_id for outcome in download([wanted(n) for n in range(1, 25)], VAL5K, settings)
    ]
    assert set(order[-2:]) == {1, 2}


def test_leftovers_of_the_dead_are_cleared_and_of_the_living_kept(tmp_path: Path) -> None:
    dead, alive = tmp_path / f".a.jpg.1{SUFFIX}", tmp_path / f".b.jpg.2{SUFFIX}"
    dead.write_bytes(b"half")
    with alive.open("xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert clear_leftovers(tmp_path) == 1
        assert alive.exists() and not dead.exists()
    assert clear_leftovers(tmp_path) == 1


def test_structure_tells_a_whole_image_from_a_cut_one() -> None:
    photo = jpeg(1)
    assert checked_size(photo) == checked_size(photo + b"trailing") == (WIDTH, HEIGHT)
    for cut in range(1, len(photo) - 1, 7):
        with pytest.raises(ImageError):
            checked_size(photo[:cut])
    png = mask_png(np.ones((4, 5), int))
    assert checked_size(png) == (5, 4)
    with pytest.raises(ImageError):
        checked_size(png[:-20])


def test_one_bad_image_does_not_stop_the_others(site: Site, settings) -> None:
    site.faults[path_of(3)] = [web_server.status(404)]
    outcomes = fetch(settings, *[wanted(n) for n in range(1, 11)])
    assert [key for key, outcome in sorted(outcomes.items()) if not outcome.ok] == [3]


def test_a_folder_mirror_that_lacks_an_image_says_so(tiny_mirror: Path, configure) -> None:
    outcomes = fetch(configure(mirror=tiny_mirror), wanted(1), wanted(99))
    assert outcomes[1].ok
    assert outcomes[99].error_class == "not in mirror"
