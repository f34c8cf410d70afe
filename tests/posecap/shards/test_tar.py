"""USTAR archives."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecap.shards import ShardError, tar

NAMES = st.from_regex(r"[a-z0-9]{1,24}\.[a-z]{1,6}(\.npy)?", fullmatch=True)


def archive(contents: dict[str, bytes]) -> bytes:
    written = b"".join(tar.header(n, len(c)) + c + tar.padding(len(c)) for n, c in contents.items())
    return written + tar.end(len(written))


@given(st.dictionaries(NAMES, st.binary(max_size=2000), max_size=8))
def test_equals_what_tarfile_writes(contents: dict[str, bytes]) -> None:
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as file:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    assert archive(contents) == expected.getvalue()


@given(st.dictionaries(NAMES, st.binary(max_size=2000), max_size=8))
def test_members_say_where_the_bytes_lie(contents: dict[str, bytes]) -> None:
    written = archive(contents)
    found = {m.name: written[m.offset : m.offset + m.size] for m in tar.members(io.BytesIO(written))}
    assert found == contents
    assert list(found) == list(contents)


def test_every_flipped_byte_outside_the_data_is_found() -> None:
    written = archive({"a.txt": b"x" * 700, "b.txt": b"y"})
    data = {*range(512, 512 + 700), 512 + 1024 + 512}
    for position in sorted(set(range(len(written))) - data)[:: 1 if len(written) < 4096 else 7]:
        damaged = bytearray(written)
        damaged[position] ^= 1
        with pytest.raises(ShardError):
            list(tar.members(io.BytesIO(bytes(damaged))))


def test_a_cut_archive_is_refused_wherever_it_is_cut() -> None:
    written = archive({"a.txt": b"x" * 700})
    for length in range(0, len(written), 256):
        with pytest.raises(ShardError):
            list(tar.members(io.BytesIO(written[:length])))


def test_what_does_not_fit_a_header_is_refused() -> None:
    with pytest.raises(ShardError, match="does not fit"):
        tar.header("n" * 101, 1)
    with pytest.raises(ShardError, match="does not fit"):
        tar.header("n", 8**11)
    assert tar.header("n" * 100, 8**11 - 1)[124:136] == b"77777777777\0"
