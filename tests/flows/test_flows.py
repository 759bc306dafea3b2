"""The flows, as Prefect runs them, on a tiny mirror and on real COCO images."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from importlib import resources
from pathlib import Path
from threading import Timer
from types import SimpleNamespace

import pytest
from prefect import flow
from torchvision import models

from coconut_attr.annotations.files import annotation_files
from coconut_attr.datasets import get_dataset
from coconut_attr.errors import UserError
from coconut_attr.judgements.records import Judgement, Origin
from coconut_attr.labels.label_model import load_label_model
from coconut_attr.settings import settings
from coconut_attr.training.train import Epoch, Trainer
from db import annotations, counts, runs
from db import sql as database
from db.judgements import add_judgements, truth_of_part
from db.lease import ABANDONED, RunLease
from db.models import now
from db.progress import list_progress
from db.runs import get_run
from db.work.check import check_report
from flows.database import engine
from flows.download import download
from flows.evaluate import evaluate
from flows.extract import extract
from flows.pipeline import pipeline
from flows.summary import scores
from flows.train import train
from flows.upkeep import upkeep
from tests.support import tiny_mirror as tiny
from tests.support.runs import PROCESS, change_run, lease_of, start_run
from tests.support.team import wait_until
from tests.support.web_server import serve

pytestmark = pytest.mark.usefixtures("prefect_server")


def sql(query: str, **parameters: object) -> list[dict]:
    """Return the rows of a query on the test's database."""
    return [dict(row) for row in database.sql(engine(), query, **parameters)]


def summary(dataset: str = "val5k") -> dict:
    """Return the row of a dataset in `dataset_summary`."""
    return sql("SELECT * FROM dataset_summary WHERE dataset = :dataset", dataset=dataset)[0]


def annotation_progress() -> list[tuple[int, bool]]:
    """Return the number of rows read, and whether that is all, of each annotation file."""
    return [
        (row["rows_done"], row["complete"])
        for row in annotations.annotation_files(engine(), "val5k").values()
    ]


def test_a_download_resumes_beyond_an_earlier_limit(tiny_mirror: Path, configure) -> None:
    configure(mirror=tiny_mirror)
    assert download("val5k", limit=7) == {"images": 7, "downloaded": 7, "failed": 0}
    assert summary()["captions"] == 7
    assert annotation_progress() == [(7, False)]
    assert download("val5k") == {"images": 24, "downloaded": 24, "failed": 0}
    assert annotation_progress() == [(16, True)]
    after = summary()
    assert (after["with_mask"], after["segments"], after["captions"]) == (16, 16 + 8, 24)
    assert extract("val5k") == 24
    assert extract("val5k") == 0
    counted = summary()
    (stored,) = (row for row in counts.dataset_summaries(engine()) if row["dataset"] == "val5k")
    assert {name: stored[name] for name in counted} == counted
    progress = {row["what"]: (row["state"], row["done"]) for row in list_progress(engine())}
    assert progress == {"val5k images": ("finished", 17), "val5k labels": ("finished", 0)}


def test_failed_images_are_listed_and_can_be_retried(tiny_mirror: Path, configure) -> None:
    configure(mirror=tiny_mirror)
    photo = tiny_mirror / "images.cocodataset.org/val2017/000000000003.jpg"
    content = photo.read_bytes()
    photo.unlink()
    assert download("val5k") == {"images": 24, "downloaded": 23, "failed": 1}
    (failure,) = sql("SELECT * FROM download WHERE state = 'failed'")
    assert failure["error_class"] == "not in mirror"
    photo.write_bytes(content)
    # A mirror that lacks a file will not have it soon: it is not tried again by itself.
    assert download("val5k")["failed"] == 1
    assert download("val5k", retry_failed=True) == {"images": 24, "downloaded": 24, "failed": 0}


