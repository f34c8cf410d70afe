"""BVH files that the test writes: places against numbers by hand and against another way, and what is refused."""

from __future__ import annotations

from math import cos, radians, sin
from pathlib import Path

import numpy as np
import pytest

from tmor_train.data.datasets import DamagedFileError, MissingFilesError
from tmor_train.data.datasets import bvh as module
from tmor_train.data.datasets.bvh import read_bvh
from tmor_train.data.datasets.files import DatasetSource

SOURCE = DatasetSource("A set", "https://example.org", "set.zip")

ARM = """HIERARCHY
ROOT shoulder
{
  OFFSET 9 9 9
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT elbow
  {
    OFFSET 2 0 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT wrist
    {
      OFFSET 1 0 0
      CHANNELS 0
      End Site
      {
        OFFSET 0.5 0 0
      }
    }
  }
  JOINT other
  {
    OFFSET 0 0 4
    CHANNELS 3 Yposition Xrotation Zrotation
  }
}
MOTION
Frames:\t2
Frame Time:\t0.0333333
1 2 3 0 0 0 0 0 0 7 0 0
1 2 3 90 0 0 -90 0 0 7 30 0
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_places_by_hand(tmp_path: Path) -> None:
    """The root's position channels stand for its offset; the other's one channel for that axis alone."""
    capture = read_bvh(written(tmp_path / "arm.bvh", ARM), source=SOURCE)
    assert [joint.name for joint in capture.joints] == ["shoulder", "elbow", "wrist", "other"]
    assert capture.fps == pytest.approx(30.00003)
    places = capture.places()
    np.testing.assert_allclose(places[0], [[1, 2, 3], [3, 2, 3], [4, 2, 3], [1, 9, 7]])
    # Turned by 90 degrees about z, x becomes y and y becomes -x; the elbow turns back.
    np.testing.assert_allclose(places[1], [[1, 2, 3], [1, 4, 3], [2, 4, 3], [1 - 7, 2, 7]], atol=1e-9)


def test_the_channels_order_is_that_of_the_rotations(tmp_path: Path) -> None:
    """The wrist of an elbow turned by R = Rz Rx Ry, written out with sines and cosines."""
    z, x, y = 20.0, -50.0, 75.0
    text = ARM.replace("1 2 3 90 0 0 -90 0 0", f"0 0 0 0 0 0 {z} {x} {y}").replace("OFFSET 1 0 0", "OFFSET 1 2 3")
    places = read_bvh(written(tmp_path / "arm.bvh", text), source=SOURCE).places()
    bone = np.array([1.0, 2.0, 3.0])
    for axis, angle in ((1, y), (0, x), (2, z)):  # the last channel turns the bone first
        c, s = cos(radians(angle)), sin(radians(angle))
        one, other = (axis + 1) % 3, (axis + 2) % 3
        bone[one], bone[other] = c * bone[one] - s * bone[other], s * bone[one] + c * bone[other]
    np.testing.assert_allclose(places[1, 2] - places[1, 1], bone, atol=1e-9)


def test_bones_keep_their_lengths(tmp_path: Path) -> None:
    """A chain of twenty joints that all turn, another way: complex numbers in a plane."""
    joints, angles = 20, np.random.default_rng(0).uniform(-180, 180, (3, 20))
    head = "HIERARCHY\nROOT j0\n{\nOFFSET 0 0 0\nCHANNELS 1 Zrotation\n"
    head += "".join(f"JOINT j{at}\n{{\nOFFSET 0 {at} 0\nCHANNELS 1 Zrotation\n" for at in range(1, joints))
    rows = "\n".join(" ".join(map(str, row)) for row in angles)
    text = f"{head}{'}' * joints}\nMOTION\nFrames: 3\nFrame Time: 0.04\n{rows}\n".replace("}", "}\n")
    capture = read_bvh(written(tmp_path / "chain.bvh", text), source=SOURCE)
    assert capture.fps == pytest.approx(25)
    for t in range(3):
        place, turn = 0j, 1 + 0j
        for at in range(joints):
            place += turn * 1j * at
            turn *= np.exp(1j * np.radians(angles[t, at]))
            assert capture.places()[t, at].tolist() == pytest.approx([place.real, place.imag, 0], abs=1e-9)


DAMAGES = {
    "no motion": ("MOTION", "EMOTION"),
    "cut off in the tree": (
        "  JOINT other\n  {\n    OFFSET 0 0 4\n    CHANNELS 3 Yposition Xrotation Zrotation\n  }\n}",
        "",
    ),
    "one brace too many": ("MOTION", "}\nMOTION"),
    "two times a root": ("  JOINT other", "  ROOT other"),
    "a joint in an end site": ("        OFFSET 0.5 0 0", "        OFFSET 0.5 0 0 JOINT x { OFFSET 0 0 0 CHANNELS 0 }"),
    "an unknown channel": ("3 Yposition", "3 Wposition"),
    "a channel twice": ("3 Yposition Xrotation", "3 Xrotation Xrotation"),
    "a count of channels that is none": ("CHANNELS 3 Y", "CHANNELS -3 Y"),
    "more channels than there are": ("CHANNELS 0", "CHANNELS 999999999"),
    "an offset that is no number": ("OFFSET 2 0 0", "OFFSET 2 nan 0"),
    "more frames than there are": ("Frames:\t2", "Frames:\t3"),
    "more frames than fit": ("Frames:\t2", "Frames:\t99999999999999"),
    "no frames": ("Frames:\t2", "Frames:\t0"),
    "fewer frames than there are": ("Frames:\t2", "Frames:\t1"),
    "a number that is none": ("90 0 0", "90 0 x"),
    "an infinite number": ("90 0 0", "90 0 inf"),
    "a number too few": ("30 0\n", "30\n"),
    "a frame time that is none": ("0.0333333", "-1"),
    "an infinite frame time": ("0.0333333", "inf"),
}


@pytest.mark.parametrize(("old", "new"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_files_are_refused(tmp_path: Path, old: str, new: str) -> None:
    assert old in ARM
    with pytest.raises(DamagedFileError, match=r"arm\.bvh"):
        read_bvh(written(tmp_path / "arm.bvh", ARM.replace(old, new, 1)), source=SOURCE)


def test_every_way_to_cut_a_file_off_is_refused(tmp_path: Path) -> None:
    for end in range(0, len(ARM) - 3, 7):
        with pytest.raises(DamagedFileError):
            read_bvh(written(tmp_path / "arm.bvh", ARM[:end]), source=SOURCE)


def test_deep_and_wide_trees_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "ROOT j { OFFSET 0 0 0 CHANNELS 0 " + "JOINT j { OFFSET 0 0 0 CHANNELS 0 " * 100_000
    with pytest.raises(DamagedFileError, match="more than 256 joints"):
        read_bvh(written(tmp_path / "deep.bvh", f"HIERARCHY\n{deep}\nMOTION\n"), source=SOURCE)
    monkeypatch.setattr(module, "MOST_VALUES", 23)
    with pytest.raises(DamagedFileError, match="more than are there or are read"):
        read_bvh(written(tmp_path / "arm.bvh", ARM), source=SOURCE)


def test_binary_files_and_missing_ones(tmp_path: Path) -> None:
    (tmp_path / "x.bvh").write_bytes(bytes(range(256)))
    with pytest.raises(DamagedFileError, match="UTF-8"):
        read_bvh(tmp_path / "x.bvh", source=SOURCE)
    with pytest.raises(MissingFilesError, match=r"example\.org"):
        read_bvh(tmp_path / "none.bvh", source=SOURCE)
