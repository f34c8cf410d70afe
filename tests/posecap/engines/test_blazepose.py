"""BlazePose's arithmetic on known answers; and, with its published weights, people who stand, lie and hang."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from posecap.engines.blazepose import (
    _ANCHORS_A2,
    _COCO17,
    BlazePose,
    _averaged,
    _cut_out,
    _refined,
    _Square,
)
from posecap.skeletons import similarity
from tests.models_at_hand import weights_or_skip


@pytest.fixture(scope="module")
def engine() -> BlazePose:
    found = BlazePose()
    weights_or_skip(*found.weights)
    found.load()
    return found


def upright(x: float, y: float, side: float) -> _Square:
    return _Square.around(np.array([x, y]), np.array([x, y - side / 2.5]))


def apart(one: np.ndarray, other: np.ndarray) -> int:
    """Most grey levels between two pictures; one is Pillow's rounding."""
    return int(np.abs(one.astype(int) - other).max())


def test_a_square_is_as_wide_as_the_circle_and_a_quarter_more():
    square = upright(100, 50, 80)
    assert square.side == pytest.approx(80)
    assert square.angle == pytest.approx(0)
    corners = square.in_frame(np.array([[0, 0], [1, 1], [0.5, 0.5]]))
    np.testing.assert_allclose(corners, [[60, 10], [140, 90], [100, 50]])


@pytest.mark.parametrize(("head", "above"), [((1, 0), (140, 50)), ((0, 1), (100, 90)), ((-1, 0), (60, 50))])
def test_the_upper_side_lies_towards_the_head(head, above):
    hips = np.array([100.0, 50.0])
    square = _Square.around(hips, hips + 32 * np.array(head))
    np.testing.assert_allclose(square.in_frame(np.array([0.5, 0])), above, atol=1e-9)


def test_what_is_cut_out_upright_is_the_frame_itself():
    frame = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    assert apart(_cut_out(frame, upright(200, 180, 256)), frame[52:308, 72:328]) <= 1


@pytest.mark.parametrize(
    ("quarters", "hips", "head"), [(1, (199, 200), (1, 0)), (2, (199, 199), (0, 1)), (3, (200, 199), (-1, 0))]
)
def test_what_is_cut_out_of_a_turned_frame_is_upright(quarters, hips, head):
    frame = np.random.default_rng(1).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    square = _Square.around(np.array(hips, float), hips + 102.4 * np.array(head))
    found = _cut_out(np.ascontiguousarray(np.rot90(frame, -quarters)), square)
    assert apart(found, _cut_out(frame, upright(200, 200, 256))) <= 1


@pytest.mark.parametrize(("x", "y"), [(0, 0), (500, 40), (-300, 900), (250, 400)])
def test_beyond_the_frame_its_edges_are_repeated(x, y):
    frame = np.random.default_rng(2).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    rows, columns = (np.clip(np.arange(at - 128, at + 128), 0, side - 1) for at, side in ((y, 400), (x, 500)))
    assert apart(_cut_out(frame, upright(x, y, 256)), frame[rows][:, columns]) <= 1


def answers() -> np.ndarray:
    """(2254, 12) answers that put a face around every cell: 30 pixels wide, hips 20 below, circle 40 above."""
    rows = np.zeros((len(_ANCHORS_A2), 12))
    rows[:, 2:4] = 30
    rows[:, 4:8] = 0, 20, 0, -40
    return rows


def test_there_is_a_cell_for_every_answer():
    assert _ANCHORS_A2.shape == (2254, 2)
    np.testing.assert_array_equal(_ANCHORS_A2[[0, 1, 2, 1568, 1960]], [[4, 4], [4, 4], [12, 4], [8, 8], [16, 16]])


