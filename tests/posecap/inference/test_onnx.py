"""On networks of a line each, written here by the package onnx, and by the writer that does without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from posecap.inference.onnx import OnnxGraph, OnnxNetwork, Outside, crop, normalize, resize, sample, session_of
from posecap.weights.checkpoints import CheckpointError, RandomWeightsError, WrongArchitectureError

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


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
    with pytest.raises(WrongArchitectureError, match="any size"):
        _ = network.size


@pytest.mark.parametrize(
    ("shape", "size"), [(["n", 3, "h", "w"], (6, 8)), (["n", 3, 2, "w"], (2, 8)), (["n", 3, 2, 4], (2, 4))]
)
def test_a_size_that_is_named_stands_in_for_what_the_file_leaves_open(tmp_path: Path, shape: list, size: tuple) -> None:
    path = halving(tmp_path / "n.onnx", shape)
    network = OnnxNetwork(path, outputs=("half",), device="cpu", otherwise=(6, 8))
    assert network.size == size


@pytest.mark.parametrize(("shape", "outputs"), [([1, 3, 2, 4], ("half", "third")), ([1, 3], ("half",))])
def test_other_outputs_or_inputs_are_another_network(tmp_path: Path, shape: list, outputs: tuple) -> None:
    with pytest.raises(WrongArchitectureError, match=f"half, whole; expected .*{outputs[-1]}"):
        OnnxNetwork(halving(tmp_path / "n.onnx", shape), outputs=outputs, device="cpu")


def test_the_mark_of_random_weights_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = halving(tmp_path / "n.onnx", [1, 3, 2, 4], posecap_random_weights="true")
    monkeypatch.delenv("POSECAP_RANDOM_WEIGHTS", raising=False)
    with pytest.raises(RandomWeightsError, match=r"n\.onnx"):
        OnnxNetwork(path, outputs=("half",), device="cpu")


def test_a_folder_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be opened"):
        OnnxNetwork(tmp_path, outputs=("half",), device="cpu")


def test_normalising_goes_channel_by_channel() -> None:
    pictures = np.zeros((1, 1, 2, 3), np.uint8)
    pictures[0, 0] = [[10, 20, 30], [12, 24, 36]]
    got = normalize(pictures, mean=(10, 20, 30), std=(1, 2, 4))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[0, :, 0], [[0, 2], [0, 2], [0, 1.5]])


# .


def picture(height: int = 6, width: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def ramp() -> np.ndarray:
    """Grey level 10 x + y."""
    y, x = np.mgrid[:5, :10]
    return np.repeat((10 * x + y)[..., None], 3, axis=2).astype(np.uint8)


def test_whole_places_give_the_pixels_themselves() -> None:
    got = sample(picture(), np.arange(6.0), np.arange(8.0), outside="black")
    np.testing.assert_array_equal(got, picture())


def test_between_pixels_lies_their_mean() -> None:
    got = sample(ramp(), np.array([1.0]), np.array([2.5, 3.25]), outside="black")
    np.testing.assert_array_equal(got[0, :, 0], [26, 34])  # 33.5 goes to the even one


def test_beyond_the_edge_it_is_black_grey_or_more_of_the_same() -> None:
    places = np.array([-2.0, -0.5, 0.0, 9.0, 9.5, 12.0])
    white = np.full((5, 10, 3), 200, np.uint8)
    black = sample(white, np.array([2.0]), places, outside="black")
    np.testing.assert_array_equal(black[0, :, 0], [0, 100, 200, 200, 100, 0])
    grey = sample(white, np.array([2.0, 4.5]), places, outside="grey")
    np.testing.assert_array_equal(grey[..., 0], [[114, 157, 200, 200, 157, 114], [114, 136, 157, 157, 136, 114]])
    edge = sample(white, np.array([2.0]), places, outside="edge")
    np.testing.assert_array_equal(edge[0, :, 0], [200] * 6)


def test_a_place_far_outside_is_black() -> None:
    got = sample(picture(), np.arange(100.0, 104.0), np.arange(-50.0, -40.0), outside="black")
    np.testing.assert_array_equal(got, np.zeros((4, 10, 3), np.uint8))


def test_a_picture_of_twice_the_size() -> None:
    small = np.repeat(np.array([[[0], [100]]], np.uint8), 3, axis=2)
    np.testing.assert_array_equal(resize(small, height=1, width=4)[0, :, 0], [0, 25, 75, 100])


@pytest.mark.parametrize(("height", "width"), [(6, 8), (3, 4), (13, 5), (40, 80)])
def test_resizing_is_that_of_opencv(height: int, width: int) -> None:
    cv2 = pytest.importorskip("cv2")
    expected = cv2.resize(picture(), (width, height), interpolation=cv2.INTER_LINEAR).astype(int)
    assert np.abs(resize(picture(), height=height, width=width).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("outside", "level"), [("black", 0), ("grey", 114)])
@pytest.mark.parametrize("centre", [(30.3, 20.7), (0.0, 0.0), (64.0, 70.0)])
def test_warping_is_that_of_opencv(centre: tuple[float, float], outside: Outside, level: int) -> None:
    cv2 = pytest.importorskip("cv2")
    big = picture(48, 64)
    step = 0.37
    warp = np.array([[1 / step, 0, 24 - centre[0] / step], [0, 1 / step, 32 - centre[1] / step]])
    expected = cv2.warpAffine(big, warp, (48, 64), flags=cv2.INTER_LINEAR, borderValue=(level,) * 3).astype(int)
    area = np.array([*centre, 48 * step, 64 * step], np.float32)
    difference = np.abs(crop(big, area, height=64, width=48, outside=outside).astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.05


RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.normal(size=(6, 1, 3, 3)).astype(np.float32), RNG.normal(size=6).astype(np.float32)
PICTURE = RNG.normal(size=(1, 6, 9, 200)).astype(np.float32)


def network() -> bytes:
    """A depthwise convolution with uneven padding and stride 2, limited, added to itself, and its mean."""
    graph = OnnxGraph()
    made = graph.convolution("picture", WEIGHT, BIAS, stride=2, pads=(0, 0, 1, 1), groups=6)
    limited = graph.clip(made, -1.0, 1.5)
    mean = graph.mean(graph.add(limited, limited))
    return graph.file(source=("picture", (1, 6, 9, 200)), result=(mean, (1, 6, 1, 1)))


def test_it_computes_what_was_written() -> None:
    functional = pytest.importorskip("torch.nn.functional")
    from torch import from_numpy

    (found,) = session_of(network(), "cpu", path=Path("net.onnx")).run(None, {"picture": PICTURE})
    padded = functional.pad(from_numpy(PICTURE), (0, 1, 0, 1))
    wanted = functional.conv2d(padded, from_numpy(WEIGHT), from_numpy(BIAS), stride=2, groups=6).clip(-1.0, 1.5)
    np.testing.assert_allclose(found, 2 * wanted.mean((2, 3), keepdim=True).numpy(), atol=1e-5)


def test_onnx_finds_no_fault_in_it() -> None:
    onnx = pytest.importorskip("onnx")
    onnx.checker.check_model(onnx.load_from_string(network()), full_check=True)


def test_the_same_network_is_the_same_bytes() -> None:
    assert network() == network()
