"""Whole builds of real footage with real models, in this process: what they leave, and how they go on."""

from __future__ import annotations

import base64
import http.server
import io
import logging
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from math import nan
from pathlib import Path
from typing import Any

import av
import pyarrow.parquet as pq
import pytest

import posecap
from posecap.build import BuildError, BuildResult, Change, Options, build, compare, explain
from posecap.cli import main
from posecap.ledger import Ledger
from posecap.pipeline import Pipeline, load_pipeline
from posecap.shards import Dataset, ShardError, committed, read_part, read_sidecar, write_part
from posecap.staging import Staging
from posecap.storage import DatasetLockedError, StorageError, is_attempt, open_storage
from posecap.types import PartName
from posecap.verify import verify
from tests import ROOT, built, cheap, faulty_store, object_store, small
from tests.small import KEPT, MISSING, SILENT

PAGE = {"id": "page", "video": "page.mp4", "label": "a page"}
NOBODY = {"id": "nobody", "video": "nobody.mp4", "start": 0, "end": 0.5, "label": "bars"}
AGAIN = {**KEPT, "id": "again"}
SHOTS = {"id": "shots", "video": "shots.mp4", "label": "balancing", "split": "val"}
EVERY_FATE = [KEPT, MISSING, PAGE, NOBODY, AGAIN, SILENT, SHOTS]


