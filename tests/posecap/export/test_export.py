"""What formats with a folder share: nothing is written outside of it, and what a killed export left goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from posecap.cli import main
from posecap.export import Clips, clip_path, export
from posecap.files import OutputExistsError
from posecap.shards import ShardError
from posecap.types import PartName
from tests import built


@pytest.mark.parametrize("form", ["fiftyone", "rerun"])
def test_facts_that_lead_elsewhere(form: str, tmp_path: Path) -> None:
    """The facts of a dataset that `posecap verify` would find unsound."""
    if form == "rerun":
        pytest.importorskip("rerun", reason="needs posecap[rerun]")
    (made,) = built.samples(1, facts={"split": "../../up"}, video_mp4=b"mp4")
    built.build(tmp_path / "dataset", {PartName("train", 0): [made]})
    with pytest.raises(ShardError, match="is not the name of a part"):
        export(tmp_path / "dataset", tmp_path / "inner" / "clips", form=form)
    assert not list((tmp_path / "inner").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "inner"]


def test_keys_that_lead_elsewhere() -> None:
    with pytest.raises(ShardError, match="must be 1 to 64 letters"):
        clip_path({"key": "../up", "facts": {"split": "train"}}, ".mp4")


def test_an_export_that_was_killed_is_begun_anew(tmp_path: Path) -> None:
    built.build(tmp_path / "dataset")
    (tmp_path / ".clips.part" / "data").mkdir(parents=True)
    (tmp_path / ".clips.part" / "data" / "half.mp4").write_bytes(b"half")
    assert export(tmp_path / "dataset", tmp_path / "clips", form="fiftyone", where="frames > 5") == 4
    assert not list((tmp_path / "clips").rglob("half.mp4"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "dataset"]


def test_an_unfinished_dataset_is_exported_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built.build(tmp_path / "dataset")
    asked = ["export", str(tmp_path / "dataset"), "--format", "coco", "--output"]
    assert main([*asked, str(tmp_path / "whole.json")]) == 0
    assert "not finished" not in capsys.readouterr().err
    (tmp_path / "dataset" / "plan.parquet").write_bytes(b"of the build")
    assert main([*asked, str(tmp_path / "some.json")]) == 0
    assert "is not finished: only the parts that are built are exported" in capsys.readouterr().err


def test_nothing_is_left_of_one_that_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built.build(tmp_path / "dataset")
    whole = Clips.samples

    def interrupted(self: Clips, fields: Any) -> Any:
        yield next(whole(self, fields))
        raise KeyboardInterrupt

    monkeypatch.setattr(Clips, "samples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / "dataset", tmp_path / "clips", form="fiftyone")
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_a_file_where_the_folder_would_be(tmp_path: Path) -> None:
    built.build(tmp_path / "dataset")
    (tmp_path / "clips").write_text("mine")
    with pytest.raises(OutputExistsError, match="already exists; remove it"):
        export(tmp_path / "dataset", tmp_path / "clips", form="fiftyone", existing="replace")
    assert (tmp_path / "clips").read_text() == "mine"
