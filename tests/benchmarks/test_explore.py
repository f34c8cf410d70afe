"""The benchmark of the page makes datasets that posecap finds sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posecap.duplicates import read_groups
from posecap.verify import verify
from tests import ROOT
from tests.programs import program


def test_it_makes_sound_datasets_with_near_duplicates_and_losses(tmp_path: Path) -> None:
    explore = program(ROOT / "benchmarks" / "explore.py")
    explore.CLIPS_PER_PART = 60
    explore.make_dataset(tmp_path, 130)
    found = verify(tmp_path)
    assert (found.parts, found.samples, found.problems) == (3, 130, ())
    assert read_groups(tmp_path)["key"].to_pylist()[:2] == [f"{0:024x}", f"{1:024x}"]
    np.testing.assert_array_equal(explore.sample(0).joints_MTJ3, explore.sample(1).joints_MTJ3)
    assert explore.sample(2).joints_MTJ3.shape[1:] == (24, 17, 3)
