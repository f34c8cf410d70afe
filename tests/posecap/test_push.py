"""Datasets on a server that plays the Hugging Face Hub, in object stores and in folders."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import posecap
from posecap import push as pushing
from posecap.cli import main
from posecap.download.retry import RetryPolicy
from posecap.outcomes import RowOutcome
from posecap.push import PushedFile, PushError, PushOptions, push
from posecap.release.card import CARD_FILE, make_card
from posecap.release.croissant import CROISSANT_FILE, make_croissant
from posecap.release.dataset_info import write_summary
from posecap.shards import Dataset, remove_samples, write_part
from posecap.shards.extra import (
    Added,
    ExtraPart,
    MemberName,
    extra_path,
    extra_sidecar_path,
    inputs_of,
    write_extra,
    write_extra_list,
)
from posecap.storage import StorageError, open_storage
from posecap.types import PartName, Span
from posecap.verify import verify
from tests import built, dataset_infos, fake_hub

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")  # of the Hub's own client
SECRET = fake_hub.TOKEN
NOT_RELEASED = ("results/train-00000.results", "preview/train-00000/x.jpg", "ledger.parquet", "ledger.sqlite", ".lease")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A finished dataset of three parts; one of its clips has an mp4. With it lies what a build keeps for itself."""
    root = tmp_path / "walkers"
    made = {**built.parts(), PartName("val", 0): built.samples(1, first=7, split="val")}
    info = dataset_infos.info(root, made, store_video="clip")
    write_summary(root, CARD_FILE, make_card(info))
    write_summary(root, CROISSANT_FILE, make_croissant(info, published=date(2026, 1, 2)))
    report = {"dataset": {"store_video": "clip"}, "nodes": [{"node": "big-machine"}], "counts": {}, "alarms": []}
    write_summary(root, "report.json", report)
    for name in NOT_RELEASED:
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_bytes(b"of the build")
    (root / "results/train-00000.results").unlink()  # which no sidecar names, so that verify would report it
    return root


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.Hub]:
    """A hub, to which this process has a token."""
    from huggingface_hub import constants

    with fake_hub.serve() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        template = f"{running.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", SECRET)
        monkeypatch.setattr(pushing, "_POLICY", RetryPolicy(base_seconds=0.0, longest_wait_seconds=5.0))
        yield running


def released(root: Path) -> set[str]:
    """Files of a dataset that are to be pushed, by their names at the target."""
    own = {*NOT_RELEASED, CARD_FILE}
    return {name for name in built.files(root) if name not in own} | {"README.md"}


def keys(location: Any, split: str | None = None) -> list[str]:
    return posecap.index(location, split).to_table(columns=["key"])["key"].to_pylist()


def names(files: tuple[PushedFile, ...]) -> set[str]:
    return {file.name for file in files}


