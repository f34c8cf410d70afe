"""Checks of one sample and of a whole dataset."""

from __future__ import annotations

import errno
import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from posecap.cli import main
from posecap.finalize import missing_descriptions
from posecap.outcomes import RowOutcome
from posecap.removal import remove
from posecap.shards import committed, read_sidecar, remove_samples, write_dataset_list, write_part
from posecap.shards.serialization import pack, tar_end, tar_pieces
from posecap.shards.sidecar import encode_document
from posecap.storage import open_storage
from posecap.stream import ShardStream, collate
from posecap.types import PartName, Sample
from posecap.verify import Problem, check_sample, repair, verify
from tests import building, built
from tests.built import FIRST, SECOND


def problems_of(sample: Sample, *, split: str = "train") -> list[str]:
    return list(check_sample(sample, split=split, tolerance_seconds=0.05))


def with_facts(changes: Mapping[str, Any]) -> Sample:
    return building.sample(frames=6, fps=4.0, facts=dict(changes))


def test_a_sound_sample_has_no_problems() -> None:
    assert problems_of(building.sample(people=2, frames=6)) == []
    assert problems_of(building.sample(frames=1)) == []
    assert problems_of(building.sample(layout="unik17")) == []


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"clip_id": "other"}, "facts say clip_id is 'other'"),
        ({"split": "val"}, "facts say split is 'val', the sample says 'train'"),
        ({"people": 2}, "facts say people is 2, the sample says 1"),
        ({"frames": 7}, "facts say frames is 7, the sample says 6"),
        ({"joints": 13}, "facts say joints is 13, the sample says 17"),
        ({"layout": "penn13"}, "joints has 17 joints, layout penn13 has 13"),
        ({"layout": "horse"}, "layout 'horse' is not known"),
        ({"pts_span": [0.0, 1.0]}, "facts say pts_span is (0.0, 1.0), pts runs from 0.0 to 1.25"),
        ({"end_seconds": 1.1}, "skeleton covers 0.000 to 1.250 s of a clip of 0.000 to 1.100 s"),
        ({"start_seconds": 0.1}, "skeleton covers 0.000 to 1.250 s of a clip of 0.100 to 1.500 s"),
        ({"video_span": [0.0, 1.6]}, "video vector covers 0.000 to 1.600 s of a clip of 0.000 to 1.500 s"),
        ({"video_span": [1.0, 0.5]}, "video vector covers 1.000 to 0.500 s"),
        ({"video_span": None}, "facts lack start_seconds, end_seconds, pts_span or video_span"),
        ({"start_seconds": "soon"}, "facts lack start_seconds"),
        ({"layout": ["coco17"]}, "layout ['coco17'] is not known"),
    ],
)
def test_facts_that_disagree(facts: dict[str, Any], what: str) -> None:
    assert what in problems_of(with_facts(facts))[0]


def test_times_may_lie_a_little_outside_the_span() -> None:
    assert problems_of(with_facts({"end_seconds": 1.21, "video_span": [0.0, 1.25]})) == []


def test_not_finite_and_not_increasing() -> None:
    sample = building.sample(frames=4)
    for name in ("joints_MTJ3", "pts_T", "video_D", "text_CD"):
        array = getattr(sample, name).copy()
        array.flat[1] = np.nan
        assert f"{name} holds NaN or infinity" in problems_of(replace(sample, **{name: array}))
    still = sample.pts_T.copy()
    still[2] = still[1]
    assert problems_of(replace(sample, pts_T=still)) == ["pts does not strictly increase"]


def test_nothing_in_it() -> None:
    sample = building.sample(frames=2, facts={"people": 0})
    empty = replace(sample, joints_MTJ3=sample.joints_MTJ3[:0])
    assert problems_of(empty) == ["there is nothing in it: joints (0, 2, 17, 3), video (6,)"]


SIDECAR = "data/train/pose-00000.json"
REBUILD = f"delete {SIDECAR} and run `posecap build` again: only this part is rebuilt"


def found(root: Path) -> list[tuple[str, str]]:
    return [(problem.file, problem.what) for problem in verify(root).problems]


