from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posecap.joints import LAYOUTS, LayoutError, convert
from tests import skeletons
from tmor_train.data import Clip, from_clips
from tmor_train.data.batch import (
    Normalise,
    loop_padded,
    people_of,
    streamed,
    uniform_frames,
    window_frames,
)
from tmor_train.data.dataset import relayout


def test_uniform_frames_are_one_of_each_part() -> None:
    frames = np.array([8, 3, 1])
    assert uniform_frames(frames, length=4, draw_NT=np.full((3, 4), 0.5)).tolist() == [
        [1, 3, 5, 7],
        [0, 1, 1, 2],
        [0, 0, 0, 0],
    ]
    assert uniform_frames(frames[:1], length=4, draw_NT=np.array([[0, 0.99, 0, 0.99]])).tolist() == [[0, 3, 4, 7]]


@given(frames=st.integers(1, 500), length=st.integers(1, 100), draw=st.floats(0, 1, exclude_max=True))
def test_uniform_frames_stay_in_the_clip_and_in_order(frames: int, length: int, draw: float) -> None:
    chosen = uniform_frames(np.array([frames]), length=length, draw_NT=np.full((1, length), draw))[0]
    assert chosen.min() >= 0
    assert chosen.max() < frames
    assert (np.diff(chosen) >= 0).all()
    if frames >= length:
        assert len(set(chosen.tolist())) == length


def test_windows_begin_early_late_or_between() -> None:
    frames = np.array([10, 10, 10])
    assert window_frames(frames, length=4, draw_N=np.array([0, 0.5, 1.0])).tolist() == [
        [0, 1, 2, 3],
        [3, 4, 5, 6],
        [6, 7, 8, 9],
    ]


def test_shorter_clips_lie_among_absent_frames() -> None:
    frames = np.array([2, 2, 2])
    assert window_frames(frames, length=4, draw_N=np.array([0, 0.5, 1.0])).tolist() == [
        [0, 1, -1, -1],
        [-1, 0, 1, -1],
        [-1, -1, 0, 1],
    ]


def test_people_are_taken_by_their_spread() -> None:
    joints = skeletons.counted("a", people=3, frames=4).joints_MTJC.copy()
    joints[1, ..., :2] *= 0.001  # spreads least
    joints[2, ..., :2] = joints[2, ..., :2] * 5  # and this one most
    gone = skeletons.counted("b", people=2, frames=4).joints_MTJC.copy()
    gone[0] = 0  # never seen
    motions = from_clips(
        [
            Clip(key=key, joints_MTJC=values, layout="coco17", width=640, height=480)
            for key, values in (("a", joints), ("b", gone), ("c", joints[:1]))
        ]
    )
    assert people_of(motions, most=2, by="spread").tolist() == [[2, 0], [1, 0], [0, -1]]
    assert people_of(motions, most=2, by="first").tolist() == [[0, 1], [0, 1], [0, -1]]


def test_a_draw_just_below_one_stays_in_its_part() -> None:
    draw = np.full((2, 4), 1 - 2.0**-52)
    assert uniform_frames(np.array([4, 6]), length=4, draw_NT=draw).tolist() == [[0, 1, 2, 3], [1, 2, 4, 5]]


# .


def _is_a_map(source: str, target: str) -> bool:
    try:
        convert(np.zeros((len(LAYOUTS[source].names), 3), np.float32), source=source, target=target)
    except LayoutError:
        return False
    return True


PAIRS = [(source, target) for source in LAYOUTS for target in LAYOUTS if _is_a_map(source, target)]


@given(pair=st.sampled_from(PAIRS), seed=st.integers(0, 1000))
def test_it_is_the_map_of_posecap(pair: tuple[str, str], seed: int) -> None:
    source, target = pair
    rng = np.random.default_rng(seed)
    joints = rng.random((2, 3, len(LAYOUTS[source].names), 3), np.float32)
    joints[rng.random(joints.shape[:-1]) < 0.15] = 0
    want = convert(joints, source=source, target=target)
    values = torch.from_numpy(joints)
    got, seen = relayout(values[..., :2].movedim(-1, 0), values[..., 2] > 0, source=source, target=target)
    assert (seen.numpy() == (want[..., 2] > 0)).all()
    np.testing.assert_allclose((got * seen).movedim(0, -1).numpy(), want[..., :2], atol=1e-6)


