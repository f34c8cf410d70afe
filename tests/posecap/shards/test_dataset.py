"""Reading datasets, local and remote, and removing clips for good."""

import hashlib
import io
import json
import re
import shutil
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from posecap.outcomes import ClipOutcome, RowOutcome
from posecap.shards import (
    INDEX_SCHEMA,
    Dataset,
    ShardError,
    Tombstones,
    dataset,
    read_part,
    read_sidecar,
    read_tombstones,
    reject_removed,
    remove_samples,
)
from posecap.shards.serialization import arrays_of
from posecap.storage import base
from posecap.types import PartName, Sample
from posecap.verify import verify
from tests import built
from tests.built import FIRST, SECOND


def same(one: Sample, other: Sample) -> None:
    assert one.key == other.key
    assert one.captions == other.captions
    for name, array in arrays_of(one).items():
        assert np.array_equal(arrays_of(other)[name], array)


class Ranges(SimpleHTTPRequestHandler):
    """Serves byte ranges, as file servers do."""

    def send_head(self):  # type: ignore[no-untyped-def]
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if asked is None or not path.is_file():
            return super().send_head()
        content = path.read_bytes()
        first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        return io.BytesIO(content[first : last + 1])

    def log_message(self, *args: object) -> None:
        pass


class NoRanges(SimpleHTTPRequestHandler):
    """Python's own server, which sends whole files whatever is asked."""

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(params=["folder", "file", "memory", "http", "http without ranges"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    built.build(tmp_path)
    if request.param == "folder":
        yield str(tmp_path)
    elif request.param == "file":
        yield f"file://{tmp_path}"
    elif request.param == "memory":
        url = f"memory://{uuid.uuid4().hex}/d"
        filesystem, root = fsspec.core.url_to_fs(url)
        for name, content in built.files(tmp_path).items():
            filesystem.pipe_file(f"{root}/{name}", content)
        yield url
    else:
        handler = Ranges if request.param == "http" else NoRanges
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path)))
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        server.server_close()
        thread.join()


def test_reads_the_same_everywhere(location: str) -> None:
    made = built.parts()
    everything = [*made[FIRST], *made[SECOND]]
    found = Dataset(location)
    table = found.index().to_table()
    assert table.schema == INDEX_SCHEMA
    assert table["key"].to_pylist() == [sample.key for sample in everything]
    assert [(part, rows.tolist()) for part, rows in found.parts()] == [(FIRST, [0, 1, 2]), (SECOND, [0, 1])]
    for sample in everything:
        same(found.sample(sample.key), sample)
    with_video = found.sample(everything[0].key, index=table, video="attach")
    assert with_video.video_mp4 == everything[0].video_mp4
    same(found.sample(everything[0].key, index=found.index()), everything[0])
    assert found.index().to_table(columns=["key"], filter=pc.field("T") > 8)["key"].to_pylist() == [everything[-1].key]
    assert sum(batch.num_rows for batch in found.index().to_batches()) == found.index().count_rows() == 5
    members = [key for _, key, _ in found.members([(SECOND, np.arange(2))])]
    assert members == [sample.key for sample in made[SECOND]]
    twice = [(SECOND, np.arange(2)), (FIRST, np.arange(1)), (SECOND, np.arange(1))]
    assert [part for part, _, _ in found.members(iter(twice))] == [SECOND, SECOND, FIRST, SECOND]
    (start, batch), *_ = found.column_batches(SECOND)
    assert (start, batch.keys) == (0, members)
    same(batch.sample(1), made[SECOND][1])
    wanted = [(FIRST, np.array([1])), (SECOND, np.array([0, 1]))]
    taken = [batch.keys[row] for _, batch, rows in found.columns(wanted) for row in rows]
    assert taken == [made[FIRST][1].key, *members]
    with pytest.raises(ShardError, match="no sample 'x' in the dataset"):
        found.sample("x")


def test_columns_of_a_store_are_read_one_part_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {PartName("train", number): built.samples(1, first=number) for number in range(4)}
    root = f"memory://{uuid.uuid4().hex}"
    made = built.build(root, parts)
    found = Dataset(root)
    mapped: list[str] = []
    original = type(found._storage).map

    def counting(storage: object, name: str) -> np.ndarray:
        mapped.append(name)
        return original(storage, name)

    monkeypatch.setattr(type(found._storage), "map", counting)
    batches = found.columns(found.parts())
    assert next(batches)[1].keys == [made[PartName("train", 0)][0].key]
    assert len(mapped) <= 2
    assert [batch.keys[0] for _, batch, _ in batches] == [
        made[PartName("train", number)][0].key for number in (1, 2, 3)
    ]
    assert len(mapped) == 4


