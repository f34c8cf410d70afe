"""A dataset of posecap 0.1.0 opens, verifies, streams and is built on, whatever words have changed since."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest

import posecap
from posecap import legacy
from posecap.build import BuildResult, Options, add_member, build
from posecap.cli import main
from posecap.enrichment import remove_member
from posecap.finalize import mark_unfinished
from posecap.ledger import Ledger
from posecap.manifest.manifest_file import Table, read_manifest
from posecap.manifest.rows import Problems
from posecap.manifest.tables import read_table
from posecap.pipeline import load_pipeline
from posecap.shards import Dataset, committed, read_part, read_sidecar, read_tombstones
from posecap.shards.extra import MemberName
from posecap.stage import Engine, engines_of
from posecap.types import Floats, PartName
from posecap.verify import verify
from tests import built
from tests.models_at_hand import weights_or_skip

OLD = Path(__file__).parent / "format_1"
TRAIN = PartName("train", 0)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the old manifest with its rows, footage and dataset; package versions are as they were then."""
    folder = tmp_path / "old"
    shutil.copytree(OLD, folder)
    shutil.copyfile(folder / "pipeline.py.txt", folder / "pipeline.py")
    then = {}
    for part in committed(folder / "dataset"):
        then |= read_sidecar(folder / "dataset", part)["lineage"]["packages"]
    monkeypatch.setattr("posecap.pipeline.version", then.__getitem__)
    return folder


def build_again(made: Path, **options: object) -> tuple[BuildResult, list[str]]:
    said: list[str] = []
    known = Options(**{"runner": "local", "workers": 1, **options})  # type: ignore[arg-type]
    return build(made / "manifest.yaml", options=known, log=said.append), said


def test_it_opens_streams_and_verifies(made: Path) -> None:
    root = made / "dataset"
    assert verify(root).problems == ()
    streamed = list(posecap.open(root, split="train", seed=None))
    assert len(streamed) == 2
    assert [one["joints"].shape for one in streamed] == [(1, 15, 17, 3)] * 2
    index = posecap.index(root).to_table()
    assert index.column("label").to_pylist() == ["balancing", "standing"]
    (kept,) = read_part(root, TRAIN)
    assert posecap.read(root, kept.key).joints_MTJ3.tobytes() == kept.joints_MTJ3.tobytes()
    by_columns = list(posecap.open(root, split="train", seed=None, read="columns"))
    assert [one["key"] for one in by_columns] == [one["key"] for one in streamed]
    (other,) = (one for one in streamed if one["facts"]["row_id"] == "other")
    assert other["facts"]["license"] == "CC0-1.0"
    assert index.column("license").to_pylist() == [None, "CC0-1.0"]
    assert list(read_tombstones(root).keys.values()) == ["asked to"]
    assert [part for part, _ in Dataset(root).parts()] == [TRAIN, PartName("train", 1)]


def test_its_manifest_and_pipeline_have_nothing_to_do(made: Path) -> None:
    root = made / "dataset"
    before = {path: path.read_bytes() for top in ("data", "index") for path in (root / top).rglob("*.*")}
    again, said = build_again(made)
    assert said == [f"{root}: every part is built; nothing to do"]
    assert (again.parts_built, again.exit_code) == (0, 3)
    assert {path: path.read_bytes() for path in before} == before


def test_a_lost_report_and_ledger_are_written_from_its_sidecars(made: Path) -> None:
    root = made / "dataset"
    (root / "report.json").unlink()
    (root / "ledger.sqlite").unlink()
    again, _ = build_again(made)
    rows = again.report["counts"]["rows"]
    assert again.parts_built == 0
    assert (rows["kept"], rows["failed"], sum(rows.values()) - rows["planned"]) == (2, 1, 8)
    with Ledger(root / "ledger.sqlite") as ledger:
        statuses = [outcome.status for outcome in ledger.outcomes()]
        assert (len(statuses), len(set(statuses))) == (8, 3)
    assert verify(root).problems == ()


