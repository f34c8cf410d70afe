"""Which dataset a command is about, and the commands that read one."""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import asdict
from pathlib import Path

import av
import pytest

from posecap.cli import _parser, main
from posecap.finalize import write_manifest_path
from posecap.ledger import Ledger
from posecap.manifest.manifest_file import read_manifest
from posecap.outcomes import ClipOutcome, RowOutcome, Status, tally
from posecap.plan import make_plan
from posecap.run.pool import Health, NodeChange
from posecap.shards import read_tombstones, remove_samples, write_dataset_list, write_part
from posecap.storage import open_storage
from posecap.types import PartName
from tests import building, built, small

FAILED = RowOutcome(
    row_id="late", uri="late.mp4", status="failed", stage="download", reason="timeout", detail="slow", retryable=True
)
GONE = RowOutcome(row_id="gone", uri="gone.mp4", status="rejected", stage="download", reason="not_found", detail="no")


def run(capsys: pytest.CaptureFixture[str], *arguments: str | os.PathLike[str]) -> tuple[int, str, str]:
    code = main([os.fspath(a) for a in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def unlocked_files(root: Path) -> dict[str, bytes]:
    """A dataset's files without that of the lock."""
    return {name: content for name, content in built.files(root).items() if name != ".lease"}


def subcommands() -> dict[str, argparse.ArgumentParser]:
    """The parsers of all commands that take a dataset, by name."""
    (found,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    return {
        name: parser
        for name, parser in found.choices.items()
        if any(action.dest == "dataset" for action in parser._actions)
    }


MORE = {
    "add": ["--texts", "minilm"],
    "export": ["--format", "parquet", "--output", "clips.parquet"],
    "push": ["./copy"],
    "remove": ["abc"],
    "view": ["abc"],
}
"""What a command needs besides the dataset."""


@pytest.mark.parametrize("name", subcommands())
class TestEveryCommand:
    def test_a_dataset_that_is_missing_or_none_is_an_error(
        self, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "empty").mkdir()
        for place in ("nope", "./nope", tmp_path / "nope", "empty"):
            code, said, error = run(capsys, name, place, *MORE.get(name, ()))
            assert (code, said, error.startswith("posecap: ")) == (1, "", True)
            assert Path(place).name in error
        assert [path.name for path in tmp_path.iterdir()] == ["empty"]

    def test_words_that_it_does_not_know_are_wrong_usage(
        self, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            main([name, str(tmp_path / "nope"), *MORE.get(name, ()), "--nonsense"])
        assert ended.value.code == 2
        assert "DATASET ..." not in capsys.readouterr().err


class TestAtHand:
    def test_the_directory_one_stands_in(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        built.build(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert run(capsys, "verify")[0] == 0

    def test_the_only_one_under_datasets(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        code, _, error = run(capsys, "verify")
        assert (code, "neither the current directory nor one under datasets/ is a dataset" in error) == (1, True)
        built.build(tmp_path / "datasets/one")
        (tmp_path / "datasets/empty").mkdir()
        assert run(capsys, "verify")[0] == 0
        built.build(tmp_path / "datasets/two")
        code, _, error = run(capsys, "verify")
        assert (code, "there are datasets/one, datasets/two" in error) == (1, True)

    def test_what_is_none_is_said(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, _, error = run(capsys, "verify", tmp_path)
        assert code == 1
        assert "is not a dataset directory" in error
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        code, _, error = run(capsys, "inspect", tmp_path / "a", tmp_path / "b")
        assert code == 1
        assert "are both directories" in error

    def test_a_word_that_is_no_directory(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, _, error = run(capsys, "verify", "nonsense")
        assert (code, error) == (
            1,
            "posecap: nonsense is not a directory: name the dataset directory, or leave it out\n",
        )

    def test_an_address(self, capsys: pytest.CaptureFixture[str]) -> None:
        for words in (["verify"], ["inspect"], ["view", "--sheet"], ["view", "abc"]):
            code, _, error = run(capsys, *words, "http://localhost/demo")
            assert (code, error.startswith("posecap: http://localhost/demo is an address")) == (1, True)

    def test_a_path_where_there_is_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for words in (["inspect"], ["view", "abc"], ["remove", "abc"]):
            code, _, error = run(capsys, *words, tmp_path / "nope")
            assert (code, error) == (1, f"posecap: no dataset at {tmp_path / 'nope'}: there is no such folder\n")

    def test_a_word_where_no_dataset_can_be_chosen(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "empty").mkdir()
        assert "posecap: empty is not a dataset directory" in run(capsys, "view", "empty", "abc")[2]
        for words, said in ((["abc"], "there is no directory abc"), (["nope", "abc"], "none of nope, abc is one")):
            code, _, error = run(capsys, "view", *words)
            assert code == 1
            assert error.endswith(f"is a dataset; {said}\n")


class TestVerify:
    def test_a_sound_dataset(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        built.build(tmp_path)
        code, said, _ = run(capsys, "verify", tmp_path)
        assert code == 0
        assert said.startswith("sound: 2 parts, 5 samples, ")

    def test_one_flipped_bit(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        built.build(tmp_path)
        tar = tmp_path / "data/train/pose-00000.tar"
        content = bytearray(tar.read_bytes())
        content[700] ^= 1
        tar.write_bytes(content)
        code, said, _ = run(capsys, "verify", tmp_path)
        assert code == 1
        assert "data/train/pose-00000.tar" in said
        assert "problems in 2 parts" in said


class TestLocation:
    """The same commands on a folder and on the addresses of stores."""

    def test_all_commands(
        self, location: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))
        made = built.build(location)
        rows = [{"id": f"row-{number}", "video": f"videos/{number}.mp4"} for number in range(5)]
        plan = tmp_path / "plan.parquet"
        make_plan(read_manifest(small.manifest(tmp_path, rows, rows_per_part=3)), plan)
        open_storage(location).write("plan.parquet", plan.read_bytes())
        code, said, _ = run(capsys, "status", location)
        assert (code, said.splitlines()[0]) == (0, f"{location}: 2 of 2 parts built, 5 of 5 rows done")
        code, said, _ = run(capsys, "verify", location)
        assert (code, said.startswith("sound: 2 parts, 5 samples")) == (0, True)
        key = made[built.FIRST][0].key
        code, said, _ = run(capsys, "inspect", location, key[:8])
        assert (code, f"sample {key}" in said) == (0, True)
        assert len(run(capsys, "inspect", location, "--keys")[1].splitlines()) == 5
        assert len(run(capsys, "inspect", location, "--keys", "--where", "people == 2")[1].splitlines()) == 2
        sheet = tmp_path / "sheet.jpg"
        code, said, _ = run(capsys, "view", "--sheet", "--blank", location, "--output", sheet)
        assert (code, said) == (0, f"{sheet}: 5 clips\n")
        code, said, _ = run(capsys, "view", "--sheet", "--blank", location, "--output", sheet, "--where", "people == 2")
        assert (code, said) == (0, f"{sheet}: 2 clips\n")
        code, said, _ = run(capsys, "view", location, key, "--output", tmp_path / "clip.gif")
        assert code == 0
        code, said, _ = run(capsys, "remove", location, key)
        assert (code, "1 part rewritten" in said) == (0, True)
        assert read_tombstones(location).keys == {key: "on request"}
        assert run(capsys, "inspect", location, key)[0] == 1
        assert run(capsys, "verify", location)[0] == 0

    def test_no_dataset_there(self, location: str, capsys: pytest.CaptureFixture[str]) -> None:
        code, _, error = run(capsys, "status", location)
        assert code == 1
        assert "no dataset at" in error or "is not a directory" in error

    def test_two_addresses(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, _, error = run(capsys, "inspect", "memory://a", "memory://b")
        assert (code, error) == (1, "posecap: memory://a and memory://b are both addresses: name one dataset\n")


class TestStatus:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """One of two planned parts, three rows: one kept, one failed, one rejected."""
        (tmp_path / "rows.csv").write_text("video\na.mp4\nlate.mp4\ngone.mp4\nb.mp4\n")
        (tmp_path / "m.yaml").write_text(
            "name: n\nversion: '1'\nlicense: CC0-1.0\ncontact: a@b.org\npipeline: p.py\noutput: d\n"
            "tables:\n  - path: rows.csv\nrows_per_part: 3\n"
        )
        root = tmp_path / "d"
        make_plan(read_manifest(tmp_path / "m.yaml"), root / "plan.parquet")
        kept = built.samples(1)
        write_part(root, PartName("train", 0), kept, record=built.record(kept, more=[FAILED, GONE]))
        write_dataset_list(root)
        return root

    def test_counts(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, said, _ = run(capsys, "status", root)
        assert code == 3
        assert said.splitlines() == [
            f"{root}: 1 of 2 parts built, 3 of 4 rows done",
            "rows   1 kept, 1 rejected, 1 failed, 0 quarantined",
            "clips  1 kept, 0 rejected, 0 failed",
            "         1  not_found",
            "         1  timeout",
        ]

    def test_a_label_that_stands_out_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        names = [f"{label}{number}" for label in ("jump", "run") for number in range(15)]
        rows = [{"id": name, "video": f"{name}.mp4", "label": name.rstrip("0123456789")} for name in names]
        root = tmp_path / "d"
        make_plan(read_manifest(small.manifest(tmp_path, rows, rows_per_part=100)), root / "plan.parquet")
        outcomes = []
        for name in names:
            status: Status = "rejected" if name.startswith("jump") else "kept"
            clip = ClipOutcome(status=status, clip_id=name, stage="track", reason="no_person_found")
            outcomes.append(RowOutcome(row_id=name, uri=name, status=status, stage="track", clips=(clip,)))
        record = {**built.record([]), "rows": [outcome.as_json() for outcome in outcomes]}
        write_part(root, PartName("train", 0), [], record=record)
        alarms = [line for line in run(capsys, "status", root)[1].splitlines() if line.startswith("alarm: ")]
        assert [line[7:25] for line in alarms] == ["50 % of 30 labelle", "label 'jump': 100 "]
        assert [a["label"] for a in json.loads(run(capsys, "status", root, "--json")[1])["alarms"][1:]] == ["jump"]

    def test_lists(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        failed = "failed  late  late.mp4  download: timeout (slow, may pass when tried again)"
        rejected = "rejected  gone  gone.mp4  download: not_found (no)"
        assert run(capsys, "status", root, "--failed")[1].splitlines()[-1] == failed
        assert run(capsys, "status", root, "--rejected")[1].splitlines()[-1] == rejected
        assert run(capsys, "status", root, "--failed", "--rejected")[1].splitlines()[-2:] == [failed, rejected]

    def test_rows_that_are_done_in_parts_under_way(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with Ledger(root / "ledger.sqlite") as ledger:
            ledger.record_open_rows({"entered": 1.8e9, **tally([FAILED, GONE]).as_json()})
        said = run(capsys, "status", root)[1]
        assert "open   2 rows done in parts under way at 2027-01-15 08:00:00 UTC: 0 kept, 1 rejected, 1 failed" in said
        assert json.loads(run(capsys, "status", root, "--json")[1])["open"]["rows"]["planned"] == 2

    def test_a_finished_dataset_is_told_from_its_report(
        self, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slowly = run(capsys, "status", root, "--json")
        counts = json.loads(slowly[1])
        report = {"counts": {name: counts[name] for name in ("rows", "clips", "reasons")}, "alarms": []}
        (root / "report.json").write_text(json.dumps(report))
        with monkeypatch.context() as patched:
            patched.setattr("posecap.shards.sidecar.each_sidecar", lambda *words: pytest.fail("sidecars were parsed"))
            assert run(capsys, "status", root, "--json") == slowly
        assert "failed  late" in run(capsys, "status", root, "--failed")[1]

    def test_rejected_clips_of_rows_that_are_kept(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        kept = built.samples(1)
        record = built.record(kept)
        lost = ClipOutcome(status="rejected", start_seconds=1, end_seconds=2, stage="pack", reason="dark", detail="x")
        record["rows"][0]["clips"].append(asdict(lost))
        write_part(root, PartName("train", 0), kept, record=record)
        line = "rejected  row-0  videos/0.mp4  1.000 to 2.000 s  pack: dark (x)"
        assert run(capsys, "status", root, "--rejected")[1].splitlines()[-1] == line
        assert line not in run(capsys, "status", root, "--failed")[1]

    def test_failed_clips_of_rows_that_are_kept(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        kept = built.samples(1)
        record = built.record(kept)
        lost = ClipOutcome(
            status="failed", start_seconds=1, end_seconds=2.5, stage="pose", reason="error", detail="odd frame"
        )
        record["rows"][0]["clips"].append(asdict(lost))
        for number in range(2):
            write_part(root, PartName("train", number), kept if number == 0 else [], record=record)
        code, said, _ = run(capsys, "status", root, "--failed")
        assert code == 3
        assert said.splitlines()[-1] == "failed  row-0  videos/0.mp4  1.000 to 2.500 s  pose: error (odd frame)"

    def test_nodes(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(capsys, "status", root, "--nodes")[1] == run(capsys, "status", root)[1]
        health = Health()
        health.ended("host/1", "kept", "", decided="yes")
        health.ended("host/2", "rejected", "not_found", decided="not yet")
        health.decide({"host/2": "not_found"}, "overruled")
        health.returned("host/2")
        health.change(NodeChange("host/2", "drained", "it is sick"))
        with Ledger(root / "ledger.sqlite") as ledger:
            ledger.record_nodes(health.as_json())
        assert run(capsys, "status", root, "--nodes")[1].splitlines()[-5:] == [
            "node host/1  used  1 kept",
            "node host/2  drained  1 rejected not_found",
            "  it is sick",
            "  ended otherwise on other nodes: not_found 1",
            "  started over on other nodes: 1 row",
        ]
        assert json.loads(run(capsys, "status", root, "--nodes", "--json")[1])["nodes"] == health.as_json()

    def test_json(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        counts = json.loads(run(capsys, "status", root, "--json")[1])
        assert counts["parts"] == {"planned": 2, "built": 1}
        assert counts["rows_planned"] == 4
        assert counts["rows"] == {"planned": 3, "kept": 1, "rejected": 1, "failed": 1, "quarantined": 0}

    def test_complete(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        kept = built.samples(1)
        write_part(root, PartName("train", 0), kept, record=built.record(kept, more=[GONE]))
        more = built.samples(1, first=1)
        write_part(root, PartName("train", 1), more, record=built.record(more))
        assert run(capsys, "status", root)[0] == 0

    def test_a_damaged_part_is_named_and_unfinished(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (root / "data/train/pose-00000.json").write_text("{}")
        code, said, _ = run(capsys, "status", root)
        assert code == 3
        assert "data/train/pose-00000.json is damaged" in said

    def test_nothing_built_yet(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "data").mkdir()
        code, said, error = run(capsys, "status", tmp_path)
        assert (code, said, "is not a dataset directory" in error) == (1, "", True)
        (tmp_path / "ledger.sqlite").touch()
        code, said, error = run(capsys, "status", tmp_path)
        assert code == 1
        assert (said, "has no plan.parquet: run `posecap build`" in error) == ("", True)


class TestInspect:
    def test_the_first_clip_and_a_named_one(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (first, second), *_ = [sorted(s.key for s in kept)[:2] for kept in built.build(tmp_path).values()]
        code, said, _ = run(capsys, "inspect", tmp_path)
        assert code == 0
        assert "joints" in said
        code, said, _ = run(capsys, "inspect", tmp_path, second[:12])
        assert code == 0
        assert second in said
        assert first not in said

    def test_an_unknown_key(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        built.build(tmp_path)
        code, _, error = run(capsys, "inspect", tmp_path, "zzz")
        assert code == 1
        assert "zzz" in error

    def test_the_keys_of_all_clips(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        row = building.row(row_id="odd", split="val", uri="odd.mp4", label=None)
        odd = building.sample(people=1, frames=5, seed=9, row=row)
        odd.facts["uri"] = "odd\x1b[2J\t.mp4"
        made = {**built.parts(), PartName("val", 0): [odd]}
        built.build(tmp_path, made)
        code, said, _ = run(capsys, "inspect", tmp_path, "--keys")
        lines = [line.split("\t") for line in said.splitlines()]
        assert code == 0
        assert [line[0] for line in lines] == [sample.key for samples in made.values() for sample in samples]
        assert lines[0][1:] == ["train", "walking", "videos/0.mp4"]
        assert lines[-1][1:] == ["val", "", "odd?[2J?.mp4"]
        code, _, error = run(capsys, "inspect", tmp_path, lines[0][0], "--keys")
        assert (code, "takes no key" in error) == (2, True)

    def test_a_dataset_without_samples(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        built.build(tmp_path, {PartName("train", 0): []})
        code, _, error = run(capsys, "inspect", tmp_path)
        assert code == 1
        assert "holds no samples" in error


class TestView:
    def test_a_clip_on_a_dark_ground(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (first, *_), *_ = built.build(tmp_path).values()
        out = tmp_path / "clip.mp4"
        code, said, _ = run(capsys, "view", tmp_path, first.key, "--blank", "--output", out)
        assert code == 0
        assert said.splitlines()[0] == f"{out}: {first.pts_T.size} frames of {first.key}"
        with av.open(str(out)) as video:
            assert len(list(video.decode(video=0))) == first.pts_T.size

    def test_a_dark_ground_needs_nothing_of_the_pipeline(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lacking(path: Path) -> None:
            raise ModuleNotFoundError("no module", name="decord")

        (first, *_), *_ = built.build(tmp_path).values()
        write_manifest_path(tmp_path, read_manifest(small.manifest(tmp_path / "of it", [])))
        monkeypatch.setattr("posecap.pipeline.load_pipeline", lacking)
        assert run(capsys, "view", tmp_path, first.key, "--output", tmp_path / "clip.mp4")[0] == 1
        assert run(capsys, "view", tmp_path, first.key, "--blank", "--output", tmp_path / "clip.mp4")[0] == 0

    def test_a_sheet(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        built.build(tmp_path)
        out = tmp_path / "sheet.png"
        code, said, _ = run(capsys, "view", tmp_path, "--sheet", "--count", "3", "--output", out)
        assert (code, said) == (0, f"{out}: 3 clips\n3 of them without footage: no way to fetch footage was given\n")
        assert out.read_bytes()[1:4] == b"PNG"

    def test_a_flags_former_name_still_works_with_a_hint(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        built.build(tmp_path)
        out = tmp_path / "sheet.png"
        code, said, error = run(capsys, "view", tmp_path, "--sheet", "--out", out)
        assert (code, said.splitlines()[0]) == (0, f"{out}: 5 clips")
        assert error == "posecap: --out is called --output now\n"
        with pytest.raises(SystemExit):
            main(["view", "--help"])
        assert "--out " not in capsys.readouterr().out

    def test_a_sheet_of_chosen_clips(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        built.build(tmp_path)
        out = tmp_path / "sheet.png"
        for words, clips in ((["--label", "walking"], 5), (["--worst", "jitter", "--count", "2"], 2)):
            code, said, _ = run(capsys, "view", tmp_path, "--sheet", "--blank", *words, "--output", out)
            assert (code, said) == (0, f"{out}: {clips} clips\n")
        code, _, error = run(capsys, "view", tmp_path, "--sheet", "--worst", "shake")
        assert (code, "shake" in error) == (1, True)
        code, _, error = run(capsys, "view", tmp_path, "--sheet", "--rejected", "--output", out)
        assert (code, error) == (1, f"posecap: {tmp_path} holds no rejected clips\n")

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["abc", "--label", "walking"], "posecap: --split, --label, --where, --worst and --rejected choose the"),
            (["--sheet", "--rejected", "--worst", "jitter"], "posecap: what was rejected has no quality measures"),
        ],
    )
    def test_flags_that_do_not_go_together(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
    ) -> None:
        built.build(tmp_path)
        code, _, error = run(capsys, "view", tmp_path, *words)
        assert (code, error.startswith(said)) == (2, True)

    def test_no_clip_or_several_is_wrong_usage(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        built.build(tmp_path)
        code, _, error = run(capsys, "view", tmp_path)
        assert (code, error) == (2, "posecap: name one clip by its key, or give --sheet for a contact sheet\n")
        with pytest.raises(SystemExit, match="2"):
            main(["view", str(tmp_path), "abc", "abd"])

    def test_a_sheet_takes_no_key(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        built.build(tmp_path)
        code, _, error = run(capsys, "view", "--sheet", tmp_path, "nope")
        assert (code, error) == (2, "posecap: --sheet takes a dataset directory, no key\n")

    def test_a_key_beside_what_is_no_directory(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        built.build(tmp_path)
        monkeypatch.chdir(tmp_path)
        code, _, error = run(capsys, "view", "nope", "abc")
        assert (code, error) == (1, "posecap: no dataset at nope: there is no such folder\n")


class TestExport:
    def test_writes_the_clips_of_a_split(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        built.build(tmp_path / "dataset")
        wanted = ["export", tmp_path / "dataset", "--format", "pyskl", "--output", tmp_path / "clips.pkl"]
        code, out, err = run(capsys, *wanted, "--split", "train", "--where", "frames > 5")
        assert (code, out, err) == (0, f"{tmp_path / 'clips.pkl'}: 4 clips\n", "")
        code, _, err = run(capsys, *wanted)
        assert (code, "give --overwrite" in err) == (1, True)
        assert run(capsys, *wanted, "--overwrite")[0] == 0
        code, _, err = run(capsys, *wanted[:3], "paper", *wanted[4:])
        assert (code, "there is no format 'paper'" in err) == (1, True)

    def test_help_names_every_format(self, capsys: pytest.CaptureFixture[str]) -> None:
        from posecap.export import FORMATS

        with pytest.raises(SystemExit):
            main(["export", "--help"])
        shown = capsys.readouterr().out
        assert all(f"\n  {name} " in shown for name in FORMATS)


class TestRemove:
    def test_a_key_and_a_source(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        first, second = built.build(tmp_path).values()
        (tmp_path / "report.json").write_text("{}")
        (tmp_path / "contact_sheet.jpg").write_bytes(b"faces")
        code, said, _ = run(capsys, "remove", tmp_path, first[0].key, "--source", second[0].facts["source_id"])
        assert code == 0
        assert said.startswith("2 parts rewritten; run `posecap build` again")
        assert not (tmp_path / "report.json").exists()
        assert not (tmp_path / "contact_sheet.jpg").exists()
        code, said, _ = run(capsys, "verify", tmp_path)
        assert code == 0
        assert said.startswith("sound: 2 parts, 3 samples")

    def test_every_clip_of_a_video_by_its_uri(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        samples = [sample for part in built.build(tmp_path).values() for sample in part]
        uri = samples[0].facts["uri"]
        left = [sample for sample in samples if sample.facts["uri"] != uri]
        code, _, _ = run(capsys, "remove", tmp_path, "--video", uri)
        assert code == 0
        _, said, _ = run(capsys, "verify", tmp_path)
        assert f" {len(left)} samples" in said
        code, _, error = run(capsys, "remove", tmp_path, "--video", "https://nowhere/a.mp4")
        assert (code, "https://nowhere/a.mp4: no clip of" in error) == (1, True)

    def test_an_interrupted_call_can_be_repeated(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (first, *_), *_ = built.build(tmp_path).values()
        for words in ([first.key], ["--source", first.facts["source_id"]], ["--video", first.facts["uri"]]):
            with monkeypatch.context() as interrupted:
                interrupted.setattr("posecap.shards.dataset._rewrite", lambda *args: False)
                code, _, error = run(capsys, "remove", tmp_path, *words)
                assert (code, f"{first.key} in index/train-00000.parquet, " in error) == (1, True)
                assert run(capsys, "verify", tmp_path)[0] == 1
                assert run(capsys, "remove", tmp_path, *words)[0] == 1
            assert run(capsys, "remove", tmp_path, *words)[1].startswith("1 part rewritten")
            assert run(capsys, "verify", tmp_path)[0] == 0
            shutil.rmtree(tmp_path)
            tmp_path.mkdir()
            built.build(tmp_path)

    def test_the_beginning_of_a_key(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        first, second = (clips[0].key for clips in built.build(tmp_path).values())
        code, said, _ = run(capsys, "remove", tmp_path, first[:12])
        assert (code, said.splitlines()[0]) == (0, f"removed {first}")
        assert dict(read_tombstones(tmp_path).keys) == {first: "on request"}
        assert run(capsys, "verify", tmp_path)[1].startswith("sound: 2 parts, 4 samples")
        before = unlocked_files(tmp_path)
        for again in (first, first[:12]):
            assert run(capsys, "remove", tmp_path, again)[0] == 0
        assert unlocked_files(tmp_path) == before
        # Earlier versions recorded the beginning itself.
        remove_samples(tmp_path, [second[:12]], "x")
        assert run(capsys, "remove", tmp_path, second[:12])[1].splitlines()[0] == f"removed {second}"

    @pytest.mark.parametrize("words", [["zzz"], ["--source", "0" * 64], ["--source", "0"], ["--video", "gone.mp4"]])
    def test_what_no_clip_has_changes_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
    ) -> None:
        (first, *_), *_ = built.build(tmp_path).values()
        (tmp_path / "report.json").write_text("{}")
        before = unlocked_files(tmp_path)
        code, said, error = run(capsys, "remove", tmp_path, first.key, *words)
        assert (code, said) == (1, "")
        assert error.startswith(f"posecap: {words[-1]}: ")
        assert error.endswith("Nothing was removed\n")
        assert unlocked_files(tmp_path) == before

    def test_a_beginning_that_several_keys_have_changes_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        made = built.samples(17)
        built.build(tmp_path, {PartName("train", 0): made})
        before = unlocked_files(tmp_path)
        shared = next(key[0] for key in (s.key for s in made) if sum(s.key[0] == key[0] for s in made) > 1)
        code, _, error = run(capsys, "remove", tmp_path, shared)
        assert (code, "keys begin so" in error) == (1, True)
        assert unlocked_files(tmp_path) == before

    def test_nothing_named_is_wrong_usage(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        built.build(tmp_path)
        before = built.files(tmp_path)
        code, _, error = run(capsys, "remove", tmp_path)
        assert (code, error) == (2, "posecap: name keys of clips, a --video or a --source\n")
        assert built.files(tmp_path) == before

    def test_not_while_it_is_being_built(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from posecap.storage import open_storage

        (first, *_), *_ = built.build(tmp_path).values()
        with open_storage(tmp_path).lock():
            code, _, error = run(capsys, "remove", tmp_path, first.key)
        assert code == 1
        assert "is being built by process" in error

    def test_its_former_name_still_works_with_a_hint(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (first, *_), *_ = built.build(tmp_path).values()
        code, said, error = run(capsys, "forget", tmp_path, first.key)
        assert (code, error) == (0, "posecap: the command forget is called remove now\n")
        assert said.startswith("1 part rewritten;")


class TestExplore:
    def test_a_page_of_a_dataset(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        built.build(tmp_path / "datasets/mine")
        monkeypatch.chdir(tmp_path)
        code, said, _ = run(capsys, "explore")
        assert (code, said) == (0, "mine.html: 5 clips, 0.1 MB\n")
        assert Path("mine.html").read_text().startswith("<!doctype html>")
        code, _, error = run(capsys, "explore")
        assert (code, "mine.html already exists" in error) == (1, True)
        code, said, _ = run(capsys, "explore", "--overwrite", "--where", "people == 1", "--count", "2", "--map", "none")
        assert (code, said) == (0, "mine.html: 2 clips of 3, 0.1 MB\n")

    def test_a_build_under_way(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        rows = [{"id": name, "video": f"{name}.mp4"} for name in "ab"]
        root = tmp_path / "d"
        make_plan(read_manifest(small.manifest(tmp_path, rows, rows_per_part=1)), root / "plan.parquet")
        out = tmp_path / "page.html"
        assert run(capsys, "explore", root, "--output", out)[:2] == (0, f"{out}: 0 clips, 0.1 MB\n")

    def test_what_does_not_go_together(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        built.build(tmp_path)
        assert run(capsys, "explore", tmp_path, "--port", "1234")[0] == 2
        code, _, error = run(capsys, "explore", tmp_path, "--output", "page.txt")
        assert (code, error) == (2, "posecap: the page is HTML: end the name page.txt with .html\n")
        for words in (["--serve", "--output", "x.html"], ["--map", "other"], ["--serve", "--port", "99999"]):
            with pytest.raises(SystemExit):
                main(["explore", str(tmp_path), *words])

    def test_a_port_that_is_taken(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        built.build(tmp_path)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            code, _, error = run(capsys, "explore", tmp_path, "--serve", "--port", str(taken.getsockname()[1]))
        assert (code, "is taken: choose another --port" in error) == (1, True)

    def test_the_server_ends_with_ctrl_c(self, tmp_path: Path) -> None:
        built.build(tmp_path)
        # A shell that runs this in the background has its children ignore Ctrl-C.
        code = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
            "from posecap.cli import main; sys.exit(main())"
        )
        command = [sys.executable, "-u", "-c", code, "explore", str(tmp_path), "--serve"]
        known = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=known) as process:
            assert process.stdout
            address = process.stdout.readline().strip()
            with urllib.request.urlopen(f"{address}tables/clips", timeout=20) as answer:
                assert answer.status == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
