"""What both command lines share."""

import subprocess
import sys

import pytest

from posecap.terminal import count_text, duration_text, nearest


def test_counts_of_one_and_of_several() -> None:
    counts = [count_text(count, "row") for count in (0, 1, 2000)]
    assert counts == ["0 rows", "1 row", "2,000 rows"]


def test_durations_in_words() -> None:
    assert [duration_text(seconds) for seconds in (7, 3723, 190_800)] == ["0:07", "1:02:03", "2 d 5 h"]


def test_the_nearest_word_and_all_of_them() -> None:
    assert nearest("tabels", ["name", "tables"]) == "did you mean 'tables'? there are 'name', 'tables'"
    assert nearest("x", {"name": 1}, there="posecap has") == "posecap has 'name'"


def test_pyarrow_does_without_pandas_which_can_be_used_all_the_same() -> None:
    pytest.importorskip("pandas")
    program = """
import sys
from posecap.terminal import without_pandas
without_pandas()
import pyarrow as pa
table = pa.table({"a": pa.array([1, 2])})
assert "pandas" not in sys.modules
assert table.to_pandas()["a"].sum() == 3
"""
    subprocess.run([sys.executable, "-c", program], check=True)
