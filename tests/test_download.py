"""Image downloads against a real HTTP server that misbehaves on purpose."""

import hashlib
from pathlib import Path

import pytest

from coconut_attr.download import Outcome, Wanted, download
from coconut_attr.registry import dataset
from tests import web_server
from tests.tiny_mirror import HEIGHT, WIDTH, jpeg
from tests.web_server import Site, serve

VAL5K = dataset("val5k")
HOST = "/images.cocodataset.org"


def wanted(number: int, **changes) -> Wanted:
    url = f"http://images.cocodataset.org/val2017/{number:012d}.jpg"
    return Wanted(**{"key": number, "url": url, "width": WIDTH, "height": HEIGHT, **changes})


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
    return {outcome.key: outcome for outcome in download(items, VAL5K, settings)}


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


def test_a_redirect_is_not_followed(site: Site, settings) -> None:
    site.faults[path_of(1)] = [web_server.status(302, Location="http://127.0.0.1:1/secret")]
    assert fetch(settings, wanted(1))[1].error_class == "HTTP 302"


def test_a_foreign_host_is_refused_without_a_request(site: Site, settings) -> None:
    outcome = fetch(settings, wanted(1, url="http://example.org/x.jpg"))[1]
    assert outcome.error_class == "refused"
    assert not site.requests


def test_one_bad_image_does_not_stop_the_others(site: Site, settings) -> None:
    site.faults[path_of(3)] = [web_server.status(404)]
    outcomes = fetch(settings, *[wanted(n) for n in range(1, 11)])
    assert [key for key, outcome in sorted(outcomes.items()) if not outcome.ok] == [3]


def test_a_folder_mirror_that_lacks_an_image_says_so(tiny_mirror: Path, configure) -> None:
    outcomes = fetch(configure(mirror=tiny_mirror), wanted(1), wanted(99))
    assert outcomes[1].ok
    assert outcomes[99].error_class == "not in mirror"
