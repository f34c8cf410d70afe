from pathlib import Path

import pytest

from tmor_train.cli import main


def test_list_says_what_is_missing_and_where_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "list", "--data-root", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "penn_action" in printed
    assert str(tmp_path / "penn_action/labels") in printed


def test_list_goes_on_after_a_damaged_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tsu").mkdir()
    (tmp_path / "tsu/smarthome_CS_51.json").write_text("{")
    assert main(["bench", "list", "--data-root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [n for n, line in enumerate(lines) if line.startswith("tsu ")]
    assert "damaged" in lines[row]
    assert "smarthome_CS_51.json" in lines[row + 1]
    assert any(line.startswith("shards") for line in lines)


def test_show_counts_the_files_that_it_does_not_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{number:04d}-L" for number in range(30)]
    split = tmp_path / "Split/cross-subject.txt"
    split.parent.mkdir()
    split.write_text(f"Training\n{','.join(names[:20])}\nValidation\n{','.join(names[20:])}\n")
    (tmp_path / "Split/cross-view.txt").write_text(split.read_text())
    assert main(["bench", "show", "pku_mmd", "--data", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[3] == "protocol CS"
    assert "0000-L.txt is missing" in printed[4]
    assert printed[24:26] == ["  … and 40 more are missing", "protocol CV"]


def test_show_names_the_nearest_of_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "show", "tsu"]) == 0
    assert main(["bench", "show", "penn"]) != 0
    assert "penn_action" in capsys.readouterr().err
