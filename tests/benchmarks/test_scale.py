"""The model of large builds adds up what was measured, and its own pipeline builds."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from posecap.build import Options, build
from tests import ROOT
from tests.programs import program


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    return program(ROOT / "benchmarks" / "scale.py")


@pytest.fixture
def pieces(scale: ModuleType) -> Any:
    """A row costs the driver 1 ms and the store a request; all else is little."""
    little = dict.fromkeys(scale.Pieces.__dataclass_fields__, (1.0, 1e-6))
    by = {"row": {"PUT": 1.0, "GET": 1.0}, "part": {"PUT": 10.0, "GET": 0.0}, "build": {"PUT": 5.0, "GET": 5.0}}
    return scale.Pieces(**{**little, "driver_seconds": (0.0, 0.001), "requests": by})


def test_what_each_row_takes_is_a_difference(scale: ModuleType) -> None:
    assert scale.line((10, 30), 7.0, 11.0) == (5.0, 0.2)


def test_requests_follow_from_three_builds(scale: ModuleType) -> None:
    builds = [
        {"rows": rows, "parts": parts, "counts": {"PUT": 7 + 2 * rows + 30 * parts, "GET": rows}}
        for rows, parts in ((60, 2), (120, 2), (120, 4))
    ]
    found = scale.requests_by(builds)
    assert found == {"row": {"GET": 1, "PUT": 2}, "part": {"GET": 0, "PUT": 30}, "build": {"GET": 0, "PUT": 7}}


def test_a_build_is_as_slow_as_its_slowest_resource(scale: ModuleType, pieces: Any) -> None:
    options = scale.parsed(["--gpu-frames-per-second", "500"])
    one = scale.estimate(pieces, options, clips=1_000_000, nodes=1, compute="cores")
    assert one.hours["downloads"] == pytest.approx(5e6 / 8 / 3600)
    assert one.hours["driver"] == pytest.approx(1000 / 3600)
    assert one.requests == 2_000_000 + 1000 * 10
    assert one.slowest_first[:2] == ["downloads", "cores"]
    many = scale.estimate(pieces, options, clips=1_000_000, nodes=1000, compute="gpus")
    assert many.hours["downloads"] == pytest.approx(one.hours["downloads"] / 1000)
    assert many.hours["driver"] == one.hours["driver"]
    assert many.slowest_first[0] == "driver"


def test_every_case_and_every_assumption_is_printed(scale: ModuleType, pieces: Any) -> None:
    options = scale.parsed(["--gpu-frames-per-second", "250"])
    printed = "\n".join([*scale.shown(pieces), *scale.assumptions(options), *scale.cases(pieces, options)])
    assert "--gpu-frames-per-second    250" in printed
    assert printed.count("| 100 M clips | 10 |") == 2
    assert "by row        2.00: 1.00 PUT, 1.00 GET" in printed


def test_the_pipeline_of_two_segments_builds(scale: ModuleType, tmp_path: Path) -> None:
    manifest = scale.write_manifest(tmp_path, 3, 2, scale.TWO_SEGMENTS.replace("SECONDS", "0.0"))
    built = build(manifest, options=Options(runner="local", workers=2), log=lambda line: None)
    assert built.report["counts"]["clips"]["kept"] == 3