@pytest.fixture(scope="module")
def whole(media: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    """A built dataset with every outcome; only for reading."""
    return small.build(small.manifest(tmp_path_factory.mktemp("whole"), EVERY_FATE, media_root=media))


@pytest.fixture
def copied(whole: BuildResult, tmp_path: Path) -> Path:
    """The same dataset with its manifest, for harm; gives the manifest's path."""
    shutil.copytree(whole.root.parent, tmp_path / "copy")
    return tmp_path / "copy" / "manifest.yaml"


@pytest.fixture
def one(media: Path, tmp_path: Path) -> Path:
    """The manifest of one kept row, already built."""
    path = small.manifest(tmp_path / "one", [KEPT], media_root=media)
    assert small.build(path).exit_code == 0
    return path


def outcomes_of(root: Path) -> dict[str, tuple[str, str, str, int]]:
    """Row id → status, stage, reason and how many clips it kept, from the ledger."""
    with Ledger(root / "ledger.sqlite") as ledger:
        return {
            o.row_id: (o.status, o.stage, o.reason, sum(clip.status == "kept" for clip in o.clips))
            for o in ledger.outcomes()
        }


def times(root: Path) -> dict[str, int]:
    """When each file was last written; files whose names start with a dot are the build's own."""
    return {
        path.relative_to(root).as_posix(): path.stat().st_mtime_ns
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.suffix not in (".sqlite-shm", ".sqlite-wal")
    }


def test_every_row_has_one_fate_and_the_counts_add_up(whole: BuildResult) -> None:
    assert outcomes_of(whole.root) == {
        "kept": ("kept", "", "", 1),
        "missing": ("rejected", "download", "not_found", 0),
        "page": ("rejected", "download", "not_a_video", 0),
        "nobody": ("rejected", "track", "no_person_found", 0),
        "again": ("rejected", "plan", "duplicate", 0),
        "silent": ("failed", "download", "connection", 0),
        "shots": ("kept", "", "", 2),
    }
    counts = whole.report["counts"]
    assert counts["rows"] == {"planned": 7, "kept": 2, "rejected": 4, "failed": 1, "quarantined": 0}
    assert (counts["clips"]["kept"], counts["clips"]["failed"]) == (3, 0)
    assert counts["reasons"] == dict.fromkeys(
        ["connection", "duplicate", "no_person_found", "not_a_video", "not_found"], 1
    )
    assert (whole.exit_code, whole.parts_built) == (3, 4)
    assert committed(whole.root) == [*(PartName("train", n) for n in range(3)), PartName("val", 0)]
    assert verify(whole.root).problems == ()


@pytest.mark.slow
def test_without_decord_pyav_decodes_and_the_samples_say_so(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Arm and macOS, for which decord has no wheel."""
    monkeypatch.setitem(sys.modules, "decord", None)  # neither found nor importable
    monkeypatch.setattr("posecap.pipeline.version", lambda package: _version_but_of(package, "decord"))
    made = small.build(small.manifest(tmp_path, [KEPT], media_root=media))
    assert made.exit_code == 0
    (part,) = committed(made.root)
    assert read_sidecar(made.root, part)["lineage"]["packages"]["decord"] == "not installed"
    (sample,) = read_part(made.root, part)
    assert sample.facts["models"]["decoder"] == "pyav"


def _version_but_of(package: str, missing: str) -> str:
    if package == missing:
        raise PackageNotFoundError(package)
    return version(package)


def test_rows_that_cannot_pass_are_rejected_before_anything_is_fetched(media: Path, tmp_path: Path) -> None:
    """None of the videos exists, so that a fetch would say ``not_found``."""
    rows = [
        KEPT,
        {"id": "mute", "video": "none.mp4"},
        {"id": "dots", "video": "nowhere.mp4", "captions": "...|!"},
        {"id": "wrong", "video": "none.mp4", "start": "1:30", "label": "gone"},
        {"id": "long", "video": "none.mp4", "start": 0, "end": 1000, "label": "gone"},
        {"id": "odd", "video": "gopher://example.org/a.mp4", "label": "gone"},
    ]
    made = small.build(small.manifest(tmp_path, rows, media_root=media))
    found = outcomes_of(made.root)
    wrong = next(row_id for row_id in found if row_id not in {row["id"] for row in rows})
    assert found == {
        "kept": ("kept", "", "", 1),
        "mute": ("rejected", "plan", "no_caption", 0),
        "dots": ("rejected", "plan", "no_caption", 0),
        wrong: ("rejected", "plan", "bad_cell", 0),
        "long": ("rejected", "plan", "span_too_long", 0),
        "odd": ("rejected", "plan", "no_fetcher", 0),
    }
    with Ledger(made.root / "ledger.sqlite") as ledger:
        details = {o.row_id: o.detail for o in ledger.outcomes()}
    assert details[wrong] == "rows.csv:5: column 'start' is '1:30': a clock time; write seconds, as 90 for 1:30"
    assert made.exit_code == 0
    assert verify(made.root).problems == ()


def test_samples_hold_what_the_rows_said_and_the_frames_showed(whole: BuildResult) -> None:
    (kept,) = read_part(whole.root, PartName("train", 0))
    assert kept.joints_MTJ3.shape == (1, 15, 17, 3)
    assert kept.pts_T.tolist() == pytest.approx([n / 30 for n in range(15)], abs=1e-3)
    assert (kept.captions[0].text, kept.captions[0].origin) == ("A man balances.", "row")
    assert (kept.facts["row_id"], kept.facts["uri"], kept.facts["label"]) == ("kept", "people.mp4", "balancing")
    shots = list(read_part(whole.root, PartName("val", 0)))
    starts = sorted((s.facts["start_seconds"], s.facts["end_seconds"]) for s in shots)
    assert starts == [pytest.approx((0.0, 0.5), abs=1e-3), pytest.approx((0.5, 1.0), abs=1e-3)]


def test_a_finished_build_does_nothing(copied: Path) -> None:
    root = copied.parent / "dataset"
    before = times(root)
    again = small.build(copied)
    assert again.parts_built == 0
    after = times(root)
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} <= {
        "plan.parquet",
        "ledger.sqlite",
    }
    assert again.report["counts"]["rows"]["planned"] == 7


@pytest.mark.parametrize(
    ("gone", "parts"),
    [
        (("data/train/pose-00000.tar",), 1),
        (("data/val/pose-00000.json", "index/train-00000.parquet"), 2),
        (("data/train/pose-00001.json", "data/train/pose-00000.columns", "ledger.sqlite"), 2),
        (("data", "index", "dataset.json"), 4),
        (("ledger.sqlite",), 0),
        (("dataset.json",), 0),
        (("report.json", "plan.parquet"), 0),
    ],
    ids=lambda value: ",".join(Path(name).name for name in value) if isinstance(value, tuple) else None,
)
def test_whatever_is_deleted_comes_back_the_same(copied: Path, gone: tuple[str, ...], parts: int) -> None:
    root = copied.parent / "dataset"
    before, outcomes = small.published(root), outcomes_of(root)
    for name in gone:
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()
    assert small.build(copied).parts_built == parts
    assert small.published(root) == before
    assert outcomes_of(root) == outcomes
    assert verify(root).problems == ()


def test_missing_descriptions_are_made_again_and_what_a_dead_build_left_is_removed(copied: Path) -> None:
    root = copied.parent / "dataset"
    described = {name: (root / name).read_bytes() for name in ("card.md", "croissant.json", "ledger.parquet")}
    left = [
        root / "data/train/.pose-00000.tar.tmp-99",
        root / "index/.train-00001.parquet.tmp-7",
        root / ".staging/0/r.tar",
    ]
    said: list[str] = []
    for gone in (described, {}):
        for path in left:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"half a file")
        for name in gone:
            (root / name).unlink()
        assert build(copied, options=Options(runner="local", workers=1), log=said.append).parts_built == 0
        assert not any(path.exists() for path in left)
    assert said == [
        f"{root}: every part is built; ledger.parquet, card.md, croissant.json made again",
        f"{root}: every part is built; nothing to do",
    ]
    assert (root / "card.md").read_bytes() == described["card.md"]
    assert verify(root).problems == ()


def test_a_torn_sidecar_and_a_cut_shard_cost_their_parts_only(copied: Path) -> None:
    root = copied.parent / "dataset"
    before = small.published(root)
    sidecar, tar = root / "data/train/pose-00001.json", root / "data/val/pose-00000.tar"
    sidecar.write_bytes(sidecar.read_bytes()[:-20])
    tar.write_bytes(tar.read_bytes()[:1000])
    assert small.build(copied).parts_built == 2
    assert small.published(root) == before


def test_a_damaged_list_of_parts_is_written_anew(copied: Path) -> None:
    root = copied.parent / "dataset"
    before = (root / "dataset.json").read_bytes()
    (root / "dataset.json").write_bytes(before.replace(b'"samples":2', b'"samples":3'))
    assert verify(root).problems
    assert small.build(copied).parts_built == 0
    assert (root / "dataset.json").read_bytes() == before


def test_a_ledger_that_is_no_database_is_made_again(copied: Path) -> None:
    root = copied.parent / "dataset"
    outcomes = outcomes_of(root)
    (root / "ledger.sqlite").write_bytes(b"not a database, whatever it calls itself" * 100)
    small.build(copied)
    assert outcomes_of(root) == outcomes


def test_three_workers_give_the_bytes_of_one(copied: Path, whole: BuildResult) -> None:
    shutil.rmtree(copied.parent / "dataset")
    small.build(copied, workers=3)
    assert small.published(copied.parent / "dataset") == small.published(whole.root)


def test_a_changed_pipeline_is_told_and_rebuilt_on_request(one: Path) -> None:
    root, pipeline = one.parent / "dataset", one.parent / "pipeline.py"
    before = small.published(root)
    pipeline.write_text(pipeline.read_text().replace('"fewest_frames": 4', '"fewest_frames": 5'))
    with pytest.raises(BuildError, match=r"filter_people\.fewest_frames: 4 → 5") as rejection:
        small.build(one)
    assert "train/00000" in str(rejection.value)
    assert "--update" in str(rejection.value)
    assert small.published(root) == before
    old = read_sidecar(root, PartName("train", 0))["fingerprint"]
    assert small.build(one, on_change="update").parts_built == 1
    assert read_sidecar(root, PartName("train", 0))["fingerprint"] != old
    assert verify(root).problems == ()
    assert small.build(one).parts_built == 0


def test_appended_rows_cost_their_own_parts(media: Path, tmp_path: Path) -> None:
    path = small.manifest(tmp_path, [KEPT, MISSING], media_root=media)
    small.build(path)
    first = times(tmp_path / "dataset")["data/train/pose-00000.tar"]
    small.manifest(tmp_path, [KEPT, MISSING, PAGE], media_root=media)
    assert small.build(path).parts_built == 1
    assert times(tmp_path / "dataset")["data/train/pose-00000.tar"] == first
    small.manifest(tmp_path, [KEPT, MISSING, PAGE, NOBODY], media_root=media)
    with pytest.raises(BuildError, match="the rows of these parts changed"):
        small.build(path)
    assert small.build(path, on_change="update").parts_built == 1
    grown = small.published(tmp_path / "dataset")
    shutil.rmtree(tmp_path / "dataset")
    small.build(path)
    assert small.published(tmp_path / "dataset") == grown


def test_another_default_size_of_parts_changes_no_dataset(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {"id": "long", "video": "none.mp4", "start": 0, "end": 5000, "label": "gone"}
    path = small.manifest(tmp_path, [long, {**long, "id": "longer", "end": 6000}], media_root=media)
    assert small.build(path).parts_built == 1
    monkeypatch.setattr("posecap.plan.BYTES_PER_PART", 1_000_000)
    assert small.build(path).parts_built == 0
    path.write_text(path.read_text() + "bytes_per_part: 1000000\n")
    with pytest.raises(BuildError, match="another rows_per_part or bytes_per_part"):
        small.build(path)
    assert small.build(path, on_change="update").parts_built == 2


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"poison_after": 0}, {"row_seconds": 0.0}, {"row_seconds": nan}])
def test_numbers_that_no_build_can_have(wrong: dict[str, Any]) -> None:
    with pytest.raises(BuildError, match="at least 1 worker"):
        Options(**wrong)


def test_parts_that_are_no_longer_planned_go_only_on_request(media: Path, tmp_path: Path) -> None:
    path = small.manifest(tmp_path, [MISSING, PAGE], rows_per_part=1, media_root=media)
    small.build(path)
    small.manifest(tmp_path, [MISSING], rows_per_part=1, media_root=media)
    with pytest.raises(BuildError, match="fewer rows"):
        small.build(path)
    built = small.build(path, on_change="update")
    assert (built.parts_built, committed(built.root)) == (0, [PartName("train", 0)])
    assert built.report["counts"]["rows"]["planned"] == 1
    assert list(outcomes_of(built.root)) == ["missing"]
    assert verify(built.root).problems == ()


@contextmanager
def serving(folder: Path, port: int) -> Iterator[None]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_what_failed_and_is_tried_again_is_as_if_it_had_never_failed(media: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    late = {**KEPT, "id": "late", "video": f"http://127.0.0.1:{port}/people.mp4"}
    path = small.manifest(tmp_path / "late", [KEPT, late], media_root=media)
    first = small.build(path)
    assert outcomes_of(first.root)["late"] == ("failed", "download", "connection", 0)
    with serving(media, port):
        assert small.build(path).parts_built == 0
        assert small.build(path, retry=("http_503",)).parts_built == 0
        again = small.build(path, retry=())
        assert (again.parts_built, again.exit_code) == (1, 0)
        fresh = small.build(small.manifest(tmp_path / "fresh", [KEPT, late], media_root=media))
    assert outcomes_of(again.root)["late"] == ("kept", "", "", 1)
    assert small.published(again.root) == small.published(fresh.root)


@pytest.mark.slow
def test_a_missing_file_that_is_there_now_is_taken_when_its_reason_is_named(media: Path, tmp_path: Path) -> None:
    own = tmp_path / "media"
    own.mkdir()
    shutil.copy(media / "people.mp4", own)
    late = {**KEPT, "id": "late", "video": "late.mp4"}
    path = small.manifest(tmp_path, [KEPT, late], media_root=own)
    assert outcomes_of(small.build(path).root)["late"][:3] == ("rejected", "download", "not_found")
    shutil.copy(media / "people.mp4", own / "late.mp4")
    assert small.build(path, retry=()).parts_built == 0
    again = small.build(path, retry=("not_found",))
    assert {outcome[0] for outcome in outcomes_of(again.root).values()} == {"kept"}
    fresh = small.build(small.manifest(tmp_path / "fresh", [KEPT, late], media_root=own))
    assert small.published(again.root) == small.published(fresh.root)


def test_a_part_committed_in_the_moment_of_a_kill_is_entered_by_the_next_build(copied: Path) -> None:
    root, part = copied.parent / "dataset", PartName("train", 0)
    document = read_sidecar(root, part)
    rows = [{**row, "detail": "something else"} if row["row_id"] == "missing" else row for row in document["rows"]]
    write_part(root, part, list(read_part(root, part)), record={**document, "rows": rows})
    (root / "report.json").unlink()
    small.build(copied)
    with Ledger(root / "ledger.sqlite") as ledger:
        assert [o.detail for o in ledger.outcomes() if o.row_id == "missing"] == ["something else"]


def test_two_builds_at_once_are_rejected(one: Path) -> None:
    with (
        open_storage(one.parent / "dataset").lock(),
        pytest.raises(DatasetLockedError, match="is being built by process"),
    ):
        small.build(one)


def test_no_file_of_a_dataset_says_where_it_was_built(whole: BuildResult, media: Path) -> None:
    places = [str(media), str(whole.root.parent), str(Path.home())]
    for path in sorted(whole.root.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += repr(pq.read_table(path).to_pylist()).encode()
            assert [place for place in places if place.encode() in content] == [], path


def test_stored_video_plays(media: Path, tmp_path: Path) -> None:
    built = small.build(small.manifest(tmp_path, [KEPT], store_video="clip", media_root=media))
    with tarfile.open(built.root / "data/train/video-00000.tar") as tar:
        (member,) = [m for m in tar if m.name.endswith(".mp4")]
        content = tar.extractfile(member)
        assert content is not None
        with av.open(io.BytesIO(content.read())) as video:
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 15
    assert frames[0].shape == (256, 144, 3)
    assert verify(built.root).problems == ()


def test_a_manifest_s_filter_rejects_clips_with_the_reason(media: Path, tmp_path: Path) -> None:
    path = small.manifest(tmp_path, [KEPT], media_root=media)
    path.write_text(path.read_text() + "filter: frames > 20 and 0 <= jitter\n")
    built = small.build(path)
    assert outcomes_of(built.root)["kept"] == ("rejected", "filter_clips", "filtered", 0)
    assert main(["status", str(built.root), "--rejected"]) == 0
    path.write_text(path.read_text().replace("frames > 20", "frames > 10"))
    assert small.build(path, on_change="update").parts_built == 1
    assert outcomes_of(built.root)["kept"] == ("kept", "", "", 1)


def test_what_was_removed_stays_removed(one: Path) -> None:
    root = one.parent / "dataset"
    (key,) = Dataset(root).index().to_table()["key"].to_pylist()
    assert main(["remove", str(root), key]) == 0
    assert outcomes_of(root)["kept"] == ("kept", "", "", 1)  # the ledger learns of it from the sidecar
    assert small.build(one).report["counts"]["clips"]["kept"] == 0
    assert outcomes_of(root)["kept"] == ("rejected", "forget", "forgotten", 0)
    shutil.rmtree(root / "data")
    built = small.build(one)
    assert built.parts_built == 1
    assert len(Dataset(root).index().to_table()["key"]) == 0
    assert outcomes_of(root)["kept"][0] == "rejected"
    assert verify(root).problems == ()


def test_the_directory_can_be_chosen_and_parents_are_made(media: Path, tmp_path: Path) -> None:
    path = small.manifest(tmp_path, [MISSING], media_root=media)
    messages: list[str] = []
    options = Options(runner="local", workers=1)
    built = build(path, output=tmp_path / "deep" / "down", options=options, log=messages.append)
    assert built.root == tmp_path / "deep" / "down"
    assert not (tmp_path / "dataset").exists()
    build(path, output=tmp_path / "deep" / "down", options=options, log=messages.append)
    assert messages == [f"{built.root}: every part is built; nothing to do"]


@pytest.mark.slow
def test_a_location_of_any_kind_gets_the_same_dataset(
    media: Path, location: str, whole: BuildResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))
    path = small.manifest(tmp_path / "manifest", EVERY_FATE, media_root=media)
    elsewhere = small.build(path, output=location)
    assert (elsewhere.location, elsewhere.report["counts"]) == (location, whole.report["counts"])
    assert small.published(location) == small.published(whole.root)
    storage = open_storage(location)
    same = ("card.md", "contact_sheet.jpg")
    assert [storage.read(name, limit=1 << 30) for name in same] == [(whole.root / name).read_bytes() for name in same]
    assert not [file.name for file in storage.list() if is_attempt(file.name) or file.name.startswith(".staging")]
    assert small.build(path, output=location).parts_built == 0
    if location.startswith(("s3", "memory")):
        assert not [*tmp_path.glob("s3:*"), *tmp_path.glob("memory:*")]
        shutil.rmtree(tmp_path / "cache" / "datasets")
        assert small.build(path, output=location).parts_built == 0
        with pytest.raises(ValueError, match="is no folder"):
            print(elsewhere.root)
    storage.remove("data/train/pose-00000.tar")
    assert small.build(path, output=location).parts_built == 1
    assert small.published(location) == small.published(whole.root)
    with open_storage(location).lock(), pytest.raises(DatasetLockedError, match="is being built by process"):
        small.build(path, output=location)


def test_another_place_that_holds_files_is_no_output(bucket: str, tmp_path: Path, media: Path) -> None:
    path = small.manifest(tmp_path, [MISSING], media_root=media)
    open_storage(bucket).write("photos/mine.jpg", b"x")
    with pytest.raises(BuildError, match=r"is no dataset and holds other files \(photos\)"):
        small.build(path, output=bucket)
    with pytest.raises(BuildError, match="web servers and the Hub cannot be written to"):
        small.build(path, output="https://localhost/x")
    with pytest.raises(StorageError, match="there is no such bucket"):
        small.build(path, output=f"{bucket}-not-there/poses")
    with pytest.raises(StorageError, match="which has lost a slash"):
        small.build(path, output=Path("s3://bucket/poses"))


MANY = [{**KEPT, "id": f"row-{number}", "label": f"balancing {number}"} for number in range(5)]


@pytest.fixture(scope="module")
def undisturbed(media: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    """A built dataset of three parts with stored video; only for reading."""
    path = small.manifest(tmp_path_factory.mktemp("many"), MANY, media_root=media, store_video="clip")
    return small.build(path)


@pytest.mark.slow
def test_a_store_that_fails_all_the_time_gets_the_same_bytes_and_no_secret(
    media: Path,
    bucket: str,
    s3_endpoint: str,
    undisturbed: BuildResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))
    path = small.manifest(tmp_path / "manifest", MANY, media_root=media, store_video="clip")
    with faulty_store.proxy(s3_endpoint) as store, object_store.clients({}):
        store.share = 0.05
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
        assert small.build(path, output=f"{bucket}/poses").exit_code == 0
        assert len(store.requests) > 100
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    assert small.published(f"{bucket}/poses") == small.published(undisturbed.root)
    secrets = [object_store.ENVIRONMENT[f"AWS_{name}"].encode() for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")]
    written = [*built.files(f"{bucket}/poses").values(), *built.files(tmp_path / "cache").values()]
    assert not [content for content in written for secret in secrets if secret in content]


@pytest.mark.slow
def test_a_build_into_a_store_that_is_killed_goes_on(
    media: Path, bucket: str, undisturbed: BuildResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))
    location = f"{bucket}/poses"
    path = small.manifest(tmp_path / "manifest", MANY, media_root=media, store_video="clip")
    command = [sys.executable, "-m", "posecap", "build", "--manifest", str(path), "--output", location]
    process = subprocess.Popen([*command, "--runner", "local", "--workers", "1"], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not committed(location) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        assert process.poll() is None
        with pytest.raises(DatasetLockedError, match=f"is being built by process {process.pid}"):
            small.build(path, output=location)
    finally:
        process.kill()
        process.wait(30)
    before = len(committed(location))
    assert small.build(path, output=location).parts_built == 3 - before
    assert small.published(location) == small.published(undisturbed.root)
    left = [file.name for file in open_storage(location).list() if is_attempt(file.name) or ".staging" in file.name]
    assert left == []


@pytest.mark.parametrize("store", ["google_bucket", "azure_container"])
def test_a_dataset_in_another_store_is_built_repaired_and_forgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, store: str
) -> None:
    """As in S3, of which the tests above and those of the commands tell more."""
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))
    location = f"{request.getfixturevalue(store)}/poses"
    path = cheap.manifest(tmp_path)
    assert small.build(path, output=location).exit_code == 0
    first, *others = keys(location)
    whole = small.published(location)
    assert whole == small.published(small.build(path).root)
    assert main(["status", location]) == 0
    name = next(name for name in whole if "/pose-" in name and name.endswith(".tar"))
    open_storage(location).write(name, bytes(len(whole[name])))
    assert main(["verify", location]) == 1
    main(["verify", "--repair", location])
    assert small.build(path, output=location).parts_built == 1
    assert small.published(location) == whole
    assert main(["verify", location]) == 0
    assert main(["forget", location, first]) == 0
    assert main(["verify", location]) == 0
    assert keys(location) == others
    written = [*built.files(location).values(), *built.files(tmp_path / "cache").values()]
    assert not [content for content in written if object_store.AZURE_KEY.encode() in content]
    assert not [file.name for file in open_storage(location).list() if is_attempt(file.name) or ".staging" in file.name]


def keys(location: str) -> list[str]:
    found: list[str] = posecap.index(location).to_table(columns=["key"])["key"].to_pylist()
    return found


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_what_a_worker_left_that_died_while_it_wrote_is_removed_at_the_end(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Its part is written by another worker, so nothing else comes upon these files."""
    location = str(tmp_path / "built") if kind == "folder" else f"memory://{tmp_path.name}/built"
    start = Staging.start

    def and_a_worker_died(*arguments: Any, **named: Any) -> Staging:
        staging = start(*arguments, **named)
        for name in ("data/train/.pose-00007.tar.tmp-1-0a0b0c0d", "index/.train-00007.parquet.tmp-1-0a0b0c0d"):
            if kind == "folder":
                (tmp_path / "built" / name).parent.mkdir(parents=True, exist_ok=True)
            staging.storage.write(name, b"half of a part")
        return staging

    monkeypatch.setattr(Staging, "start", and_a_worker_died)
    assert small.build(small.manifest(tmp_path, [KEPT], media_root=media), output=location).exit_code == 0
    assert not [file.name for file in open_storage(location).list() if is_attempt(file.name)]


def test_a_dataset_without_a_kept_clip_is_still_whole(media: Path, tmp_path: Path) -> None:
    built = small.build(small.manifest(tmp_path, [MISSING, NOBODY], media_root=media))
    assert (built.exit_code, built.report["counts"]["rows"]["rejected"]) == (0, 2)
    assert verify(built.root).problems == ()
    with pytest.raises(ShardError):
        Dataset(built.root).sample("0" * 24)


DEFAULT = ROOT / "pipelines" / "default.py"
PART, OTHER = PartName("train", 0), PartName("train", 1)


@pytest.fixture
def pipeline() -> Pipeline:
    return load_pipeline(DEFAULT)


def write(root: Path, part: PartName, pipeline: Pipeline, fingerprint: str) -> None:
    kept = built.samples(1, first=part.number)
    made_by = {"pipeline": pipeline.configuration(), "lineage": pipeline.lineage()}
    write_part(root, part, kept, record={**built.record(kept), "fingerprint": fingerprint, **made_by})


def changed(pipeline: Pipeline, stage: str, **parameters: object) -> Pipeline:
    stages = tuple(replace(s, **parameters) if s.name == stage else s for s in pipeline.stages)
    return replace(pipeline, stages=stages)


def found(root: Path, pipeline: Pipeline, fingerprints: dict[PartName, str]) -> Change:
    return compare(root, fingerprints, pipeline)


def test_nothing_on_disk_needs_no_consent(tmp_path: Path, pipeline: Pipeline) -> None:
    change = found(tmp_path, pipeline, {PART: "a"})
    assert change == Change({}, (), (), ())
    assert not change.needs_consent


def test_an_equal_fingerprint_is_built(tmp_path: Path, pipeline: Pipeline) -> None:
    write(tmp_path, PART, pipeline, "a")
    change = found(tmp_path, pipeline, {PART: "a", OTHER: "b"})
    assert (change.built, change.changed, change.gone) == ({PART: "a"}, (), ())
    assert not change.needs_consent


def test_a_changed_parameter_is_named_with_both_values(tmp_path: Path, pipeline: Pipeline) -> None:
    write(tmp_path, PART, pipeline, "a")
    change = found(tmp_path, changed(pipeline, "filter_people", people=3), {PART: "b"})
    assert change.changed == (PART,)
    assert change.reasons == ("pipeline.filter_people.people: 2 → 3",)
    explanation = explain(change, tmp_path)
    assert "1 of its parts (train/00000)" in explanation
    assert "--update" in explanation
    assert "--output" in explanation


def test_other_package_versions_and_weights_are_named(tmp_path: Path, pipeline: Pipeline) -> None:
    kept = built.samples(1)
    lineage = pipeline.lineage()
    before = {
        "packages": {**lineage["packages"], "numpy": "1.0"},
        "weights": {**lineage["weights"], "retired": "ab" * 32},
    }
    record = {**built.record(kept), "fingerprint": "a", "pipeline": pipeline.configuration(), "lineage": before}
    write_part(tmp_path, PART, kept, record=record)
    change = found(tmp_path, pipeline, {PART: "b"})
    assert f"packages.numpy: '1.0' → '{lineage['packages']['numpy']}'" in change.reasons
    assert any(reason.startswith("weights.retired is gone") for reason in change.reasons)
    assert len(change.reasons) == 2


def test_a_stage_that_is_new_or_gone_is_named(tmp_path: Path, pipeline: Pipeline) -> None:
    shorter = replace(
        pipeline, stages=tuple(s for s in pipeline.stages if s.name != "filter_people"), expected_rejections={}
    )
    write(tmp_path, PART, shorter, "a")
    assert found(tmp_path, pipeline, {PART: "b"}).reasons[0].startswith("pipeline.filter_people is new: ")


def test_changed_rows_are_what_is_left_when_the_pipeline_is_the_same(tmp_path: Path, pipeline: Pipeline) -> None:
    write(tmp_path, PART, pipeline, "a")
    change = found(tmp_path, pipeline, {PART: "b"})
    causes = "added, removed, edited, reordered, or another rows_per_part or bytes_per_part"
    assert change.reasons == (f"the rows of these parts changed ({causes})",)


def test_a_part_that_is_no_longer_planned_is_gone(tmp_path: Path, pipeline: Pipeline) -> None:
    write(tmp_path, PART, pipeline, "a")
    write(tmp_path, OTHER, pipeline, "b")
    change = found(tmp_path, pipeline, {PART: "a"})
    assert (change.built, change.gone) == ({PART: "a"}, (OTHER,))
    assert change.needs_consent
    assert "fewer rows" in explain(change, tmp_path)


@pytest.mark.parametrize("harm", ["tear the sidecar", "remove the tar", "cut the index"])
def test_a_damaged_part_is_not_built(tmp_path: Path, pipeline: Pipeline, harm: str) -> None:
    write(tmp_path, PART, pipeline, "a")
    sidecar, index = tmp_path / "data/train/pose-00000.json", tmp_path / "index/train-00000.parquet"
    if harm == "tear the sidecar":
        sidecar.write_bytes(sidecar.read_bytes()[:-9])
    elif harm == "remove the tar":
        sidecar.with_suffix(".tar").unlink()
    else:
        index.write_bytes(index.read_bytes()[:-1])
    assert found(tmp_path, pipeline, {PART: "b"}) == Change({}, (), (), ())


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    parts = tuple(PartName("train", n) for n in range(12))
    explanation = explain(Change({}, parts, (), tuple(f"reason {n}" for n in range(10))), tmp_path)
    assert "12 of its parts" in explanation
    assert "train/00007 …)" in explanation
    assert "train/00008" not in explanation
    assert "… and 2 more" in explanation


SECRET = "5ec4e7"
"""In every URI's user, password or signature below."""


@pytest.fixture
def shop(media: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Host and port of a server that gives the videos to whoever names the user and a signature."""
    asked = f"Basic {base64.b64encode(f'me:{SECRET}'.encode()).decode()}"

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["Authorization"] != asked or f"Signature={SECRET}" not in self.path:
                self.send_error(403)
                return
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=media)) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def everything_in(root: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of a folder as it is, and what compressed ones hold."""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            yield path.name, path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield path.name, f"{table.to_pylist()} {table.schema}".encode()


def test_secrets_of_uris_are_used_and_written_nowhere(
    shop: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    signed = f"v=1&X-Amz-Credential=AKIA{SECRET}&X-Amz-Signature={SECRET}"
    kept = f"http://me:{SECRET}@{shop}/people.mp4?{signed}"
    rows = [
        {**KEPT, "video": kept},
        {"video": f"http://me:{SECRET}@{shop}/nowhere.mp4?{signed}", "label": "gone"},
        {"video": f"http://me:{SECRET}1@{shop}/people.mp4?{signed}", "label": "forbidden"},
        {"video": f"http://me:{SECRET}@127.0.0.1:1/a.mp4?{signed}", "label": "nobody there"},
        {"video": f"http://me:{SECRET}@[bad/a.mp4?{signed}", "label": "no address"},
        {"video": f"http://me:{SECRET}/@h/a.mp4?{signed}", "label": "a slash in the password"},
        {"video": f"ftp://me:{SECRET}@h/a.mp4", "label": "no fetcher"},
        {"video": f"http://me:{SECRET}@{shop}/people.mp4?{signed}{'x' * 5000}", "label": "too long"},
        {"video": "a.mp4", "start": f"http://me:{SECRET}@h/?{signed}", "label": "wrong column"},
        {"id": f"http://me:{SECRET}@h/?{signed}", "video": kept, "label": "its URI is its id"},
        {**KEPT, "id": "again", "video": kept.replace("Signature=", "Signature=another")},
    ]
    manifest = small.manifest(tmp_path, rows)
    table = tmp_path / "rows.csv"
    header, first, *others = table.read_text().splitlines()
    first += f",https://me:{SECRET}@example.org/page?token={SECRET}"
    broken = f"x,http://me:{SECRET}@h,"
    table.write_text("\n".join([f"{header},source", first, *(f"{line}," for line in others), broken]) + "\n")

    built = build(manifest, options=Options(runner="local", workers=1))
    assert main(["plan", "--manifest", str(manifest)]) == 0
    assert main(["status", "--failed", str(built.root)]) in (0, 3)
    assert main(["inspect", str(built.root)]) == 0
    outcomes = {r["row_id"]: r for part in committed(built.root) for r in read_sidecar(built.root, part)["rows"]}
    assert outcomes["kept"]["status"] == "kept", outcomes["kept"]
    assert outcomes["kept"]["uri"] == f"http://{shop}/people.mp4?v=1"
    assert outcomes["again"]["reason"] == "duplicate"
    assert "does not count" in outcomes["again"]["detail"]
    reasons = sorted(row["reason"] for row in outcomes.values())
    assert {"not_found", "forbidden", "connection", "bad_uri", "no_fetcher", "bad_cell"} <= {*reasons}
    for name, content in everything_in(built.root):
        assert SECRET.encode() not in content, name
    said = capsys.readouterr()
    assert "people.mp4" in said.out + said.err + caplog.text  # it is looked at
    assert SECRET not in said.out + said.err + caplog.text
    (sample,) = (
        s for part in committed(built.root) for s in read_part(built.root, part) if s.facts["row_id"] == "kept"
    )
    assert (sample.facts["uri"], sample.facts["source"]) == (
        f"http://{shop}/people.mp4?v=1",
        "https://example.org/page",
    )

    # Signed anew, the rows are the same.
    table.write_text(table.read_text().replace(f"AKIA{SECRET}", "AKIAanother"))
    assert build(manifest, options=Options(runner="local", workers=1)).parts_built == 0


CRASHING_PIPELINE = """\
import ctypes
import time
from dataclasses import dataclass
from typing import ClassVar

from posecap.pipeline import Pipeline
from posecap.stage import Stage
from posecap.types import Row, Sample
from tests import building


@dataclass(frozen=True)
class Pose(Stage):
    name: ClassVar[str] = "pack"
    takes: ClassVar[type] = Row
    gives: ClassVar[type] = Sample

    def __call__(self, item):
        if item.label == "crash":
            time.sleep(0.3)
            ctypes.string_at(0)
        if item.label == "beside":
            time.sleep(1.0)
        yield building.sample(row=item, key=item.row_id)


pipeline = Pipeline(stages=(Pose(),))
"""

ONE_BUILD = """\
import sys
from pathlib import Path
from posecap.build import Options, build

built = build(Path(sys.argv[1]), options=Options(runner="local", workers=2, poison_after=2))
print(built.report["counts"]["rows"])
"""


@pytest.mark.slow
def test_a_row_that_crashes_native_code_is_quarantined_and_those_beside_it_are_kept(tmp_path: Path) -> None:
    labels = {"beside": "beside", "crash": "crash", "later": "walk"}
    path = small.manifest(tmp_path, [{"id": row, "video": f"{row}.mp4", "label": labels[row]} for row in labels])
    (tmp_path / "pipeline.py").write_text(CRASHING_PIPELINE)

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", ONE_BUILD, str(path)]
        return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)

    assert run().returncode == -signal.SIGSEGV  # both rows were under way
    second = run()
    assert second.returncode == -signal.SIGSEGV  # the crashing one alone
    assert "the last run crashed (Segmentation fault) while it worked on " in second.stdout
    third = run()
    assert third.returncode == 0, third.stderr
    assert "'kept': 2, 'rejected': 0, 'failed': 0, 'quarantined': 1" in third.stdout
    rows = [row for part in committed(tmp_path / "dataset") for row in read_sidecar(tmp_path / "dataset", part)["rows"]]
    (lost,) = [row for row in rows if row["status"] != "kept"]
    assert (lost["row_id"], lost["reason"]) == ("crash", "worker_died")
    assert verify(tmp_path / "dataset").problems == ()
