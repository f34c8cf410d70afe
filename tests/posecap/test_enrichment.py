"""Members that are added to a built dataset are those of a build that makes them from the start; samples stay as they
are."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from posecap import enrichment, loaders
from posecap.build import Options, add_member, pipeline_of
from posecap.cli import main
from posecap.enrichment import Enriched, Enrichment, EnrichmentError, remove_member
from posecap.export import ExportError, export
from posecap.files import file_sha256
from posecap.imports import import_dataset
from posecap.manifest.manifest_file import read_manifest
from posecap.removal import remove
from posecap.shards import Dataset, ShardError
from posecap.shards.extra import MemberName, read_extra_list
from posecap.staging import Staging
from posecap.storage import DatasetLockedError, LocalStorage, Location, open_storage
from posecap.storage.base import ATTEMPT
from posecap.stream import open_dataset
from posecap.verify import repair, verify
from tests import cheap, small
from tmor_train.data import read_shards
from tmor_train.data_sources import DataConfig, motions_of

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

MODELS = """
@dataclass(frozen=True)
class Wide(Letters):
    name: ClassVar[str] = "wide"

    def embed_text(self, sentences):
        return np.concatenate([Letters.embed_text(self, sentences), np.zeros((len(sentences), 2), np.float32)], 1)


@dataclass(frozen=True)
class Says(Engine):
    name: ClassVar[str] = "says"
    look: str = "yes"

    def write(self, clip):
        did("write")
        where = "bright" if self.look == "yes" and np.asarray(clip.frames_THW3).mean() > 100 else "dim"
        return [f"{clip.joints_MTJ3.shape[0]} people move.", f"A {where} place.", f"a {where} place"]


ENGINES = {
    "text.wide": Wide(),
    "video.few": Colours(frames=2),
    "captions.says": Says(),
    "captions.blind": Says(look="no"),
}


def with_extra(*names):
    global pipeline
    pipeline = replace(pipeline, extra={name: ENGINES[name] for name in names})


"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest with ``MODELS``, its films and its dataset, for :func:`copied`."""
    path = tmp_path_factory.mktemp("built")
    small.build(cheap.manifest(path, pipeline=MODELS))
    cheap.runs(path / "manifest.yaml")
    return path


