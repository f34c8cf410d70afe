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
from tmor_train.data import Sampling
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
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("settings", "persons"),
    [
        ({}, 2),
        ({"tau": 3, "heads": 2}, 1),
        ({"people": "masked_mean"}, 2),
        ({"backbone": "agcn"}, 1),
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
        weight = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("data_bn.bias"))
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 0.01, weight.name))
        onnx.save(model, part)

    monkeypatch.setattr(export_module, "_describe", spoilt)
    with pytest.raises(ExportError, match="onnxruntime differs from torch by"):
        export(encoder(), path, existing="replace")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_without_onnx_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match=r"onnx is needed to export: pip install 'posecap\[train\]'"):
        export(encoder(), tmp_path / "e.onnx")
    assert not list(tmp_path.iterdir())