def test_answers_to_one_face_are_averaged_by_score_and_others_are_not():
    scores = np.zeros(len(_ANCHORS_A2))
    near, beside, far = (int(np.abs(_ANCHORS_A2[:1568] - place).sum(-1).argmin()) for place in (44, 52, 180))
    scores[[near, beside, far]] = 0.6, 0.9, 0.8
    scores[near + 200] = 0.2
    (first, points), (second, others) = _averaged(answers(), scores, least=0.5)
    assert (first, second) == (0.9, 0.8)
    np.testing.assert_allclose(points[0], _ANCHORS_A2[near] * 0.4 + _ANCHORS_A2[beside] * 0.6 + [0, 20])
    np.testing.assert_allclose(others[1], _ANCHORS_A2[far] + [0, -40])
    assert _averaged(answers(), scores, least=0.95) == []


def test_a_sure_heatmap_moves_its_landmark_and_an_unsure_one_does_not():
    heatmaps = np.full((64, 64, 3), -20, np.float32)
    heatmaps[30, 33, 0] = heatmaps[31, 33, 0] = 5
    heatmaps[30, 33, 1] = -1
    places = np.array([[0.5, 0.5], [0.5, 0.5], [1.5, -0.2]])
    np.testing.assert_allclose(_refined(places, heatmaps), [[33 / 64, 30.5 / 64], [0.5, 0.5], [1.5, -0.2]], atol=1e-6)


def test_nobody_is_not_enough():
    with pytest.raises(ValueError, match=r"max_det is 0.*at least 1"):
        BlazePose(max_det=0)


def test_at_most_so_many_people(engine, real_frames):
    assert all(len(found.scores_N) <= 1 for found in BlazePose(max_det=1, conf=0.1).detect(real_frames))


def test_it_travels_to_workers(engine):
    assert pickle.loads(pickle.dumps(BlazePose(conf=0.4))) == BlazePose(conf=0.4)


def test_bodies_that_lie_are_found_as_well_as_those_that_stand(engine, real_frames):
    """The same man, with the frame turned: his joints turn with him."""
    (standing,) = engine.detect(real_frames[:1])
    height, width = real_frames.shape[1:3]
    for quarters in (1, 3):
        (lying,) = engine.detect(np.ascontiguousarray(np.rot90(real_frames[0], quarters))[None])
        x, y, score = lying.joints_NJ3[0].T
        back = (width - y, x) if quarters == 1 else (y, height - x)
        turned = np.stack([*back, score], -1).astype(np.float32)
        assert similarity(turned, standing.joints_NJ3[0], standing.boxes_N4[0]) > 0.8


@pytest.mark.data
@pytest.mark.parametrize("video", ["push-ups/push-up_10", "squats/squat_13"])
def test_one_who_does_exercises_is_found_in_every_frame(engine, shared_frames, video):
    found = engine.detect(shared_frames(f"exercise/{video}.mp4")[::15])
    assert [len(one.scores_N) for one in found] == [1] * len(found)


@pytest.mark.data
@pytest.mark.parametrize("scene", [1, 3, 5, 6])
def test_nobody_is_found_in_scenery(engine, shared_frames, scene):
    found = engine.detect(shared_frames(f"scenery/scene_{scene}.mp4")[::30])
    assert [len(one.scores_N) for one in found] == [0] * len(found)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("video", ["exercise/push-ups/push-up_10.mp4", "exercise/squats/squat_13.mp4"])
def test_joints_are_those_of_mediapipes_own_solution(engine, shared_frames, video):
    """Where mediapipe 0.10.14 is installed, which posecap never needs. It turns pictures with other rounding."""
    mediapipe = pytest.importorskip("mediapipe")
    frames = shared_frames(video)[::10]
    height, width = frames.shape[1:3]
    distances, visibilities = [], []
    with mediapipe.solutions.pose.Pose(static_image_mode=True, model_complexity=1) as theirs:
        for frame, found in zip(frames, engine.detect(frames), strict=True):
            landmarks = theirs.process(frame).pose_landmarks.landmark
            expected = np.array([(landmarks[i].x * width, landmarks[i].y * height) for i in _COCO17])
            distances.append(np.linalg.norm(found.joints_NJ3[0, :, :2] - expected, axis=-1))
            visibilities.append(found.joints_NJ3[0, :, 2] - [landmarks[i].visibility for i in _COCO17])
    assert np.median(distances) < 1
    assert np.quantile(distances, 0.9) < 4
    assert np.median(np.abs(visibilities)) < 0.001
