"""Detectors of transformers through posecap and through transformers' own pipeline; and files that are no good."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from posecap.engines.transformers_detector import TransformersDetector
from posecap.inference.package_compat import ensure_torchvision
from posecap.models import MissingWeightsError
from posecap.weights.checkpoints import CheckpointError, RandomWeightsError, WrongArchitectureError

transformers = pytest.importorskip("transformers", reason="needs posecap[transformers]")
ensure_torchvision()
if not hasattr(transformers, "RfDetrConfig"):
    pytest.skip(f"transformers {transformers.__version__} has no RF-DETR", allow_module_level=True)

from PIL import Image  # noqa: E402

from tests.random_weights import transformers_detector as random_weights  # noqa: E402


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("detectors")
    return {family: write(base / family) for family, write in random_weights.FAMILIES.items()}


def engine(folder: Path, **changes) -> TransformersDetector:
    return TransformersDetector(**{"checkpoint": str(folder), "device": "cpu", **changes})


def copied(folder: Path, place: Path) -> Path:
    return shutil.copytree(folder, place / "copy")


@pytest.mark.parametrize("family", random_weights.FAMILIES)
def test_people_are_those_of_transformers_own_pipeline(folders, real_frames, family):
    ours = engine(folders[family], conf=0.05)
    theirs = transformers.pipeline("object-detection", model=str(folders[family]), device="cpu")
    height, width = real_frames.shape[1:3]
    for found, frame in zip(ours.detect(real_frames), real_frames, strict=True):
        people = [one for one in theirs(Image.fromarray(frame), threshold=0.05) if one["label"] == "person"]
        boxes = np.array([list(one["box"].values()) for one in people])  # whole pixels, rounded towards zero
        boxes = np.clip(boxes, 0, [width, height] * 2)
        solid = (boxes[:, 2:] > boxes[:, :2]).all(-1)
        assert solid.sum() > 5
        scores = np.array([one["score"] for one in people])
        apart = np.abs(boxes[solid][:, None] + 0.5 - found.boxes_N4).max(-1) + np.abs(
            scores[solid][:, None] - found.scores_N
        )
        assert apart.min(1).max() < 0.51
        assert len(solid) >= len(found.scores_N) >= solid.sum()
        assert (np.diff(found.scores_N) <= 0).all()


def test_a_folders_path_is_in_no_name(folders):
    ours = engine(folders["rf_detr"])
    assert ours.name == "transformers:rf_detr"
    assert TransformersDetector(checkpoint="Roboflow/rf-detr-nano").name == "transformers:Roboflow/rf-detr-nano"
    assert sorted(Path(path).name for path in ours.weights) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert pickle.loads(pickle.dumps(ours)) == ours
    assert ours.layout is None


def test_most_people_and_least_score(folders, real_frames):
    (all_of_them,) = engine(folders["rf_detr"], conf=0.05).detect(real_frames[:1])
    (few,) = engine(folders["rf_detr"], conf=0.05, max_det=3).detect(real_frames[:1])
    np.testing.assert_array_equal(few.boxes_N4, all_of_them.boxes_N4[:3])
    (nobody,) = engine(folders["rf_detr"], conf=1.0).detect(real_frames[:1])
    assert nobody.boxes_N4.shape == (0, 4)
    assert engine(folders["rf_detr"]).detect(real_frames[:0]) == []


def test_a_batch_that_does_not_fit_is_halved(folders, real_frames, monkeypatch):
    wanted = engine(folders["rf_detr"]).detect(real_frames)
    ours, sizes = engine(folders["rf_detr"], batch=4), []
    forward = ours._network.forward

    def cramped(pixel_values, **others):
        sizes.append(len(pixel_values))
        if len(pixel_values) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(pixel_values, **others)

    monkeypatch.setattr(ours._network, "forward", cramped)
    for found, expected in zip(ours.detect(real_frames), wanted, strict=True):
        np.testing.assert_allclose(found.boxes_N4, expected.boxes_N4, atol=1e-3)
    assert sizes == [4, 2, 2]


def test_a_detector_that_names_no_people_is_refused(tmp_path):
    folder = random_weights.rf_detr(tmp_path / "cats", names={0: "cat", 1: "dog", 2: "horse"})
    with pytest.raises(WrongArchitectureError, match="0 of its 3 classes are named 'person'"):
        engine(folder).load()


def test_missing_weights_say_how_to_get_them(tmp_path):
    with pytest.raises(MissingWeightsError, match="hf download"):
        engine(tmp_path / "nothing").load()


def test_pickled_weights_are_not_read(folders, tmp_path):
    folder = copied(folders["rf_detr"], tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="as a pickle"):
        engine(folder).load()


def test_a_truncated_file_is_refused(folders, tmp_path):
    folder = copied(folders["rf_detr"], tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is cut off"):
        engine(folder).load()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"d_model": 96}, "config and weights are of different models"),
        ({"model_type": "vit"}, "is not an object detector"),
        ({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}, "cannot read its config.json"),
    ],
)
def test_another_network_is_refused(folders, tmp_path, change, says):
    folder = copied(folders["rf_detr"], tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=says):
        engine(folder).load()


def test_frames_that_the_network_cannot_take_are_found_out_before_the_first_clip(folders, tmp_path):
    folder = copied(folders["rf_detr"], tmp_path)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"size": {"height": 100, "width": 99}}))
    with pytest.raises(WrongArchitectureError, match="do not go together"):
        engine(folder).load()


def test_random_weights_are_not_used_by_accident(folders, monkeypatch):
    monkeypatch.delenv("POSECAP_RANDOM_WEIGHTS", raising=False)
    with pytest.raises(RandomWeightsError):
        engine(folders["rf_detr"]).load()


@pytest.mark.parametrize(
    "fields", [{"checkpoint": ""}, {"checkpoint": "x", "batch": 0}, {"checkpoint": "x", "max_det": 0}]
)
def test_settings_that_mean_nothing_are_refused(fields):
    with pytest.raises(ValueError, match="needs a checkpoint, and max_det and batch of 1 or more"):
        TransformersDetector(**fields)