def test_verify_replaces_a_damaged_file(tiny_mirror: Path, configure) -> None:
    settings = configure(mirror=tiny_mirror)
    download("val5k")
    photo = settings.data_dir / "images.cocodataset.org/val2017/000000000006.jpg"
    content = photo.read_bytes()
    photo.write_bytes(bytes(len(content)))
    assert download("val5k", verify=True)["downloaded"] == 24
    assert photo.read_bytes() == content
    with pytest.raises(UserError, match="exclude each other"):
        download("val5k", verify=True, retry_failed=True)


def test_a_data_folder_without_its_photos_is_refused_as_not_mounted(
    tiny_mirror: Path, configure
) -> None:
    settings = configure(mirror=tiny_mirror, database_url=f"sqlite:///{tiny_mirror / 'store.db'}")
    download("val5k")
    photos = settings.data_dir / "images.cocodataset.org"
    photos.rename(settings.data_dir / "not mounted")
    with pytest.raises(UserError, match="none of the 24 photos of val5k .* not mounted"):
        download("val5k")
    assert summary()["downloaded"] == 24
    assert download("val5k", verify=True)["downloaded"] == 24
    assert len(list(photos.rglob("*.jpg"))) == 24


def test_downloads_that_read_one_annotation_file_store_each_row_once(
    tiny_mirror: Path, configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second starts when the first has read 5 rows, and overtakes it."""
    configure(mirror=tiny_mirror)
    original = annotation_files

    def overtaken(*arguments):
        (file,) = original(*arguments)

        def read(skip: int):
            (batch,) = file.read(skip)
            yield batch[:5]
            monkeypatch.setattr("flows.download.annotation_files", original)
            assert download("val5k", limit=9)["images"] == 9
            yield batch[5:7]
            assert download("val5k")["downloaded"] == 24
            assert extract("val5k") == 24
            yield batch[7:]

        return [replace(file, read=read)]

    monkeypatch.setattr("flows.download.annotation_files", overtaken)
    assert download("val5k")["downloaded"] == 24
    assert annotation_progress() == [(16, True)]
    assert extract("val5k") == 0, "no label was reset"
    assert sql("SELECT * FROM finding WHERE stage = 'annotations'") == []
    after = summary()
    assert (after["with_mask"], after["segments"]) == (16, 16 + 8)


def test_a_download_stops_reading_a_file_that_another_starts_again(
    tiny_mirror: Path, configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(mirror=tiny_mirror)
    (file,) = annotation_files(get_dataset("val5k"), settings())

    def read(skip: int):
        (batch,) = file.read(skip)
        yield batch[:5]
        annotations.forget_file(engine(), "val5k", file.name)
        yield batch[5:]

    monkeypatch.setattr("flows.download.annotation_files", lambda *_: [replace(file, read=read)])
    with pytest.raises(UserError, match="another download re-reads .* from its start"):
        download("val5k")
    assert annotation_progress() == []


def test_complete_annotations_need_no_host(tiny_mirror: Path, configure) -> None:
    settings = configure(mirror=tiny_mirror)
    download("val5k")
    (tiny_mirror / "huggingface.co").rename(tiny_mirror / "gone")
    assert download("val5k")["downloaded"] == 24
    (settings.data_dir / "coconut_attr.db").unlink()
    configure(mirror=tiny_mirror)
    with pytest.raises(UserError, match=r"no data/\*.parquet"):
        download("val5k")


def test_bad_photos_masks_and_captions_are_findings_and_stop_nothing(
    tiny_mirror: Path, configure
) -> None:
    texts = {
        1: "a dog " * 200_000,
        2: "",
        3: "\N{DOG FACE} \ud800 \0",
        4: "Ein Mann auf einem roten Motorrad",
        5: None,
    }
    tiny.write_captions(tiny_mirror, {n: texts.get(n, tiny.caption(n)) for n in range(1, 25)})
    rows = [tiny.annotation(n) for n in range(1, 17)]
    rows[7]["segments_info"]["segments_info"][0]["category_id"] = 999  # of image 8
    tiny.write_shard(tiny_mirror, "train-00000-of-00001.parquet", rows)
    settings = configure(mirror=tiny_mirror)
    download("val5k")
    photo = settings.data_dir / "images.cocodataset.org/val2017/000000000006.jpg"
    mask = settings.data_dir / "annotations/val5k/panoptic/000000000007.png"
    mask_bytes, photo_bytes = mask.read_bytes(), photo.read_bytes()
    mask.write_bytes(b"damaged")
    photo.write_bytes(photo_bytes[:-100])
    assert extract("val5k") == 23
    assert sql("SELECT coco_id FROM image WHERE rule_version IS NULL") == [{"coco_id": 6}]
    query = "SELECT i.coco_id, f.kind FROM finding f JOIN image i ON i.id = f.image_id ORDER BY 1"
    assert [tuple(row.values()) for row in sql(query)] == [
        (1, "long caption"),
        (2, "empty caption"),
        (3, "empty caption"),
        (4, "caption not English"),
        (5, "empty caption"),
        (6, "image not read"),
        (7, "mask not read"),
        (8, "unknown category"),
    ]
    assert sql("SELECT COUNT(*) AS n FROM caption")[0]["n"] == 24
    assert len(sql("SELECT text FROM caption WHERE caption_id = 10")[0]["text"]) == 1_199_999

    photo.write_bytes(photo_bytes)
    mask.write_bytes(mask_bytes)
    rules = settings.data_dir / "rules.toml"
    default_rules = (resources.files("coconut_attr.labels") / "rules.toml").read_text()
    rules.write_text(default_rules.replace("min_english", "min_englsh"))
    configure(mirror=tiny_mirror, rules_file=rules)
    with pytest.raises(
        UserError,
        match=r"rules.toml: caption.min_english: Field required; caption.min_englsh: Extra",
    ):
        extract("val5k")
    rules.write_text(rules.read_text().replace("min_englsh", "min_english") + "# corrected\n")
    configure(mirror=tiny_mirror, rules_file=rules)
    assert len(sql("SELECT * FROM image_attribute")) == 23 * 34  # nothing is lost
    assert extract("val5k") == 24
    assert {row["kind"] for row in sql("SELECT kind FROM finding")}.isdisjoint(
        {"image not read", "mask not read"}
    )


def test_the_main_job_end_to_end_on_postgresql(
    tiny_mirror: Path, configure, postgres_url: str
) -> None:
    """On SQLite, tests/test_cli.py runs it."""
    settings = configure(mirror=tiny_mirror, database_url=postgres_url)
    run_id = pipeline("val5k", backbone="efficientnet_lite0", epochs=2)

    (run,) = sql("SELECT * FROM run WHERE id = :id", id=run_id)
    assert run["status"] == "finished"
    assert (settings.data_dir / run["checkpoint"]).is_file()
    assert run["rule_version"] and len(run["data_fingerprint"]) == 64
    assert len(sql("SELECT * FROM epoch_curve WHERE run_id = :id", id=run_id)) == 2
    assert len(sql("SELECT * FROM attribute_accuracy WHERE run_id = :id", id=run_id)) == 34
    assert len(sql("SELECT * FROM dataset_coverage")) == 34
    person = sql(
        "SELECT probability > 0.5 AS present, COUNT(*) AS n FROM label WHERE attribute = 'person'"
        " GROUP BY probability > 0.5 ORDER BY present"
    )
    # 8 of 16 masks show a person; of the 8 images without a mask, 4 captions name a man, and 4 say
    # that nobody is there.
    assert person == [{"present": False, "n": 12}, {"present": True, "n": 12}]
    (scores,) = sql("SELECT * FROM run_summary WHERE run_id = :id", id=run_id)
    test = sql("SELECT COUNT(*) AS n FROM image WHERE split = 'test'")[0]["n"]
    assert scores["images"] == test
    (labelled,) = sql("SELECT COUNT(*) AS n FROM label WHERE split = 'test' AND state <> 'unknown'")
    assert scores["decisions"] == labelled["n"]
    assert len(sql("SELECT * FROM prediction")) == 34 * test

    assert pipeline("val5k", backbone="efficientnet_lite0", epochs=2, reuse=True) == run_id
    assert evaluate("val5k") == run_id
    assert len(sql("SELECT * FROM prediction")) == 34 * test


def test_train_fetches_missing_images_and_trains_again_on_changed_labels(
    tiny_mirror: Path, configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(mirror=tiny_mirror)
    download("val5k", limit=5)
    killed = start_run(engine(), heartbeat_at=now() - 2 * ABANDONED).run_id
    quick = {"backbone": "efficientnet_lite0", "epochs": 1}
    first = train("val5k", **quick)
    assert get_run(engine(), killed)["status"] == "failed"
    assert summary()["labelled"] == 24
    assert train("val5k", reuse=True, **quick) == first
    tiny.write_shard(
        tiny_mirror, "train-00001-of-00001.parquet", [tiny.annotation(n) for n in (17, 18)]
    )
    download("val5k")
    assert train("val5k", reuse=True, **quick) != first


def test_a_process_sends_heartbeats_however_long_an_epoch_takes(
    tiny_mirror: Path, configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(mirror=tiny_mirror)
    monkeypatch.setattr("db.lease.HEARTBEAT_SECONDS", 0.1)
    train_epoch = Trainer.epochs

    def heartbeat() -> str:
        (run,) = sql("SELECT heartbeat_at FROM run WHERE kind = 'trained'")
        return run["heartbeat_at"]

    def in_long_epochs(trainer: Trainer, on_step) -> Iterator[Epoch]:
        before = heartbeat()
        wait_until(lambda: heartbeat() > before, "a heartbeat")
        yield from train_epoch(trainer, on_step)

    monkeypatch.setattr(Trainer, "epochs", in_long_epochs)
    train("val5k", backbone="efficientnet_lite0", epochs=1)


def test_a_run_that_is_alive_is_not_resumed(configure) -> None:
    run_id = start_run(engine()).run_id
    state = configure().data_dir / "runs" / str(run_id) / "state.pt"
    state.parent.mkdir(parents=True)
    state.touch()
    with pytest.raises(UserError, match=f"run {run_id} is still running"):
        train("val5k", resume=run_id)
    change_run(engine(), run_id, heartbeat_at=now() - timedelta(seconds=100))
    with pytest.raises(UserError, match="the images or labels of val5k have changed"):
        train("val5k", resume=run_id)


def test_a_resumed_run_takes_no_other_settings() -> None:
    run_id = start_run(engine(), dataset="sample").run_id
    for other, message in (
        ({"dataset": "val5k"}, "it trains on sample, not on val5k"),
        ({"profile": "default"}, "leave out: profile"),
        ({"dataset": "sample", "epochs": 3, "learning_rate": 0.1}, "epochs, learning rate"),
        ({"backbone": "resnet50", "seed": 0, "batch_size": 2}, "backbone, batch size, seed"),
    ):
        with pytest.raises(UserError, match=rf"run {run_id} cannot be resumed: .*{message}"):
            train(resume=run_id, **other)


def test_a_flow_run_that_is_run_again_leaves_its_training_to_a_process_that_is_alive(
    tiny_mirror: Path, configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another machine, where `auto` would be another backbone."""
    configure(mirror=tiny_mirror)

    @flow
    def run_twice() -> tuple[int, int]:
        first = train("val5k", backbone="efficientnet_lite0", epochs=1)
        change_run(engine(), first, status="running", heartbeat_at=now(), process=PROCESS)
        end = Timer(2, lease_of(engine(), first).finish, ("finished",))
        end.start()
        monkeypatch.setattr("flows.weights.fetch_weights", lambda name: None)
        second = train("val5k", epochs=1, prepare=False)
        assert not end.is_alive(), "it waited for the run's end"
        return first, second

    first, second = run_twice()
    assert first == second
    assert sql("SELECT COUNT(*) AS n FROM run WHERE kind = 'trained'") == [{"n": 1}]


def test_auto_trains_the_installed_backbone_if_the_preferred_weights_cannot_be_had(
    tiny_mirror: Path,
    configure,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    configure(mirror=tiny_mirror)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    weights = "resnet50-0badf00d.pth"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / weights).write_bytes(b"<html>log in first</html>")
    with serve(tmp_path / "site") as site:
        monkeypatch.setattr(
            models.ResNet50_Weights.IMAGENET1K_V2.value, "url", f"{site.url}/{weights}"
        )

        def download_after_weights(dataset: str) -> dict[str, int]:
            assert site.requests[f"/{weights}"] == 1, "before any data is fetched"
            return download(dataset)

        monkeypatch.setattr("flows.train.download", download_after_weights)
        run_id = train("val5k", epochs=1)
    assert get_run(engine(), run_id)["backbone"] == "efficientnet_lite0"
    assert "training efficientnet_lite0, NOT resnet50: cannot download" in caplog.text


def test_a_run_that_fails_is_stored_as_failed(tiny_mirror: Path, configure) -> None:
    configure(mirror=tiny_mirror)
    with pytest.raises(UserError, match=r"the loss of step \d+ of epoch 1 is nan"):
        train("val5k", backbone="efficientnet_lite0", epochs=1, learning_rate=1e30)
    (run,) = sql("SELECT * FROM run WHERE kind = 'trained'")
    assert run["status"] == "failed"
    assert "lower the learning rate" in run["note"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: download("coco"), "unknown dataset 'coco'"),
        (lambda: train("val5k", profile="x"), "unknown profile 'x'"),
        (lambda: train("val5k", backbone="x"), "unknown backbone 'x'"),
        (lambda: evaluate("val5k"), "there is no finished run on val5k with a checkpoint"),
        (lambda: evaluate("val5k", run_id=99), "there is no run 99"),
    ],
)
def test_mistakes_are_reported(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_the_sample_runs_offline_and_says_what_it_is() -> None:
    from flows.summary import markdown

    run_id = pipeline("sample", backbone="efficientnet_lite0", epochs=1)
    assert summary("sample")["downloaded"] == 13
    assert "NOT COCONut RESULTS" in markdown("sample", run_id)


def test_real_images_are_labelled_with_evidence(real_mirror: Path, configure) -> None:
    configure(mirror=real_mirror)
    download("val5k")
    extract("val5k")
    after = summary()
    totals = [after[name] for name in ("images", "with_mask", "captions", "labelled")]
    assert totals == [355, 82, 1776, 355]
    model = load_label_model()
    labels = sql("SELECT state, probability, estimate, judged FROM image_attribute")
    assert len(labels) == 355 * 34
    assert all(row["state"] == model.state(row["probability"]) for row in labels)
    judged = [row for row in labels if row["judged"]]
    assert {row["probability"] for row in judged} == {0, 1}
    estimated = [row for row in labels if not row["judged"]]
    assert all(0 < row["probability"] == row["estimate"] < 1 for row in estimated)
    supported = """
        SELECT COUNT(*) AS n FROM label l WHERE NOT judged AND state = :state AND EXISTS (
        SELECT 1 FROM evidence e
        WHERE e.image_id = l.image_id AND e.attribute = l.attribute AND e.state = l.state)"""
    contradicted = supported.replace("e.state = l.state", "e.state <> l.state")
    for state in ("present", "absent"):
        (with_evidence,), (against,) = (sql(q, state=state) for q in (supported, contradicted))
        assert with_evidence["n"] > 5 * against["n"], "labels follow the evidence"
    (areas,) = sql(
        "SELECT COUNT(*) AS n, SUM(CASE WHEN area = annotated_area THEN 1 ELSE 0 END) AS equal"
        " FROM segment"
    )
    assert areas["n"] == areas["equal"] == 873
    parts = [truth_of_part(engine(), "val5k", part) for part in ("dev", "test")]
    assert [len(truth) for truth in parts] == [153, 48], "the gold set was added"
    decided = sum(state >= 0 for truth in parts for states in truth.values() for state in states)
    assert len(judged) == decided == 5482


def test_an_interrupted_run_is_resumed_and_scored(
    tiny_mirror: Path, configure, monkeypatch
) -> None:
    settings = configure(mirror=tiny_mirror)
    options = {"backbone": "efficientnet_lite0", "epochs": 3, "batch_size": 8}
    state = settings.data_dir / "runs" / "2" / "state.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"of a run of another database, by the same number")
    record = RunLease.record_epoch

    def stop_at_3(lease: RunLease, figures: dict, checkpoint: str | None) -> None:
        if figures["epoch"] == 3:
            raise OSError("no space left on device")
        record(lease, figures, checkpoint)

    with monkeypatch.context() as context:
        context.setattr(RunLease, "record_epoch", stop_at_3)
        with pytest.raises(OSError, match="no space"):
            train("val5k", **options)
    (broken,) = sql("SELECT * FROM run WHERE status = 'failed'")
    assert "no space left" in broken["note"]
    assert train("val5k", resume=broken["id"]) == broken["id"]
    curve = sql(
        "SELECT epoch, loss FROM epoch_metric WHERE run_id = :run ORDER BY epoch", run=broken["id"]
    )
    assert [row["epoch"] for row in curve] == [1, 2, 3]
    assert sql("SELECT status FROM run WHERE id = :run", run=broken["id"]) == [
        {"status": "finished"}
    ]
    scores = {
        row["name"]
        for row in sql("SELECT name FROM run_metric WHERE run_id = :run", run=broken["id"])
    }
    assert {
        "map",
        "probe_map",
        "map_over_probe",
        "ece",
        "retrieval chance recall@1",
    } <= scores
    assert not (settings.data_dir / "runs" / str(broken["id"]) / "state.pt").exists()
    complete = train("val5k", prepare=False, **options)
    again = sql(
        "SELECT epoch, loss FROM epoch_metric WHERE run_id = :run ORDER BY epoch", run=complete
    )
    assert [row["loss"] for row in again] == pytest.approx([row["loss"] for row in curve], rel=1e-4)
    with pytest.raises(UserError, match="it is finished"):
        train("val5k", resume=complete)
    with monkeypatch.context() as context:
        context.setattr(
            "flows.train.flow_run", SimpleNamespace(run_count=2, root_flow_run_id="restarted")
        )
        assert train("val5k", resume=complete) == complete, (
            "the process of a flow run that resumes it died while it scored"
        )
    for run_id, why in ((complete, "it is finished"), (999, "there is no such run")):
        with pytest.raises(UserError, match=why):
            train("val5k", resume=run_id)


TAUGHT_BY = "trained without this image, taught by run {}"


def test_after_a_training_what_its_encoder_predicts_joins_the_labels(
    tiny_mirror: Path, configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    configure(mirror=tiny_mirror)
    settings = {"backbone": "efficientnet_lite0", "epochs": 1}
    few = train("val5k", **settings)
    assert "no second pass of the labels" in caplog.text
    assert sql("SELECT * FROM evidence WHERE source = 'model'") == []
    before = sql("SELECT image_id, attribute, probability FROM label ORDER BY 1, 2")

    monkeypatch.setattr("coconut_attr.training.out_of_fold.MIN_IMAGES", 4)
    run_id = train("val5k", seed=1, **settings)
    assert run_id != few
    taught = sql("SELECT DISTINCT image_id, detail FROM evidence WHERE source = 'model'")
    assert {row["detail"] for row in taught} == {TAUGHT_BY.format(run_id)}
    assert len(taught) == len(before) / 34, "images of every split"
    after = sql("SELECT image_id, attribute, probability FROM label ORDER BY 1, 2")
    assert sum(a != b for a, b in zip(before, after, strict=True)) > len(before) / 2
    assert train("val5k", seed=1, reuse=True, **settings) == run_id, (
        "what was predicted is no part of what a run is made from"
    )
    monkeypatch.setattr(
        "flows.train.flow_run", SimpleNamespace(run_count=2, root_flow_run_id="restarted")
    )
    assert train("val5k", resume=few) == few, "its process died before the second pass"
    assert {row["detail"] for row in sql("SELECT detail FROM evidence WHERE source = 'model'")} == {
        TAUGHT_BY.format(few)
    }


def test_judged_photos_are_scored_by_eyes_and_against_labels_and_the_summary_leads_with_eyes(
    tiny_mirror: Path, configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(mirror=tiny_mirror)
    run_id = train("val5k", backbone="efficientnet_lite0", epochs=1)
    by_labels = r"mAP over \d+ of 34 attributes, against our labels"
    assert re.fullmatch(by_labels, scores(run_id, "val5k")[0][0])
    assert "nobody has judged a photo of the test split of val5k" in caplog.text
    (of_labels,) = sql("SELECT * FROM run_summary WHERE run_id = :run", run=run_id)
    assert (of_labels["against"], of_labels["judged_by"]) == ("labels", None)

    caplog.clear()
    origin = Origin("eva", "human", "2", "random", now())
    judgements = [
        Judgement(n, name, "present" if n % 2 else "absent", origin)
        for n in range(1, 25)
        for name in ("person", "red")
    ]
    add_judgements(engine(), "val5k", judgements)
    evaluate("val5k", run_id=run_id)
    assert "nobody has judged" not in caplog.text
    (images,) = sql("SELECT COUNT(*) AS n FROM image WHERE split = 'test'")
    stored = sql(
        "SELECT against, judged_by, n FROM run_metric"
        " WHERE run_id = :run AND name = 'accuracy' ORDER BY against",
        run=run_id,
    )
    assert stored == [
        {"against": "eyes", "judged_by": "human", "n": 2 * images["n"]},
        {"against": "labels", "judged_by": None, "n": of_labels["decisions"]},
    ]
    (leading,) = sql("SELECT * FROM run_summary WHERE run_id = :run", run=run_id)
    assert (leading["against"], leading["judged_by"]) == ("eyes", "human")
    names = [line[0] for line in scores(run_id, "val5k")]
    # All of what was judged in the test split of 5 photos is too few for a mean.
    assert names[0] == "mAP over 0 of 34 attributes, by eyes (people)"
    assert re.fullmatch(by_labels, names[-1])
    trusted = sql("SELECT * FROM trust WHERE run_id = :run AND attribute = 'red'", run=run_id)
    assert [row["verdict"] for row in trusted] == ["too few cells"]
    assert trusted[0]["labels_judged"] <= trusted[0]["n"] == images["n"]
    (progress,) = sql("SELECT * FROM progress WHERE what = 'val5k scores'")
    assert (progress["state"], progress["done"]) == ("finished", progress["total"])


def test_the_summary_leaves_out_an_undefined_gain() -> None:
    run_id = start_run(engine(), dataset="sample").run_id
    score = {"low": None, "high": None, "n": 4, "images": 1, "value": None}
    names = ("map", "accuracy", "prior_map", "probe_map", "map_over_probe")
    rows = [{"name": name, **score} for name in names]
    runs.record_evaluation(engine(), run_id, "sample", "test", "labels", rows, [])
    assert [line[:2] for line in scores(run_id, "sample")] == [
        ("mAP, against our labels", "–"),
        ("accuracy", "–"),
    ]


def test_upkeep_retries_failed_images_checks_all_and_ends_dead_runs(
    tiny_mirror: Path, configure
) -> None:
    configure(mirror=tiny_mirror)
    photo = tiny_mirror / "images.cocodataset.org/val2017/000000000003.jpg"
    content = photo.read_bytes()
    photo.unlink()
    assert upkeep() == {}, "no dataset was downloaded yet, and upkeep starts none"
    assert download("val5k")["failed"] == 1
    killed = start_run(engine(), heartbeat_at=now() - 2 * ABANDONED).run_id
    photo.write_bytes(content)
    findings = upkeep()
    assert summary()["downloaded"] == 24
    assert findings == {"val5k": sum(row["findings"] for row in check_report(engine(), "val5k"))}
    assert get_run(engine(), killed)["status"] == "failed"
    (tiny_mirror / "images.cocodataset.org").rename(tiny_mirror / "gone")
    assert upkeep() == findings, "an unreachable host costs no stored image"
