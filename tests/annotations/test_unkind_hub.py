"""Annotations from a hub that redirects, throttles, breaks off, is silent, or wants an account."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from coconut_attr.annotations.caption_zip import fetch_member
from coconut_attr.annotations.files import annotation_files
from coconut_attr.annotations.upstream import reachable
from coconut_attr.datasets import VAL2017, get_dataset
from coconut_attr.errors import SourceError, UnreachableError
from tests.support import tiny_mirror as tiny
from tests.support import web_server
from tests.support.hub_server import Hub, broken_range, serve_hub, stalled_range
from tests.support.web_server import serve

VAL5K = get_dataset("val5k")
SHARD = "train-00000-of-00001.parquet"
THROTTLED = web_server.status(429, RateLimit='"resolvers";r=0;t=1')
ZIP = "/images.cocodataset.org/annotations/annotations_trainval2017.zip"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one shard of 16 rows, which HF_ENDPOINT names; no account."""
    path = tiny.write_shard(tmp_path / "made", SHARD, [tiny.annotation(n) for n in range(1, 17)])
    data = tmp_path / "hub" / tiny.REPO / "data"
    data.mkdir(parents=True)
    path.rename(data / SHARD)
    with serve_hub(tmp_path / "hub") as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield running


def read(settings) -> list[int]:
    (file,) = annotation_files(VAL5K, settings)
    return [a.image.coco_id for batch in file.read(0) for a in batch]


EVERY_ROW = list(range(1, 17))


def test_the_endpoint_of_the_environment_is_read_and_recorded(hub: Hub, configure) -> None:
    (file,) = annotation_files(VAL5K, configure())
    assert file.origin == hub.endpoint
    assert hub.count("tree")


def test_an_endpoint_without_a_scheme_is_reported(
    configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "hub.example.org")
    with pytest.raises(SourceError, match="HF_ENDPOINT=hub.example.org is not a URL"):
        annotation_files(VAL5K, configure())


def test_reachability_asks_the_endpoint(hub: Hub, configure, monkeypatch) -> None:
    asked = []

    def head(url: str, **_options) -> None:
        asked.append(url)

    monkeypatch.setattr("coconut_attr.annotations.upstream.requests.head", head)
    assert reachable(configure())
    assert asked == [hub.endpoint, "http://images.cocodataset.org"]


def test_the_token_goes_to_the_hub_and_not_to_the_host_it_redirects_to(
    hub: Hub, configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "secret"
    hub.cdn = hub.endpoint.replace("127.0.0.1", "localhost")
    with pytest.raises(SourceError, match="HF_TOKEN"):
        annotation_files(VAL5K, configure(retries=0))
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.requests.clear()
    assert read(configure(retries=0)) == EVERY_ROW
    accounts = {host.split(":")[0]: account for _, host, account in hub.requests}
    assert accounts == {"127.0.0.1": "Bearer secret", "localhost": ""}


@pytest.mark.parametrize("kind", ["tree", "file"])
def test_a_throttled_request_is_repeated_after_the_pause(hub: Hub, configure, kind: str) -> None:
    hub.faults[kind] = [THROTTLED]
    assert read(configure(retries=1)) == EVERY_ROW
    assert hub.count(kind) >= 2


@pytest.mark.parametrize(
    "fault",
    [broken_range, stalled_range, web_server.reset, web_server.status(503)],
    ids=["broken", "stalled", "reset", "503"],
)
def test_a_read_that_breaks_is_repeated(hub: Hub, configure, fault) -> None:
    (file,) = annotation_files(VAL5K, configure(retries=1, read_timeout=1))
    for place in range(2):  # the request for the size, and the one for the rows
        hub.faults["file"] = [lambda *_: False] * place + [fault]
        assert sum(len(batch) for batch in file.read(0)) == 16
        assert not hub.faults["file"]


def test_a_hub_that_never_recovers_ends_in_the_products_own_error(hub: Hub, configure) -> None:
    (file,) = annotation_files(VAL5K, configure(retries=1, read_timeout=1))
    for fault in (broken_range, stalled_range, web_server.reset, web_server.status(503)):
        hub.faults["file"] = [fault] * 2
        with pytest.raises(UnreachableError, match=SHARD):
            list(file.read(0))


def without_ranges(handler, content: bytes) -> bool:
    return web_server.answer(content)(handler, content)


def test_a_hub_that_ignores_ranges_is_called_that_and_not_damaged(hub: Hub, configure) -> None:
    (file,) = annotation_files(VAL5K, configure(retries=0))
    hub.faults["file"] = [without_ranges]
    with pytest.raises(SourceError, match="without byte ranges"):
        list(file.read(0))


def test_the_first_listing_is_retried(hub: Hub, configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _seconds: None)
    hub.faults["tree"] = [web_server.reset] * 7  # huggingface_hub itself gives up after six
    assert read(configure(retries=1)) == EVERY_ROW


def test_a_caption_server_without_ranges_sends_the_complete_zip(
    tiny_mirror: Path, configure, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(tiny_mirror) as site:
        settings = configure(mirror=site.url, retries=1)
        site.faults[ZIP] = [without_ranges, web_server.truncated, without_ranges]
        path = fetch_member(VAL2017.archive, VAL2017.member, settings)
    assert b'"A beach without people"' in path.read_bytes()
    assert "the complete zip is fetched" in caplog.text
    assert list(path.parent.iterdir()) == [path]  # the zip itself is not stored


@pytest.mark.parametrize("fault", [web_server.status(429, Retry_After="1"), web_server.reset])
def test_a_caption_server_that_fails_once_is_asked_again(
    tiny_mirror: Path, configure, fault
) -> None:
    with serve(tiny_mirror) as site:
        settings = configure(mirror=site.url, retries=1)
        site.faults[ZIP] = [fault]
        assert fetch_member(VAL2017.archive, VAL2017.member, settings).is_file()
