"""MATLAB files: the arrays that scipy writes and reads, and errors, never the end of the process, for damaged ones."""

import io
import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from tests import DATA
from tmor_train.data.datasets.files import variables

ARRAYS: dict[str, Any] = {
    **{kind: np.arange(-3, 3).astype(kind).reshape(2, 3) for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")},
    "single": np.float32([[1.5, np.nan]]),
    "double": np.random.default_rng(0).normal(size=(2, 3, 4)),
    "logical": np.array([[True, False]]),
    "whole": np.float64([[1, 2], [3, 400]]),
    "none": np.zeros((0, 3)),
}


def written(**arrays: Any) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, arrays)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_numbers_and_text_are_those_of_scipy(compressed: bool) -> None:
    named = {f"a_{name}": array for name, array in ARRAYS.items()}
    texts = {"word": "golf_swing", "rows": np.array(["ab", "cd"]), "wide": "né 漢", "empty": ""}
    file = io.BytesIO()
    scipy.io.savemat(file, named | texts, do_compression=compressed)
    found = variables(file.getvalue())
    assert set(found) == set(named) | set(texts)
    for name, array in named.items():
        loaded = found[name].load()
        assert found[name].shape == loaded.shape == array.shape
        np.testing.assert_array_equal(loaded, array)
    assert found["word"].load().tolist() == ["golf_swing"]
    assert found["rows"].load().tolist() == ["ab", "cd"]
    assert found["wide"].load().tolist() == ["né 漢"]
    assert "".join(found["empty"].load()) == ""


def test_a_file_of_a_machine_with_the_other_order_of_bytes() -> None:
    def element(kind: int, content: bytes) -> bytes:
        return np.array([kind, len(content)], ">u4").tobytes() + content + bytes(-len(content) % 8)

    numbers = np.array([[1, 2], [3, 4.5]], ">f8")
    parts = [(6, np.array([6, 0], ">u4")), (5, np.array([2, 2], ">i4")), (1, np.frombuffer(b"x", "u1")), (9, numbers.T)]
    matrix = element(14, b"".join(element(kind, part.tobytes()) for kind, part in parts))
    found = variables(bytes(124) + b"\x01\x00MI" + matrix)
    assert (found["x"].kind, found["x"].load().tolist()) == ("double", [[1, 2], [3, 4.5]])


def test_other_kinds_have_their_name_and_are_not_loaded() -> None:
    others = {"cell": np.array([[1, "a"]], object), "struct": {"a": 1.0}, "complex": np.array([[1j]])}
    found = variables(written(**others, fine=1.0))
    assert {name: one.kind for name, one in found.items() if name != "fine"} == {
        "cell": "cell",
        "struct": "struct",
        "complex": "complex double",
    }
    assert found["fine"].load().tolist() == [[1]]
    with pytest.raises(ValueError, match="no plain numbers"):
        found["cell"].load()


def test_no_more_is_unpacked_than_the_shape_needs() -> None:
    matrix = bytearray(written(x=np.zeros((1, 1 << 20)))[128:])
    sides = matrix.index(np.array([1, 1 << 20], "<i4").tobytes())
    matrix[sides : sides + 8] = np.array([1, 3], "<i4").tobytes()
    packed = zlib.compress(bytes(matrix))
    content = written()[:128] + np.array([15, len(packed)], "<u4").tobytes() + packed
    with pytest.raises(ValueError, match="cut off"):
        variables(content)["x"].load()


def test_damaged_files_are_errors() -> None:
    """scipy's reader ends the process on some of these."""
    draw = random.Random(0)
    texts = {"word": "golf_swing", "flag": np.int32([[1]])}
    whole = [written(**texts, x=np.ones((2, 13)))]
    file = io.BytesIO()
    scipy.io.savemat(file, texts, do_compression=True)
    whole.append(file.getvalue())
    for number in range(3000):
        content = bytearray(whole[number % 2])
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(content))
            content[at : at + draw.randint(0, 2)] = draw.randbytes(draw.randint(0, 2))
        try:
            loaded = [one.load() for one in variables(bytes(content)).values()]
        except (ValueError, LookupError, zlib.error):
            continue
        assert sum(array.nbytes for array in loaded) < 1 << 20


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "skeletons").is_dir(), reason=f"the real sets are not at {DATA}")
@pytest.mark.parametrize("pattern", ["penn_action/labels/*0.mat", "utd_mhad/*_s1_*.mat"])
def test_real_files_are_read_as_by_scipy(pattern: str) -> None:
    paths: list[Path] = sorted((DATA / "skeletons").glob(pattern))
    assert paths
    for path in paths:
        known = scipy.io.loadmat(path)
        for name, one in variables(path.read_bytes()).items():
            loaded = one.load()
            assert loaded.dtype.kind == known[name].dtype.kind
            np.testing.assert_array_equal(loaded, known[name])
