"""The benchmark of GPUs runs to its end on a CPU, reports what is missing or fails, and keeps to its time."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests import ROOT
from tests.programs import program

torch.set_num_threads(1)

LIGHT = ["ceilings", "training", "streaming", "clustering", "viclip"]


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    return program(ROOT / "benchmarks" / "gpu.py")


@pytest.fixture
def bench(gpu: ModuleType, tmp_path: Path) -> Any:
    return gpu.Bench(device=torch.device("cpu"), scale=gpu.TINY, folder=tmp_path)


def ran(gpu: ModuleType, output: Path, sections: list[str]) -> dict[str, Any]:
    gpu.main(["--tiny", "--device", "cpu", "--only", *sections, "--output", str(output)])
    sections_of: dict[str, Any] = json.loads(output.read_text())["sections"]
    return sections_of


@pytest.mark.slow
def test_sections_that_need_only_torch_run_on_a_cpu(
    gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ran(gpu, tmp_path / "gpu.json", LIGHT)
    assert list(found) == LIGHT
    assert all(set(section) == {"figures", "seconds"} and section["figures"] for section in found.values())
    assert all(figure["value"] > 0 for section in found.values() for figure in section["figures"])
    printed = capsys.readouterr().out
    assert "float32, batch 4, ours" in printed
    assert "plain / ours" in printed


@pytest.mark.slow
def test_on_a_cpu_results_agree_with_the_cpu(gpu: ModuleType, tmp_path: Path) -> None:
    figures = ran(gpu, tmp_path / "gpu.json", ["agreement"])["agreement"]["figures"]
    apart = {figure["name"]: figure["value"] for figure in figures if figure["unit"] == "apart"}
    assert len(apart) >= 5
    assert max(apart.values()) < 1e-4
    assert next(figure["value"] for figure in figures if figure["unit"] == "labels differ") == 0


def test_what_fails_or_is_missing_is_reported_and_does_not_end_the_run(
    gpu: ModuleType, bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Any) -> Iterator[Any]:
        yield gpu.Figure(name="one", value=1.0, unit="s")
        raise RuntimeError("no such kernel")

    def missing(_: Any) -> Iterator[Any]:
        yield from ()
        raise ModuleNotFoundError("mmpose is not installed")

    assert gpu.measured(broken, bench, 10.0)["failed"] == "RuntimeError: no such kernel"
    assert gpu.measured(missing, bench, 10.0)["left_out"] == "mmpose is not installed"
    assert "no such kernel" in capsys.readouterr().out


def test_sections_keep_to_their_time(gpu: ModuleType, bench: Any) -> None:
    def endless(_: Any) -> Iterator[Any]:
        while True:
            yield gpu.Figure(name="one", value=1.0, unit="s")

    assert "stopped" in gpu.measured(endless, bench, 0.01)
    assert gpu.measured(endless, bench, -1.0) == {"figures": [], "left_out": "no time is left"}


def test_memory_that_does_not_suffice_is_a_figure(gpu: ModuleType, bench: Any) -> None:
    def too_large() -> None:
        raise torch.cuda.OutOfMemoryError

    figure = bench.rate("batch 1,000,000", too_large, 1, "clips/s")
    assert figure.value == 0
    assert "out of memory" in str(figure)


def test_bytes_are_those_of_each_operations_tensors(gpu: ModuleType) -> None:
    a, b = torch.randn(8, 4), torch.randn(4, 6)
    with gpu.Traffic() as product:
        a @ b
    assert product.bytes == 4 * (8 * 4 + 4 * 6 + 8 * 6)
    with gpu.Traffic() as view:
        a.T.unsqueeze(0)
    assert view.bytes == 0
    with gpu.Traffic() as spread:
        torch.ones(1, 4).expand(8, 4) + a  # the expanded row is four numbers; before it, ones are written
    assert spread.bytes == 4 * (4 + 4 + 8 * 4 + 8 * 4)


def test_overlaps_of_boxes(gpu: ModuleType) -> None:
    boxes = np.array([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]])
    assert gpu._overlaps(boxes, boxes) == pytest.approx(np.array([[1.0, 1 / 3], [1 / 3, 1.0]]))