def test_a_joint_that_is_no_mean_comes_over_unrounded() -> None:
    joints = torch.rand(50, 17, generator=torch.Generator().manual_seed(0)) * 1920
    got, _ = relayout(joints, torch.ones(50, 17, dtype=torch.bool), source="coco17", target="unik17")
    wrist, there = (LAYOUTS[layout].names.index("left_wrist") for layout in ("coco17", "unik17"))
    assert torch.equal(got[:, there], joints[:, wrist])


def test_a_joint_that_the_source_lacks_is_not_seen() -> None:
    _, seen = relayout(torch.ones(17), torch.ones(17, dtype=torch.bool), source="coco17", target="ntu25")
    assert not seen[LAYOUTS["ntu25"].names.index("left_hand")]
    assert seen[LAYOUTS["ntu25"].names.index("left_hip")]


def test_unknown_maps_are_refused() -> None:
    with pytest.raises(LayoutError, match="no exact map"):
        relayout(torch.ones(13), torch.ones(13, dtype=torch.bool), source="penn13", target="ntu25")
    with pytest.raises(LayoutError, match="unknown layout"):
        relayout(torch.ones(3), torch.ones(3, dtype=torch.bool), source="thumbs", target="unik17")


# .


NO_DEPTH = torch.tensor([False])


def one(*joints: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(joints).view(1, 1, 1, len(joints), -1)


def test_a_picture_spans_minus_one_to_one_across() -> None:
    joints = one((0.0, 0.0), (800.0, 600.0), (400.0, 300.0), (5.0, 5.0))
    seen = torch.tensor([True, True, True, False]).view(1, 1, 1, 4)
    size = torch.tensor([[800.0, 600.0]])
    got = Normalise()(joints, seen, size, NO_DEPTH)
    assert got[0, 0, 0].tolist() == [[-1, -0.75], [1, 0.75], [0, 0], [0, 0]]


def test_fixed640_takes_every_picture_for_640_by_480() -> None:
    joints = one((0.0, 0.0), (800.0, 600.0))
    seen = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    got = Normalise(screen="fixed640")(joints, seen, torch.tensor([[800.0, 600.0]]), NO_DEPTH)
    assert got[0, 0, 0].tolist() == [[-1, -0.75], [1.5, 1.125]]


def test_bodies_in_space_are_centred_and_scaled() -> None:
    first = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 7.0]])
    joints = torch.stack([first, first + 10]).view(1, 1, 2, 2, 3)
    got = Normalise()(joints, torch.ones(1, 1, 2, 2, dtype=torch.bool), torch.zeros(1, 2), torch.tensor([True]))
    # Centre (1, 2, 5); both joints are 2 from their middle in both frames, which becomes 0.5.
    np.testing.assert_allclose(got[0, 0, 0], [[0, 0, -0.5], [0, 0, 0.5]], atol=1e-6)
    np.testing.assert_allclose(got[0, 0, 1], [[2.5, 2.5, 2], [2.5, 2.5, 3]], atol=1e-6)


def test_the_centre_is_of_the_first_frame_in_which_anybody_is_seen() -> None:
    joints = torch.zeros(1, 1, 2, 2, 3)
    joints[0, 0, 1] = torch.tensor([[4.0, 0.0, 0.0], [6.0, 0.0, 0.0]])
    seen = torch.tensor([[False, False], [True, True]]).view(1, 1, 2, 2)
    got = Normalise()(joints, seen, torch.zeros(1, 2), torch.tensor([True]))
    assert got[0, 0].tolist() == [[[0, 0, 0], [0, 0, 0]], [[-0.5, 0, 0], [0.5, 0, 0]]]