def test_a_sound_dataset_has_no_problems(tmp_path: Path) -> None:
    built.build(
        tmp_path, {**built.parts(), PartName("val", 0): [], PartName("val", 1): built.samples(1, first=9, split="val")}
    )
    remove_samples(tmp_path, [built.parts()[SECOND][0].key], "x")
    verified = verify(tmp_path)
    assert verified.problems == ()
    assert (verified.parts, verified.samples) == (4, 5)
    data = {name: content for name, content in built.files(tmp_path).items() if not name.endswith(".json")}
    assert verified.size_bytes == sum(map(len, data.values()))


def test_clips_without_captions_are_sound_and_fit_a_batch_with_others(tmp_path: Path) -> None:
    (wordless,) = built.samples(1, captions=())
    built.build(tmp_path, {FIRST: [wordless, *built.samples(1, first=1)]})
    assert verify(tmp_path).problems == ()
    for read in ("tar", "columns"):
        batch = collate([*ShardStream(tmp_path, seed=None, read=read)])
        assert batch["text_BCD"].shape == (2, 2, 4)
        assert batch["captions_BC"].tolist() == [[False, False], [True, True]]


def test_one_flipped_byte_anywhere_is_found_and_its_file_named(tmp_path: Path) -> None:
    built.build(tmp_path)
    remove_samples(tmp_path, ["never-seen"], "x")
    draw = random.Random(7)
    for name, content in built.files(tmp_path).items():
        places = {0, len(content) - 1, *(draw.randrange(len(content)) for _ in range(12))}
        for place in sorted(places):
            damaged = bytearray(content)
            damaged[place] ^= 1 << draw.randrange(8)
            (tmp_path / name).write_bytes(damaged)
            problems = verify(tmp_path).problems
            assert name in {problem.file for problem in problems}, (name, place)
            assert all(problem.remedy for problem in problems)
        (tmp_path / name).write_bytes(content)
    assert verify(tmp_path).problems == ()


