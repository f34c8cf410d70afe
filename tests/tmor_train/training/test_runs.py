"""The configuration of a run is written in full or not at all."""

from pathlib import Path

import pytest

from tmor_train.training.runs import CONFIG, RunError, check_new, read_config, write_config


def test_a_configuration_that_cannot_be_written_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_config({"kind": "ProbeConfig"}, tmp_path)
    assert list(tmp_path.iterdir()) == []
    check_new(tmp_path)


def test_a_damaged_configuration_is_no_run(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text("[" * 100_000)
    with pytest.raises(RunError, match=r"holds no run, for its config\.json cannot be read"):
        read_config(tmp_path)
