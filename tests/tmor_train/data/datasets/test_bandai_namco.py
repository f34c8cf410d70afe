"""Bandai-Namco's sets, on files of their form that the test writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tmor_train
from posecap.joints import LAYOUTS
from tests import ROOT
from tests.programs import program
from tmor_train.data import Batching, Loader, Sampling
from tmor_train.data.augment import Project
from tmor_train.data.datasets import SETS, DamagedFileError, MissingFilesError, bandai_namco

torch.set_num_threads(1)

# The tree of the published files; a bone begins at its parent by the offset in centimetres, which position channels
# repeat, as they do in those files. Somebody stands with hanging arms and faces z, so that the left is x.
_TREE = {
    "joint_Root": (None, (0, 0, 0)),
    "Hips": ("joint_Root", (0, 90, 0)),
    "Spine": ("Hips", (0, 15, 0)),
    "Chest": ("Spine", (0, 10, 0)),
    "Neck": ("Chest", (0, 20, 0)),
    "Head": ("Neck", (0, 10, 0)),
    **{
        bone + end: (parent + end if parent not in ("Chest", "Hips") else parent, (side * x, y, z))
        for end, side in (("_L", 1), ("_R", -1))
        for bone, parent, (x, y, z) in (
            ("Shoulder", "Chest", (5, 15, 0)),
            ("UpperArm", "Shoulder", (12, 0, 0)),
            ("LowerArm", "UpperArm", (0, -25, 0)),
            ("Hand", "LowerArm", (0, -22, 0)),
            ("UpperLeg", "Hips", (8, 0, 0)),
            ("LowerLeg", "UpperLeg", (0, -40, 0)),
            ("Foot", "LowerLeg", (0, -40, 0)),
            ("Toes", "Foot", (0, -5, 12)),
        )
    },
}
_TURNS = "Xposition Yposition Zposition Zrotation Xrotation Yrotation"


def tree(joint: str) -> str:
    children = [name for name, (parent, _) in _TREE.items() if parent == joint]
    kind, offset = ("JOINT", _TREE[joint][1]) if _TREE[joint][0] else ("ROOT", (0, 0, 0))
    inside = "".join(map(tree, children)) or "End Site\n{\nOFFSET 0 0 0\n}\n"
    return f"{kind} {joint}\n{{\nOFFSET {offset[0]} {offset[1]} {offset[2]}\nCHANNELS 6 {_TURNS}\n{inside}}}\n"


def order(joint: str) -> list[str]:
    return [joint, *(one for name, (parent, _) in _TREE.items() if parent == joint for one in order(name))]


def capture(path: Path, turns: dict[str, list[tuple[float, float, float]]], frames: int = 4) -> None:
    """A file in which the bones of ``turns`` are turned by these degrees (z, x, y) in the frames."""
    still = [(0.0, 0.0, 0.0)] * frames
    rows = [
        " ".join(
            f"{number:g}" for joint in order("joint_Root") for number in (*_TREE[joint][1], *turns.get(joint, still)[t])
        )
        for t in range(frames)
    ]
    motion = f"MOTION\nFrames:\t{frames}\nFrame Time:\t0.0333333\n" + "\n".join(rows) + "\n"
    path.write_text(f"HIERARCHY\n{tree('joint_Root')}{motion}")


def moves(amount: float) -> dict[str, dict[str, list[tuple[float, float, float]]]]:
    """Two contents, done more or less widely."""
    return {
        "kick": {"UpperLeg_R": [(0, -amount * t, 0) for t in range(4)]},
        "raise-up-both-hands": {f"UpperArm_{end}": [(0, -amount * t, 0) for t in range(4)] for end in "LR"},
    }


def made(folder: Path) -> None:
    for style, amount in (("normal", 30.0), ("happy", 40.0), ("old", 20.0)):
        for content, turns in moves(amount).items():
            capture(folder / f"dataset-1_{content}_{style}_001.bvh", turns)


def test_joints_are_in_metres_and_in_a_cameras_axes(tmp_path: Path) -> None:
    made(tmp_path)
    motions = bandai_namco.read(tmp_path)
    assert motions.classes == ("kick", "raise-up-both-hands")
    assert motions.clips.key_N.tolist()[0] == "bn1-kick_happy_001"
    assert motions.clips.label_N.tolist() == [0, 0, 0, 1, 1, 1]
    clip = motions.clip(1)
    assert (clip.key, clip.layout, clip.captions, clip.split) == ("bn1-kick_normal_001", "ntu25", (), "test")
    assert clip.fps == pytest.approx(30, abs=1e-3)

    def at(joint: str, frame: int) -> list[float]:
        found: list[float] = clip.joints_MTJC[0, frame, LAYOUTS["ntu25"].names.index(joint)].tolist()
        return found

    # Somebody who faces the camera has the left at the picture's right; y is down, and z away from the camera.
    assert at("left_shoulder", 0) == pytest.approx([0.17, -1.30, 0, 1])
    assert at("right_shoulder", 0) == pytest.approx([-0.17, -1.30, 0, 1])
    assert at("left_foot", 0) == pytest.approx([0.08, -0.05, -0.12, 1])
    # The leg of 80 cm is turned by 90 degrees to the front.
    assert at("right_ankle", 3) == pytest.approx([-0.08, -0.90, -0.80, 1], abs=1e-6)
    assert at("left_ankle", 3) == pytest.approx([0.08, -0.10, 0, 1], abs=1e-6)
    assert at("neck", 0) == [0, 0, 0, 0]  # no bone of the files begins there


def test_pairs_share_their_content_and_not_their_style(tmp_path: Path) -> None:
    made(tmp_path)
    capture(tmp_path / "dataset-1_bow_normal_001.bvh", {})
    motions = bandai_namco.read(tmp_path)
    pairs = bandai_namco.content_pairs(motions, seed=1)
    keys = motions.clips.key_N[pairs]
    assert len(pairs) == 6  # nobody bows in another style
    for one, other in keys.tolist():
        assert one.split("_")[0] == other.split("_")[0]
        assert bandai_namco.style_of(one) != bandai_namco.style_of(other)
    assert np.array_equal(pairs, bandai_namco.content_pairs(motions, seed=1))
    assert any(not np.array_equal(pairs, bandai_namco.content_pairs(motions, seed=seed)) for seed in range(2, 9))
    assert bandai_namco.content_pairs(motions.select([0])).shape == (0, 2)


def test_a_pair_is_seen_by_two_cameras_in_two_dimensions(tmp_path: Path) -> None:
    made(tmp_path)
    motions = bandai_namco.read(tmp_path)
    sampling = Sampling(frames=4, people=1, layout="penn13", draw="deterministic")
    loader = Loader(motions, sampling=sampling, batching=Batching(size=6, order="stored", last="keep"), workers=0)
    (batch,) = loader
    seen = Project(yaw=180.0)(batch, torch.Generator().manual_seed(0))
    assert batch.motion_NCTVM.shape == (6, 3, 4, 13, 1)
    assert seen.motion_NCTVM.shape == (6, 2, 4, 13, 1)
    one, other = bandai_namco.content_pairs(motions)[0]
    assert (seen.motion_NCTVM[one] - seen.motion_NCTVM[other]).abs().max() > 0.05


def test_it_is_for_measuring_so_no_training_takes_it() -> None:
    assert "bandai_namco" not in SETS


def test_other_files_and_missing_or_damaged_ones(tmp_path: Path) -> None:
    with pytest.raises(MissingFilesError, match="Bandai-Namco"):
        bandai_namco.read(tmp_path / "nowhere")
    (tmp_path / "dataset-1_walk_normal_001.json").write_text("{}")
    (tmp_path / "dataset-3_walk_normal_001.bvh").write_text("")
    with pytest.raises(MissingFilesError, match="dataset-1_walk_normal_001"):
        bandai_namco.read(tmp_path)
    made(tmp_path)
    path = tmp_path / "dataset-1_kick_old_001.bvh"
    path.write_text(path.read_text().replace("JOINT Toes_L", "JOINT Toes"))
    with pytest.raises(DamagedFileError, match=r"kick_old_001\.bvh lacks the joints Toes_L"):
        bandai_namco.read(tmp_path)


def test_the_program_finds_pairs_where_contents_differ(
    tmp_path: Path, demo_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path)
    pairs = program(ROOT / "benchmarks/content_pairs.py")
    pairs.main([str(tmp_path), "--from", str(demo_run), "--seeds", "3"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == "6 clips, 2 contents, 3 styles"
    assert second.startswith("seed 3: the nearest clip of another style has the same content for ")
    assert "(chance 50.0%)" in second
    encoder, motions = tmor_train.load(demo_run, device="cpu"), bandai_namco.read(tmp_path)
    assert pairs.measured(encoder, motions, seed=3) == pairs.measured(encoder, motions, seed=3)
    assert pairs.measured(encoder, motions, seed=3) != pairs.measured(encoder, motions, seed=4)
    assert pairs.measured(encoder, motions, seed=3).same_content <= 1
