"""Pipelines are checked before anything runs, and known by a fingerprint."""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from posecap import pipeline as pipeline_module
from posecap.engines.bytetrack import ByteTrack
from posecap.engines.local_file import LocalFile
from posecap.engines.minilm import MiniLM
from posecap.engines.mmpose import RTMPose
from posecap.engines.pyav import PyAV
from posecap.engines.torchcodec import TorchCodec
from posecap.engines.ytdlp import YtDlp
from posecap.pipeline import Pipeline, PipelineError, load_pipeline
from posecap.stage import Engine, Resources, Stage
from posecap.stages.decode import Decode
from posecap.stages.download import Download
from posecap.stages.pack import Embed
from posecap.stages.pose import Pose
from posecap.types import Clip, CutVideo, PosedClip, Row, Sample, SkeletonClip, TrackedClip, Video
from tests import ROOT

DEFAULT = ROOT / "pipelines" / "default.py"


def step(stage_name: str, taken: type, given: type, *, cpus: float = 1.0, gpus: float = 0.0) -> Stage:
    @dataclass(frozen=True)
    class Step(Stage):
        name: ClassVar[str] = stage_name
        takes: ClassVar[type] = taken
        gives: ClassVar[type] = given
        resources = Resources(cpus=cpus, gpus=gpus)
        strength: int = 1

        def __call__(self, item: Any) -> Iterator[Any]:
            yield item

    return Step()


FETCH = step("fetch", Row, Video, cpus=0)
CUT = step("cut", Video, CutVideo)
DECODE = step("decode", CutVideo, Clip)
POSE = step("pose", Clip, SkeletonClip)
PACK = step("pack", SkeletonClip, Sample)
SOUND = (FETCH, CUT, DECODE, POSE, PACK)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ((), "at least one stage"),
        ((CUT, DECODE), "first stage must take a Row; 'cut' takes Video"),
        ((FETCH, DECODE), "stage 'decode' takes CutVideo, but 'fetch' before it gives Video: put the stage"),
        ((FETCH, CUT, DECODE, PACK), "'pack' takes SkeletonClip, but 'decode' before it gives Clip"),
        ((FETCH, CUT), "last stage must give a Sample"),
    ],
)
def test_stages_that_do_not_fit_are_named(stages: tuple[Stage, ...], words: str) -> None:
    with pytest.raises(PipelineError, match=words):
        Pipeline(stages)


def test_expected_rejections_name_stages() -> None:
    with pytest.raises(PipelineError, match="names 'tarck', which is not a stage"):
        Pipeline(SOUND, expected_rejections={"tarck": 0.5})


def test_a_list_of_stages_is_as_good_as_a_tuple() -> None:
    assert Pipeline(list(SOUND)).stages == SOUND  # type: ignore[arg-type]


def test_neighbours_share_a_worker_and_frames_never_leave_it() -> None:
    shapes = [[stage.name for stage in segment.stages] for segment in Pipeline(SOUND).segments()]
    assert shapes == [["fetch"], ["cut", "decode", "pose", "pack"]]
    greedy = (FETCH, CUT, DECODE, step("pose", Clip, SkeletonClip, cpus=2, gpus=0.5), PACK)
    first, second = Pipeline(greedy).segments()
    assert first.resources == Resources(cpus=0)
    assert second.resources == Resources(cpus=2, gpus=0.5)
    # A cut video's file is on one node, and deleted by the segment that got the video.
    (_, *computing) = Pipeline((FETCH, CUT, step("decode", CutVideo, Clip, cpus=3), POSE, PACK)).segments()
    assert [segment.resources.cpus for segment in computing] == [3]


def test_the_fingerprint_covers_every_parameter_and_nothing_else() -> None:
    plain = Pipeline(SOUND)
    assert len(plain.fingerprint()) == 64
    assert plain.fingerprint() == Pipeline(SOUND, expected_rejections={"pose": 0.5}).fingerprint()
    stronger = replace(POSE, strength=2)  # type: ignore[type-var]
    assert plain.fingerprint() != Pipeline((FETCH, CUT, DECODE, stronger, PACK)).fingerprint()


def test_the_demo_names_its_packages_and_weights() -> None:
    lineage = load_pipeline(DEFAULT).lineage()
    assert {"posecap", "numpy", "ai-edge-litert", "onnxruntime"} <= lineage["packages"].keys()
    assert "torch" not in lineage["packages"]  # it takes a second of every worker's start
    assert set(lineage["weights"]) == {
        "efficientnet-lite0-imagenet",
        "minilm-l6-v2-int8",
        "minilm-l6-v2-tokenizer",
        "movenet-multipose-lightning",
    }
    assert all(len(sha256) == 64 for sha256 in lineage["weights"].values())
    assert load_pipeline(DEFAULT).fingerprint() == load_pipeline(DEFAULT).fingerprint()