def test_a_byte_flipped_in_an_array_names_the_sample(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    path = tmp_path / "data/train/pose-00000.tar"
    content = path.read_bytes()
    place = content.index(made[FIRST][1].joints_MTJ3.tobytes())
    path.write_bytes(content[: place + 40] + bytes([content[place + 40] ^ 1]) + content[place + 41 :])
    changed, named = verify(tmp_path).problems
    assert changed.key is None
    assert changed.what == "has changed since it was written: its SHA-256 is not the sidecar's"
    assert named == Problem(
        "data/train/pose-00000.tar",
        "joints in the tar is not joints in the columns file",
        REBUILD,
        made[FIRST][1].key,
        FIRST,
    )
    assert str(named) == f"{named.file}, sample {named.key}: {named.what}; {REBUILD}"


def test_the_remedy_works(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    before = built.files(tmp_path)
    (tmp_path / "data/train/pose-00000.columns").write_bytes(b"torn")
    (problem,) = verify(tmp_path).problems
    assert (problem.file, problem.remedy) == ("data/train/pose-00000.columns", REBUILD)
    (tmp_path / SIDECAR).unlink()
    write_part(tmp_path, FIRST, made[FIRST], record=built.record(made[FIRST]))
    assert built.files(tmp_path) == before


@pytest.mark.parametrize("name", ["pose-00000.tar", "video-00000.tar", "pose-00000.columns"])
def test_a_missing_cut_or_linked_file(tmp_path: Path, name: str) -> None:
    built.build(tmp_path)
    path = tmp_path / "data/train" / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    size = f"has {len(content) - 1} bytes, the sidecar says {len(content)}"
    assert (f"data/train/{name}", size) in found(tmp_path)
    path.unlink()
    assert found(tmp_path) == [(f"data/train/{name}", "is missing, or is not a regular file")]
    (tmp_path / "elsewhere").write_bytes(content)
    path.symlink_to(tmp_path / "elsewhere")
    assert found(tmp_path)[0] == (f"data/train/{name}", "is missing, or is not a regular file")


def test_files_that_no_sidecar_names(tmp_path: Path) -> None:
    built.build(tmp_path)
    strays = ["data/train/.pose-00000.tar.tmp-1", "data/x/pose-00000.tar", "index/old.parquet"]
    for name in strays:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(found(tmp_path)) == [(name, "no sidecar lists this file") for name in strays]


def test_a_key_in_two_parts(tmp_path: Path) -> None:
    samples = built.samples(3)
    built.build(tmp_path, {FIRST: samples[:2], SECOND: samples[1:]})
    (problem,) = verify(tmp_path).problems
    assert (problem.file, problem.key) == ("index/train-00003.parquet", samples[1].key)
    assert problem.what == "several samples have this key, in train/00000, train/00003"


def test_the_list_of_parts(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    (tmp_path / "dataset.json").unlink()
    assert found(tmp_path) == [("dataset.json", "is missing: the build has not been finished")]
    write_dataset_list(tmp_path)
    write_part(tmp_path, SECOND, made[SECOND][:1], record=built.record(made[SECOND][:1]))
    assert found(tmp_path) == [("dataset.json", "its entry for part train/00003 differs from the files on disk")]


def forge(root: Path, **changes: Any) -> None:
    (root / SIDECAR).write_bytes(encode_document({**read_sidecar(root, FIRST), **changes}))
    write_dataset_list(root)


def test_counts_and_outcomes_must_add_up(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    honest = read_sidecar(tmp_path, FIRST)
    rows, counts = honest["rows"], honest["counts"]
    forge(tmp_path, counts={**counts, "rows": {**counts["rows"], "planned": 4}})
    assert found(tmp_path) == [(SIDECAR, "its counts are not those of its rows")]
    forge(tmp_path, rows=[{**rows[0], "status": "failed"}, *rows[1:]])
    assert found(tmp_path) == [
        (SIDECAR, "row row-0 is failed, although a clip of it is kept"),
        (SIDECAR, "its counts are not those of its rows"),
    ]
    forge(tmp_path, **{name: built.record(made[FIRST][1:])[name] for name in ("rows", "counts")})
    assert [(p.key, p.what) for p in verify(tmp_path).problems] == [
        (made[FIRST][0].key, "by the outcomes of its rows this sample is in the shard but not kept")
    ]
    forge(tmp_path, rows=[{**rows[0], "status": ["kept"]}])
    assert (SIDECAR, "does not give the outcome of each row") in found(tmp_path)
    forge(tmp_path, rows=None)
    assert (SIDECAR, "does not give the outcome of each row") in found(tmp_path)
    forge(tmp_path, samples=4)
    assert ("index/train-00000.parquet", "has 3 rows, the sidecar says 4 samples") in found(tmp_path)
    forge(tmp_path, files={})
    assert (SIDECAR, "says 4 samples but names no files") in found(tmp_path)


def test_refused_failed_and_quarantined_rows_count(tmp_path: Path) -> None:
    (kept,) = built.samples(1)
    more = [
        RowOutcome(row_id=f"r{n}", uri="u", status=status, reason="x")
        for n, status in enumerate(("rejected", "failed", "quarantined", "failed"))
    ]
    document = write_part(tmp_path, FIRST, [kept], record=built.record([kept], more=more))
    write_dataset_list(tmp_path)
    assert document["counts"]["rows"] == {"planned": 5, "kept": 1, "rejected": 1, "failed": 2, "quarantined": 1}
    assert found(tmp_path) == []


@pytest.mark.parametrize("other", ["tar", "columns", "index"])
def test_files_that_are_sound_alone_must_agree(tmp_path: Path, other: str) -> None:
    """One file comes from a part with another caption; hashes in the sidecar are made to fit."""
    made = built.build(tmp_path)
    changed = [replace(s, captions=(replace(s.captions[0], text="Nobody."), *s.captions[1:])) for s in made[FIRST]]
    write_part(tmp_path / "other", FIRST, changed, record=built.record(changed))
    name = {
        "tar": "data/train/pose-00000.tar",
        "columns": "data/train/pose-00000.columns",
        "index": "index/train-00000.parquet",
    }[other]
    (tmp_path / name).write_bytes((tmp_path / "other" / name).read_bytes())
    entry = read_sidecar(tmp_path / "other", FIRST)["files"][name]
    forge(tmp_path, files={**read_sidecar(tmp_path, FIRST)["files"], name: entry})
    problems = verify(tmp_path).problems
    assert {problem.key for problem in problems} == {sample.key for sample in made[FIRST]}
    text = " ".join(problem.what for problem in problems)
    assert ("facts in the tar are not the facts in the columns file" in text) == (other != "index")
    assert ("the index says" in text) == (other != "columns")


def test_files_that_hold_fewer_samples(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    write_part(tmp_path / "other", FIRST, made[FIRST][:2], record=built.record(made[FIRST][:2]))
    files = read_sidecar(tmp_path, FIRST)["files"]
    for name, message in {
        "data/train/pose-00000.tar": f"the tar ends before sample {made[FIRST][2].key}",
        "data/train/pose-00000.columns": "is not in the columns file",
        "index/train-00000.parquet": "has 2 rows, the sidecar says 3 samples",
    }.items():
        before = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes((tmp_path / "other" / name).read_bytes())
        entry = read_sidecar(tmp_path / "other", FIRST)["files"][name]
        forge(tmp_path, files={**files, name: entry})
        assert any(message in what for _, what in found(tmp_path)), name
        (tmp_path / name).write_bytes(before)


def test_a_sample_that_contradicts_itself_is_named(tmp_path: Path) -> None:
    one, other = built.samples(2)
    wrong = replace(other, facts={**other.facts, "end_seconds": other.facts["start_seconds"] + 0.01})
    built.build(tmp_path, {FIRST: [one, wrong]})
    problems = verify(tmp_path).problems
    assert {problem.key for problem in problems} == {other.key}
    assert problems[0].what.startswith("skeleton covers 0.000 to 0.200 s of a clip of 0.000 to 0.010 s")


def forge_tar(root: Path, samples: list[Sample], **facts: Any) -> None:
    """The part's tar with other facts in its first sample, and a sidecar with the tar's hash."""
    written = b""
    for number, sample in enumerate(samples):
        packed = dict(pack(sample))
        changed = facts if number == 0 else {}
        # As JSON that Python reads and posecap would not write: with NaN and halves of characters.
        packed["json"] = (b"", memoryview(json.dumps({**json.loads(bytes(packed["json"][1])), **changed}).encode()))
        written += b"".join(bytes(piece) for piece in tar_pieces(sample.key, packed)[0])
    written += tar_end(len(written))
    name = "data/train/pose-00000.tar"
    (root / name).write_bytes(written)
    entry = {"sha256": hashlib.sha256(written).hexdigest(), "size_bytes": len(written)}
    forge(root, files={**read_sidecar(root, FIRST)["files"], name: entry})


@pytest.mark.parametrize(
    "facts",
    [
        *({"layout": []}, {"quality": [1]}, {"quality": "good"}, {"models": 7}, {"row_id": {}}, {"pts_span": {}}),
        *({"video_span": 5}, {"video_span": [1]}, {"video_span": ["a", "b"]}, {"captions": 5}, {"start_seconds": []}),
    ],
    ids=str,
)
def test_facts_of_another_form_are_a_problem_and_no_error(tmp_path: Path, facts: dict[str, Any]) -> None:
    made = built.build(tmp_path)
    forge_tar(tmp_path, made[FIRST], **facts)
    assert {problem.file for problem in verify(tmp_path).problems} == {"data/train/pose-00000.tar"}


def nested(levels: int) -> list[Any]:
    return [nested(levels - 1)] if levels else []


ODD: list[Any] = [None, True, -1, 10**400, float("nan"), "\ud800\x1b[2J", [], [[1, 2]], {}, {"a": []}, nested(400)]


def fields_of(value: Any, *above: str | int) -> list[tuple[str | int, ...]]:
    """The place of every value in a JSON value; of lists only the first item's."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    return [above, *(place for key, item in inner for place in fields_of(item, *above, key))][not above :]


def with_other(value: Any, place: tuple[str | int, ...], other: Any) -> Any:
    """A JSON value with ``other`` in one place."""
    if not place:
        return other
    copy = value.copy()
    copy[place[0]] = with_other(value[place[0]], place[1:], other)
    return copy


def sealed(document: dict[str, Any]) -> bytes:
    """A document with its checksum, with values, too, that posecap would not write."""
    content = json.dumps(document).encode()
    return content[:-1] + b',"seal":"%b"}\n' % hashlib.sha256(content).hexdigest().encode()


EVERY = pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
"""Every seventh of all pairs of a place and an odd value, one or two for each place, or all."""


@EVERY
def test_a_sealed_sidecar_may_hold_anything(tmp_path: Path, step: int) -> None:
    built.build(tmp_path, {FIRST: built.samples(1)})
    sound = read_sidecar(tmp_path, FIRST)
    more = RowOutcome(row_id="r", uri="u", status="failed", stage="decode", reason="x")
    sound["rows"].append(more.as_json())
    for place, other in islice(product(fields_of(sound), ODD), 0, None, step):
        (tmp_path / SIDECAR).write_bytes(sealed(with_other(sound, place, other)))
        problems = verify(tmp_path).problems
        assert problems, (place, other)
        assert all(str(problem).isprintable() for problem in problems)


@EVERY
def test_a_sealed_sample_may_hold_anything(tmp_path: Path, step: int) -> None:
    made = built.build(tmp_path, {FIRST: built.samples(1)})
    sound = json.loads(bytes(pack(made[FIRST][0])["json"][1]))
    for place, other in islice(product(fields_of(sound), ODD), 0, None, step):
        forge_tar(tmp_path, made[FIRST], **with_other(sound, place, other))
        problems = verify(tmp_path).problems
        assert any(problem.file.endswith(".tar") for problem in problems), (place, other)
        assert all(str(problem).isprintable() for problem in problems)


def test_a_sealed_sample_without_people_frames_or_vectors(tmp_path: Path) -> None:
    (sample,) = built.build(tmp_path, {FIRST: built.samples(1)})[FIRST]
    for changes in (
        {"joints_MTJ3": sample.joints_MTJ3[:, :0], "pts_T": sample.pts_T[:0]},
        {"joints_MTJ3": sample.joints_MTJ3[:0]},
        {"joints_MTJ3": sample.joints_MTJ3[:, :, :0]},
        {"video_D": sample.video_D[:0], "text_CD": sample.text_CD[:, :0]},
        {"text_CD": sample.text_CD[:0], "captions": ()},
        {"pts_T": np.full_like(sample.pts_T, np.inf)},
    ):
        forge_tar(tmp_path, [replace(sample, **changes)])
        assert any(problem.key == sample.key for problem in verify(tmp_path).problems), changes


def test_a_columns_file_with_nulls(tmp_path: Path) -> None:
    built.build(tmp_path, {FIRST: built.samples(1)})
    name = "data/train/pose-00000.columns"
    with pa.ipc.open_file(tmp_path / name) as reader:
        batch = reader.get_batch(0)
    for number, field in enumerate(batch.schema):
        columns = [*batch.columns[:number], pa.nulls(1, field.type), *batch.columns[number + 1 :]]
        with pa.ipc.new_file(tmp_path / name, batch.schema) as writer:
            writer.write_batch(pa.record_batch(columns, schema=batch.schema))
        content = (tmp_path / name).read_bytes()
        entry = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        forge(tmp_path, files={**read_sidecar(tmp_path, FIRST)["files"], name: entry})
        assert found(tmp_path) == [("data/train/pose-00000.tar", f"columns: {field.name} holds nulls")]


def test_what_vanishes_or_cannot_be_read_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built.build(tmp_path)
    monkeypatch.setattr("posecap.verify.committed", lambda storage: [FIRST, PartName("train", 7), SECOND])
    assert found(tmp_path) == [("data/train/pose-00007.json", "was removed while the dataset was checked")]
    monkeypatch.undo()

    def fails(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("posecap.verify.file_sha256", fails)
    assert set(found(tmp_path)) == {
        (name, "cannot be read: Input/output error") for name in built.files(tmp_path) if not name.endswith(".json")
    }


@pytest.mark.parametrize("parts", [[1], ["a"], {"a": 1}, [{"part": []}], [{}], 5, None], ids=str)
def test_a_list_of_parts_of_another_form(tmp_path: Path, parts: Any) -> None:
    built.build(tmp_path)
    (tmp_path / "dataset.json").write_bytes(encode_document({"format": 1, "parts": parts}))
    assert {problem.file for problem in verify(tmp_path).problems} == {"dataset.json"}


def test_it_stops_after_so_many_problems_and_an_empty_folder_is_unfinished(tmp_path: Path) -> None:
    assert found(tmp_path) == [("dataset.json", "is missing: the build has not been finished")]
    built.build(tmp_path)
    for name in range(5):
        (tmp_path / f"index/stray-{name}").touch()
    assert len(verify(tmp_path, max_problems=3).problems) == 3


TAR = "data/train/pose-00000.tar"


def flipped(location: str, name: str) -> None:
    storage = open_storage(location)
    content = bytearray(storage.read(name, limit=1 << 30))
    content[len(content) // 2] ^= 1
    storage.write(name, bytes(content))


def test_a_sound_dataset_of_any_location_is_sound(location: str) -> None:
    built.build(location)
    result = verify(location)
    assert (result.problems, result.parts, result.samples) == ((), 2, 5)


def test_a_flipped_bit_is_found_and_its_part_moved_aside(location: str) -> None:
    made = built.build(location)
    before = built.files(location)
    flipped(location, TAR)
    storage = open_storage(location)
    storage.write("data/train/stray", b"x")
    result = verify(location)
    assert {problem.file for problem in result.problems} >= {TAR, "data/train/stray"}
    done = repair(location, result.problems)
    assert (done.parts, done.left) == ((FIRST,), ())
    assert len(done.moved) == 6
    assert storage.size(f"{done.folder}/{TAR}") == len(before[TAR])
    assert committed(location) == [SECOND]
    assert verify(location).problems == ()
    write_part(location, FIRST, made[FIRST], record=built.record(made[FIRST]))
    for name, content in before.items():
        if name != "dataset.json":
            assert storage.read(name, limit=1 << 30) == content


def test_a_removed_clip_that_a_part_still_holds_goes(location: str) -> None:
    made = built.build(location)
    gone = made[SECOND][0].key
    remove_samples(location, [gone], "asked")
    write_part(location, SECOND, made[SECOND], record=built.record(made[SECOND]))
    problems = verify(location).problems
    assert gone in {problem.key for problem in problems}
    assert repair(location, problems).parts == ()
    assert verify(location).problems == ()


def test_what_was_moved_aside_goes_with_a_removal(location: str) -> None:
    made = built.build(location)
    flipped(location, TAR)
    repair(location, verify(location).problems)
    remove(location, [made[SECOND][0].key], reason="asked")
    assert not [name for name in built.files(location) if name.startswith("damaged/")]


def test_damaged_tombstones_are_left_to_people(location: str) -> None:
    built.build(location)
    open_storage(location).write("tombstones.json", b"{}")
    done = repair(location, verify(location).problems)
    assert [problem.file for problem in done.left] == ["tombstones.json"]
    assert open_storage(location).read("tombstones.json", limit=10) == b"{}"


def test_the_command_says_what_it_did(location: str, capsys: pytest.CaptureFixture[str]) -> None:
    built.build(location)
    flipped(location, TAR)
    open_storage(location).write("report.json", b"{}")
    assert main(["verify", location]) == 1
    assert main(["verify", "--repair", location]) == 3
    said = capsys.readouterr().out
    assert f"moved aside to {location}/damaged/" in said
    assert "to be built again: train/00000" in said
    assert open_storage(location).size("report.json") is None
    assert main(["verify", location]) == 0


def test_missing_descriptions_are_made_by_the_next_build(location: str, capsys: pytest.CaptureFixture[str]) -> None:
    built.build(location)
    storage = open_storage(location)
    for name in ("report.json", "card.md", "croissant.json"):
        storage.write(name, b"{}")
    assert missing_descriptions(location) == ["ledger.parquet"]
    assert main(["verify", "--repair", location]) == 3
    assert "missing: ledger.parquet; run `posecap build` again" in capsys.readouterr().out
    assert storage.size("report.json") is None