def test_pictures_and_bodies_may_share_a_batch() -> None:
    joints = torch.tensor([[[400.0, 300.0, 0.0], [800.0, 0.0, 0.0]], [[1.0, 0.0, 0.0], [3.0, 0.0, 0.0]]])
    got = Normalise()(
        joints.view(2, 1, 1, 2, 3),
        torch.ones(2, 1, 1, 2, dtype=torch.bool),
        torch.tensor([[800.0, 600.0], [0.0, 0.0]]),
        torch.tensor([False, True]),
    )
    assert got[0, 0, 0].tolist() == [[0, 0, 0], [1, -0.75, 0]]
    assert got[1, 0, 0].tolist() == [[-0.5, 0, 0], [0.5, 0, 0]]


def test_unknown_screens_are_refused() -> None:
    with pytest.raises(ValueError, match="'frame', 'fixed640' or 'body'"):
        Normalise(screen="tv")  # type: ignore[arg-type]


def test_loop_padding_goes_round_what_there_is() -> None:
    joints = torch.arange(7.0).view(1, 1, 7, 1, 1).repeat(1, 2, 1, 1, 2)
    seen = torch.zeros(1, 2, 7, 1, dtype=torch.bool)
    seen[0, 0, [2, 4], 0] = True
    got, shown = loop_padded(joints, seen)
    assert got[0, 0, :, 0, 0].tolist() == [2, 3, 4, 2, 3, 4, 2]
    assert shown[0, 0, :, 0].tolist() == [True, False, True, True, False, True, True]
    assert not shown[0, 1].any()


# .


NAMES = LAYOUTS["unik17"].names
ELBOW, WRIST, ROOT = NAMES.index("left_elbow"), NAMES.index("left_wrist"), LAYOUTS["unik17"].root


def batch() -> skeletons.MotionBatch:
    joints = torch.zeros(1, 1, 3, 17, 2)
    joints[..., ELBOW, :] = torch.tensor([1.0, 2.0])
    joints[0, 0, :, WRIST] = torch.tensor([[4.0, 6.0], [5.0, 6.0], [7.0, 6.0]])
    seen = torch.ones(1, 1, 3, 17, dtype=torch.bool)
    seen[0, 0, 1, ELBOW] = False
    return skeletons.batch_of(joints, seen)


def test_bones_point_from_the_parent() -> None:
    bones = streamed(batch(), ["bone"])
    assert bones.joints[0, 0, :, WRIST].tolist() == [[3, 4], [0, 0], [6, 4]]
    assert bones.seen[0, 0, :, WRIST].tolist() == [True, False, True]
    assert not bones.joints[..., ROOT, :].any()
    assert bones.seen[..., ROOT].all()


def test_motion_is_the_next_place_minus_this_one() -> None:
    moves = streamed(batch(), ["motion"])
    assert moves.joints[0, 0, :, WRIST].tolist() == [[1, 0], [2, 0], [0, 0]]
    assert moves.seen[0, 0, :, WRIST].tolist() == [True, True, False]
    assert moves.seen[0, 0, :, ELBOW].tolist() == [False, False, False]


def test_streams_side_by_side_are_channels() -> None:
    fused = streamed(batch(), ["joint", "bone", "motion"])
    assert fused.motion_NCTVM.shape == (1, 6, 3, 17, 1)
    assert fused.joints[0, 0, 0, WRIST].tolist() == [4, 6, 3, 4, 1, 0]
    assert torch.equal(fused.seen, batch().seen)
    same = streamed(batch(), ["joint"])
    assert torch.equal(same.motion_NCTVM, batch().motion_NCTVM)


@pytest.mark.parametrize("streams", [[], ["joint", "joint"], ["speed"]])
def test_other_streams_are_refused(streams: list[str]) -> None:
    with pytest.raises(ValueError, match="each once"):
        streamed(batch(), streams)  # type: ignore[arg-type]
