"""Scores along recordings."""

import numpy as np

from tmor_train.report.timeline import binned


def test_long_recordings_keep_their_peaks() -> None:
    score_TK = np.zeros((5000, 2), np.float32)
    score_TK[4321, 1] = 0.9
    strip = binned(score_TK)
    assert strip.shape == (2, 800)
    assert strip[1].max() == np.float32(0.9)
    assert (strip[1] > 0).sum() == 1
    np.testing.assert_array_equal(binned(score_TK[:30]), score_TK[:30].T)
