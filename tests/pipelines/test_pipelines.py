"""The pipelines as they are shipped: they load, and the field's engines walk a real film from row to shard.

Where no package has the published weights they are random ones in the same formats, so what those skeletons show means
nothing; that they arrive does.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import posecap
from posecap.pipeline import load_pipeline
from posecap.stage import Resources
from tests import ROOT, small
from tests.models_at_hand import weights_or_skip
from tests.random_weights import viclip

SHIPPED = ROOT / "pipelines"


def test_posecap_1m_keeps_a_gpu_busy_with_several_clips() -> None:
    fetching, computing = load_pipeline(SHIPPED / "posecap_1m.py").segments()
    assert [stage.name for stage in fetching.stages] == ["download"]
    assert fetching.resources == Resources(cpus=0, concurrency=32)
    assert computing.resources.gpus == 1
    assert computing.resources.concurrency > 1
    assert [stage.name for stage in computing.stages] == [
        *("split", "decode", "track", "pose", "filter_people", "skeleton", "caption", "embed", "pack"),
    ]


def test_every_threshold_of_posecap_1m_is_written_down() -> None:
    """What the file leaves to a default would change under the hands of those who copied it."""
    from dataclasses import fields

    text = (SHIPPED / "posecap_1m.py").read_text()
    pipeline = load_pipeline(SHIPPED / "posecap_1m.py")
    for stage in pipeline.stages:
        if stage.name in ("split", "filter_people", "caption", "skeleton"):
            written = [f.name for f in fields(stage) if f.init and f.name not in ("captioners", "joint_score")]
            assert all(f"{name}=" in text for name in written), (stage.name, written)


def ultralytics_and_mmpose(folder: Path) -> tuple[Any, Any]:
    from posecap.engines.mmpose import RTMPose
    from posecap.engines.ultralytics import Ultralytics
    from tests.random_weights import mmpose, ultralytics

    yolo = ultralytics.write(folder / "yolo11n.pt")
    rtmpose = mmpose.rtmpose(folder / "rtmpose-t.pth")
    return (
        Ultralytics(weights_from=str(yolo), conf=0.9, imgsz=256),
        RTMPose(size="t", weights_from=str(rtmpose)),
    )


def onnx_alone(folder: Path) -> tuple[Any, Any]:
    from posecap.engines.rtmdet_onnx import RTMDetOnnx
    from posecap.engines.rtmpose_onnx import RTMPoseOnnx
    from tests.random_weights import mmpose

    rtmdet = mmpose.rtmdet_onnx(folder / "rtmdet-n.onnx")
    rtmpose = mmpose.rtmpose_onnx(folder / "rtmpose-t.onnx")
    return (
        RTMDetOnnx(size="n", weights_from=str(rtmdet), conf=0.85),
        RTMPoseOnnx(size="t", weights_from=str(rtmpose)),
    )


def rtmo_alone(folder: Path) -> tuple[Any, Any]:
    """One network for people and joints."""
    from posecap.engines.rtmo_onnx import RTMOOnnx
    from tests.random_weights import mmpose

    return RTMOOnnx(size="t", weights_from=str(mmpose.rtmo_onnx(folder / "rtmo-t.onnx"))), "detector"


def transformers_alone(folder: Path) -> tuple[Any, Any]:
    """RF-DETR and ViTPose, both of small networks."""
    from posecap.engines.transformers_detector import TransformersDetector
    from posecap.engines.vitpose import ViTPose
    from posecap.inference.package_compat import ensure_torchvision
    from tests.random_weights import vitpose

    ensure_torchvision()
    from tests.random_weights import transformers_detector

    rf_detr = transformers_detector.rf_detr(folder / "rf_detr")
    weights = vitpose.write(folder / "vitpose.safetensors")
    return TransformersDetector(checkpoint=str(rf_detr), conf=0.5), ViTPose(weights_from=str(weights))


@pytest.fixture
def small_vitpose() -> Iterator[None]:
    pytest.importorskip("transformers")
    from tests.random_weights import vitpose

    with vitpose.tiny():
        yield


SWAPPED = """\
from dataclasses import replace
from pathlib import Path

from posecap.engines.bytetrack import ByteTrack
from posecap.engines.oc_sort import OCSort
from posecap.pipeline import load_pipeline
from posecap.stage import Resources
{imports}