def test_splits(tmp_path: Path) -> None:
    made = built.build(tmp_path, {FIRST: built.samples(2), PartName("val", 0): built.samples(1, first=2, split="val")})
    found = Dataset(tmp_path)
    assert found.index("val").to_table()["key"].to_pylist() == [made[PartName("val", 0)][0].key]
    assert found.index("test").count_rows() == 0
    assert found.index("test").schema == INDEX_SCHEMA


def test_one_range_read_per_sample_and_neighbours_share_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = built.build(tmp_path, {FIRST: built.samples(6)})[FIRST]
    found = Dataset(tmp_path)
    reads: list[str] = []
    range_of = base._range_of

    def counting(file: Any, name: str, start: int, size: int) -> bytearray:
        reads.append(name)
        return range_of(file, name, start, size)

    monkeypatch.setattr(base, "_range_of", counting)
    found.sample(made[3].key)
    assert reads == ["data/train/pose-00000.tar"]
    reads.clear()
    assert [key for _, key, _ in found.members([(FIRST, np.array([0, 1, 2, 4, 5]))])] == [
        made[n].key for n in (0, 1, 2, 4, 5)
    ]
    assert len(reads) == 2
    reads.clear()
    monkeypatch.setattr(dataset, "_BLOCK_BYTES", 1)
    assert len(list(found.members([(FIRST, np.arange(6))]))) == len(reads) == 6


def test_parts_without_a_sidecar_are_not_there(tmp_path: Path) -> None:
    built.build(tmp_path)
    (tmp_path / "data/train/pose-00000.json").unlink()
    assert [part for part, _ in Dataset(tmp_path).parts()] == [SECOND]


def test_no_folder_no_list_and_no_video_are_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="there is no such folder"):
        Dataset(tmp_path / "nothing")
    with pytest.raises(ShardError, match="is its build complete"):
        Dataset(f"memory://{uuid.uuid4().hex}").parts()
    made = built.build(tmp_path)
    with pytest.raises(ShardError, match="stores no video"):
        Dataset(tmp_path).sample(made[SECOND][0].key, video="attach")


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    named = r"plan\.parquet, ledger\.sqlite, dataset\.json or part"
    with pytest.raises(ShardError, match=f"not a dataset directory: it has no {named}$"):
        Dataset(tmp_path)
    for name in "ba":
        built.build(tmp_path / name)
    inside = f"; datasets in it are {tmp_path / 'a'}, {tmp_path / 'b'}"
    with pytest.raises(ShardError, match=re.escape(inside) + "$"):
        Dataset(tmp_path)
    (tmp_path / "plan.parquet").touch()
    assert Dataset(tmp_path).index().count_rows() == 0


def swap_index(root: Path, **columns: list[int]) -> None:
    import pyarrow.parquet as pq

    path = root / "index/train-00000.parquet"
    table = pq.read_table(path)
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, INDEX_SCHEMA.field(name), pa.array(values, pa.int64()))
    pq.write_table(table.cast(INDEX_SCHEMA), path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"txt_offset": [0, 0, 0]}, "cannot lie at bytes -512"),
        ({"txt_size": [-1, -1, -1]}, "cannot lie"),
        ({"json_size": [2**40] * 3}, "cannot lie"),
        ({"json_size": [2**30] * 3}, "ends before byte"),
        ({"txt_offset": [1024, 1024, 1024]}, r"no \w+\.txt where the index says"),
    ],
)
def test_an_index_that_lies_is_found(tmp_path: Path, columns: dict[str, list[int]], message: str) -> None:
    built.build(tmp_path)
    swap_index(tmp_path, **columns)
    with pytest.raises(ShardError, match=message):
        list(Dataset(tmp_path).members([(FIRST, np.arange(3))]))


