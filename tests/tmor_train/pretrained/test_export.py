"""ONNX files compute what torch computes."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tmor_train
from posecap.files import OutputExistsError
from tests import ROOT
from tmor_train.backbones import Backbone
from tmor_train.data import Clip, MotionSet, Sampling, from_clips
from tmor_train.encoder import EncoderConfig, encoder_of
from tmor_train.pretrained import export as export_module
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.pretrained.export import ExportError, check_export, export
from tmor_train.training.config import ViewConfig

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
torch.set_num_threads(1)


def unlike_new(network: Backbone) -> Backbone:
    """With norms as training leaves them: those of a new network hide whole branches."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if "bn." in name and name.endswith(("weight", "running_var")):
            tensor.uniform_(0.5, 1.0, generator=generator)
    return network.eval().requires_grad_(False)


def encoder(*, persons: int = 1, **settings: Any) -> Pretrained:
    torch.manual_seed(0)
    network = unlike_new(encoder_of(EncoderConfig(**settings), layout="unik17", persons=persons))
    sampling = Sampling(frames=16, people=persons)
    return Pretrained(network=network, sampling=sampling, views=ViewConfig(), path=Path("made.pt"), sha256="ab")


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("settings", "persons"),
    [
        ({}, 2),
        pytest.param({"tau": 3, "heads": 2}, 1, marks=pytest.mark.slow),
        pytest.param({"people": "masked_mean"}, 2, marks=pytest.mark.slow),
        pytest.param({"backbone": "agcn"}, 1, marks=pytest.mark.slow),
        ({"backbone": "stgcn", "people": "masked_mean"}, 2),
    ],
)
def test_every_encoder_on_batches_of_any_size(tmp_path: Path, settings: dict[str, Any], persons: int) -> None:
    made = encoder(persons=persons, **settings)
    found = export(made, tmp_path / "e.onnx")
    assert found.difference <= 1e-4
    assert found.outputs == ("features",)
    running = session(found.path)
    for clips in (1, 3, 7):
        motion = torch.randn(clips, 2, 16, 17, persons, generator=torch.Generator().manual_seed(clips))
        inputs = {"motion": motion.numpy()}
        present = None
        if settings.get("people") == "masked_mean":
            present = torch.ones(clips, persons, 16)
            present[0, 0, 3:9] = 0
            present[-1, -1] = 0
            inputs["present"] = present.numpy()
        (features,) = running.run(None, inputs)
        wanted = made.network.clip_features(motion, present).numpy()
        assert np.abs(features - wanted).max() <= 1e-4 * np.abs(wanted).max()
        assert features.shape == (clips, 256)


def test_a_run_with_its_head(demo_run: Path, tmp_path: Path) -> None:
    trained = tmor_train.load(demo_run)
    found = export(trained, tmp_path / "e.onnx", frames=12)
    assert found.inputs == {"motion": ("N", 2, 12, 17, 1)}
    motion = torch.randn(3, 2, 12, 17, 1, generator=torch.Generator().manual_seed(0))
    features, projected = session(found.path).run(["features", "projected"], {"motion": motion.numpy()})
    np.testing.assert_allclose(features, trained.network.clip_features(motion).numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(projected, trained.project(features), atol=1e-5)
    assert not trained.network.training


def test_the_file_says_what_it_takes(demo_run: Path, tmp_path: Path) -> None:
    trained = tmor_train.load(demo_run)
    export(trained, tmp_path / "e.onnx")
    running = session(tmp_path / "e.onnx")
    facts = running.get_modelmeta().custom_metadata_map
    assert facts["format"] == "tmor_train.onnx/1"
    assert json.loads(facts["checkpoint"]) == {"name": trained.path.name, "of": "ema", "sha256": trained.sha256}
    assert (facts["layout"], facts["frames"], facts["persons"]) == ("unik17", "8", "1")
    assert json.loads(facts["normalise"]) == {"screen": "frame"}
    assert json.loads(facts["joints"])[:2] == ["head", "mouth"]
    assert json.loads(facts["sampling"])["choice"] == "uniform"
    assert "0 where a joint is not seen" in running.get_modelmeta().description
    ((name, shape),) = [(given.name, given.shape) for given in running.get_inputs()]
    assert (name, shape) == ("motion", ["N", 2, 8, 17, 1])


def test_the_file_carries_its_own_hash(tmp_path: Path) -> None:
    found = export(encoder(), tmp_path / "e.onnx")
    content = found.path.read_bytes()
    assert check_export(found.path) == found.sha256 == hashlib.sha256(content[:-76]).hexdigest()
    entries = onnx.load(found.path).metadata_props
    assert (entries[-1].key, entries[-1].value) == ("sha256", found.sha256)
    spoilt = tmp_path / "spoilt.onnx"
    for at in (100, len(content) // 2, len(content) - 1):
        spoilt.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(ExportError, match=r"spoilt\.onnx is damaged"):
            check_export(spoilt)
    spoilt.write_bytes(content[:-76])
    with pytest.raises(ExportError, match="carries no SHA-256 of its own"):
        check_export(spoilt)


def test_the_same_encoder_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export(encoder(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert str(ROOT).encode() not in (tmp_path / "a").read_bytes()


def test_person_slots_are_fixed_where_they_have_statistics(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"UNIK of made.pt has 1 person slots.*cannot be exported for 2"):
        export(encoder(), tmp_path / "e.onnx", persons=2)
    found = export(encoder(backbone="stgcn"), tmp_path / "e.onnx", persons=3)
    assert found.inputs["motion"] == ("N", 2, 16, 17, 3)
    with pytest.raises(ExportError, match="at least 1"):
        export(encoder(), tmp_path / "f.onnx", frames=-1)
    with pytest.raises(ExportError, match="at least 1, not 0 and 1"):
        export(encoder(), tmp_path / "f.onnx", frames=0)


def test_a_file_that_computes_something_else_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "e.onnx"
    path.write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="already exists"):
        export(encoder(), path)
    tell = export_module._describe

    def spoilt(part: Path, facts: dict[str, object]) -> None:
        tell(part, facts)
        model = onnx.load(part)
        weight = next(tensor for tensor in model.graph.initializer if tensor.name == "network.shift")
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 0.01, weight.name))
        onnx.save(model, part)

    monkeypatch.setattr(export_module, "_describe", spoilt)
    with pytest.raises(ExportError, match="onnxruntime differs from torch by"):
        export(encoder(), path, existing="replace")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def moving_clips(number: int) -> MotionSet:
    """Clips of one person in pixels, each another shape that moves another way."""
    draw = np.random.default_rng(0)
    clips = []
    for key in range(number):
        body, way = draw.normal(50, 15, (1, 1, 17, 2)), draw.normal(0, 1, (1, 1, 17, 2))
        xy = body + way * np.arange(16)[None, :, None, None]
        joints = np.concatenate([xy, np.ones((1, 16, 17, 1))], -1).astype(np.float32)
        clips.append(Clip(key=str(key), joints_MTJC=joints, layout="unik17", width=100.0, height=100.0))
    return from_clips(clips)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "least", "share"), [("float16", 0.999, 0.55), ("int8", 0.95, 0.35)])
