"""On networks of a line each, written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posecap.inference.onnx_session import OnnxNetwork, normalised
from posecap.weights.checkpoints import BadCheckpoint, RandomWeights, WrongArchitecture

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper


def halving(path: Path, shape: list[int | str], **metadata: str) -> Path:
    """input -> half = input / 2, whole = input."""
    nodes = [
        helper.make_node("Mul", ["input", "factor"], ["half"]),
        helper.make_node("Identity", ["input"], ["whole"]),
    ]
    factor = helper.make_tensor("factor", TensorProto.FLOAT, [], [0.5])
    value = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("input", "half", "whole")}
    graph = helper.make_graph(nodes, "halving", [value["input"]], [value["half"], value["whole"]], [factor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def test_outputs_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = halving(tmp_path / "n.onnx", ["batch", 3, 2, 4])
    network = OnnxNetwork(path, outputs=("whole", "half"), device="cpu")
    pictures = np.ones((5, 3, 2, 4), np.float32)
    whole, half = network.run(pictures)
    np.testing.assert_array_equal(whole, pictures)
    np.testing.assert_array_equal(half, pictures / 2)
    assert network.most is None
    assert network.size == (2, 4)


def test_a_file_for_one_picture_says_so(tmp_path: Path) -> None:
    assert OnnxNetwork(halving(tmp_path / "n.onnx", [1, 3, 2, 4]), outputs=("half",), device="cpu").most == 1


def test_a_file_for_any_size_is_refused_when_its_size_is_asked_for(tmp_path: Path) -> None:
    network = OnnxNetwork(halving(tmp_path / "n.onnx", [1, 3, "h", "w"]), outputs=("half",), device="cpu")
    with pytest.raises(WrongArchitecture, match="any size"):
        _ = network.size


@pytest.mark.parametrize(("shape", "outputs"), [([1, 3, 2, 4], ("half", "third")), ([1, 3], ("half",))])
def test_other_outputs_or_inputs_are_another_network(tmp_path: Path, shape: list, outputs: tuple) -> None:
    with pytest.raises(WrongArchitecture, match=f"half, whole; expected .*{outputs[-1]}"):
        OnnxNetwork(halving(tmp_path / "n.onnx", shape), outputs=outputs, device="cpu")


def test_the_mark_of_random_weights_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = halving(tmp_path / "n.onnx", [1, 3, 2, 4], posecap_random_weights="true")
    monkeypatch.delenv("POSECAP_RANDOM_WEIGHTS", raising=False)
    with pytest.raises(RandomWeights, match=r"n\.onnx"):
        OnnxNetwork(path, outputs=("half",), device="cpu")


def test_a_folder_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="cannot be opened"):
        OnnxNetwork(tmp_path, outputs=("half",), device="cpu")


def test_normalising_goes_channel_by_channel() -> None:
    pictures = np.zeros((1, 1, 2, 3), np.uint8)
    pictures[0, 0] = [[10, 20, 30], [12, 24, 36]]
    got = normalised(pictures, mean=(10, 20, 30), std=(1, 2, 4))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[0, :, 0], [[0, 2], [0, 2], [0, 1.5]])
