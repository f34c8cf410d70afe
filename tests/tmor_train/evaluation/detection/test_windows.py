import numpy as np
import pytest
import torch

from tests import acted
from tmor_train.data import Clip, Normalise, Sampling, from_clips
from tmor_train.evaluation.detection.config import WindowConfig
from tmor_train.evaluation.detection.windows import RecordingWindows, averaged, windows


def test_windows_cover_a_recording_and_the_last_is_shorter():
    assert windows(700, WindowConfig()) == ((0, 300), (300, 600), (600, 700))
    assert windows(600, WindowConfig()) == ((0, 300), (300, 600))
    assert windows(12, WindowConfig()) == ((0, 12),)
    assert windows(10, WindowConfig(length=4, stride=2)) == ((0, 4), (2, 6), (4, 8), (6, 10))
    assert windows(9, WindowConfig(length=4, stride=2))[-1] == (6, 9)


def test_the_last_window_may_begin_earlier_instead():
    assert windows(700, WindowConfig(last="shifted")) == ((0, 300), (300, 600), (400, 700))
    assert windows(600, WindowConfig(last="shifted")) == ((0, 300), (300, 600))
    assert windows(12, WindowConfig(last="shifted")) == ((0, 12),)


def test_a_recording_without_frames_is_refused():
    with pytest.raises(ValueError, match="without frames"):
        windows(0, WindowConfig())


def test_overlapping_windows_are_averaged():
    found = averaged([(0, np.array([[1.0], [1.0]])), (1, np.array([[3.0], [5.0]]))], frames=3)
    assert found.dtype == np.float32
    assert found[:, 0].tolist() == [1, 2, 5]


def test_a_frame_in_no_window_is_an_error():
    with pytest.raises(ValueError, match="1 of 3 frames"):
        averaged([(0, np.zeros((2, 1)))], frames=3)
    with pytest.raises(ValueError, match="outside"):
        averaged([(2, np.zeros((2, 1)))], frames=3)


RECORDINGS = acted.recordings((40, 28))


def recording_windows(recordings=RECORDINGS, **changes):
    sampling = Sampling(normalise=Normalise("fixed640"), padding="loop", choice="uniform", frames=9)
    return RecordingWindows(recordings, sampling=sampling, config=WindowConfig(**changes))


def test_windows_are_those_of_each_recording():
    found = recording_windows(length=16)
    assert found.recording_W.tolist() == [0, 0, 0, 1, 1]
    assert found.begin_W.tolist() == [0, 16, 32, 0, 16]
    assert found.length_W.tolist() == [16, 16, 8, 16, 12]


def test_a_batch_holds_the_frames_in_a_row_and_nobody_after_a_shorter_one():
    found = recording_windows(length=16)
    batch = found.gather(np.array([1, 2]))
    stored = RECORDINGS.motions.clip(0).joints_MTJC[0, ..., :2]
    expected = 2 * stored / 640 - np.array([1.0, 480 / 640], np.float32)
    assert batch.motion_NCTVM.shape == (2, 2, 16, 17, 1)
    np.testing.assert_allclose(batch.motion_NCTVM[0, ..., 0].permute(1, 2, 0), expected[16:32], atol=1e-6)
    np.testing.assert_allclose(batch.motion_NCTVM[1, :, :8, :, 0].permute(1, 2, 0), expected[32:40], atol=1e-6)
    assert batch.seen_NTVM[1, :8].all()
    assert not batch.seen_NTVM[1, 8:].any()
    assert not batch.motion_NCTVM[1, :, 8:].any()


def test_labels_are_those_of_the_windows_frames():
    found = recording_windows(length=16, stride=10)
    index = np.flatnonzero(found.recording_W == 1)
    labels = found.labels(index)
    whole = RECORDINGS.labels(1)
    assert labels.dtype == torch.bool
    assert whole.any()
    for row, number in enumerate(index):
        begin, length = int(found.begin_W[number]), int(found.length_W[number])
        assert np.array_equal(labels[row, :length].numpy(), whole[begin : begin + length])
        assert not labels[row, length:].any()


def test_batches_of_one_length_hold_every_window_once():
    found = recording_windows(length=16)
    batches = found.alike(batch=2)
    assert sorted(np.concatenate(batches).tolist()) == [0, 1, 2, 3, 4]
    assert all(len(set(found.length_W[batch].tolist())) == 1 and len(batch) <= 2 for batch in batches)


def test_the_person_shown_is_that_of_the_whole_recording():
    quiet, lively = np.ones((2, 1, 20, 17, 3), np.float32)
    quiet[..., :2] = np.random.default_rng(0).uniform(300, 310, (1, 20, 17, 2))
    lively[0, :10, :, :2] = 5  # of the first ten frames alone, the quiet one spreads further
    lively[0, 10:, :, :2] = np.random.default_rng(1).uniform(0, 600, (10, 17, 2))
    clip = Clip(key="two", joints_MTJC=np.concatenate([quiet, lively]), layout="unik17", width=640, height=480)
    two = acted.Recordings(from_clips([clip]), acted.CLASSES, acted.recordings((20,)).events)
    batch = recording_windows(two, length=10).gather(np.array([0]))
    np.testing.assert_allclose(batch.motion_NCTVM[0, 0], 2 * 5 / 640 - 1, atol=1e-6)


@pytest.mark.parametrize("changes", [{"length": 0}, {"stride": 301}, {"stride": 0}])
def test_windows_that_leave_frames_out_are_refused(changes):
    with pytest.raises(ValueError, match="stride"):
        WindowConfig(**changes)
