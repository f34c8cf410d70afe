"""Fields out of their declared range, and words of no ``Literal``, are refused by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest

from tmor_train.field_checks import Checked, ranged


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    frames: int = ranged(8, 1)
    shortest: float = ranged(0.5, 0.1, 1)
    longest: float = ranged(1.0, "shortest", 1)
    angles: tuple[float, ...] = ranged((0.0, 90.0), -180, 180)
    edges: Literal["mirror", "repeat", "zero"] = "zero"
    free: str = "anything"


def test_defaults_and_bounds_are_taken() -> None:
    assert Settings() == Settings(frames=8, shortest=0.5, longest=1.0, angles=(0.0, 90.0), edges="zero")
    assert Settings(frames=1, shortest=0.1, longest=0.1, angles=(-180.0, 180.0)).longest == 0.1
    assert Settings(angles=()).angles == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 0}, "frames is at least 1, not 0"),
        ({"frames": float("nan")}, "frames is nan"),
        ({"shortest": 1.5}, "shortest is 1.5, expected 0.1 to 1"),
        ({"longest": 0.4}, "longest is 0.4, expected 0.5 to 1"),
        ({"angles": (0.0, 181.0)}, "angles is 181.0, expected -180 to 180"),
        ({"edges": "wrap"}, "edges is 'mirror', 'repeat' or 'zero', not 'wrap'"),
    ],
)
def test_others_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)
    with pytest.raises(ValueError, match=message):
        replace(Settings(), **wrong)
