"""npy members."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecap.shards import ShardError, npy

SHAPES = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(tuple)


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


@given(SHAPES, st.sampled_from(["<f4", "<f8"]))
def test_equals_np_save_and_reads_back(shape: tuple[int, ...], descr: str) -> None:
    array = np.arange(np.prod(shape), dtype=descr).reshape(shape)
    written = npy.header(descr, shape) + array.tobytes()
    assert written == saved(array)
    found = npy.array_in(memoryview(bytearray(written)), descr=descr, axes=len(shape))
    assert found.dtype == descr
    assert np.array_equal(found, array)
    assert found.shape == shape


def test_the_array_is_a_view_that_can_be_written_to() -> None:
    content = bytearray(saved(np.zeros(3, np.float32)))
    npy.array_in(memoryview(content), descr="<f4", axes=1)[0] = 1
    assert np.load(io.BytesIO(bytes(content))).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "version 1"),
        (b"PK\x03\x04" + bytes(200), "version 1"),
        (saved(np.zeros((2, 2), np.float32))[:-1], "holds 15 bytes"),
        (saved(np.zeros((2, 2), np.float32)) + b"\0", "holds 17 bytes"),
        (npy.header("<f4", (2**40, 2**40)), "promises"),
        (saved(np.zeros((2, 2), np.float64)), "expected <f4"),
        (saved(np.zeros(4, np.float32)), "expected <f4 with 2 axes"),
        (saved(np.asfortranarray(np.zeros((2, 2), np.float32))), "not one that posecap writes"),
        (saved(np.zeros((2, 2), np.int32)), "not one that posecap writes"),
        (b"\x93NUMPY\x01\x00\x06\x00{1+1}\n", "not one that posecap writes"),
    ],
)
def test_what_is_not_such_an_array_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ShardError, match=message):
        npy.array_in(memoryview(content), descr="<f4", axes=2)


def test_an_array_of_objects_is_never_unpickled() -> None:
    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ShardError, match="not one that posecap writes"):
        npy.array_in(memoryview(file.getvalue()), descr="<f4", axes=1)
