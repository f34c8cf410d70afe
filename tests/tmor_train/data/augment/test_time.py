from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import skeletons
from tmor_train.data.augment import Blur, CropResize, ShiftCrop, TimeFlip
from tmor_train.data.augment.time import resampled


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def line(*values: float, gaps: tuple[int, ...] = ()) -> skeletons.MotionBatch:
    """One joint over time, its x and y alike; not seen in the frames of ``gaps``."""
    joints = torch.tensor(values).view(1, 1, -1, 1, 1).repeat(1, 1, 1, 1, 2)
    seen = torch.ones(joints.shape[:-1], dtype=torch.bool)
    seen[:, :, list(gaps)] = False
    return skeletons.batch_of(joints, seen)


def values(batch: skeletons.MotionBatch) -> list[float]:
    return batch.joints[0, 0, :, 0, 0].tolist()


def shown(batch: skeletons.MotionBatch) -> list[bool]:
    return batch.seen[0, 0, :, 0].tolist()


def test_moments_between_frames_are_blended() -> None:
    got = resampled(line(0.0, 10.0, 20.0, 40.0), torch.tensor([[0.0, 0.5, 1.25, 3.0, 2.5]]))
    assert values(got) == [0, 5, 12.5, 40, 30]
    assert all(shown(got))


def test_a_gap_is_never_blended_in() -> None:
    got = resampled(line(1.0, 99.0, 3.0, gaps=(1,)), torch.tensor([[0.0, 0.4, 0.6, 1.0, 1.4, 1.6, 2.0]]))
    assert shown(got) == [True, True, False, False, False, True, True]
    assert values(got) == [1, 1, 0, 0, 0, 3, 3]


def test_crop_resize_keeps_a_stretch_and_the_number_of_frames() -> None:
    batch = skeletons.batch_of(torch.arange(32.0).view(1, 1, 32, 1, 1).repeat(200, 2, 1, 17, 2))
    got = CropResize()(batch, generator()).joints[:, 0, :, 0, 0]
    assert got.shape == (200, 32)
    steps = got.diff(dim=1)
    assert torch.allclose(steps, steps[:, :1].expand_as(steps), atol=1e-4)  # linear in, linear out
    lengths = got[:, -1] - got[:, 0] + 1
    assert lengths.min() >= 15.99
    assert lengths.max() <= 32
    assert lengths.max() - lengths.min() > 12
    assert got.min() >= 0
    assert got.max() <= 31


def test_cropping_nothing_changes_nothing() -> None:
    batch = skeletons.batch_of(torch.randn(3, 2, 9, 17, 2, generator=generator()))
    torch.testing.assert_close(CropResize(shortest=1)(batch, generator()).joints, batch.joints)
    assert torch.equal(ShiftCrop(share=0)(batch, generator()).joints, batch.joints)


def test_a_shifted_window_is_mirrored_at_the_ends() -> None:
    batch = line(0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    found = {tuple(values(ShiftCrop(share=0.34)(batch, generator(seed)))) for seed in range(60)}
    assert found == {
        (1, 0, 0, 1, 2, 3),
        (0, 0, 1, 2, 3, 4),
        (0, 1, 2, 3, 4, 5),
        (1, 2, 3, 4, 5, 5),
        (2, 3, 4, 5, 5, 4),
    }


def test_time_goes_back_for_those_it_happens_to() -> None:
    batch = line(1.0, 2.0, 3.0, gaps=(0,))
    got = TimeFlip(probability=1)(batch, generator())
    assert values(got) == [3, 2, 0]
    assert shown(got) == [True, True, False]
    assert values(TimeFlip(probability=0)(batch, generator())) == [0, 2, 3]
    many = skeletons.batch_of(torch.arange(3.0).view(1, 1, 3, 1, 1).repeat(400, 1, 1, 1, 2))
    flipped = TimeFlip(probability=0.25)(many, generator()).joints[:, 0, 0, 0, 0] == 2
    assert 70 <= int(flipped.sum()) <= 130


def test_a_blur_weighs_neighbours_by_a_gaussian_and_leaves_gaps_out() -> None:
    blur = Blur(taps=3, least=1, most=1, probability=1)
    near = float(np.exp(-0.5))
    got = values(blur(line(0.0, 0.0, 1.0, 0.0, 0.0), generator()))
    np.testing.assert_allclose(got, [0, near / (1 + 2 * near), 1 / (1 + 2 * near), near / (1 + 2 * near), 0], atol=1e-6)
    holed = blur(line(4.0, 99.0, 4.0, gaps=(1,)), generator())
    np.testing.assert_allclose(values(holed), [4, 0, 4], atol=1e-6)
    assert shown(holed) == [True, False, True]


@pytest.mark.parametrize(
    "make",
    [
        lambda: CropResize(shortest=0),
        lambda: CropResize(shortest=0.8, longest=0.5),
        lambda: ShiftCrop(share=2),
        lambda: TimeFlip(probability=1.5),
        lambda: Blur(taps=4),
        lambda: Blur(least=3, most=2),
    ],
)
def test_settings_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()  # type: ignore[operator]