def test_shared_libraries_of_the_machine_are_in_the_lineage(monkeypatch: pytest.MonkeyPatch) -> None:
    prints = set()
    for version in ("6", "7"):
        monkeypatch.setattr("posecap.engines.torchcodec._ffmpeg_version", lambda version=version: version)
        stages = load_pipeline(DEFAULT).stages
        codec = [replace(s, decoders=(TorchCodec(), PyAV())) if isinstance(s, Decode) else s for s in stages]
        pipeline = Pipeline(tuple(codec))
        assert pipeline.lineage()["packages"]["ffmpeg of torchcodec"] == version
        prints.add(pipeline.fingerprint())
    assert len(prints) == 2


def test_a_weights_file_of_ones_own_is_known_by_its_content(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Net(Engine):
        name: ClassVar[str] = "net"
        weights_from: str = ""

        @property
        def weights(self) -> tuple[str, ...]:
            return (self.weights_from,)

    mine = tmp_path / "mine.pt"
    mine.write_bytes(b"mine")
    pipeline = Pipeline((FETCH, CUT, DECODE, replace(POSE, strength=Net(weights_from=str(mine))), PACK))  # type: ignore[type-var]
    assert pipeline.lineage()["weights"] == {"mine.pt": hashlib.sha256(b"mine").hexdigest()}
    before = pipeline.fingerprint()
    mine.write_bytes(b"mine again")
    assert pipeline.fingerprint() != before


def test_files_of_one_name_are_told_apart_by_as_many_folders_as_it_takes(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Nets(Engine):
        name: ClassVar[str] = "nets"
        weights: tuple[str, ...] = ()

    files = [tmp_path / place for place in ("one.pt", "a/net/two.pt", "b/other/two.pt", "a/net/x.json", "b/net/x.json")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(file))
    nets = Nets(weights=tuple(map(str, files)))
    hashed = Pipeline((FETCH, CUT, DECODE, replace(POSE, strength=nets), PACK)).lineage()["weights"]  # type: ignore[type-var]
    assert set(hashed) == {"one.pt", "net/two.pt", "other/two.pt", "a/net/x.json", "b/net/x.json"}
    assert len(set(hashed.values())) == len(files)


@pytest.mark.parametrize("text", [None, "other = 1\n", "pipeline = [1, 2]\n"])
def test_a_file_without_a_pipeline_is_rejected(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PipelineError, match=r"mine\.py"):
        load_pipeline(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = 1\nb = = 2\n", "2: is not a Python file: invalid syntax"),
        ("a = 1\nreturn a\n", "2: SyntaxError: 'return' outside function"),
        ("import posecap\nfrom posecap.engines.nothing import A\n", "2: ModuleNotFoundError: No module named"),
        ("import posecap\nimport no_such_package\n", "2: ModuleNotFoundError: No module named 'no_such_package'"),
        ("from posecap.stages.decode import Cutter\n", "1: ImportError: cannot import name 'Cutter'"),
        (
            "from posecap.stages.decode import Split\n\nSplit(\n    treshold=4,\n)\n",
            r"3: TypeError: Split.__init__\(\) got an unexpected keyword argument 'treshold'",
        ),
        ("from posecap.stages.decode import Split\nSplit(threshold=-1)\n", r"2: ValueError: Split\(longest_seconds"),
        ("from posecap.pipeline import Pipeline\npipeline = Pipeline(())\n", "2: a pipeline needs at least one stage"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_named_with_the_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(PipelineError, match=rf"mine\.py:{words}"):
        load_pipeline(tmp_path / "mine.py")


def test_a_package_that_posecap_lacks_is_not_the_files_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("import posecap.engines.bytetrack\n")
    monkeypatch.delitem(sys.modules, "posecap.engines.bytetrack", raising=False)
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ModuleNotFoundError, match="numpy"):
        load_pipeline(tmp_path / "mine.py")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Download((LocalFile(),), content="Magic"), "download: content is 'Magic', expected one of 'magic', 'none'"),
        (Download((YtDlp(stretch="spans"),)), "ytdlp: stretch is 'spans', expected one of 'span', 'whole'"),
        (Pose(estimator="detecter"), "pose: estimator is 'detecter', expected one of 'detector'"),
        (Pose(estimator=RTMPose(flip_test=True)), "rtmpose-m-coco17: flip_test is True, expected one of 'on', 'off'"),
    ],
)
def test_a_misspelt_word_is_refused_where_it_would_quietly_mean_another(part: Stage, words: str) -> None:
    whole = load_pipeline(DEFAULT)
    with pytest.raises(PipelineError, match=f"^{words}"):
        replace(whole, stages=tuple(part if stage.name == part.name else stage for stage in whole.stages))


