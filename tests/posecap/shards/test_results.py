"""Stored results come back bit for bit, in equal bytes, and files that hold something else are refused."""

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecap.outcomes import ClipOutcome
from posecap.shards import ShardError
from posecap.shards.results import (
    ResultsEntry,
    ResultsList,
    RowResults,
    StoredClip,
    decode_results,
    encode_results,
    read_results_list,
    row_digest,
    write_results,
)
from posecap.storage import open_storage
from posecap.types import FileRange, PartName, Picture, Span, StagedResults, Tracks, VideoVector
from tests import building

PART, NAME = PartName("train", 3), "results/train-00003.results"
LOST = ClipOutcome(
    status="rejected", start_seconds=1.0, end_seconds=2.5, stage="decode", reason="too_short", detail="x"
)


def stored(**changes: Any) -> StoredClip:
    """A clip with everything; joints are those of its tracks."""
    posed = building.posed(people=2, frames=40)
    tracks = building.tracks_of(posed.joints_MTJ3, layout="coco17")
    known: dict[str, Any] = {
        "span": posed.span,
        "media": replace(posed.media, sample_aspect_ratio=(4, 3), joins=(0.5, 1.25), seconds=12.3),
        "decoder": "d",
        "size": (64, 36),
        "pts_T": posed.pts_T,
        "deinterlaced_frames": 3,
        "damaged_frames": 1,
        "signature": "AQE=",
        "tracks": tracks,
        "detector": "found",
        "tracker": "followed",
        "joints_MTJ3": tracks.joints_MTJ3,
        "layout": "coco17",
        "pose_model": "found",
        "picture": Picture(7, b"a jpeg"),
        "video_vector": VideoVector(np.linspace(-1, 1, 9, dtype=np.float32), Span(0.1, 0.9)),
    }
    return StoredClip(**{**known, **changes})


def of(*entries: StoredClip | ClipOutcome) -> RowResults:
    return RowResults(source_id="a" * 64, size_bytes=123, begins_seconds=4.5, entries=entries)


