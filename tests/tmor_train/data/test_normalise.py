from __future__ import annotations

import numpy as np
import pytest
import torch

from tmor_train.data.normalise import Normalise, loop_padded

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