def default_with(stage_name: str, **changes: Any) -> Pipeline:
    pipeline = load_pipeline(DEFAULT)
    return replace(
        pipeline, stages=tuple(replace(s, **changes) if s.name == stage_name else s for s in pipeline.stages)
    )


def chains(pipeline: Pipeline) -> dict[str, str]:
    return {stage.name: pipeline.chain(number) for number, stage in enumerate(pipeline.stages)}


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("download", {"content": "none"}),
        ("decode", {"long_side": 256}),
        ("track", {"tracker": ByteTrack()}),
        ("filter_people", {"person_presence": 0.3}),
        ("skeleton", {"layout": "coco17", "joint_score": 0.1}),
        ("caption", {"templates": ("{}",)}),
        ("embed", {"text": MiniLM(longest_tokens=64)}),
        ("pack", {"thumbnail_side": 0}),
    ],
)
def test_a_changed_stage_changes_its_chain_and_the_later_ones_and_leaves_the_earlier_ones(
    stage: str, changes: dict[str, Any]
) -> None:
    before, after = chains(load_pipeline(DEFAULT)), chains(default_with(stage, **changes))
    names = list(before)
    position = names.index(stage)
    assert all(before[name] == after[name] for name in names[:position])
    assert all(before[name] != after[name] for name in names[position:])


def test_what_changes_no_sample_is_in_no_chain() -> None:
    before = load_pipeline(DEFAULT)
    after = replace(default_with("download", concurrency=1), worker=Resources(cpus=2), expected_rejections={})
    assert chains(after) == chains(before)
    assert after.perception() == before.perception()


def test_weights_and_versions_count_from_the_stage_on_that_uses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    before = chains(load_pipeline(DEFAULT))
    known = pipeline_module.weights_sha256
    monkeypatch.setattr(
        pipeline_module, "weights_sha256", lambda name: "0" * 64 if name.startswith("minilm") else known(name)
    )
    after = chains(load_pipeline(DEFAULT))
    changed = [name for name in before if before[name] != after[name]]
    assert changed == ["embed", "pack"]


def test_there_is_no_chain_of_a_stage_that_is_not_there() -> None:
    for number in (-1, len(SOUND)):
        with pytest.raises(IndexError, match=f"stage {number} of a pipeline of {len(SOUND)} stages"):
            Pipeline(SOUND).chain(number)


def test_clips_are_stored_after_the_stages_that_perceive() -> None:
    stored = load_pipeline(DEFAULT).perception()
    assert stored is not None
    assert stored.stages == ("decode", "track", "pose")
    assert list(stored.chains) == ["download", "split", "decode", "track", "pose"]
    assert stored.deepest(stored.chains) == "pose"
    assert stored.deepest({**stored.chains, "pose": "another"}) == "track"
    assert stored.deepest({"download": stored.chains["download"]}) is None


def test_a_video_vector_depends_on_frames_and_its_model_alone() -> None:
    def vectors(pipeline: Pipeline) -> str:
        stored = pipeline.perception()
        assert stored is not None
        return stored.vectors

    before = load_pipeline(DEFAULT)
    (embed,) = (stage for stage in before.stages if isinstance(stage, Embed))
    assert vectors(before)
    assert vectors(default_with("track", tracker=ByteTrack())) == vectors(before)
    assert vectors(default_with("embed", text=MiniLM(longest_tokens=64))) == vectors(before)
    assert vectors(default_with("decode", long_side=256)) != vectors(before)
    assert vectors(default_with("embed", video=replace(embed.video, frames=4))) != vectors(before)


def test_what_is_stored_ends_where_somebody_changes_clips() -> None:
    crop = step("crop", Clip, Clip)
    track, pose = step("track", Clip, TrackedClip), step("joints", TrackedClip, PosedClip)
    rest = (step("measure", PosedClip, SkeletonClip), PACK)
    for stages, stored in (
        ((FETCH, CUT, DECODE, track, pose, *rest), ("decode", "track", "joints")),
        ((FETCH, CUT, DECODE, crop, track, pose, *rest), ("decode",)),
        ((FETCH, CUT, DECODE, track, step("narrow", TrackedClip, TrackedClip), pose, *rest), ("decode", "track")),
        ((FETCH, CUT, DECODE, POSE, PACK), ("decode",)),
    ):
        found = Pipeline(stages).perception()
        assert found is not None
        assert (found.stages, found.vectors) == (stored, "")
    assert Pipeline((step("all", Row, Sample),)).perception() is None
    assert Pipeline((FETCH, step("fetch", Video, CutVideo), DECODE, POSE, PACK)).perception() is None  # one name, twice
