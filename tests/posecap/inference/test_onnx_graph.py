"""Files that are written without the package onnx are what it, and onnxruntime, read."""

from pathlib import Path

import numpy as np
import pytest

from posecap.inference.onnx_graph import OnnxGraph
from posecap.inference.onnx_session import session_of

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