def test_a_list_that_names_other_paths_is_refused() -> None:
    from posecap.shards.sidecar import encode_document

    url = f"memory://{uuid.uuid4().hex}"
    filesystem, root = fsspec.core.url_to_fs(url)
    hostile = {"format": 1, "parts": [{"part": "../../x/00000", "samples": 1}]}
    filesystem.pipe_file(f"{root}/dataset.json", encode_document(hostile))
    with pytest.raises(ShardError, match="not the name of a part"):
        Dataset(url).parts()


@pytest.mark.parametrize("samples", ["many", None, float("inf"), [1]], ids=str)
def test_a_list_without_numbers_of_samples_is_damaged(samples: object) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    content = json.dumps({"format": 1, "parts": [{"part": "train/00000", "samples": samples}]}).encode()
    seal = hashlib.sha256(content).hexdigest().encode()
    with fsspec.open(f"{url}/dataset.json", "wb") as file:
        file.write(content[:-1] + b',"seal":"%b"}\n' % seal)
    with pytest.raises(ShardError, match=r"dataset\.json does not list parts"):
        Dataset(url).parts()


def test_a_sample_is_looked_up_in_the_index_given_and_no_file_but_its_tar_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = built.build(tmp_path)
    index = Dataset(tmp_path).index().to_table()
    shutil.rmtree(tmp_path / "index")
    (tmp_path / "data/train/pose-00003.json").unlink()
    found = Dataset(tmp_path)
    monkeypatch.setattr(Dataset, "part_index", lambda *words: pytest.fail("an index was read"))
    for sample in (made[FIRST][1], made[SECOND][0]):
        assert found.sample(sample.key, index=index).facts == sample.facts


@pytest.mark.parametrize("harm", ["torn", "another schema", "too large"])
def test_the_index_of_a_damaged_part_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    built.build(tmp_path)
    path = tmp_path / "index/train-00003.parquet"
    if harm == "torn":
        path.write_bytes(path.read_bytes()[:-9])
    elif harm == "another schema":
        pq.write_table(pq.read_table(path).drop_columns(["label"]), path)
    else:
        monkeypatch.setattr("posecap.shards.index.MAX_TABLE_BYTES", 100)
    with pytest.raises(ShardError, match=r"index[/ ]"):
        Dataset(tmp_path).index()


