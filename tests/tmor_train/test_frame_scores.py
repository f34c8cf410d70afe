import numpy as np
import pytest

from tmor_train import frame_scores
from tmor_train.results import FrameScores, Result, ResultError, read_frame_scores, read_result, save

RESULT = Result(
    benchmark="acted",
    protocol="only",
    mode="detect_probe",
    recipe="detect_probe",
    seed=0,
    checkpoint="scratch",
    metrics={"nonzero": 0.5},
    primary_metric="nonzero",
)


def some(lengths=(5, 3), columns=2):
    rng = np.random.default_rng(0)
    pairs = [(rng.random((n, columns), np.float32), rng.random((n, 2)) > 0.5) for n in lengths]
    keys = np.array([f"r{n}" for n in range(len(lengths))])
    return pairs, FrameScores.of(pairs, frames=sum(lengths), key_R=keys, fps_R=np.full(len(lengths), 20, np.float32))


@pytest.mark.parametrize("columns", [2, 3])
def test_scores_of_frames_come_back_as_they_were_saved(tmp_path, columns):
    pairs, scores = some(columns=columns)
    save(RESULT, tmp_path, scores=scores)
    found = read_frame_scores(tmp_path)
    assert read_result(tmp_path) == RESULT
    assert (found.every, found.key_R.tolist(), found.fps_R.tolist()) == (1, ["r0", "r1"], [20, 20])
    for number, (scores_TK, label_TK) in enumerate(pairs):
        kept_TK, marks_TK = found.recording(number)
        assert kept_TK.dtype == np.float16
        assert np.array_equal(kept_TK, scores_TK.astype(np.float16))
        assert np.array_equal(marks_TK, label_TK)


def test_of_long_recordings_every_second_or_fourth_frame_is_kept(monkeypatch):
    monkeypatch.setattr(frame_scores, "MOST_FRAMES", 4)
    pairs, scores = some((9, 6))
    assert scores.every == 4
    assert scores.offset_R.tolist() == [0, 3, 5]
    assert np.array_equal(scores.recording(1)[1], pairs[1][1][[0, 4]])


def test_what_does_not_fit_is_refused(tmp_path):
    _, scores = some()
    with pytest.raises(ValueError, match="do not fit"):
        FrameScores(
            scores_FK=scores.scores_FK,
            label_FK=scores.label_FK[1:],
            offset_R=scores.offset_R,
            key_R=scores.key_R,
            fps_R=scores.fps_R,
        )
    with pytest.raises(ResultError, match=r"frames\.npz cannot be read"):
        read_frame_scores(tmp_path)
    (tmp_path / "frames.npz").write_bytes(b"damaged")
    with pytest.raises(ResultError, match=r"frames\.npz cannot be read"):
        read_frame_scores(tmp_path)
