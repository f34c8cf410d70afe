"""``pipelines/caption_vectors.py``: the captions of skeleton sets, and their vectors as a file."""

from pathlib import Path

import pytest

from tests import ROOT
from tests.programs import program


def test_a_folder_without_sets_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program(ROOT / "pipelines/caption_vectors.py").main([str(tmp_path), str(tmp_path / "captions.parquet")])
    assert "holds none of the folders msr_action3d, " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