def test_fewer_bits(tmp_path: Path, precision: Any, least: float, share: float) -> None:
    made, clips = encoder(), moving_clips(24)
    whole = export(made, tmp_path / "whole.onnx", clips=clips)
    found = export(made, tmp_path / "less.onnx", precision=precision, clips=clips)
    assert whole.cosine == pytest.approx(1, abs=1e-5)
    assert least < found.cosine < 1
    assert found.path.stat().st_size < share * whole.path.stat().st_size
    assert check_export(found.path) == found.sha256
    running = session(found.path)
    assert running.get_modelmeta().custom_metadata_map["precision"] == precision
    for clips_at_once in (1, 3):
        motion = np.zeros((clips_at_once, 2, 16, 17, 1), np.float32)
        (features,) = running.run(None, {"motion": motion})
        assert (features.shape, features.dtype) == ((clips_at_once, 256), np.float32)
    again = export(made, tmp_path / "again.onnx", precision=precision, clips=clips)
    assert again.path.read_bytes() == found.path.read_bytes()


def test_int8_is_of_all_products_but_those_of_coordinates(tmp_path: Path) -> None:
    found = export(encoder(), tmp_path / "e.onnx", precision="int8", clips=moving_clips(8))
    graph = onnx.load(found.path).graph
    eight_bits = [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    # In blocks 2 to 10: a, b, d, along time; in two of them those that widen the residuals, too.
    assert len([node for node in graph.node if node.op_type == "Conv"]) - len(eight_bits) == 4
    assert len(eight_bits) == 9 * 4 + 2 * 2 + 1
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(found.path.read_bytes(), options, providers=["CPUExecutionProvider"])
    products = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node if "MatMul" in node.op_type]
    # Both sides of the attention are multiplied as bytes in the blocks 2 to 10, and joints are mixed so in all ten.
    assert products.count("MatMulIntegerToFloat") == 9
    assert products.count("QLinearMatMul") == 10


@pytest.mark.slow
def test_an_encoder_that_computes_in_onnxruntime(demo_run: Path, tmp_path: Path) -> None:
    trained = tmor_train.load(demo_run)
    found = export(trained, tmp_path / "e.onnx")
    clips = moving_clips(5)
    fast = tmor_train.load(demo_run, onnx=found.path)
    wanted = np.concatenate([vectors for _, vectors in trained.embed_set(clips)])
    (got,) = (vectors for _, vectors in fast.embed_set(clips))
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
    np.testing.assert_allclose(fast.project(got), trained.project(wanted), atol=1e-3)
    assert fast.facts()["onnx"] == {"sha256": found.sha256, "precision": "float32"}
    assert "onnx" not in trained.facts()
    with pytest.raises(ExportError, match="of the checkpoint with the SHA-256"):
        tmor_train.load(demo_run, of="online", onnx=export(encoder(), tmp_path / "other.onnx").path)
    with pytest.raises(ExportError, match="for clips of 12 frames and 1 people, the checkpoint for 8 and 1"):
        tmor_train.load(demo_run, onnx=export(trained, tmp_path / "long.onnx", frames=12).path)


def test_int8_needs_clips(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="int8 needs clips"):
        export(encoder(), tmp_path / "e.onnx", precision="int8")
    with pytest.raises(ExportError, match="two clips or more"):
        export(encoder(), tmp_path / "e.onnx", precision="int8", clips=moving_clips(1))


def test_too_great_a_loss_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "to_int8", lambda path, inputs: export_module.to_float16(path))
    monkeypatch.setattr(export_module, "LEAST_COSINE", 1.1)
    with pytest.raises(ExportError, match=r"embeddings in int8 have a mean cosine of 1\.000 with torch's, below 1\.1"):
        export(encoder(), tmp_path / "e.onnx", precision="int8", clips=moving_clips(8))
    assert not list(tmp_path.iterdir())


def test_without_onnx_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match=r"onnx is needed to export: pip install 'posecap\[train\]'"):
        export(encoder(), tmp_path / "e.onnx")
    assert not list(tmp_path.iterdir())
