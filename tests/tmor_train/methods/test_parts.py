"""What MotionCLIP and ViA decode, and the losses beside it; candidates are tested with CrosSCLR."""

import pytest
import torch
from torch import Tensor

from tmor_train.data.batch import MotionBatch
from tmor_train.methods.base import ClipDecoder, FrameDecoder, distance
from tmor_train.methods.motionclip import cosine_distance, reconstruction
from tmor_train.methods.via import orthogonal, split, triplet


def view() -> MotionBatch:
    torch.manual_seed(0)
    seen = torch.rand(2, 5, 17, 1) > 0.3
    nobody = torch.full((2,), -1)
    return MotionBatch(
        motion_NCTVM=torch.randn(2, 2, 5, 17, 1) * seen[:, None],
        seen_NTVM=seen,
        index_N=torch.arange(2),
        label_N=nobody,
        text_id_N=nobody,
        has_depth_N=torch.zeros(2, dtype=torch.bool),
        has_video_N=torch.zeros(2, dtype=torch.bool),
        layout="unik17",
    )


def plain_reconstruction(made: Tensor, clips: MotionBatch, velocity: float) -> float:
    places, steps = [], []
    motion, seen = clips.motion_NCTVM, clips.seen_NTVM
    for n in range(2):
        for c in range(2):
            for t in range(5):
                for v in range(17):
                    if not seen[n, t, v, 0]:
                        continue
                    at, now = made[n, c, t, v, 0], motion[n, c, t, v, 0]
                    places.append(float(at - now) ** 2)
                    if t + 1 < 5 and seen[n, t + 1, v, 0]:
                        went = made[n, c, t + 1, v, 0] - at
                        steps.append(float(went - (motion[n, c, t + 1, v, 0] - now)) ** 2)
    return sum(places) / len(places) + velocity * sum(steps) / len(steps)


def test_reconstruction_counts_places_and_velocities_that_are_seen() -> None:
    clips = view()
    made = torch.randn(2, 2, 5, 17, 1)
    assert float(reconstruction(made, clips, velocity=3.0)) == pytest.approx(plain_reconstruction(made, clips, 3.0))
    assert float(reconstruction(clips.motion_NCTVM, clips, velocity=3.0)) == 0
    assert float(distance(made, clips.motion_NCTVM, torch.zeros_like(clips.seen_NTVM))) == 0


def test_cosines_count_where_there_is_a_vector() -> None:
    units = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]])
    assert float(cosine_distance(units, vectors, torch.tensor([True, False, True]))) == pytest.approx((0.4 + 2.0) / 2)
    assert float(cosine_distance(units, vectors, torch.tensor([False, False, False]))) == 0


def test_a_basis_splits_frames_into_what_stays_in_it_and_the_rest() -> None:
    torch.manual_seed(0)
    basis = orthogonal(torch.randn(256, 4, dtype=torch.float64))
    torch.testing.assert_close(basis.T @ basis, torch.eye(4, dtype=torch.float64))
    frames = torch.randn(2, 1, 256, 3, dtype=torch.float64)
    motion, static = split(frames, basis)
    torch.testing.assert_close(motion + static, frames)
    for n in range(2):
        mean = (frames[n, 0, :, 0] + frames[n, 0, :, 1] + frames[n, 0, :, 2]) / 3
        wanted = sum(float(mean @ basis[:, k]) * basis[:, k] for k in range(4))
        torch.testing.assert_close(static[n, 0, :, 0], torch.as_tensor(wanted))
        torch.testing.assert_close(basis.T @ motion[n, 0].mean(1), torch.zeros(4, dtype=torch.float64))


def test_the_triplet_loss_compares_with_the_next_clip() -> None:
    one, same = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 1.0], [2.0, 4.0]])
    # mean squares to the same clip: 1 and 8; to the next: 2 and 2
    assert float(triplet(one, same, margin=1.0)) == pytest.approx((0 + 7) / 2)
    assert float(triplet(one[:1], same[:1], margin=1.0)) == 0


def test_decoders_give_as_many_frames_as_asked_for() -> None:
    torch.manual_seed(0)
    assert FrameDecoder(34)(torch.randn(2, 256, 3)).shape == (2, 34, 12)
    made = ClipDecoder(34)(torch.randn(2, 256), 10)
    assert made.shape == (2, 34, 10)
    assert not torch.allclose(made[..., 4], made[..., 5])
