"""A dataset comes back from the Lance dataset that was exported of it, also after Lance has changed it."""

from __future__ import annotations

from pathlib import Path

import pytest

from posecap.cli import main
from posecap.export import export
from posecap.imports import ImportFileError, import_dataset
from posecap.verify import verify
from tests import built
from tests.posecap.imports.test_parquet import members

lance = pytest.importorskip("lance", reason="needs posecap[lance]")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    built.build(tmp_path / "dataset", built.with_another_split())
    return tmp_path / "dataset"


@pytest.fixture
def source(root: Path, tmp_path: Path) -> Path:
    assert export(root, tmp_path / "clips.lance", form="lance") == 7
    return tmp_path / "clips.lance"


def test_every_byte_of_the_samples_comes_back(
    root: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(source), "--output", str(tmp_path / "copy")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'copy'}: 7 clips\n"
    assert members(tmp_path / "copy") == members(root)
    assert not verify(tmp_path / "copy").problems


def test_rows_that_were_deleted_stay_away(root: Path, source: Path, tmp_path: Path) -> None:
    gone, *kept = members(root)
    lance.dataset(source).delete(f"key = '{gone[0]}'")
    assert import_dataset(source, tmp_path / "copy") == 6
    assert members(tmp_path / "copy") == kept


def test_damage_links_and_files_elsewhere(source: Path, tmp_path: Path) -> None:
    (data,) = (source / "data").iterdir()
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImportFileError, match=r"clips\.lance: .*export it again with --format lance"):
        import_dataset(source, tmp_path / "copy")
    elsewhere = tmp_path / data.name
    elsewhere.write_bytes(whole)
    data.unlink()
    with pytest.raises(ImportFileError, match="which is not in its folder 'data'"):
        import_dataset(source, tmp_path / "copy")
    data.symlink_to(elsewhere)
    with pytest.raises(ImportFileError, match="is a symbolic link"):
        import_dataset(source, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_other_columns(tmp_path: Path) -> None:
    import pyarrow as pa

    lance.write_dataset(pa.table({"key": ["a"]}), tmp_path / "other.lance")
    with pytest.raises(ImportFileError, match="its columns are not those of an export"):
        import_dataset(tmp_path / "other.lance", tmp_path / "copy")