class TestHub:
    def test_a_dataset_is_pushed_and_reads_as_before(self, dataset: Path, hub: fake_hub.Hub) -> None:
        done = push(dataset, "me/walkers")
        assert (done.address, done.parts, done.samples) == ("hf://datasets/me/walkers", 3, 6)
        found = hub.files("me/walkers")
        assert hub.repositories["me/walkers"].private
        assert found.keys() == released(dataset) == names(done.new)
        assert found["README.md"] == (dataset / CARD_FILE).read_bytes()
        assert json.loads(found["report.json"])["nodes"] == []
        for name in found.keys() - {"README.md", "report.json"}:
            assert found[name] == (dataset / name).read_bytes()
        assert keys(done.address) == keys(dataset)
        for read in ("tar", "columns"):
            stream = posecap.open(done.address, split=None, seed=None, read=read)
            assert [sample["key"] for sample in stream] == keys(dataset)
        result = verify(done.address)
        assert (result.samples, result.problems) == (6, ())

    def test_what_is_there_is_passed_over(self, dataset: Path, hub: fake_hub.Hub) -> None:
        push(dataset, "me/walkers")
        sent = len(hub.repositories["me/walkers"].commits), hub.count("PUT /lfs")
        again = push(dataset, "hf://datasets/me/walkers")
        assert (names(again.there), again.new, again.replaced) == (released(dataset), (), ())
        assert (len(hub.repositories["me/walkers"].commits), hub.count("PUT /lfs")) == sent

    def test_a_push_that_broke_off_goes_on(
        self, dataset: Path, hub: fake_hub.Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each part is a commit; the third breaks off."""
        monkeypatch.setattr(pushing, "_FILES_IN_COMMIT", 1)

        def fail(method: str, path: str) -> tuple[int, dict[str, str]] | None:
            commits = hub.repositories["me/walkers"].commits if hub.repositories else []
            return (400, {}) if path.startswith("/api/datasets/me/walkers/commit") and len(commits) == 2 else None

        hub.fail = fail
        with pytest.raises(PushError, match="the Hub does not take the files"):
            push(dataset, "me/walkers")
        found = hub.files("me/walkers")
        assert {"data/train/pose-00000.json", "data/train/pose-00003.json"} <= found.keys()
        assert not {"dataset.json", "README.md"} & found.keys()
        uploads = hub.count("PUT /lfs")
        hub.fail = lambda method, path: None
        done = push(dataset, "me/walkers")
        assert names(done.there) == found.keys()
        assert hub.count("PUT /lfs") == uploads  # those of the third part had arrived
        assert keys(done.address) == keys(dataset)
        assert hub.repositories["me/walkers"].commits[-1] == "Push 1 part with posecap"

    def test_passing_failures_are_waited_out(self, dataset: Path, hub: fake_hub.Hub) -> None:
        left = [503, 429, 500]
        hub.fail = lambda method, path: (left.pop(), {}) if "/commit/" in path and left else None
        push(dataset, "me/walkers")
        assert keys("hf://datasets/me/walkers") == keys(dataset)
        assert len(hub.repositories["me/walkers"].commits) == 1

    @pytest.mark.parametrize(
        ("target", "token", "failure", "message"),
        [
            ("me/walkers", None, None, "the Hub does not know who you are .*: run `hf auth login`, or set HF_TOKEN"),
            ("me/walkers", "hf_wrong", None, "the Hub does not know who you are .*HF_TOKEN"),
            ("you/walkers", SECRET, None, "your token may not make the repository there .*right to write to you"),
            (
                "me/walkers",
                SECRET,
                (429, {"Retry-After": "300"}),
                r"failed to .* \(429.* 300 s\).*run the same command again later",
            ),
            ("me/walkers", SECRET, (502, {}), r"failed to .* \(502.*run the same command again later, it goes on"),
            ("me/walkers", SECRET, (412, {}), "somebody else changed it meanwhile .*412"),
        ],
    )
    def test_refusals_say_what_to_do(
        self,
        dataset: Path,
        tmp_path: Path,
        hub: fake_hub.Hub,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        target: str,
        token: str | None,
        failure: tuple[int, dict[str, str]] | None,
        message: str,
    ) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.delenv("HF_TOKEN")
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        hub.fail = lambda method, path: failure if "/commit/" in path or "/repos/create" in path else None
        assert main(["push", str(dataset), target]) == 1
        said = capsys.readouterr()
        assert re.search(message, said.err), said.err
        assert SECRET not in said.out + said.err
        assert not any(hub.files(name) for name in hub.repositories)

    def test_a_hub_that_cannot_be_reached(self, dataset: Path, hub: fake_hub.Hub, monkeypatch: Any) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(PushError, match=r"the Hub failed to show the repository \(Connect.*run the same command"):
            push(dataset, "me/walkers")

    def test_nothing_is_published_by_mistake(self, dataset: Path, hub: fake_hub.Hub) -> None:
        public = PushOptions(visibility="public", message="First version")
        push(dataset, "me/walkers", public)
        assert not hub.repositories["me/walkers"].private
        assert hub.repositories["me/walkers"].commits == ["First version"]
        write_summary(dataset, CARD_FILE, "other words")
        with pytest.raises(PushError, match="is public: give --public to push there"):
            push(dataset, "me/walkers", PushOptions(existing="replace"))
        push(dataset, "me/walkers", replace(public, existing="replace"))
        hub.repositories["me/walkers"].private = True
        push(dataset, "me/walkers", public)  # with nothing else to change
        assert not hub.repositories["me/walkers"].private
        assert len(hub.repositories["me/walkers"].commits) == 2

    def test_another_branch(self, dataset: Path, hub: fake_hub.Hub) -> None:
        done = push(dataset, "me/walkers", PushOptions(revision="v1"))
        assert done.address == "hf://datasets/me/walkers@v1"
        assert hub.files("me/walkers") == {}
        assert hub.files("me/walkers", "v1").keys() == released(dataset)
        assert keys(done.address) == keys(dataset)

    def test_a_newer_version(self, dataset: Path, hub: fake_hub.Hub) -> None:
        """A part is gone, another has other clips; both are seen at once."""
        push(dataset, "me/walkers")
        for file in [*dataset.rglob("*train*00003*"), *dataset.rglob("pose-00003*")]:
            file.unlink()
        built.build(dataset, {PartName("val", 0): built.samples(2, first=7, split="val")})
        with pytest.raises(
            PushError, match=r"has files that this dataset has not, or has otherwise: .* give --replace"
        ):
            push(dataset, "me/walkers")
        done = push(dataset, "me/walkers", PushOptions(existing="replace"))
        assert "data/train/pose-00003.tar" in done.removed
        assert hub.files("me/walkers").keys() == released(dataset)
        assert len(hub.repositories["me/walkers"].commits) == 2
        assert verify(dataset).problems == ()


class TestStores:
    @pytest.mark.slow
    def test_a_dataset_is_pushed_and_reads_as_before(self, dataset: Path, location: str) -> None:
        done = push(dataset, location)
        assert set(built.files(location)) == released(dataset) == names(done.new)
        assert verify(location).problems == ()
        assert keys(location) == keys(dataset)
        again = push(dataset, location)
        assert (names(again.there), again.new, again.replaced, again.removed) == (released(dataset), (), (), ())
        push(location, f"{location}-further")  # a copy is pushed as any dataset
        found = built.files(location)
        found.pop(".lease", None)  # of the folder that was pushed just now
        assert built.files(f"{location}-further") == found

    def test_a_push_that_broke_off_goes_on(self, dataset: Path, location: str, monkeypatch: pytest.MonkeyPatch) -> None:
        copy = pushing._StoreTarget._copy

        def failing(place: Any, source: Any, file: PushedFile) -> None:
            if file.name == "data/val/pose-00000.tar":
                raise StorageError("the store is down")
            copy(place, source, file)

        monkeypatch.setattr(pushing._StoreTarget, "_copy", failing)
        with pytest.raises(StorageError, match="down"):
            push(dataset, location)
        there = set(built.files(location))
        assert not {"dataset.json", "README.md", "data/val/pose-00000.json", "data/val/pose-00000.tar"} & there
        monkeypatch.setattr(pushing._StoreTarget, "_copy", copy)
        done = push(dataset, location)
        assert names(done.there) == there
        assert verify(location).problems == ()

    def test_half_a_file_of_somebody_else_is_not_taken_over(self, dataset: Path, location: str) -> None:
        name = "data/val/pose-00000.tar"
        content = bytearray((dataset / name).read_bytes())
        content[600] ^= 1
        open_storage(location).write(name, bytes(content))
        with pytest.raises(PushError, match=f"has otherwise: {name}: name another place, or give --replace"):
            push(dataset, location)
        assert set(built.files(location)) == {name}
        push(dataset, location, PushOptions(existing="replace"))
        assert verify(location).problems == ()

    def test_two_at_a_time(self, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        target = tmp_path / "copy"
        copy = pushing._StoreTarget._copy

        def slow(place: Any, source: Any, file: PushedFile) -> None:
            copy(place, source, file)
            sidecar = target / "data/train/pose-00000.json"
            sidecar.write_bytes(b"of another")

        monkeypatch.setattr(pushing._StoreTarget, "_copy", slow)
        with pytest.raises(PushError, match=r"pose-00000\.json has appeared meanwhile: somebody else pushes there"):
            push(dataset, str(target))

    def test_files_come_before_what_names_them(
        self, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target, order = tmp_path / "copy", list[str]()
        storage = type(open_storage(target))
        for method in ("publish", "create", "write"):
            plain = getattr(storage, method)

            def recorded(self: Any, what: Any, *content: Any, plain: Any = plain) -> Any:
                order.extend([what] if isinstance(what, str) else what)
                return plain(self, what, *content)

            monkeypatch.setattr(storage, method, recorded)
        push(dataset, str(target))
        for name in order:
            if name.startswith("data/") and name.endswith(".json"):
                own = set(json.loads((target / name).read_text())["files"])
                assert own <= set(order[: order.index(name)])
        last = [name for name in order if "/" not in name]
        assert order[-len(last) :] == last == ["dataset.json", "croissant.json", "report.json", "README.md"]


class TestSkeletonsOnly:
    def test_the_pushed_dataset_is_sound_by_itself(self, dataset: Path, tmp_path: Path) -> None:
        target = tmp_path / "copy"
        push(dataset, str(target), PushOptions(video="leave_out"))
        assert verify(target).problems == ()
        found = built.files(target)
        assert found.keys() == released(dataset) - {"data/train/video-00000.tar"}
        # Its files are those of a build that stores no video.
        plain = {part: [replace(s, video_mp4=None) for s in kept] for part, kept in built.parts().items()}
        built.build(tmp_path / "plain", plain)
        for name in ("data/train/pose-00000.json", "index/train-00000.parquet", "data/train/pose-00000.tar"):
            assert found[name] == (tmp_path / "plain" / name).read_bytes()
        card = found["README.md"].decode()
        assert "but no video. Made with" in card
        assert "`store_video: none`" in card
        assert "store_video: clip" not in card
        assert json.loads(found["report.json"])["dataset"]["store_video"] == "none"

    def test_croissant_lists_what_is_there(self, dataset: Path, tmp_path: Path) -> None:
        target = tmp_path / "copy"
        push(dataset, str(target), PushOptions(video="leave_out"))
        nodes = json.loads((target / CROISSANT_FILE).read_text())["distribution"]
        assert "videos" not in {node["@id"] for node in nodes}
        listed = {node["@id"]: node for node in nodes if "sha256" in node}
        for name, node in listed.items():
            written = PushedFile.of(name, (target / name).read_bytes()).written
            assert (node["sha256"], node["contentSize"]) == (written.sha256, f"{written.size_bytes} B")
        assert len(listed) == 9

    def test_an_index_that_is_damaged_is_not_made_another_one(self, dataset: Path, tmp_path: Path) -> None:
        index = dataset / "index/train-00000.parquet"
        content = bytearray(index.read_bytes())
        content[len(content) // 2] ^= 1
        index.write_bytes(bytes(content))
        with pytest.raises(PushError, match=r"index/train-00000\.parquet has changed since it was written"):
            push(dataset, str(tmp_path / "copy"), PushOptions(video="leave_out"))

    def test_it_is_another_version_than_that_with_video(self, dataset: Path, tmp_path: Path) -> None:
        push(dataset, str(tmp_path / "copy"))
        leave_out = PushOptions(video="leave_out", existing="replace")
        done = push(dataset, str(tmp_path / "copy"), leave_out)
        assert done.removed == ("data/train/video-00000.tar",)
        assert verify(tmp_path / "copy").problems == ()


class TestWholeDataset:
    @pytest.mark.slow
    def test_extra_members_go_with_their_parts(self, dataset: Path, tmp_path: Path, hub: fake_hub.Hub) -> None:
        for part in (built.FIRST, built.SECOND):
            add_member(dataset, part)
        write_extra_list(dataset)
        done = push(dataset, "me/walkers")
        assert hub.files("me/walkers").keys() == released(dataset)
        assert verify(done.address).problems == ()
        stream = posecap.open(done.address, seed=None, fields=["video.other"])
        assert [sample["key"] for sample in stream] == keys(dataset)[:5]
        (dataset / "data/train/pose-00000.tar").unlink()
        push(dataset, str(tmp_path / "copy"), PushOptions(incomplete="push"))
        assert [path.name for path in (tmp_path / "copy/extra/video.other").glob("*.arrow")] == ["train-00003.arrow"]
        assert verify(tmp_path / "copy").problems == ()

    def test_removed_clips_are_removed_at_the_target(self, dataset: Path, tmp_path: Path) -> None:
        target = tmp_path / "copy"
        push(dataset, str(target))
        key = keys(dataset)[0]
        remove_samples(dataset, [key], "on request")
        push(dataset, str(target), PushOptions(existing="replace"))
        assert verify(target).problems == ()
        assert key not in keys(target)
        found = built.files(target)
        assert [name for name, content in found.items() if key.encode() in content] == [
            "data/train/pose-00000.json",  # whose rows say why it is gone
            "tombstones.json",
        ]


def add_member(root: Path, part: PartName) -> None:
    """Give a part's samples a member ``video.other``."""
    member, storage = MemberName("video", "other"), open_storage(root)
    table = Dataset(root).part_index(part, ["key", "captions"])
    vector = np.array([0.6, 0.8], np.float32)
    with storage.writer(extra_path(member, part)) as file:
        samples = write_extra(file, "video", [(k, Added(vector, span=Span(0, 1))) for k in table["key"].to_pylist()])
        written = file.finish()
        file.publish()
    known = {"fingerprint": "f" * 64, "pipeline": [{"name": "embed"}], "lineage": built.LINEAGE, "dimension": 2}
    inputs = inputs_of("video", table)
    sidecar = ExtraPart(member, part, inputs=inputs, file=asdict(written), samples=samples, **known)
    storage.write(extra_sidecar_path(member, part), sidecar.encode())


class TestRefused:
    def test_unfinished(self, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (dataset / "plan.parquet").write_bytes(b"of the build")
        (dataset / "report.json").unlink()
        with pytest.raises(PushError, match=r"is not finished: run `posecap build` again, or .*--incomplete"):
            push(dataset, str(tmp_path / "copy"))
        assert not (tmp_path / "copy").exists()
        assert main(["push", str(dataset), str(tmp_path / "copy"), "--incomplete"]) == 3
        assert "left out: parts that are not built yet" in capsys.readouterr().out

    @pytest.mark.parametrize("harm", ["flipped", "missing", "sidecar"])
    def test_damaged(self, dataset: Path, tmp_path: Path, harm: str) -> None:
        name = "data/train/pose-00003" + (".json" if harm == "sidecar" else ".tar")
        if harm == "missing":
            (dataset / name).unlink()
        else:
            content = bytearray((dataset / name).read_bytes())
            content[300] ^= 1
            (dataset / name).write_bytes(bytes(content))
        with pytest.raises(PushError, match=r"is (damaged: .*pose-00003.*|not finished).*--incomplete"):
            push(dataset, str(tmp_path / "copy"))
        assert not (tmp_path / "copy").exists()
        done = push(dataset, str(tmp_path / "copy"), PushOptions(incomplete="push"))
        assert (done.parts, done.samples, len(done.left_out)) == (2, 4, 1)
        assert verify(tmp_path / "copy").problems == ()
        assert not {"README.md", CROISSANT_FILE} & set(built.files(tmp_path / "copy"))

    def test_a_card_that_leads_elsewhere(self, dataset: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("for nobody")
        (dataset / CARD_FILE).unlink()
        (dataset / CARD_FILE).symlink_to(tmp_path / "secret")
        with pytest.raises(PushError, match=r"card\.md is a symbolic link"):
            push(dataset, str(tmp_path / "copy"))
        assert not (tmp_path / "copy").exists()

    def test_a_dataset_that_is_being_built(self, dataset: Path, tmp_path: Path) -> None:
        from posecap.storage import DatasetLockedError

        with open_storage(dataset).lock(), pytest.raises(DatasetLockedError):
            push(dataset, str(tmp_path / "copy"))

    def test_paths_of_this_machine(self, tmp_path: Path) -> None:
        """One names a video, another stands in the reason of a row: this one is shortened."""
        missing = RowOutcome(
            row_id="gone",
            uri="videos/gone.mp4",
            status="rejected",
            stage="download",
            reason="not_found",
            detail="/home/somebody/videos/gone.mp4: no such file; see https://example.org/help/me",
        )
        root, part = tmp_path / "walkers", PartName("train", 0)
        kept = built.samples(1)
        write_part(root, part, kept, record=built.record(kept, more=[missing]))
        posecap.shards.write_dataset_list(root)
        push(root, str(tmp_path / "copy"))
        pushed = (tmp_path / "copy/data/train/pose-00000.json").read_text()
        assert "somebody" not in pushed
        assert "…/gone.mp4: no such file; see https://example.org/help/me" in pushed
        assert verify(tmp_path / "copy").problems == ()
        kept = [built.building.sample(frames=5, row=built.building.row(uri="/home/somebody/walk.mp4"))]
        built.build(root, {part: kept})
        with pytest.raises(
            PushError, match=r"tells of /home/somebody/walk\.mp4, a path of this machine.*--local-paths"
        ):
            push(root, str(tmp_path / "other"))
        push(root, str(tmp_path / "other"), PushOptions(local_paths="push"))

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("walkers", r"name a repository as OWNER/walkers, or a folder as \./walkers"),
            ("hf://me/walkers", "a dataset on the Hub is hf://datasets/OWNER/NAME"),
            ("https://example.org/walkers", "a web server takes no files"),
            ("s3://user:secret@bucket/walkers", "holds a password"),
            ("sub/walkers", r"write hf://datasets/sub/walkers or \./sub/walkers"),
        ],
    )
    def test_targets(self, dataset: Path, monkeypatch: pytest.MonkeyPatch, target: str, message: str) -> None:
        monkeypatch.chdir(dataset.parent)
        Path("sub").mkdir()
        with pytest.raises((PushError, StorageError), match=message):
            push(dataset, target)
        with pytest.raises(PushError, match="is the dataset itself"):
            push(dataset, str(dataset))


class TestCommand:
    def test_a_dry_run_lists_and_changes_nothing(
        self, dataset: Path, hub: fake_hub.Hub, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["push", str(dataset), "me/walkers", "--dry-run"]) == 0
        lines = capsys.readouterr().out.splitlines()
        size = (dataset / "data/train/pose-00000.tar").stat().st_size
        assert f"new       {size:>15,}  data/train/pose-00000.tar" in lines
        assert len(lines) == len(released(dataset)) + 1
        assert lines[-1].startswith(f"hf://datasets/me/walkers: would be {len(released(dataset))} files new, ")
        assert hub.repositories == {}

    def test_a_dry_run_lists_though_the_target_cannot_be_asked(
        self, dataset: Path, hub: fake_hub.Hub, capsys: pytest.CaptureFixture[str]
    ) -> None:
        hub.fail = lambda method, path: (503, {})
        assert main(["push", str(dataset), "me/walkers", "--dry-run"]) == 1
        said = capsys.readouterr()
        size = (dataset / "data/train/pose-00000.tar").stat().st_size
        assert f"to push   {size:>15,}  data/train/pose-00000.tar" in said.out.splitlines()
        assert said.out.splitlines()[-1].startswith(f"hf://datasets/me/walkers: {len(released(dataset))} files to push")
        assert said.err.startswith("posecap: the target could not be asked what is there: hf://datasets/me/walkers: ")
        assert main(["push", str(dataset), "me/walkers"]) == 1

    def test_a_push(self, dataset: Path, hub: fake_hub.Hub, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["push", str(dataset), "me/walkers"]) == 0
        said = capsys.readouterr()
        assert '3 parts, 6 clips: posecap.open("hf://datasets/me/walkers")' in said.out
        assert "made the private repository me/walkers as me" in said.err

    def test_exit_codes(self, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        copy = str(tmp_path / "copy")
        assert main(["push", str(dataset), copy, "--public"]) == 2
        assert main(["push", str(tmp_path), copy]) == 1
        (dataset / "data/train/pose-00003.tar").unlink()
        assert main(["push", str(dataset), copy]) == 1
        assert main(["push", str(dataset), copy, "--incomplete"]) == 3

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(pushing._StoreTarget, "_copy", interrupt)
        assert main(["push", str(dataset), str(tmp_path / "other"), "--incomplete"]) == 130


_LOAD = """
import json, sys
import datasets

found = {}
for name in sys.argv[2:]:
    for streaming in (False, True):
        for config in (None, "samples", "index"):
            loaded = datasets.load_dataset(name, config, streaming=streaming)
            keys = {split: [row["__key__"] for row in loaded[split]] for split in loaded}
            found[f"{config}, {streaming}, {name}"] = keys
        labels = [row["json"]["label"] for row in loaded["train"]]
        loaded = datasets.load_dataset(name, data_files=json.loads(sys.argv[1]), streaming=streaming)
        found[f"files, {streaming}, {name}"] = {split: [row["key"] for row in loaded[split]] for split in loaded}
        assert labels == [row["label"] for row in loaded["train"]]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_hugging_face_datasets_loads_what_the_card_says(tmp_path: Path, hub: fake_hub.Hub) -> None:
    """From a folder and from the Hub, both configurations, and the index as the card has it; with facts that only some
    clips have, and a split whose name begins as another. In a process of its own, as the client reads HF_ENDPOINT
    once."""
    odd = [replace(s, facts={**s.facts, "label": None, "only": {"a": [1]}}) for s in built.samples(2)]
    made = {
        PartName("train", 0): odd,
        PartName("train", 1): built.samples(2, first=2),
        PartName("train-2", 0): built.samples(1, first=4, split="train-2"),
    }
    root = tmp_path / "walkers"
    card = make_card(dataset_infos.info(root, made))
    write_summary(root, CARD_FILE, card)
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",  # engines that read the hub's folders set it for their process
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": str(tmp_path / "cache"),
        "HF_TOKEN": SECRET,
    }
    command = [sys.executable, "-m", "posecap", "push", str(root), "me/walkers"]
    subprocess.run(command, env=environment, capture_output=True, check=True)
    push(root, str(tmp_path / "copy"))
    data_files = re.search(r"data_files=(\{.*\})\)", card)
    assert data_files is not None
    expected = {split.replace("-", "_"): keys(root, split) for split in ("train", "train-2")}
    places = ["me/walkers", str(tmp_path / "copy")]
    ran = subprocess.run(
        [sys.executable, "-c", _LOAD, data_files[1], *places],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert len(found) == 16
    for how, loaded in found.items():
        assert loaded == expected, how
