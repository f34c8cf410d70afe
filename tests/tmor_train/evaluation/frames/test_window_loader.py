import numpy as np
import pytest
import torch

from tests import acted
from tmor_train.data import Clip, Normalise, Sampling, from_clips
from tmor_train.evaluation.frames.config import WindowConfig
from tmor_train.evaluation.frames.window_loader import RecordingWindows

RECORDINGS = acted.recordings((40, 28))


def windows(recordings=RECORDINGS, **changes):
    sampling = Sampling(normalise=Normalise("fixed640"), padding="loop", choice="uniform", frames=9)
    return RecordingWindows(recordings, sampling=sampling, config=WindowConfig(**changes))


def test_windows_are_those_of_each_recording():
    found = windows(length=16)
    assert found.recording_W.tolist() == [0, 0, 0, 1, 1]
    assert found.begin_W.tolist() == [0, 16, 32, 0, 16]
    assert found.length_W.tolist() == [16, 16, 8, 16, 12]


def test_a_batch_holds_the_frames_in_a_row_and_nobody_after_a_shorter_one():
    found = windows(length=16)
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
    found = windows(length=16, stride=10)
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
    found = windows(length=16)
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
    batch = windows(two, length=10).gather(np.array([0]))
    np.testing.assert_allclose(batch.motion_NCTVM[0, 0], 2 * 5 / 640 - 1, atol=1e-6)


@pytest.mark.parametrize("changes", [{"length": 0}, {"stride": 301}, {"stride": 0}])
def test_windows_that_leave_frames_out_are_refused(changes):
    with pytest.raises(ValueError, match="stride"):
        WindowConfig(**changes)