def test_a_changed_parameter_is_named_in_the_words_of_today_only(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made / "pipeline.py"
    path.write_text(path.read_text().replace("people=2", "people=1"))
    assert main(["build", "--manifest", str(made / "manifest.yaml"), "--runner", "local"]) == 1
    (reason,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("  - "))
    assert reason.endswith(".people: 2 → 1")


def test_status_lists_what_became_of_its_rows(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(made / "dataset"), "--failed", "--refused"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("3 of 3 parts built, 8 of 8 rows done")
    assert lines[1].startswith("rows   2 kept, 5 re")
    assert sum(line.split("  ")[0] in ("failed", "refused", "rejected") for line in lines) == 6
    assert main(["status", str(made / "dataset"), "--json"]) == 3
    counts = json.loads(capsys.readouterr().out)
    assert (counts["rows"]["kept"], counts["reasons"]["duplicate"]) == (2, 1)
    assert counts["reasons"]["no_person_found"] == 2
    assert "no_person" not in counts["reasons"]


def test_its_report_and_ledger_give_reasons_in_the_words_of_today(made: Path) -> None:
    again, _ = build_again(made)
    assert again.report["counts"]["reasons"]["no_person_found"] == 2
    assert "no_person" not in json.dumps(again.report).replace("no_person_found", "")
    with Ledger(made / "dataset" / "ledger.sqlite") as ledger:
        assert [outcome.reason for outcome in ledger.outcomes()].count("no_person_found") == 1
        ledger.export(made / "ledger.parquet")
    assert pq.read_table(made / "ledger.parquet")["reason"].to_pylist().count("no_person_found") == 1


def test_a_former_reason_may_be_tried_again(made: Path) -> None:
    pipeline = load_pipeline(made / "pipeline.py")
    weights_or_skip(*(name for stage in pipeline.stages for engine in engines_of(stage) for name in engine.weights))
    again, _ = build_again(made, retry=("no_person",))
    assert again.parts_built == 1


def test_a_clip_is_removed_and_stays_so(made: Path) -> None:
    root = made / "dataset"
    (kept,) = read_part(root, TRAIN)
    assert main(["forget", str(root), kept.key, "--reason", "asked again"]) == 0
    assert list(read_part(root, TRAIN)) == []
    assert len(list(posecap.open(root, split="train"))) == 1
    assert verify(root).problems == ()
    again, _ = build_again(made)
    assert again.parts_built == 0
    assert again.report["counts"]["reasons"]["forgotten"] == 2
    assert verify(root).problems == ()


def test_vectors_of_another_model_are_added_and_removed_without_a_byte_of_it_changed(made: Path) -> None:
    root = made / "dataset"
    mark_unfinished(root)  # the report does not name what is added
    before = published(root)
    member, options = MemberName("text", "other"), Options(runner="local", workers=1, progress="none")
    assert add_member(root, member, Alike(), options=options).samples == 2
    assert verify(root).problems == ()
    assert sorted(len(one["text.other"]) for one in posecap.open(root, split=None, fields=["text.other"])) == [3, 4]
    added = published(root)
    assert {name: content for name, content in added.items() if not name.startswith("extra")} == before
    assert {name for name in added if name.startswith("extra")} >= {"extra.json", "extra/text.other/train-00000.arrow"}
    remove_member(root, member)
    assert published(root) == before


def published(root: Path) -> dict[str, bytes]:
    """All files but those that are the build's own, which a later version may write anew."""
    return {name: content for name, content in built.files(root).items() if name not in (".lease", "ledger.sqlite")}


@dataclass(frozen=True)
class Alike(Engine):
    """A text embedder for which all sentences are alike."""

    name: ClassVar[str] = "alike"
    dimension: int = 4

    def embed_text(self, sentences: Sequence[str]) -> Floats:
        return np.full((len(sentences), 4), 0.5, np.float32)


def test_its_commands_still_read_it(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (kept,) = read_part(made / "dataset", TRAIN)
    assert main(["verify", str(made / "dataset")]) == 0
    assert main(["inspect", str(made / "dataset"), kept.key]) == 0
    assert "balancing" in capsys.readouterr().out
    assert main(["plan", "--manifest", str(made / "manifest.yaml")]) == 0
    assert "8" in capsys.readouterr().out


def test_old_words_of_a_manifest_are_read_with_a_hint(made: Path) -> None:
    path = made / "manifest.yaml"
    with pytest.warns(FutureWarning) as hints:
        manifest = read_manifest(path)
    found = [(hint.lineno, str(hint.message)) for hint in hints]
    assert found == [(line, "licence is license now: write the new word") for line in (3, 11)]
    assert manifest.license == "BSD-3-Clause"
    assert dict(manifest.tables[0].columns) == {"license": "terms"}


@pytest.mark.parametrize(
    ("name", "text"),
    [("t.csv", "video,licence\na.mp4,CC0-1.0\n"), ("t.jsonl", '{"video": "a.mp4", "licence": "CC0-1.0"}\n')],
)
def test_an_old_column_of_a_table_is_read(made: Path, name: str, text: str) -> None:
    (made / name).write_text(text)
    table = Table(location=str(made / name), written=name)
    (batch,) = read_table(table, media_root=str(made), problems=Problems())
    assert batch.column("license").to_pylist() == ["CC0-1.0"]


def test_its_ledger_keeps_its_times_in_the_words_of_today(made: Path) -> None:
    with Ledger(made / "dataset" / "ledger.sqlite") as ledger:
        seconds, frames = ledger.seconds()
        assert {outcome.status for outcome in ledger.outcomes()} == {"kept", "rejected", "failed"}
    assert seconds["track"] > 0
    assert frames == 45
    assert not seconds.keys() & legacy.STAGES.keys()
