"""The columns file."""

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from posecap.files import AtomicFile, map_file
from posecap.shards import ShardError, arrow_file
from posecap.shards.serialization import arrays_of, facts_json
from posecap.types import Sample
from tests import built
from tests.damage import damaged


def write(path: Path, samples: list[Sample]) -> None:
    with AtomicFile(path) as staged:
        writer = arrow_file.ColumnsWriter(staged)
        for sample in samples:
            writer.add(sample, facts_json(sample))
        writer.close()
        staged.finish()
        staged.publish()


def read(path: Path) -> list[Sample]:
    return [batch.sample(row) for _, batch in arrow_file.read_columns(map_file(path)) for row in range(batch.rows)]


@pytest.mark.parametrize("batch_bytes", [1, 3000, 1 << 20])
def test_round_trip_in_batches_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_bytes: int) -> None:
    monkeypatch.setattr(arrow_file, "_BATCH_BYTES", batch_bytes)
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
    (_, batch), *_ = arrow_file.read_columns(base)
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
            list(arrow_file.read_columns(np.frombuffer(bytearray(hostile), np.uint8)))


def test_shapes_that_lie_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "c", built.samples(1))
    base = map_file(tmp_path / "c")
    batch = pa.ipc.open_file(pa.py_buffer(base)).get_batch(0)
    for axis in ("M", "T", "J", "C"):
        wrong = batch.set_column(
            batch.schema.get_field_index(axis), batch.schema.field(axis), pa.array([1_000_000], pa.int32())
        )
        with pytest.raises(ShardError, match="not what their shape says"):
            arrow_file.ColumnsBatch(wrong, base)


def test_a_damaged_file_is_no_columns_file(tmp_path: Path) -> None:
    built.build(tmp_path)
    whole = next(tmp_path.rglob("*.columns")).read_bytes()
    for content in damaged(whole, count=200, seed=5):
        with contextlib.suppress(ShardError):
            for _, batch in arrow_file.read_columns(np.frombuffer(bytearray(content), np.uint8)):
                for row in range(batch.rows):
                    batch.sample(row)
