"""A Lance dataset: read, searched and indexed by Lance itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from posecap.export import ExportError, export
from posecap.export import lance as exporter
from posecap.files import OutputExistsError
from posecap.shards import Dataset, ShardError
from posecap.types import PartName
from tests import building, built
from tests.posecap.export.test_parquet import same, samples

lance = pytest.importorskip("lance", reason="needs posecap[lance]")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dataset")
    built.build(path)
    return path


def test_lance_reads_and_searches_it(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "_BATCH_BYTES", 1)  # batch by batch
    assert export(root, tmp_path / "clips.lance", form="lance") == 5
    dataset = lance.dataset(tmp_path / "clips.lance")
    rows = dataset.to_table().to_pylist()
    assert [same(row, sample) for row, sample in zip(rows, samples(root), strict=True)]
    third = samples(root)[2]
    nearest = dataset.to_table(
        columns=["key", "_distance"], nearest={"column": "video", "q": third["video"].numpy(), "k": 1}
    )
    assert nearest.to_pylist() == [{"key": third["key"], "_distance": pytest.approx(0, abs=1e-6)}]
    assert dataset.take([3], columns=["key"]).to_pylist() == [{"key": samples(root)[3]["key"]}]
    assert dataset.count_rows("T > 5") == 4


def test_vectors_of_several_lengths(tmp_path: Path) -> None:
    rows = [building.row(row_id=f"row-{n}", uri=f"{n}.mp4") for n in range(2)]
    made = [building.sample(seed=n, row=row, video_dimension=4 + n) for n, row in enumerate(rows)]
    built.build(tmp_path / "dataset", {PartName("train", 0): made})
    export(tmp_path / "dataset", tmp_path / "clips.lance", form="lance")
    found = lance.dataset(tmp_path / "clips.lance").to_table(columns=["video"])["video"].to_pylist()
    for vector, sample in zip(found, made, strict=True):
        np.testing.assert_array_equal(np.float32(vector), sample.video_D)


def test_errors_of_the_clips_come_through(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise ShardError("the tar is damaged")

    monkeypatch.setattr(Dataset, "members", failing)
    with pytest.raises(ShardError, match=r"^the tar is damaged$"):
        export(root, tmp_path / "clips.lance", form="lance")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_stops_the_thread_that_reads(tmp_path: Path) -> None:
    """In a process of its own, whose end shows whether the thread outlives it."""
    built.build(tmp_path / "dataset")
    program = f"""
import os, signal, sys
from posecap.cli import main
from posecap.export import Clips, lance

whole, lance._BATCH_BYTES = Clips.samples, 1

def interrupted(self, fields):
    for _ in range(1000):
        for number, sample in enumerate(whole(self, fields)):
            if number == 3:
                os.kill(os.getpid(), signal.SIGINT)
            yield sample

Clips.samples = interrupted
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(["export", {str(tmp_path / "dataset")!r}, "--format", "lance", "--output", {str(tmp_path / "out")!r}]))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr.split()) == (130, ["stopped"])
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_a_folder_is_never_replaced(root: Path, tmp_path: Path) -> None:
    (tmp_path / "clips.lance").mkdir()
    assert export(root, tmp_path / "clips.lance", form="lance") == 5  # an empty one is as good as none
    with pytest.raises(OutputExistsError, match="already exists; remove it"):
        export(root, tmp_path / "clips.lance", form="lance", existing="replace")


def test_without_the_package(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(ModuleNotFoundError, match=r"lance is not installed, .* pip install 'posecap\[lance\]'"):
        export(root, tmp_path / "clips.lance", form="lance")
    assert not list(tmp_path.iterdir())


def test_extra_members_are_named_where_there_is_no_place_for_them(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"leave out text\.wide, or take lance or parquet"):
        export(root, tmp_path / "clips.json", form="coco", extra=["text.wide"])
