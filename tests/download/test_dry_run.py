"""What `download --dry-run` says, and that it fetches nothing."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from coconut_attr import cli
from coconut_attr.datasets import get_dataset
from coconut_attr.download.dry_run import PHOTO_BYTES, dry_run
from flows.cli import register
from tests.support.web_server import serve

VAL5K = get_dataset("val5k")


def test_files_bytes_and_hosts_of_a_mirror_by_url(tiny_mirror: Path, configure) -> None:
    with serve(tiny_mirror) as site:
        settings = configure(mirror=site.url)
        planned = dry_run(VAL5K, settings)
        photos = [path for path in site.requests if path.endswith(".jpg")]
    (shard,) = tiny_mirror.rglob("*.parquet")
    annotations, captions, images = planned.parts
    assert (annotations.files, annotations.bytes) == (1, shard.stat().st_size)
    assert captions.files == 1 and captions.bytes > 0
    assert (images.files, images.requests) == (5_000, 5_000)
    assert planned.hosts == {site.url: True} and planned.possible
    assert planned.disk > 5_000 * PHOTO_BYTES
    assert not photos and not settings.data_dir.exists()


def test_stored_photos_are_not_counted_and_a_limit_counts(tiny_mirror: Path, configure) -> None:
    settings = configure(mirror=tiny_mirror)
    stored = settings.data_dir / "images.cocodataset.org" / "val2017" / "000000000001.jpg"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"")
    assert dry_run(VAL5K, settings).parts[-1].files == 23
    assert dry_run(VAL5K, settings, limit=10).parts[-1].files == 9


def test_hosts_that_do_not_answer_are_named_and_the_exit_code_is_1(
    configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("COLUMNS", "200")
    configure(connect_timeout=1)
    register(cli.app)
    result = CliRunner().invoke(cli.app, ["download", "--dry-run", "coconut-s"])
    assert result.exit_code == 1
    assert "http://127.0.0.1:9 DOES NOT ANSWER" in result.output
    assert "118,000" in result.output  # what can be said without the hosts is said
