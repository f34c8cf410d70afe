"""Tests, laid out as the packages are; the modules beside this file make what several of them need."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The checkout."""

DATA = Path(os.environ.get("POSECAP_TEST_DATA", ROOT.parent / "shared" / "data"))
"""Real videos, skeleton sets and official lists that the project does not ship; tests that need them skip without."""
