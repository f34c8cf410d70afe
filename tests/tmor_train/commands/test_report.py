"""``tmor_train report``: where the page is written, and what is refused."""

from pathlib import Path

import pytest

from tmor_train.cli import main
from tmor_train.results import Result, save

pytest.importorskip("matplotlib")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with one result."""
    result = Result(
        benchmark="shards",
        protocol="own",
        mode="probe",
        recipe="probe",
        seed=0,
        checkpoint=None,
        metrics={"top1": 0.5},
        primary_metric="top1",
    )
    save(result, tmp_path / "runs/a")
    return tmp_path / "runs"


def test_the_page_is_written_into_the_folder(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs)]) == 0
    assert capsys.readouterr().out == f"{runs / 'report.html'}: 1 results\n"
    assert (runs / "report.html").is_file()


def test_the_page_is_written_where_asked(runs: Path, tmp_path: Path) -> None:
    assert main(["report", str(runs), "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").is_file()
    assert not (runs / "report.html").exists()


def test_a_missing_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 1
    assert "is not a folder" in capsys.readouterr().err