@pytest.fixture
def manifest(folder: Path, tmp_path: Path) -> Path:
    """A copy of the manifest, beside which its films and its dataset are."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path / "manifest.yaml"


def root_of(manifest: Path) -> Path:
    return manifest.with_name("dataset")


def engines(manifest: Path) -> dict[str, Any]:
    """Engines by the member that they make, of a manifest of :func:`cheap.manifest` with ``MODELS``."""
    wanted = ("text.wide", "video.few", "captions.says", "captions.blind")
    text = manifest.with_name("pipeline.py").read_text()
    other = manifest.with_name("engines.py")
    other.write_text(text + f"with_extra(*{wanted!r})\n")
    path = manifest.with_name("engines.yaml")
    path.write_text(manifest.read_text().replace("pipeline.py", "engines.py"))
    return dict(pipeline_of(read_manifest(path)).extra)


def add(location: Location, name: str, engines_of: Path, **settings: Any) -> Enriched:
    engine = settings.pop("engine", None) or engines(engines_of)[name]
    options = Options(runner="local", workers=1, progress="none", retry=settings.pop("retry", None))
    known = {"manifest": engines_of, "options": options, "log": lambda line: None}
    return add_member(location, MemberName.of(name), engine, **{**known, **settings})


def extra(location: Location) -> dict[str, bytes]:
    """The files of all extra members."""
    storage = open_storage(location)
    names = [file.name for file in storage.list("extra")]
    return {name: storage.read(name, limit=1 << 30) for name in (*names, "extra.json")}


def test_two_models_from_the_start_are_a_build_and_what_is_added_to_it(tmp_path: Path, manifest: Path) -> None:
    plain, root = manifest, root_of(manifest)
    before = small.published(root)
    assert add(root, "video.few", plain) == Enriched(MemberName("video", "few"), 2, 5, {})
    assert {*cheap.runs(plain)} == {"fetch", "video"}
    assert add(root, "text.wide", plain) == Enriched(MemberName("text", "wide"), 2, 5, {})
    assert {*cheap.runs(plain)} == {"text"}
    assert small.published(root) == before
    assert verify(root).problems == ()

    lines = MODELS + 'with_extra("text.wide", "video.few")\n'
    fresh = small.build(cheap.manifest(tmp_path / "fresh", pipeline=lines, media=tmp_path)).root
    assert small.published(fresh) == before
    assert extra(fresh) == extra(root)
    assert not (fresh / ".staging").exists()
    assert not (fresh / ".add.sqlite").exists()

    for sample in open_dataset(root, split=None, fields=["text", "captions", "text.wide", "video", "video.few"]):
        assert sample["text.wide"].shape == (len(sample["captions"]), 7)
        np.testing.assert_array_equal(sample["text.wide"][:, :5], sample["text"])
        assert not np.array_equal(sample["video.few"], sample["video"])


@pytest.mark.parametrize("form", ["parquet", "lance"])
def test_members_that_were_exported_are_imported(tmp_path: Path, manifest: Path, form: str) -> None:
    if form == "lance":
        pytest.importorskip("lance", reason="needs posecap[lance]")
    root, names = root_of(manifest), ["video.few", "text.wide", "captions.blind"]
    add(root, "video.few", manifest)
    add(root, "text.wide", manifest)
    add(root, "captions.blind", manifest)
    assert export(root, tmp_path / f"clips.{form}", form=form, extra=names) == 5
    assert import_dataset(tmp_path / f"clips.{form}", tmp_path / "copy") == 5
    assert verify(tmp_path / "copy").problems == ()
    assert list(read_extra_list(tmp_path / "copy")) == list(read_extra_list(root))
    before, after = extra(root), extra(tmp_path / "copy")
    assert {name for name in before if name.endswith(".arrow")} == {name for name in after if name.endswith(".arrow")}
    assert all(after[name] == before[name] for name in after if name.endswith(".arrow"))
    for member, listed in read_extra_list(root).items():
        assert read_extra_list(tmp_path / "copy")[member].engine == listed.engine
    assert add(tmp_path / "copy", "video.few", manifest).parts == 0  # the same model: there is nothing to do
    key = Dataset(root).index().to_table(columns=["key"])["key"][0].as_py()
    remove(tmp_path / "copy", [key], reason="asked")
    assert verify(tmp_path / "copy").problems == ()
    again = Dataset(tmp_path / "copy").index().to_table(columns=["key"])["key"].to_pylist()
    assert [one["key"] for one in open_dataset(tmp_path / "copy", split=None, fields=["video.few"], seed=None)] == again


def test_captions_are_added_from_stored_results_and_readers_choose_by_origin(tmp_path: Path, manifest: Path) -> None:
    root = root_of(manifest)
    before = small.published(root)
    assert add(root, "captions.blind", manifest).missing == {}
    assert {*cheap.runs(manifest)} == {"write"}  # it goes on from stored results, and looks at no frame
    assert add(root, "captions.says", manifest).missing == {}
    done = cheap.runs(manifest)
    assert {*done} == {"write", "fetch"}
    assert done["write"] == 5
    add(root, "text.wide", manifest)
    assert small.published(root) == before
    assert verify(root).problems == ()

    fields = ["captions", "text.wide", "captions.says"]
    own = {s["key"]: s for s in open_dataset(root, split=None, fields=[*fields, "text"])}
    for sample in open_dataset(root, split=None, fields=fields, captions=["label", "says"]):
        label, *others = sample["captions"]
        assert label in ("walks", "runs", "jumps")
        assert others == sample["captions.says"] == [others[0], others[1]]
        assert others[1] in ("A bright place.", "A dim place.")
        mine = own[sample["key"]]
        at = mine["captions"].index(label)
        np.testing.assert_array_equal(sample["text.wide"][0, :5], mine["text"][at])
        assert sample["text.wide"].shape == (3, 7)
    (one, *_) = open_dataset(root, split=None, fields=["captions", "text"], captions=["template"])
    assert len(one["captions"]) == len(one["text"]) == 2
    everything = next(iter(open_dataset(root, split=None, fields=fields, captions="all")))
    assert len(everything["captions"]) == len(everything["text.wide"]) == 3 + 2 + 2
    with pytest.raises(ShardError, match=r"text has no vectors of captions.says: leave these captions out, or ask for"):
        open_dataset(root, fields=["text"], captions=["says"])

    batch = next(iter(open_dataset(root, split=None, fields=[*fields, "video"]).loader(2)))
    assert batch["text.wide_BCD"].shape == (2, 3, 7)
    assert batch["captions_BC"].all()
    assert len(batch["captions.says"]) == 2


def test_texts_that_were_embedded_before_captions_were_added_are_embedded_again(tmp_path: Path, manifest: Path) -> None:
    root = root_of(manifest)
    add(root, "text.wide", manifest)
    add(root, "captions.says", manifest)
    with pytest.raises(ShardError, match=r"has no vectors of captions.says: .* run `posecap add` with its model again"):
        open_dataset(root, split=None, fields=["text.wide"], captions="all")
    assert next(iter(open_dataset(root, split=None, fields=["text.wide"])))["text.wide"].shape == (3, 7)
    assert add(root, "text.wide", manifest).parts == 2
    assert next(iter(open_dataset(root, split=None, fields=["text.wide"], captions="all")))["text.wide"].shape == (5, 7)
    assert add(root, "text.wide", manifest).parts == 0

    lines = MODELS + 'with_extra("text.wide", "captions.says")\n'
    fresh = small.build(cheap.manifest(tmp_path / "fresh", pipeline=lines, media=tmp_path)).root
    assert extra(fresh) == extra(root)


def test_clips_whose_video_is_gone_have_none_and_can_be_tried_again(tmp_path: Path, manifest: Path) -> None:
    root = root_of(manifest)
    (tmp_path / "two.mp4").rename(tmp_path / "elsewhere.mp4")
    done = add(root, "video.few", manifest)
    assert done == Enriched(MemberName("video", "few"), 2, 5, {"not_found": 3})
    assert verify(root).problems == ()
    assert len(list(open_dataset(root, split=None, fields=["video"]))) == 5
    labels = {s["facts"]["label"] for s in open_dataset(root, split=None, fields=["video.few", "facts"])}
    assert labels == {"walks", "jumps"}
    balanced = open_dataset(root, split=None, fields=["video.few", "facts"], balance="label")
    assert len(list(balanced)) == 2
    assert add(root, "video.few", manifest).parts == 0

    (tmp_path / "one.mp4").rename(tmp_path / "not-looked-at.mp4")
    (tmp_path / "elsewhere.mp4").rename(tmp_path / "two.mp4")
    assert add(root, "video.few", manifest, retry=()) == Enriched(MemberName("video", "few"), 1, 5, {})
    (tmp_path / "not-looked-at.mp4").rename(tmp_path / "one.mp4")
    lines = MODELS + 'with_extra("video.few")\n'
    fresh = small.build(cheap.manifest(tmp_path / "fresh", pipeline=lines, media=tmp_path)).root
    assert extra(fresh) == extra(root)


def test_a_video_that_was_replaced_gives_none(tmp_path: Path, manifest: Path) -> None:
    root = root_of(manifest)
    (tmp_path / "two.mp4").write_bytes((tmp_path / "one.mp4").read_bytes())
    assert add(root, "video.few", manifest).missing == {"other_clips": 3}
    assert add(root, "captions.says", manifest).missing == {"other_clips": 3}
    assert verify(root).problems == ()


def test_another_model_under_a_name_is_refused_unless_it_is_replaced(tmp_path: Path, manifest: Path) -> None:
    root = root_of(manifest)
    add(root, "text.wide", manifest)
    before, other = extra(root), engines(manifest)["captions.says"]
    with pytest.raises(EnrichmentError, match=r"text.wide: Says is no TextEmbedder"):
        add(root, "text.wide", manifest, engine=other)
    letters = next(s for s in pipeline_of(read_manifest(manifest)).stages if s.name == "embed").text
    with pytest.raises(EnrichmentError, match=r"has text.wide, made otherwise .*: give another name, or make it"):
        add(root, "text.wide", manifest, engine=letters)
    assert extra(root) == before
    assert add(root, "text.letters", manifest, engine=letters).parts == 2
    assert add(root, "text.wide", manifest, engine=letters, existing="replace").parts == 2
    one = next(iter(open_dataset(root, split=None, fields=["text", "text.wide", "text.letters"])))
    assert np.array_equal(one["text"], one["text.wide"])
    assert np.array_equal(one["text"], one["text.letters"])
    assert verify(root).problems == ()


def test_names_and_what_is_not_there(tmp_path: Path, manifest: Path) -> None:
    root = root_of(manifest)
    with pytest.raises(ShardError, match=r"extra member is called video.NAME, text.NAME or captions.NAME"):
        MemberName.of("text.Mini LM")
    with pytest.raises(ShardError, match=r"has no text.minilm; its extra members: none; `posecap add` makes them"):
        open_dataset(root, fields=["text.minilm"])
    with pytest.raises(ShardError, match=r"no dataset at .*: there is no such folder"):
        add(tmp_path / "nowhere", "text.wide", manifest)
    small_pipeline = manifest.with_name("pipeline.py")
    small_pipeline.write_text(small_pipeline.read_text() + 'changed("decode", long_side=32)\n')
    with pytest.raises(EnrichmentError, match=r"built with another stage 'decode' than the pipeline has now"):
        add(root, "video.few", manifest)
    add(root, "text.wide", manifest)
    with pytest.raises(EnrichmentError, match=r"has no text.other; its extra members: text.wide"):
        remove_member(root, MemberName("text", "other"))
    assert remove_member(root, MemberName("text", "wide")) == 4
    assert [file.name for file in open_storage(root).list("extra")] == []
    assert not (root / "extra.json").exists()


def test_removed_clips_are_removed_from_members(tmp_path: Path, manifest: Path) -> None:
    root = root_of(manifest)
    for name in ("captions.says", "text.wide", "video.few"):
        add(root, name, manifest)
    key = next(iter(open_dataset(root, split="train", fields=["facts"])))["key"]
    remove(root, [key], reason="on request")
    assert all(key.encode() not in content for content in extra(root).values())
    assert verify(root).problems == ()
    left = extra(root)
    for name in ("captions.says", "text.wide", "video.few"):
        remove_member(root, MemberName.of(name))
        add(root, name, manifest)
    assert extra(root) == left
    for sample in open_dataset(root, split="val", fields=["facts"]):
        remove(root, [sample["key"]], reason="on request")
    assert not [name for name in extra(root) if "val" in name]
    assert verify(root).problems == ()


@pytest.mark.parametrize("what", ["bytes", "sidecar", "list", "gone", "orphan"])
def test_damage_is_found_moved_aside_and_made_again(tmp_path: Path, manifest: Path, what: str) -> None:
    root = root_of(manifest)
    add(root, "text.wide", manifest)
    whole = extra(root)
    file = root / "extra" / "text.wide" / "train-00000.arrow"
    if what == "orphan":
        (file.parent / "train-00009.arrow").write_bytes(b"x")
    elif what == "gone":
        file.unlink()
    else:
        harmed = {"bytes": file, "sidecar": file.with_suffix(".json"), "list": root / "extra.json"}[what]
        content = bytearray(harmed.read_bytes())
        content[len(content) // 2] ^= 1
        harmed.write_bytes(content)
    problems = verify(root).problems
    assert problems
    assert all(problem.part is None for problem in problems)
    repair(root, problems)
    assert verify(root).problems == ()
    add(root, "text.wide", manifest)
    assert extra(root) == whole
    assert verify(root).problems == ()


@pytest.mark.slow
def test_an_update_removes_what_is_of_other_samples_and_a_build_makes_what_its_pipeline_names(tmp_path: Path) -> None:
    manifest = cheap.manifest(tmp_path, pipeline=MODELS + 'with_extra("video.few")\n')
    root = small.build(manifest).root
    add(root, "text.wide", manifest)
    cheap.runs(manifest)
    lines = MODELS + 'with_extra("video.few")\nchanged("caption", templates=("somebody {}",))\n'
    small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
    assert {*cheap.runs(manifest)} == {"text"}  # vectors of frames are those of the same clips
    assert {name.split("/")[1] for name in extra(root) if "/" in name} == {"video.few"}
    assert verify(root).problems == ()
    lines = MODELS + 'with_extra("video.few", "text.wide")\nchanged("decode", long_side=32)\n'
    result = small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
    fresh = small.build(cheap.manifest(tmp_path / "fresh", pipeline=lines, media=tmp_path)).root
    assert extra(fresh) == extra(root)
    cheap.runs(manifest)
    assert small.build(cheap.manifest(tmp_path, pipeline=lines)).parts_built == 0
    assert not cheap.runs(manifest)
    assert result.exit_code == 0
    other = 'ENGINES["text.wide"] = Letters()\n' + 'with_extra("text.wide")\nchanged("decode", long_side=32)\n'
    with pytest.raises(EnrichmentError, match=r"has text.wide, made otherwise .*`posecap build --update`"):
        small.build(cheap.manifest(tmp_path, pipeline=MODELS + other))
    small.build(cheap.manifest(tmp_path, pipeline=MODELS + other), on_change="update")
    assert next(iter(open_dataset(root, split=None, fields=["text.wide"])))["text.wide"].shape == (3, 5)


def test_captions_of_a_dataset_without_stored_results_take_the_videos(tmp_path: Path) -> None:
    manifest = cheap.manifest(tmp_path, cheap.ROWS[:1], pipeline=MODELS, keep="none")
    root = small.build(manifest).root
    cheap.runs(manifest)
    assert add(root, "captions.blind", manifest).missing == {}
    assert {*cheap.runs(manifest)} == {"fetch", "detect", "pose", "write"}
    with root_lock(root), pytest.raises(DatasetLockedError):
        add(root, "text.wide", manifest)


def root_lock(root: Path) -> Any:
    return open_storage(root).lock()


def test_rows_that_were_added_to_the_table_are_added_to_the_member(tmp_path: Path) -> None:
    manifest = cheap.manifest(tmp_path, cheap.ROWS[:2], pipeline=MODELS, rows_per_part=1)
    root = small.build(manifest).root
    add(root, "text.wide", manifest)
    small.build(cheap.manifest(tmp_path, pipeline=MODELS, rows_per_part=1))
    with pytest.raises(ShardError, match=r"part val/00000 of .* has no text.wide: run `posecap add` again"):
        open_dataset(root, split=None, fields=["text.wide"])
    assert len(list(open_dataset(root, fields=["text.wide"]))) == 4
    assert add(root, "text.wide", manifest).parts == 1
    assert len(list(open_dataset(root, split=None, fields=["text.wide"]))) == 5


class StoppedError(Exception):
    pass


def test_an_interrupted_run_goes_on_row_by_row(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = root_of(manifest)
    cheap.runs(manifest)

    def stop(*_: Any, **__: Any) -> None:
        raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(Enrichment, "_committed", stop)
        with pytest.raises(StoppedError):
            add(root, "video.few", manifest)
    assert not (root / "extra.json").exists()
    first = cheap.runs(manifest)["video"]
    assert add(root, "video.few", manifest).missing == {}
    assert cheap.runs(manifest)["video"] < first
    assert not (root / ".staging").exists()
    assert verify(root).problems == ()


@pytest.mark.parametrize(
    ("where", "of"), [("end", Staging), ("remove_attempts", LocalStorage), ("write_extra_list", enrichment)]
)
def test_a_run_that_was_killed_behind_its_last_part_leaves_nothing(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, where: str, of: Any
) -> None:
    root = root_of(manifest)
    whole = root.with_name("whole")
    shutil.copytree(root, whole)
    add(whole, "video.few", manifest)
    own = getattr(of, where)

    def stop(*given: Any, **more: Any) -> Any:
        if where == "remove_attempts" and given[1] != "extra.json":
            return own(*given, **more)
        (root / f".extra.json{ATTEMPT}1-0123").write_bytes(b"{")
        raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(of, where, stop)
        with pytest.raises(StoppedError):
            add(root, "video.few", manifest)
    assert (root / ".add.sqlite").exists() == (where == "end")
    assert add(root, "video.few", manifest).parts == 0
    assert sorted(file.name for file in open_storage(root).list()) == sorted(f.name for f in open_storage(whole).list())
    assert extra(root) == extra(whole)


def test_a_member_that_is_complete_leaves_the_rows_of_one_that_was_stopped(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = root_of(manifest)
    add(root, "text.wide", manifest)
    with monkeypatch.context() as patched:
        patched.setattr(Enrichment, "_committed", lambda *_: (_ for _ in ()).throw(StoppedError))
        with pytest.raises(StoppedError):
            add(root, "video.few", manifest)
    first = cheap.runs(manifest)["video"]
    assert add(root, "text.wide", manifest).parts == 0
    assert add(root, "video.few", manifest).missing == {}
    assert cheap.runs(manifest)["video"] < first
    assert not (root / ".add.sqlite").exists()


def test_a_store_and_an_imported_dataset(tmp_path: Path, manifest: Path) -> None:
    root = root_of(manifest)
    address = f"memory://{uuid.uuid4().hex}"
    small.build(manifest, output=address)
    for name in ("text.wide", "video.few", "captions.says"):
        add(root, name, manifest)
        add(address, name, manifest)
    assert extra(address) == extra(root)
    assert verify(address).problems == ()
    fields = ["joints", "video.few", "captions.says"]
    for read in ("tar", "columns"):
        here, there = ([*open_dataset(at, split=None, fields=fields, read=read)] for at in (root, address))
        assert [s["key"] for s in here] == [s["key"] for s in there]
        assert all(np.array_equal(one["video.few"], two["video.few"]) for one, two in zip(here, there, strict=True))

    with pytest.raises(ExportError, match=r"the format coco holds no extra members: leave out text.wide"):
        export(root, tmp_path / "all.json", form="coco", extra=["text.wide"])
    wanted = ["text.wide", "video.few", "captions.says"]
    export(root, tmp_path / "all.parquet", form="parquet", extra=wanted)
    known = {one["key"]: one for one in open_dataset(root, split=None, fields=wanted)}
    for row in pq.read_table(tmp_path / "all.parquet").to_pylist():
        np.testing.assert_array_equal(row["text.wide"], known[row["key"]]["text.wide"].reshape(-1))
        np.testing.assert_array_equal(row["video.few"], known[row["key"]]["video.few"])
        assert row["captions.says"] == known[row["key"]]["captions.says"]
    imported = tmp_path / "imported"
    import_dataset(tmp_path / "all.parquet", imported)
    assert add(imported, "text.wide", manifest).missing == {}
    with pytest.raises(EnrichmentError, match=r"no manifest is known that names them: give --manifest"):
        add(imported, "video.few", manifest, manifest=None)
    assert add(imported, "video.few", manifest).missing == {}
    assert verify(imported).problems == ()


@pytest.mark.parametrize("read", ["columns", "tar"])
def test_training_reads_the_members_that_its_configuration_names(manifest: Path, read: Any) -> None:
    root = root_of(manifest)
    for name in ("captions.says", "text.wide", "video.few"):
        add(root, name, manifest)
    plain = read_shards(root, read=read)
    named = read_shards(root, read=read, video="video.few", text="text.wide")
    assert named.clips.key_N.tolist() == plain.clips.key_N.tolist()
    assert named.sentences == plain.sentences
    assert named.text is not None
    assert named.video is not None
    assert plain.text is not None
    every = np.arange(len(plain.sentences))
    np.testing.assert_array_equal(named.text.rows(every)[:, :5], plain.text.rows(every))
    fields = ["video.few", "text.wide", "captions"]
    samples = {s["key"]: s for s in open_dataset(root, split=None, fields=fields, captions=["label", "says"])}
    chosen = read_shards(root, read=read, video="video.few", text="text.wide", captions=["label", "says"])
    for number, key in enumerate(chosen.clips.key_N.tolist()):
        row = chosen.clips.video_N[[number]]
        np.testing.assert_array_equal(chosen.video.rows(row)[0], samples[key]["video.few"])  # type: ignore[union-attr]
        first, count = chosen.clips.caption_first_N[number], chosen.clips.caption_count_N[number]
        numbers = chosen.caption_K[first : first + count]
        assert [chosen.sentences[n] for n in numbers] == samples[key]["captions"]
        np.testing.assert_array_equal(chosen.text.rows(numbers), samples[key]["text.wide"])  # type: ignore[union-attr]
    with pytest.raises(ShardError, match=r"text has no vectors of captions.says"):
        read_shards(root, read=read, captions=["says"])
    with pytest.raises(ValueError, match=r"text is 'read', 'leave' or the name of a member, as 'text.NAME', not 'few'"):
        read_shards(root, read=read, text="few")
    config = DataConfig(shards=(str(root),), split=None, text="text.wide", captions=("row", "says"))
    assert motions_of(config).text.width == 7  # type: ignore[union-attr]


def test_commands_card_and_croissant_know_members(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, local = root_of(manifest), ["--runner", "local", "--workers", "1", "--progress", "none"]
    (manifest.parent / "other.py").write_text(
        (manifest.parent / "pipeline.py").read_text() + 'changed("embed", text=Wide(), video=Colours(frames=2))\n'
        'changed("caption", captioners=(Says(),))\n'
    )
    monkeypatch.chdir(manifest.parent)
    assert main(["add", str(root)]) == 2
    assert main(["add", str(root), "--texts", "efficientnet-lite0"]) == 1
    assert "efficientnet-lite0 makes no text; minilm, " in capsys.readouterr().err
    assert main(["add", str(root), "--video", "nothing"]) == 1
    assert "there is no model 'nothing' (minilm, " in capsys.readouterr().err
    wanted = ["--texts", "other.py", "--video", "other.py", "--captions", "other.py"]
    assert main(["add", str(root), *wanted, "--name", "one", *local]) == 2
    assert main(["add", str(root), *wanted[:2], "--name", "", *local]) == 1
    assert main(["add", str(root), *wanted, *local, "--manifest", "manifest.yaml"]) == 0
    said = capsys.readouterr().out
    assert [line.split(":")[0] for line in said.splitlines()[::2]] == ["captions.says", "text.wide", "video.colours"]
    assert main(["add", str(root), "--texts", "other.py", *local]) == 0
    assert "text.wide: 5 clips, all of it is there; nothing to do" in capsys.readouterr().out
    (manifest.parent / "two.mp4").unlink()
    assert (
        main(["add", str(root), "--video", "other.py", "--name", "again", *local, "--manifest", "manifest.yaml"]) == 3
    )
    assert "3 of them have none: not_found 3; --retry-failed tries them again" in capsys.readouterr().out

    small.build(manifest)
    card, croissant = (root / "card.md").read_text(), json.loads((root / "croissant.json").read_text())
    assert "| text.wide | wide | 7 | 0 |" in card
    assert "| video.again | colours | 3 | 3 |" in card
    files = {one["@id"]: one for one in croissant["distribution"]}
    assert files["text.wide"]["includes"] == "extra/text.wide/*.arrow"
    name = "extra/text.wide/train-00000.arrow"
    assert files[name]["sha256"] == file_sha256(root / name)
    assert main(["inspect", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "  text.wide  float32 (5, 7)  one vector for each caption" in shown
    assert "    2 people move." in shown

    assert main(["remove", str(root), "x", "--member", "text.wide"]) == 2
    assert main(["remove", str(root), "--member", "text.wide"]) == 0
    assert main(["verify", str(root)]) == 0
    small.build(manifest)
    assert "text.wide" not in (root / "card.md").read_text()


def test_loaders_of_others_read_members(manifest: Path) -> None:
    root = root_of(manifest)
    names = ("captions.says", "text.wide", "video.few")
    (manifest.parent / "two.mp4").unlink()
    for name in names:
        add(root, name, manifest)
    known = {one["key"]: one for one in open_dataset(root, split=None, fields=names)}
    assert len(known) == 2
    for one in loaders.examples(root, "train/00000", extra=names):
        np.testing.assert_array_equal(one["text.wide"], known[one["key"]]["text.wide"])
        assert one["captions.says"] == known[one["key"]]["captions.says"]
    pytest.importorskip("webdataset")
    for one in loaders.webdataset(root, split="val", seed=None, extra=names):
        np.testing.assert_array_equal(one["video.few.npy"], known[one["__key__"]]["video.few"])
        assert one["captions.says.json"] == known[one["__key__"]]["captions.says"]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_workers_of_ray_give_the_same_bytes(manifest: Path, ray_cluster: Cluster) -> None:
    root, other = root_of(manifest), manifest.parent / "other"
    shutil.copytree(root, other)
    on_ray = Options(address=ray_cluster.address, workers=1, progress="none")
    for name in ("captions.says", "text.wide", "video.few"):
        add(root, name, manifest)
        assert add(other, name, manifest, options=on_ray).missing == {}
    assert extra(other) == extra(root)
