"""Files are there whole, or not at all."""

from pathlib import Path

import pytest

from tmor_train.atomic_write import OutputExistsError, atomic_write


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.bin"
    with atomic_write(path, existing="refuse") as part:
        part.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert [file.name for file in path.parent.iterdir()] == ["a.bin"]


def test_a_file_is_replaced_only_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with (
        pytest.raises(OutputExistsError, match=r"a.bin already exists; choose another --output, or give --overwrite"),
        atomic_write(path, existing="refuse"),
    ):
        pass
    with atomic_write(path, existing="replace") as part:
        part.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(OutputExistsError, match="name a file in it"), atomic_write(tmp_path, existing="replace"):
        pass


def test_what_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def stopped() -> None:
        with atomic_write(path, existing="replace") as part:
            part.write_bytes(b"half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]