shipped = load_pipeline(Path({shipped!r}))
anybody = dict(joint_score=0.0, confident_joints_share=0.0, person_presence=0.0, confident_frames_share=0.0, motion=0.0)
swapped = {{
    "track": {{
        "detector": {detector!r},
        "tracker": {tracker!r},
    }},
    "pose": {{"estimator": {estimator!r}}},
    "filter_people": {{"fewest_frames": 4, "shortest_seconds": 0.3, **anybody}},
    "embed": {{"video": {both!r}, "text": {both!r}}},
}}
pipeline = replace(
    shipped,
    stages=tuple(replace(stage, **swapped.get(stage.name, {{}})) for stage in shipped.stages),
    worker=Resources(cpus=1, concurrency=2),
)
"""


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(ultralytics_and_mmpose, marks=pytest.mark.slow),
        onnx_alone,
        pytest.param(rtmo_alone, marks=pytest.mark.slow),
        pytest.param(transformers_alone, marks=pytest.mark.slow),
    ],
    ids=lambda make: make.__name__,
)
@pytest.mark.usefixtures("small_vitpose")
def test_engines_are_swapped_and_a_film_goes_all_the_way(
    media: Path, tmp_path: Path, make: Callable[[Path], tuple[Any, Any]]
) -> None:
    for package in ("ultralytics", "mmpose", "open_clip", "onnx", "yt_dlp"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    from posecap.engines.bytetrack import ByteTrack
    from posecap.engines.oc_sort import OCSort
    from posecap.engines.viclip import ViCLIPEmbedder

    detector, estimator = make(tmp_path)
    both = ViCLIPEmbedder(weights_from=str(viclip.write(tmp_path / "viclip.safetensors")))
    engines = [engine for engine in (detector, estimator, both) if engine != "detector"]
    rows = [small.KEPT, {**small.KEPT, "id": "again", "label": "falling", "end": 0.4}]
    manifest = small.manifest(tmp_path / "built", rows, media_root=media)
    (tmp_path / "built" / "pipeline.py").write_text(
        SWAPPED.format(
            imports="\n".join(f"from {type(e).__module__} import {type(e).__name__}" for e in engines),
            shipped=str(SHIPPED / "posecap_1m.py"),
            tracker=OCSort(track_high_thresh=0.05, overlap=0.1)
            if make is transformers_alone
            else ByteTrack(track_high_thresh=0.05, track_low_thresh=0.02, likeness=0.1),
            detector=detector,
            estimator=estimator,
            both=both,
        )
    )
    built = small.build(manifest)
    assert built.report["counts"]["rows"]["kept"] == 2
    index = posecap.index(built.root).to_table().to_pylist()
    assert {row["pose_model"] for row in index} == {(detector if estimator == "detector" else estimator).name}
    assert {row["detector_model"] for row in index} == {detector.name}
    assert {row["video_dimension"] for row in index} == {both.dimension}
    weights = [word.rpartition(":")[0] for word in index[0]["weights"]]
    assert sorted(weights) == sorted(Path(name).name for e in engines for name in e.weights)
    assert str(tmp_path) not in (built.root / "dataset.json").read_text()


SHORT = """\
from dataclasses import replace
from pathlib import Path

from posecap.pipeline import load_pipeline

shipped = load_pipeline(Path({shipped!r}))
short = {{"split": {{"shortest_seconds": 0.3}}, "filter_people": {{"shortest_seconds": 0.3, "motion": 0.0}}}}
pipeline = replace(shipped, stages=tuple(replace(stage, **short.get(stage.name, {{}})) for stage in shipped.stages))
"""


@pytest.mark.slow
def test_yolo11_pose_finds_both_people_of_a_film_with_published_weights(media: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("ultralytics") is None:
        pytest.skip("ultralytics is not installed")
    weights_or_skip("yolo11n-pose")
    manifest = small.manifest(tmp_path / "built", [small.KEPT], media_root=media)
    (tmp_path / "built" / "pipeline.py").write_text(SHORT.format(shipped=str(SHIPPED / "yolo11_pose.py")))
    built = small.build(manifest)
    assert built.report["counts"]["rows"]["kept"] == 1
    (row,) = posecap.index(built.root).to_table().to_pylist()
    assert (row["detector_model"], row["pose_model"]) == ("ultralytics-yolo11n-pose",) * 2
    assert any(word.startswith("yolo11n-pose:869e83fc") for word in row["weights"])
    sample = posecap.read(built.root, row["key"])
    assert len(sample.joints_MTJ3) == 2  # the man, and the other behind him
    assert (sample.joints_MTJ3[0, :, 5:, 2] > 0.5).mean() > 0.9
    assert "AGPL-3.0" in (built.root / "card.md").read_text()
