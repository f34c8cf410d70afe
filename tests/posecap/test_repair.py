"""Damage is moved aside, in a folder and in an object store, and only what was damaged is to be built again."""

from __future__ import annotations

import pytest

from posecap.cli import main
from posecap.finalize import missing_descriptions
from posecap.removal import remove
from posecap.repair import repair
from posecap.shards import committed, remove_samples, write_part
from posecap.storage import open_storage
from posecap.verify import verify
from tests import built
from tests.built import FIRST, SECOND

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