def test_a_beginning_that_one_key_has_is_enough(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    keys = [sample.key for samples in made.values() for sample in samples]
    dataset = Dataset(tmp_path)
    assert [dataset.whole_key(key) for key in keys] == keys
    unique = next(keys[0][:n] for n in range(1, 25) if sum(k.startswith(keys[0][:n]) for k in keys) == 1)
    assert dataset.whole_key(unique) == keys[0]
    with pytest.raises(ShardError, match="5 keys begin so"):
        dataset.whole_key("")
    with pytest.raises(ShardError, match=r"zz: no clip of .* has a key that begins so; `posecap inspect --keys`"):
        dataset.whole_key("zz")


def test_a_removed_clip_leaves_every_file_and_the_counts_say_so(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    key = made[FIRST][0].key
    untouched = {name: content for name, content in built.files(tmp_path).items() if "00003" in name}
    assert remove_samples(tmp_path, [key], "asked by the person") == [FIRST]
    found = built.files(tmp_path)
    assert "data/train/video-00000.tar" not in found
    for name in ("data/train/pose-00000.tar", "data/train/pose-00000.columns", "index/train-00000.parquet"):
        assert key.encode() not in found[name]
    assert {name: content for name, content in found.items() if "00003" in name} == untouched
    assert [s.key for s in read_part(tmp_path, FIRST)] == [s.key for s in made[FIRST][1:]]
    document = read_sidecar(tmp_path, FIRST)
    assert document["counts"]["rows"] == {"planned": 3, "kept": 2, "rejected": 1, "failed": 0, "quarantined": 0}
    assert document["counts"]["clips"] == {"kept": 2, "rejected": 1, "failed": 0, "quarantined": 0}
    assert document["counts"]["reasons"] == {"forgotten": 1}
    row = document["rows"][0]
    assert (row["status"], row["stage"], row["reason"], row["detail"]) == (
        "rejected",
        "forget",
        "forgotten",
        "asked by the person",
    )
    assert document["fingerprint"] == "f" * 64
    assert verify(tmp_path).problems == ()


def test_the_rest_of_the_part_is_what_a_build_without_the_clip_gives(tmp_path: Path) -> None:
    made = built.build(tmp_path / "a")
    remove_samples(tmp_path / "a", [made[SECOND][1].key], "x")
    built.build(tmp_path / "b", {FIRST: made[FIRST], SECOND: made[SECOND][:1]})
    one, other = built.files(tmp_path / "a"), built.files(tmp_path / "b")
    for name in ("data/train/pose-00003.tar", "data/train/pose-00003.columns", "index/train-00003.parquet"):
        assert one[name] == other[name]


def test_a_removed_source_takes_all_its_clips_and_may_empty_a_part(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    sources = {sample.facts["source_id"] for sample in made[SECOND]}
    assert remove_samples(tmp_path, [], "withdrawn", sources=sources) == [SECOND]
    assert read_sidecar(tmp_path, SECOND)["files"] == {}
    assert list(read_part(tmp_path, SECOND)) == []
    assert verify(tmp_path).problems == ()


def test_again_is_nothing_and_reasons_add_up(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    one, other = made[FIRST][0].key, made[FIRST][1].key
    remove_samples(tmp_path, [one], "first")
    before = built.files(tmp_path)
    assert remove_samples(tmp_path, [one], "second") == []
    assert built.files(tmp_path) == before
    remove_samples(tmp_path, [other, "never-seen"], "third", sources=["s"])
    assert read_tombstones(tmp_path) == Tombstones(
        {one: "first", other: "third", "never-seen": "third"}, {"s": "third"}
    )


def test_readers_leave_removed_clips_out_before_the_parts_are_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = built.build(tmp_path)
    key, source = made[FIRST][1].key, made[SECOND][0].facts["source_id"]
    monkeypatch.setattr("posecap.shards.dataset._rewrite", lambda *args: False)
    remove_samples(tmp_path, [key], "x", sources=[source])
    kept = [made[FIRST][0].key, made[FIRST][2].key, made[SECOND][1].key]
    dataset = Dataset(tmp_path)
    assert dataset.index().to_table()["key"].to_pylist() == kept
    assert [(part, rows.tolist()) for part, rows in dataset.parts()] == [(FIRST, [0, 2]), (SECOND, [1])]
    for removed in (key, made[SECOND][0].key):
        with pytest.raises(ShardError, match="was removed"):
            dataset.sample(removed)
    found = verify(tmp_path).problems
    assert [(p.key, p.what) for p in found] == [
        (key, "was removed, but the part still holds it"),
        (made[SECOND][0].key, "was removed, but the part still holds it"),
    ]


def test_damaged_tombstones_stop_readers(tmp_path: Path) -> None:
    built.build(tmp_path)
    remove_samples(tmp_path, ["a"], "x")
    content = bytearray((tmp_path / "tombstones.json").read_bytes())
    content[20] ^= 1
    (tmp_path / "tombstones.json").write_bytes(content)
    with pytest.raises(ShardError, match="removed clips would come back"):
        Dataset(tmp_path).index()


def test_a_row_is_kept_as_long_as_one_of_its_clips_is() -> None:
    clips = tuple(ClipOutcome(status="kept", clip_id=key) for key in "ab")
    row = RowOutcome(row_id="r", uri="u", status="kept", clips=clips)
    assert reject_removed(row, {"z": "x"}) == row
    partly = reject_removed(row, {"a": "x"})
    assert (partly.status, [c.status for c in partly.clips]) == ("kept", ["rejected", "kept"])
    wholly = reject_removed(partly, {"a": "never", "b": "y"})
    assert (wholly.status, wholly.reason, wholly.detail) == ("rejected", "forgotten", "y")
    assert [c.detail for c in wholly.clips] == ["x", "y"]


def test_a_key_that_is_a_path_is_rejected(tmp_path: Path) -> None:
    built.build(tmp_path)
    with pytest.raises(ShardError, match="sample key"):
        remove_samples(tmp_path, ["../x"], "x")
    assert read_tombstones(tmp_path) == Tombstones()


def test_a_part_of_which_every_clip_is_removed_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = built.build(tmp_path)
    monkeypatch.setattr("posecap.shards.dataset._rewrite", lambda *args: False)
    remove_samples(tmp_path, [sample.key for sample in made[SECOND]], "x")
    assert [part for part, _ in Dataset(tmp_path).parts()] == [FIRST]
