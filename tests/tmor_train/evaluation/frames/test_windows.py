import numpy as np
import pytest
import torch

from tmor_train.evaluation.frames.windows import averaged, to_frames, windows


def test_windows_cover_a_recording_and_the_last_is_shorter():
    assert windows(700) == ((0, 300), (300, 600), (600, 700))
    assert windows(600) == ((0, 300), (300, 600))
    assert windows(12) == ((0, 12),)
    assert windows(10, length=4, stride=2) == ((0, 4), (2, 6), (4, 8), (6, 10))
    assert windows(9, length=4, stride=2)[-1] == (6, 9)


def test_the_last_window_may_begin_earlier_instead():
    assert windows(700, last="shifted") == ((0, 300), (300, 600), (400, 700))
    assert windows(600, last="shifted") == ((0, 300), (300, 600))
    assert windows(12, last="shifted") == ((0, 12),)


@pytest.mark.parametrize(("frames", "stride"), [(0, 1), (5, 0), (5, 301)])
def test_windows_refuse_what_leaves_frames_out(frames, stride):
    with pytest.raises(ValueError, match="stride"):
        windows(frames, stride=stride)


def test_feature_frames_become_frames_linearly():
    found = to_frames(torch.tensor([[[0.0, 4.0]]]), 8)[0, 0]
    assert found.tolist() == [0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4]


def test_overlapping_windows_are_averaged():
    found = averaged([(0, np.array([[1.0], [1.0]])), (1, np.array([[3.0], [5.0]]))], frames=3)
    assert found.dtype == np.float32
    assert found[:, 0].tolist() == [1, 2, 5]


def test_a_frame_in_no_window_is_an_error():
    with pytest.raises(ValueError, match="1 of 3 frames"):
        averaged([(0, np.zeros((2, 1)))], frames=3)
    with pytest.raises(ValueError, match="outside"):
        averaged([(2, np.zeros((2, 1)))], frames=3)
