"""The benchmark of writing builds the same dataset on threads and on Ray, with and without video."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest

from posecap.build import Options, build
from posecap.verify import verify
from tests import ROOT, small
from tests.programs import program


@pytest.fixture(scope="module")
def write() -> ModuleType:
    return program(ROOT / "benchmarks" / "write.py")


@pytest.mark.parametrize("megabytes", [0.0, 0.01])
def test_it_builds_sound_datasets(write: ModuleType, tmp_path: Path, megabytes: float) -> None:
    manifest = write.write_manifest(tmp_path, Namespace(rows=7, video_mb=megabytes, rows_per_part=3))
    found = write.build_one(manifest, "local", Namespace(workers=2, output=None))
    assert found["rate"] > 0
    verified = verify(tmp_path / "dataset")
    assert (verified.parts, verified.samples, verified.problems) == (3, 7, ())
    stored = [name for name in small.published(tmp_path / "dataset") if "/video-" in name]
    assert len(stored) == (3 if megabytes else 0)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_ray_writes_the_bytes_of_threads(write: ModuleType, tmp_path: Path) -> None:
    manifest = write.write_manifest(tmp_path, Namespace(rows=30, video_mb=0.05, rows_per_part=7))
    datasets = []
    for runner in ("local", "ray"):
        options = Options(runner=runner, workers=2)  # type: ignore[arg-type]
        datasets.append(build(manifest, output=tmp_path / runner, options=options, log=lambda line: None).root)
    threads, ray = map(small.published, datasets)
    assert threads == ray
    assert not [path for root in datasets for path in root.rglob(".staging*")]