def bits(value: Any) -> Any:
    """Something that is equal where every bit is."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, StoredClip | Tracks | VideoVector | RowResults):
        return {f.name: bits(getattr(value, f.name)) for f in fields(value)}
    return [bits(one) for one in value] if isinstance(value, tuple) else value


def odd_floats() -> np.ndarray:
    """Joints with every kind of number that a float32 can be, times 1.0."""
    rng = np.random.default_rng(0)
    joints = rng.normal(0, 1e3, (2, 40, 17, 3)).astype(np.float32)
    joints[0, 3, 2] = (-0.0, 1e-42, 3e38)
    return joints


def rounded() -> np.ndarray:
    joints = building.walkers(people=2, frames=40)
    joints[..., :2] = np.rint(joints[..., :2] * 16) / 16
    joints[..., 2] = np.rint(joints[..., 2] * 1024) / 1024
    joints[1, 5:9] = 0
    return joints


@pytest.mark.parametrize(
    "entries",
    [
        (),
        (LOST,),
        (stored(),),
        (LOST, stored(), replace(LOST, start_seconds=None, end_seconds=None, detail="")),
        (stored(joints_MTJ3=odd_floats()),),
        (stored(joints_MTJ3=rounded()), stored(joints_MTJ3=-rounded())),
        (stored(tracks=building.tracks_of(rounded())),),
        (stored(tracks=None, joints_MTJ3=None, layout="", detector="", tracker="", pose_model=""),),
        (stored(joints_MTJ3=None, layout="", pose_model="", picture=None, video_vector=None, lost=LOST),),
        (stored(pts_T=np.cumsum(np.random.default_rng(1).random(40)) - 3),),
        (stored(joints_MTJ3=building.walkers(people=2, frames=40, layout="unik17"), layout="unik17"),),
    ],
)
def test_every_bit_comes_back(entries: tuple[Any, ...]) -> None:
    block = encode_results(of(*entries))
    assert bits(decode_results(block, name="x")) == bits(of(*entries))
    assert encode_results(decode_results(block, name="x")) == block


def test_rounded_joints_take_a_third_of_the_bytes_of_others() -> None:
    rng = np.random.default_rng(0)
    trembling = rounded() + np.float32(1e-3) * rng.random((2, 40, 17, 3), np.float32)
    sizes = [len(encode_results(of(stored(joints_MTJ3=one, tracks=None)))) for one in (rounded(), trembling)]
    assert sizes[0] < 0.5 * sizes[1]


def test_what_no_schema_has_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_results(of(replace(LOST, end_seconds=float("inf"))))


@pytest.mark.parametrize(
    "harm",
    [
        lambda block: block[:-9],
        lambda block: block[:8] + b"not zstd",
        lambda block: (1 << 62).to_bytes(8, "little") + block[8:],
        lambda block: b"",
        lambda block: encode_changed(b'"frames":40', b'"frames":41'),
        lambda block: encode_changed(b'"frames":40', b'"frames":-4'),
        lambda block: encode_changed(b'"people":2', b'"people":9'),
        lambda block: encode_changed(b'"coco17"', b'"nobody"'),
        lambda block: encode_changed(b'"rejected"', b'"refected"'),
    ],
)
def test_a_block_that_holds_something_else_is_told(harm: Any) -> None:
    with pytest.raises(ShardError, match=r"results/x: "):
        decode_results(harm(encode_results(of(LOST, stored()))), name="results/x")


def encode_changed(old: bytes, new: bytes) -> bytes:
    """A block whose header was changed by somebody who knows how blocks are written."""
    import pyarrow as pa

    block = encode_results(of(LOST, stored()))
    size = int.from_bytes(block[:8], "little")
    content = pa.Codec("zstd").decompress(block[8:], decompressed_size=size, asbytes=True)
    assert old in content
    content = content.replace(old, new, 1)
    return len(content).to_bytes(8, "little") + pa.Codec("zstd").compress(content, asbytes=True)


def write(root: Path, rows: str = "abc") -> tuple[ResultsList, list[bytes | None]]:
    """A file of results with two rows that have a block, and one that was rejected as a whole; and their blocks."""
    storage = open_storage(root)
    blocks = [encode_results(of(LOST)), None, encode_results(of(stored()))]
    entries = []
    for name, block in zip(rows, blocks, strict=True):
        staged = None
        if block is not None:
            storage.write(f"staged-{name}", block)
            at = FileRange(f"staged-{name}", 0, len(block))
            staged = StagedResults(at, hashlib.sha256(block).hexdigest(), f"source of {name}")
        ended = None if block else ("decode", "undecodable", "why")
        row = building.row(row_id=name, uri=f"{name}.mp4", end_seconds=4.0)
        entries.append(ResultsEntry(row_id=name, digest=row_digest(row), results=staged, ended=ended))
    results = ResultsList({"decode": "1", "track": "2"}, "v", tuple(entries))
    with storage.writer(NAME) as file:
        write_results(storage, file, results)
        file.finish()
        file.publish()
    return results, blocks


def test_a_file_lists_its_rows_and_gives_their_blocks(tmp_path: Path) -> None:
    written, blocks = write(tmp_path)
    storage = open_storage(tmp_path)
    found = read_results_list(storage, PART)
    assert found is not None
    assert (found.chains, found.vectors) == (written.chains, written.vectors)
    for entry, was, block in zip(found.entries, written.entries, blocks, strict=True):
        assert replace(entry, results=None) == replace(was, results=None)
        if entry.results is None or was.results is None:
            assert entry.results is was.results is block is None
            continue
        assert replace(entry.results, at=was.results.at) == was.results
        assert entry.results.at.file == NAME
        assert storage.read_range(NAME, entry.results.at.offset, entry.results.at.size) == block
    assert read_results_list(storage, PartName("train", 4)) is None


def test_rows_can_be_taken_out_by_their_video_or_id(tmp_path: Path) -> None:
    results, _ = write(tmp_path)
    assert [entry.row_id for entry in results.without({"source of a"}, {"b"}).entries] == ["c"]
    assert results.without((), ()) == results


def test_writing_it_again_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "one")
    write(tmp_path / "two")
    one, two = ((tmp_path / name / "results/train-00003.results").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("at", [3, -1, -20, -45, -60, -100])
def test_damage_to_its_list_is_told(tmp_path: Path, at: int) -> None:
    write(tmp_path)
    path = tmp_path / "results/train-00003.results"
    content = bytearray(path.read_bytes())
    if at > 0:
        content = content[:at]
    else:
        content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShardError, match=r"results/train-00003\.results"):
        read_results_list(open_storage(tmp_path), PART)


@pytest.mark.parametrize(("harm", "words"), [("changed", "staged-c: reading back gives other"), ("gone", "is gone")])
def test_a_block_that_is_not_what_was_staged_is_told(tmp_path: Path, harm: str, words: str) -> None:
    results, _ = write(tmp_path)
    path = tmp_path / "staged-c"
    content = path.read_bytes()
    path.unlink()
    if harm == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with open_storage(tmp_path).writer(NAME) as file, pytest.raises(ShardError, match=words):
        write_results(open_storage(tmp_path), file, results)


def test_a_rows_digest_is_of_its_video_and_span_alone() -> None:
    row = building.row(start_seconds=1.0, end_seconds=2.0)
    same = replace(row, row_id="x", label=None, captions=(), split="test", license=None, source=None, location="/x")
    assert row_digest(same) == row_digest(row)
    for other in ({"uri": "x.mp4"}, {"start_seconds": 1.5}, {"end_seconds": None}):
        assert row_digest(replace(row, **other)) != row_digest(row)
