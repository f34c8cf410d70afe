"""Rows that are done in parts under way: as the ledger has them while a build runs, and as the next one takes them."""

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from posecap.build import BuildResult, Options, build
from posecap.ledger import Ledger, read_open_rows
from posecap.open_rows import OpenRows, files_to_keep
from posecap.outcomes import ClipOutcome, RowOutcome, RowResult
from posecap.progress import Progress
from posecap.staging import FOLDER, Staging
from posecap.storage import open_storage
from posecap.types import FileRange, StagedSample
from posecap.verify import verify
from tests import building, small

STAGES = """\
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from posecap.pipeline import Pipeline
from posecap.stage import PermanentError, Reject, Stage
from posecap.types import Row, Sample, Video
from tests import building


@dataclass(frozen=True)
class Fetch(Stage):
    name: ClassVar[str] = "download"
    takes: ClassVar[type] = Row
    gives: ClassVar[type] = Video

    def __call__(self, item: Row) -> Iterator[Video]:
        yield Video(row=item, path=Path(__file__), source_id=f"{int(item.row_id):064d}", size_bytes=0)


@dataclass(frozen=True)
class Work(Stage):
    name: ClassVar[str] = "pack"
    takes: ClassVar[type] = Video
    gives: ClassVar[type] = Sample

    version: int = 0

    def __call__(self, item: Video) -> Iterator[Sample]:
        row, folder = item.row, Path(__file__).parent
        with (folder / "runs").open("a") as runs:
            runs.write(f"{row.row_id}\\n")
        if row.label == "rejected":
            raise Reject("too_short")
        if row.label == "failed":
            raise PermanentError("broken")
        if row.label == "dies once" and not (folder / "died").exists():
            (folder / "died").touch()
            # Until the driver has entered the three rows before.
            until, ledger = time.monotonic() + 60, f"file:{folder / 'dataset' / 'ledger.sqlite'}?mode=ro"
            while time.monotonic() < until:
                with closing(sqlite3.connect(ledger, uri=True)) as db:
                    if db.execute("SELECT count(*) FROM finished_rows").fetchone() == (3,):
                        break
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        if row.label == "slow":
            time.sleep(1.1)
        yield building.sample(seed=int(row.row_id), row=row)


pipeline = Pipeline(stages=(Fetch(), Work(VERSION)))
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return written(tmp_path, ["", "rejected", "failed", "", "", ""])


def written(folder: Path, labels: list[str], *, version: str = "") -> Path:
    """A manifest of cheap stages, all of its rows in one part; their runs are listed in ``runs`` beside it."""
    rows = [{"id": number, "video": f"{number}.mp4", "label": label} for number, label in enumerate(labels)]
    path = small.manifest(folder, rows, rows_per_part=100)
    (folder / "pipeline.py").write_text(STAGES.replace("VERSION", version))
    return path


def runs(manifest: Path) -> list[int]:
    """The rows that were executed since this was asked last."""
    path = manifest.with_name("runs")
    found = [int(line) for line in path.read_text().split()] if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def stopped(manifest: Path, monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """A build that ends with an error after so many rows."""
    count = Progress.row
    seen = []

    def stopping(self: Progress, row: RowResult) -> None:
        seen.append(row)
        count(self, row)
        if len(seen) > after:
            raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "row", stopping)
        with pytest.raises(OSError, match="the disk is gone"):
            small.build(manifest)


def same_as_undisturbed(result: BuildResult, folder: Path, labels: list[str], *, version: str = "") -> bool:
    elsewhere = written(folder / "undisturbed", labels, version=version)
    elsewhere.with_name("died").touch()
    undisturbed = small.build(elsewhere)
    return small.published(result.root) == small.published(undisturbed.root)


def test_they_are_entered_once_a_second_and_leave_with_their_part(tmp_path: Path) -> None:
    path, now = tmp_path / "ledger.sqlite", [0.0]
    assert read_open_rows(path) is None
    kept = RowOutcome(row_id="a", uri="a", status="kept", clips=(ClipOutcome(status="kept", clip_id="k"),))
    lost = RowOutcome(row_id="b", uri="b", status="rejected", stage="plan", reason="duplicate")
    with Ledger(path) as ledger:
        staging = Staging.start(tmp_path, fingerprint="f" * 64)
        rows = OpenRows(ledger, staging, clock=lambda: now[0])
        for second, outcome, planned in ((0.0, kept, 1), (0.9, lost, 1), (1.0, lost, 3)):
            now[0] = second
            rows.done(RowResult(outcome))
            found = read_open_rows(path)
            assert found is not None
            assert found["rows"]["planned"] == planned
        assert found is not None
        assert found["rows"] == {"planned": 3, "kept": 1, "rejected": 2, "failed": 0, "quarantined": 0}
        assert (found["clips"]["kept"], found["reasons"]) == (1, {"duplicate": 2})
        rows.committed([kept])
        found = read_open_rows(path)
        assert found is not None
        assert (found["rows"]["planned"], found["rows"]["kept"], found["clips"]["kept"]) == (2, 0, 0)
        rows.end()
        assert read_open_rows(path) is None
        ledger.record_open_rows({"rows": {}})
        OpenRows(ledger, staging)  # the next run
        assert read_open_rows(path) is None


def test_the_next_build_takes_what_was_kept_or_rejected_and_tries_the_rest(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(manifest, monkeypatch, after=3)
    assert runs(manifest)[:4] == [0, 1, 2, 3]
    said: list[str] = []
    result = build(manifest, options=Options(runner="local", workers=1), log=said.append)
    assert runs(manifest) == [2, 4, 5]
    assert said == ["note: 3 rows are as earlier runs left them, and were not executed again"]
    assert same_as_undisturbed(result, tmp_path, ["", "rejected", "failed", "", "", ""])
    assert not (result.root / FOLDER).exists()
    with Ledger(result.root / "ledger.sqlite") as ledger:
        assert [*ledger.finished_rows()] == []
        assert ledger.seconds()[0]["pack"] > 0


def test_rows_may_be_added_and_edited_between_two_runs(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(manifest, monkeypatch, after=5)
    runs(manifest)
    labels = ["walks", "rejected", "", "", "", "", ""]
    result = small.build(written(tmp_path, labels))
    assert sorted(runs(manifest)) == [0, 2, 6]
    assert same_as_undisturbed(result, tmp_path, labels)


def test_another_pipeline_takes_nothing(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(manifest, monkeypatch, after=5)
    runs(manifest)
    labels = ["", "rejected", "failed", "", "", ""]
    result = small.build(written(tmp_path, labels, version="1"))
    assert sorted(runs(manifest)) == [0, 1, 2, 3, 4, 5]
    assert same_as_undisturbed(result, tmp_path, labels, version="1")
    assert not (result.root / FOLDER).exists()


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_samples_that_are_not_as_they_were_written_are_made_again(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    stopped(manifest, monkeypatch, after=5)
    runs(manifest)
    first, *_ = sorted((tmp_path / "dataset" / FOLDER).rglob("*.tar"), key=lambda path: path.stat().st_mtime_ns)
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content if damage == "changed" else content[:1000])
    if damage == "gone":
        first.unlink()
    result = small.build(manifest)
    assert sorted(runs(manifest)) == [0, 2]
    assert same_as_undisturbed(result, tmp_path, ["", "rejected", "failed", "", "", ""])


def test_samples_whose_thumbnails_are_gone_are_made_again(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = manifest.with_name("pipeline.py").read_text().replace("row=row)", "row=row, thumbnail_jpeg=b'a picture')")
    manifest.with_name("pipeline.py").write_text(stages)
    stopped(manifest, monkeypatch, after=5)
    runs(manifest)
    for path in (tmp_path / "dataset" / FOLDER).rglob("*.tar"):
        path.write_bytes(path.read_bytes().partition(b"a picture")[0])
    small.build(manifest)
    assert sorted(runs(manifest)) == [0, 2, 3, 4, 5]


def test_rows_of_an_earlier_run_count_in_no_rate(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(manifest, monkeypatch, after=5)
    counted: list[tuple[int, int]] = []
    monkeypatch.setattr(Progress, "part", lambda self, *committed: counted.append((self._executed, self.clips)))
    small.build(manifest)
    assert counted == [(1, 0)]  # the row that failed


@pytest.mark.slow
def test_after_a_kill_it_goes_on_by_the_row(tmp_path: Path) -> None:
    labels = ["", "", "slow", "dies once", ""]
    manifest = written(tmp_path, labels)
    command = [sys.executable, "-m", "posecap", "build", "--manifest", str(manifest), "--runner", "local"]
    ended = subprocess.run([*command, "--workers", "1"], stderr=subprocess.DEVNULL, timeout=100, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert runs(manifest) == [0, 1, 2, 3]
    result = small.build(manifest)
    assert runs(manifest) == [3, 4]
    assert same_as_undisturbed(result, tmp_path, labels)
    assert verify(result.root).problems == ()


@pytest.mark.parametrize(
    "change",
    [
        {"samples": None},
        {"outcome": {"row_id": "1"}},
        {"frames": "many"},
        {"samples": [{"key": "k"}]},
        {"samples": [asdict(StagedSample(key="k", source_id="s", label=None, pose=FileRange("../../x", 0, 1)))]},
        {"samples": [asdict(StagedSample(key="k", source_id="s", label=None, pose=FileRange(".staging/../x", 0, 1)))]},
    ],
)
def test_records_that_are_no_records_are_passed_over(tmp_path: Path, change: dict[str, object]) -> None:
    row = building.row(row_id="a")
    staging = Staging.start(tmp_path, fingerprint="f" * 64)
    good = {"outcome": RowOutcome(row_id="a", uri="a", status="kept").as_json(), "samples": [], "seconds": {}}
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for record in (json.dumps({**good, "frames": 1}), json.dumps({**good, "frames": 1, **change}), "[", "null"):
            ledger.record_finished_rows("f" * 64, {staging.digest(row): record})
            (found,) = OpenRows(ledger, staging).begin([row])
            assert isinstance(found, RowResult) == (record == json.dumps({**good, "frames": 1}))
            assert files_to_keep(ledger, fingerprint="f" * 64) == frozenset()


def of_parts(folder: Path, labels: dict[int, str], *, rows_per_part: int = 3) -> Path:
    """A manifest of rows by number, in several parts."""
    rows = [{"id": number, "video": f"{number}.mp4", "label": label} for number, label in labels.items()]
    path = small.manifest(folder, rows, rows_per_part=rows_per_part)
    (folder / "pipeline.py").write_text(STAGES.replace("VERSION", ""))
    return path


BUILT = {0: "a", 1: "b", 2: "rejected", 3: "a", 4: "failed", 5: "b", 6: "a"}


@pytest.mark.parametrize(
    ("labels", "executed"),
    [
        (BUILT | {7: "new"}, [7]),
        ({9: "first"} | BUILT, [4, 9]),
        (dict(sorted(BUILT.items(), reverse=True)), [4]),
        ({n: label for n, label in BUILT.items() if n != 1}, [4]),
        (BUILT | {0: "edited"}, [0]),
        ({0: "a"}, []),
    ],
    ids=["one more", "one in front", "reversed", "one less", "one edited", "one left"],
)
def test_an_update_executes_rows_that_are_new_edited_or_failed_and_no_others(
    tmp_path: Path, labels: dict[int, str], executed: list[int]
) -> None:
    manifest = of_parts(tmp_path, BUILT)
    small.build(manifest)
    runs(manifest)
    result = small.build(of_parts(tmp_path, labels), on_change="update")
    assert sorted(runs(manifest)) == executed
    undisturbed = small.build(of_parts(tmp_path / "undisturbed", labels))
    assert small.published(result.root) == small.published(undisturbed.root)
    assert verify(result.root).problems == ()
    assert not (result.root / FOLDER).exists()


@pytest.mark.slow
def test_a_dataset_of_any_kind_is_updated_by_the_row(
    tmp_path: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))
    manifest = of_parts(tmp_path, BUILT)
    small.build(manifest, output=location)
    runs(manifest)
    labels = {9: "first"} | BUILT
    small.build(of_parts(tmp_path, labels), output=location, on_change="update")
    assert sorted(runs(manifest)) == [4, 9]
    undisturbed = small.build(of_parts(tmp_path / "undisturbed", labels))
    assert small.published(location) == small.published(undisturbed.root)
    assert [file.name for file in open_storage(location).list() if FOLDER in file.name] == []


def test_an_update_that_is_stopped_keeps_rows_of_parts_that_it_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = of_parts(tmp_path, BUILT)
    small.build(manifest)
    runs(manifest)
    labels = {9: "first"} | BUILT
    of_parts(tmp_path, labels, rows_per_part=2)
    count = Progress.part

    def stopping(self: Progress, *committed: Any) -> None:
        count(self, *committed)
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "part", stopping)
        with pytest.raises(OSError, match="the disk is gone"):
            small.build(manifest, on_change="update")
    result = small.build(manifest, on_change="update")
    assert sorted(set(runs(manifest))) == [4, 9]
    undisturbed = small.build(of_parts(tmp_path / "undisturbed", labels, rows_per_part=2))
    assert small.published(result.root) == small.published(undisturbed.root)


def test_rows_of_a_damaged_part_are_executed(tmp_path: Path) -> None:
    manifest = of_parts(tmp_path, BUILT)
    root = small.build(manifest).root
    runs(manifest)
    tar = root / "data/train/pose-00000.tar"
    content = bytearray(tar.read_bytes())
    content[1000] ^= 1
    tar.write_bytes(content)
    labels = {9: "first"} | BUILT
    small.build(of_parts(tmp_path, labels), on_change="update")
    assert sorted(runs(manifest)) == [0, 1, 2, 4, 9]
    assert verify(root).problems == ()


def test_previews_move_with_their_rows(tmp_path: Path) -> None:
    manifest = of_parts(tmp_path, BUILT)
    stages = STAGES.replace("VERSION", "").replace("row=row)", "row=row, thumbnail_jpeg=b'jpeg')")
    manifest.with_name("pipeline.py").write_text(stages)
    root = small.build(manifest).root
    before = {path.stem for path in root.glob("preview/*/*.jpg")}
    of_parts(tmp_path, {9: "rejected"} | BUILT)
    manifest.with_name("pipeline.py").write_text(stages)
    small.build(manifest, on_change="update")
    found = {path.stem: path.parent.name for path in root.glob("preview/*/*.jpg")}
    assert found.keys() == before
    assert found[building.sample(seed=6, row=building.row(row_id="6", uri="6.mp4", label="a", captions=())).key]
