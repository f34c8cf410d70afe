"""``posecap manifest`` and ``posecap plan``."""

from pathlib import Path

import pytest

from posecap.cli import main
from posecap.manifest.manifest_file import read_manifest


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    for name in ("run/a.mp4", "run/b.mp4", "jump/c.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).write_bytes(b"")
    return tmp_path / "videos"


def test_a_folder_becomes_a_manifest_that_can_be_planned(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "mine.yaml"
    assert main(["manifest", "folder", str(videos), "--output", str(made)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("mine.csv: 3 rows (3 train), 2 labels")
    assert said[1] == f"{made}: fill in license and contact, then"
    assert said[2] == f"  posecap plan --manifest {made}"

    text = made.read_text()
    for key, value in (("license", "CC0-1.0"), ("contact", "me@example.org")):
        text = "\n".join(f"{key}: {value}" if line.startswith(f"{key}:") else line for line in text.splitlines())
    made.write_text(text + "\n")
    assert main(["plan", "--manifest", str(made)]) == 0
    assert "3" in capsys.readouterr().out
    assert not read_manifest(made).output.exists()


def test_a_second_time_needs_a_word(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["manifest", "folder", str(videos), "--output", str(tmp_path / "mine.yaml")]
    assert main(arguments) == 0
    assert main(arguments) == 1
    assert "is there already" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


def test_a_kinetics_list(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "val.csv").write_text("label,youtube_id,time_start,time_end,split\nabseiling,0wR5jVB-WPk,417,427,val\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    assert main(["manifest", "kinetics", "val.csv", "--output", "k.yaml"]) == 0
    assert capsys.readouterr().out.startswith("k.csv: 1 rows (1 val), 1 labels\n")
    assert main(["manifest", "kinetics", "val.csv", "--output", "l.yaml", "--videos", "clips"]) == 1
    assert "1 rows have no file" in capsys.readouterr().err


def test_a_folder_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manifest", "folder", str(tmp_path / "none")]) == 1
    assert "none: is no folder; give the folder that holds the videos" in capsys.readouterr().err


def test_which_kind_must_be_said() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["manifest"])
    assert ended.value.code == 2
