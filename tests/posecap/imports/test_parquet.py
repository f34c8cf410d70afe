"""A dataset comes back from the Parquet file that was exported of it; files of others are checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import posecap
from posecap import imports
from posecap.cli import main
from posecap.export import export, parquet
from posecap.imports import ImportFileError, import_dataset
from posecap.shards import Dataset
from posecap.verify import verify
from tests import built


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dataset")
    built.build(path, built.with_another_split())
    return path


@pytest.fixture(scope="module")
def file(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("out") / "clips.parquet"
    assert export(root, path, form="parquet") == 7
    return path


def members(root: Path) -> list[tuple[str, dict[str, bytes]]]:
    """Key and bytes of the tar members of each sample."""
    dataset = Dataset(root)
    return [
        (key, {name: bytes(content) for name, content in found.items()})
        for _, key, found in dataset.members(dataset.parts())
    ]


def test_every_byte_of_the_samples_comes_back(
    root: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(file), "--output", str(tmp_path / "copy")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'copy'}: 7 clips\n"
    assert members(tmp_path / "copy") == members(root)
    assert [str(part) for part, _ in Dataset(tmp_path / "copy").parts()] == ["train/00000", "val/00000"]
    found = verify(tmp_path / "copy")
    assert (list(found.problems), found.samples) == ([], 7)
    export(tmp_path / "copy", tmp_path / "again.parquet", form="parquet")
    assert (tmp_path / "again.parquet").read_bytes() == file.read_bytes()
    assert len(list(posecap.open(tmp_path / "copy", split="val"))) == 2


def test_status_of_what_no_build_can_go_on_from(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import_dataset(file, tmp_path / "copy")
    assert main(["status", str(tmp_path / "copy")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(
        "2 parts, 7 rows; without plan.parquet, as what `posecap import` makes, it cannot be built on"
    )
    assert lines[1:] == ["rows   7 kept, 0 rejected, 0 failed, 0 quarantined", "clips  7 kept, 0 rejected, 0 failed"]
    assert main(["status", "--json", str(tmp_path / "copy")]) == 0
    assert json.loads(capsys.readouterr().out)["parts"] == {"planned": None, "built": 2}
    (tmp_path / "copy" / "data" / "val" / "pose-00000.json").write_text("{}")
    assert main(["status", str(tmp_path / "copy")]) == 3
    assert "pose-00000.json" in capsys.readouterr().out


def test_parts_are_bounded(root: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_PART_SAMPLES", 2)
    import_dataset(file, tmp_path / "copy")
    assert [len(rows) for _, rows in Dataset(tmp_path / "copy").parts()] == [2, 2, 1, 2]
    assert members(tmp_path / "copy") == members(root)
    assert not verify(tmp_path / "copy").problems


def changed_facts(**changes: Any) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        facts = [json.dumps({**json.loads(text), **changes}) for text in table["facts"].to_pylist()]
        return table.set_column(table.schema.get_field_index("facts"), table.schema.field("facts"), [facts])

    return change


def changed_people(table: Any) -> Any:
    people = pa.array([3] * len(table), pa.int32())
    return table.set_column(table.schema.get_field_index("M"), table.schema.field("M"), people)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda table: table.drop_columns("pts"), "its columns are not those of an export"),
        (lambda table: pa.concat_tables([table, table]), "is in it twice"),
        (lambda table: table.slice(0, 0), "it holds no clips"),
        (changed_people, "whose length is not what their shape says"),
        (changed_facts(split="../up"), "split '../up' must be"),
        (changed_facts(split=None), "its facts name no split"),
        (changed_facts(row_id=3), "no row_id or uri"),
        (changed_facts(width="wide"), "column 'width' takes"),
        (changed_facts(layout="octopus"), "layout 'octopus' is not known"),
        (changed_facts(end_seconds=0.0), "of a clip of"),
        (changed_facts(note=float("nan")), "not JSON compliant"),
        (changed_facts(note="\ud800"), "surrogates not allowed"),
        (changed_facts(quality=[1]), "quality and models in its facts must be objects"),
    ],
)
def test_files_of_others_are_checked(file: Path, tmp_path: Path, change: Callable[[Any], Any], says: str) -> None:
    pq.write_table(change(pq.read_table(file)), tmp_path / "other.parquet")
    with pytest.raises(ImportFileError, match=says) as raised:
        import_dataset(tmp_path / "other.parquet", tmp_path / "copy")
    assert str(raised.value).startswith(f"{tmp_path / 'other.parquet'}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["other.parquet"]


def test_large_row_groups_damage_and_folders(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clips.json").write_text("{}")
    with pytest.raises(
        ImportFileError, match=r"clips\.json is no export that can be imported: fiftyone, lance, parquet are"
    ):
        import_dataset(tmp_path / "clips.json", tmp_path / "copy")
    (tmp_path / "cut.parquet").write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ImportFileError, match=r"cut\.parquet: "):
        import_dataset(tmp_path / "cut.parquet", tmp_path / "copy")
    whole = bytearray(file.read_bytes())
    whole[100:400] = bytes(300)
    (tmp_path / "damaged.parquet").write_bytes(whole)
    with pytest.raises(ImportFileError, match=r"damaged\.parquet: "):
        import_dataset(tmp_path / "damaged.parquet", tmp_path / "copy")
    with pytest.raises(ImportFileError, match="there is no such file"):
        import_dataset(tmp_path / "none.parquet", tmp_path / "copy")
    with pytest.raises(ImportFileError, match="already exists"):
        import_dataset(file, tmp_path)
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 100)
    with pytest.raises(ImportFileError, match="at most 100 are read"):
        import_dataset(file, tmp_path / "copy")
