"""Downloads of ImageNet weights from hosts that stall, break off, and send something else."""

import hashlib
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

from coconut_attr.model.backbones import torchvision_weights
from coconut_attr.model.backbones.catalogue import get_backbone
from coconut_attr.model.backbones.names import BackboneError
from coconut_attr.model.backbones.torchvision_weights import cached_file, fetch_weights
from tests.support import web_server
from tests.support.web_server import Site, serve

WEIGHTS = models.ResNet50_Weights.IMAGENET1K_V2
CONTENT = np.random.default_rng(0).bytes(3_000_000)
NAME = f"resnet50-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A host of the weights, and an empty folder of torch.hub."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / NAME).write_bytes(CONTENT)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with serve(tmp_path / "site") as host:
        monkeypatch.setattr(WEIGHTS.value, "url", f"{host.url}/{NAME}")
        yield host


def at_path(site: Site, *faults: web_server.Fault) -> None:
    """Let the first requests for the weights go wrong."""
    site.faults[f"/{NAME}"] = list(faults)


def part() -> Path:
    return cached_file(WEIGHTS).with_name(f"{NAME}.part")


def ranges_ignored(handler: SimpleHTTPRequestHandler, content: bytes) -> bool:
    return web_server.answer(content)(handler, content)


def test_weights_are_downloaded_once(site: Site) -> None:
    reported: list[tuple[int, int]] = []
    fetch_weights(WEIGHTS, lambda done, total: reported.append((done, total)))
    fetch_weights(WEIGHTS)
    assert cached_file(WEIGHTS).read_bytes() == CONTENT
    assert site.requests[f"/{NAME}"] == 1
    assert reported[-1] == (len(CONTENT), len(CONTENT))
    assert not part().exists()


def test_a_download_that_breaks_off_is_continued(site: Site) -> None:
    at_path(site, web_server.truncated)
    done: list[int] = []
    fetch_weights(WEIGHTS, lambda so_far, total: done.append(so_far))
    assert cached_file(WEIGHTS).read_bytes() == CONTENT
    assert done == sorted(done), "nothing came twice"


@pytest.mark.parametrize("before", [b"the start of another file", CONTENT[:1000], CONTENT])
def test_what_an_earlier_process_left_is_continued_or_replaced(site: Site, before: bytes) -> None:
    part().parent.mkdir(parents=True)
    part().write_bytes(before)
    fetch_weights(WEIGHTS)
    assert cached_file(WEIGHTS).read_bytes() == CONTENT


@pytest.mark.parametrize("fault", [ranges_ignored, web_server.status(416)])
def test_a_host_that_does_not_continue_sends_the_file_from_its_start(
    site: Site, fault: web_server.Fault
) -> None:
    part().parent.mkdir(parents=True)
    part().write_bytes(CONTENT[:1000])
    at_path(site, fault)
    fetch_weights(WEIGHTS)
    assert cached_file(WEIGHTS).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (web_server.reset, "closed connection without response"),
        (web_server.status(503), "503"),
        (web_server.wrong, f"is not {NAME}"),
        (web_server.short, f"is not {NAME}"),
    ],
)
def test_a_host_that_fails_is_reported_with_what_to_do(
    site: Site, fault: web_server.Fault, message: str
) -> None:
    site.fault = lambda _path: fault
    with pytest.raises(BackboneError, match=rf"{message}.*place .*{NAME} at .*{NAME}, or use"):
        fetch_weights(WEIGHTS)
    assert not cached_file(WEIGHTS).exists()


@pytest.mark.parametrize("fault", [web_server.stall, web_server.trickle])
def test_a_host_that_stalls_is_given_up(
    site: Site, fault: web_server.Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_weights, "TIMEOUT", 1.0)
    site.fault = lambda _path: fault
    with pytest.raises(BackboneError, match="timed out|sends less than 4096 bytes per second"):
        fetch_weights(WEIGHTS)


def test_a_host_that_sends_too_much_does_not_fill_the_disk(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WEIGHTS.value.meta, "_file_size", 1.0)
    with pytest.raises(BackboneError, match="sent more than 1153433 bytes"):
        fetch_weights(WEIGHTS)
    assert not part().exists()


def test_a_damaged_file_is_replaced(site: Site) -> None:
    cached_file(WEIGHTS).parent.mkdir(parents=True)
    cached_file(WEIGHTS).write_bytes(CONTENT[:-1])
    fetch_weights(WEIGHTS)
    assert cached_file(WEIGHTS).read_bytes() == CONTENT


def test_fetched_weights_are_loaded_without_the_head(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    source = models.resnet50()
    torch.save(source.state_dict(), tmp_path / "weights")
    content = (tmp_path / "weights").read_bytes()
    name = f"resnet50-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / "site" / name).write_bytes(content)
    monkeypatch.setattr(WEIGHTS.value, "url", f"{site.url}/{name}")
    backbone = get_backbone("resnet50")
    backbone.load(encoder := backbone.build())
    torch.testing.assert_close(encoder.conv1.weight, source.conv1.weight, rtol=0, atol=0)
