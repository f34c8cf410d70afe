"""A sample as members and back."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecap.files import AtomicFile, map_file
from posecap.shards import ShardError, serialization
from posecap.shards.serialization import (
    array_in,
    arrays_of,
    facts_json,
    npy_header,
    tar_end,
    tar_header,
    tar_members,
    tar_padding,
)
from posecap.types import Caption, Sample
from tests import building, built
from tests.damage import damaged


def packed(sample):
    return {
        name: memoryview(bytearray(head + bytes(body))) for name, (head, body) in serialization.pack(sample).items()
    }


def test_round_trip() -> None:
    sample = building.sample(people=2, frames=7)
    found = serialization.unpack(sample.key, packed(sample), video_mp4=b"mp4")
    for name in ("joints_MTJ3", "pts_T", "video_D", "text_CD"):
        assert np.array_equal(getattr(found, name), getattr(sample, name))
        assert getattr(found, name).dtype == getattr(sample, name).dtype
    assert found.captions == sample.captions
    assert dict(found.facts) == json.loads(json.dumps(sample.facts))
    assert found.video_mp4 == b"mp4"
    assert packed(found) == packed(sample)


def test_members_in_tar_order_with_the_first_caption_and_all_captions_with_origins() -> None:
    sample = replace(building.sample(), captions=(Caption("Grüße", "row"), Caption("walking", "label")))
    found = packed(sample)
    assert list(found) == ["joints", "pts", "video", "text", "txt", "json"]
    assert bytes(found["txt"]).decode() == "Grüße"
    assert json.loads(bytes(found["json"]))["captions"] == [
        {"text": "Grüße", "origin": "row"},
        {"text": "walking", "origin": "label"},
    ]


def test_arrays_that_do_not_lie_in_c_order_are_written_in_c_order() -> None:
    sample = building.sample(frames=4)
    turned = replace(sample, joints_MTJ3=np.asfortranarray(sample.joints_MTJ3), pts_T=np.repeat(sample.pts_T, 2)[::2])
    assert packed(turned) == packed(sample)


def test_another_dtype_or_axis_is_refused() -> None:
    sample = building.sample()
    with pytest.raises(ShardError, match=f"{sample.key}: joints is <f8"):
        serialization.pack(replace(sample, joints_MTJ3=sample.joints_MTJ3.astype(np.float64)))
    with pytest.raises(ShardError, match="video is <f4 with 2 axes"):
        serialization.pack(replace(sample, video_D=sample.video_D[None]))


@pytest.mark.parametrize("name", ["joints", "pts", "video", "text", "json"])
def test_a_missing_member_is_named(name: str) -> None:
    sample = building.sample()
    rest = {n: content for n, content in packed(sample).items() if n != name}
    with pytest.raises(ShardError, match=f"{sample.key}: member '{name}' is missing"):
        serialization.unpack(sample.key, rest)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"captions": 3}', b'{"captions": [{}]}', b"{}"]
)
def test_hostile_facts_are_refused(content: bytes) -> None:
    sample = building.sample()
    with pytest.raises(ShardError, match=sample.key):
        serialization.unpack(sample.key, {**packed(sample), "json": memoryview(content)})


def test_arrays_that_disagree_are_refused() -> None:
    one, other = building.sample(frames=4), building.sample(frames=5)
    with pytest.raises(ShardError, match=r"frames in pts_T is \(5,\), expected \(4,\)"):
        serialization.unpack(one.key, {**packed(one), "pts": packed(other)["pts"]})


# npy members.


SHAPES = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(tuple)


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


@given(SHAPES, st.sampled_from(["<f4", "<f8"]))
def test_equals_np_save_and_reads_back(shape: tuple[int, ...], descr: str) -> None:
    array = np.arange(np.prod(shape), dtype=descr).reshape(shape)
    written = npy_header(descr, shape) + array.tobytes()
    assert written == saved(array)
    found = array_in(memoryview(bytearray(written)), descr=descr, axes=len(shape))
    assert found.dtype == descr
    assert np.array_equal(found, array)
    assert found.shape == shape


def test_the_array_is_a_view_that_can_be_written_to() -> None:
    content = bytearray(saved(np.zeros(3, np.float32)))
    array_in(memoryview(content), descr="<f4", axes=1)[0] = 1
    assert np.load(io.BytesIO(bytes(content))).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "version 1"),
        (b"PK\x03\x04" + bytes(200), "version 1"),
        (saved(np.zeros((2, 2), np.float32))[:-1], "holds 15 bytes"),
        (saved(np.zeros((2, 2), np.float32)) + b"\0", "holds 17 bytes"),
        (npy_header("<f4", (2**40, 2**40)), "promises"),
        (saved(np.zeros((2, 2), np.float64)), "expected <f4"),
        (saved(np.zeros(4, np.float32)), "expected <f4 with 2 axes"),
        (saved(np.asfortranarray(np.zeros((2, 2), np.float32))), "not one that posecap writes"),
        (saved(np.zeros((2, 2), np.int32)), "not one that posecap writes"),
        (b"\x93NUMPY\x01\x00\x06\x00{1+1}\n", "not one that posecap writes"),
    ],
)
def test_what_is_not_such_an_array_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ShardError, match=message):
        array_in(memoryview(content), descr="<f4", axes=2)


def test_an_array_of_objects_is_never_unpickled() -> None:
    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ShardError, match="not one that posecap writes"):
        array_in(memoryview(file.getvalue()), descr="<f4", axes=1)


# USTAR archives.


NAMES = st.from_regex(r"[a-z0-9]{1,24}\.[a-z]{1,6}(\.npy)?", fullmatch=True)


def archive(contents: dict[str, bytes]) -> bytes:
    written = b"".join(tar_header(n, len(c)) + c + tar_padding(len(c)) for n, c in contents.items())
    return written + tar_end(len(written))


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
    found = {m.name: written[m.offset : m.offset + m.size] for m in tar_members(io.BytesIO(written))}
    assert found == contents
    assert list(found) == list(contents)


def test_every_flipped_byte_outside_the_data_is_found() -> None:
    written = archive({"a.txt": b"x" * 700, "b.txt": b"y"})
    data = {*range(512, 512 + 700), 512 + 1024 + 512}
    for position in sorted(set(range(len(written))) - data)[:: 1 if len(written) < 4096 else 7]:
        damaged = bytearray(written)
        damaged[position] ^= 1
        with pytest.raises(ShardError):
            list(tar_members(io.BytesIO(bytes(damaged))))


def test_a_cut_archive_is_refused_wherever_it_is_cut() -> None:
    written = archive({"a.txt": b"x" * 700})
    for length in range(0, len(written), 256):
        with pytest.raises(ShardError):
            list(tar_members(io.BytesIO(written[:length])))


def test_what_does_not_fit_a_header_is_refused() -> None:
    with pytest.raises(ShardError, match="does not fit"):
        tar_header("n" * 101, 1)
    with pytest.raises(ShardError, match="does not fit"):
        tar_header("n", 8**11)
    assert tar_header("n" * 100, 8**11 - 1)[124:136] == b"77777777777\0"


def write(path: Path, samples: list[Sample]) -> None:
    with AtomicFile(path) as staged:
        writer = serialization.ColumnsWriter(staged)
        for sample in samples:
            writer.add(sample, facts_json(sample))
        writer.close()
        staged.finish()
        staged.publish()


def read(path: Path) -> list[Sample]:
    return [batch.sample(row) for _, batch in serialization.read_columns(map_file(path)) for row in range(batch.rows)]


@pytest.mark.parametrize("batch_bytes", [1, 3000, 1 << 20])
def test_round_trip_in_batches_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_bytes: int) -> None:
    monkeypatch.setattr(serialization, "_COLUMNS_BATCH_BYTES", batch_bytes)
    samples = built.samples(5)
    write(tmp_path / "c", samples)
    found = read(tmp_path / "c")
    assert [s.key for s in found] == [s.key for s in samples]
    for one, other in zip(samples, found, strict=True):
        for name, array in arrays_of(one).items():
            assert np.array_equal(arrays_of(other)[name], array)
        assert other.captions == one.captions
        assert facts_json(other) == facts_json(one)


def test_rows_are_views_that_change_no_file(tmp_path: Path) -> None:
    write(tmp_path / "c", built.samples(2))
    before = (tmp_path / "c").read_bytes()
    base = map_file(tmp_path / "c")
    (_, batch), *_ = serialization.read_columns(base)
    joints = batch.array("joints", 1)
    assert np.shares_memory(joints, base)
    joints[:] = 7
    assert (tmp_path / "c").read_bytes() == before


def test_a_sample_without_captions(tmp_path: Path) -> None:
    (sample,) = built.samples(1)
    write(tmp_path / "c", [replace(sample, captions=(), text_CD=np.zeros((0, 4), np.float32))])
    (found,) = read(tmp_path / "c")
    assert found.captions == ()
    assert found.text_CD.shape[0] == 0


def test_what_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    one, other = built.samples(2)
    broken = other.video_D.copy()
    broken[3] = np.inf
    with pytest.raises(ShardError, match=f"sample {other.key}: video holds NaN or infinity"):
        write(tmp_path / "c", [one, replace(other, video_D=broken)])
    assert list(tmp_path.iterdir()) == []


def test_another_schema_a_cut_file_and_no_arrow_at_all_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "c", built.samples(1))
    content = (tmp_path / "c").read_bytes()
    table = pa.table({"key": ["a"]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    for hostile in (content[:-20], content[:100], b"no arrow" * 20, sink.getvalue().to_pybytes()):
        with pytest.raises(ShardError):
            list(serialization.read_columns(np.frombuffer(bytearray(hostile), np.uint8)))


def test_shapes_that_lie_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "c", built.samples(1))
    base = map_file(tmp_path / "c")
    batch = pa.ipc.open_file(pa.py_buffer(base)).get_batch(0)
    for axis in ("M", "T", "J", "C"):
        wrong = batch.set_column(
            batch.schema.get_field_index(axis), batch.schema.field(axis), pa.array([1_000_000], pa.int32())
        )
        with pytest.raises(ShardError, match="not what their shape says"):
            serialization.ColumnsBatch(wrong, base)


def test_a_damaged_file_is_no_columns_file(tmp_path: Path) -> None:
    built.build(tmp_path)
    whole = next(tmp_path.rglob("*.columns")).read_bytes()
    for content in damaged(whole, count=200, seed=5):
        with contextlib.suppress(ShardError):
            for _, batch in serialization.read_columns(np.frombuffer(bytearray(content), np.uint8)):
                for row in range(batch.rows):
                    batch.sample(row)


def test_facts_with_a_key_twice_are_refused() -> None:
    """Of which one reader would take the first value and another the last, as of a license."""
    with pytest.raises(ShardError, match="'license' appears twice"):
        serialization.read_facts(b'{"license":"CC0-1.0","license":"no copies"}')
