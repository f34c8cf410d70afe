"""What every tracker must do, with people whose paths are known."""

import importlib.util
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from posecap.engines.bytetrack import ByteTrack
from posecap.engines.oc_sort import OCSort
from posecap.engines.ultralytics import UltralyticsBoTSORT, UltralyticsByteTrack
from posecap.interfaces import Detections, Tracker

FPS = 25.0
HEIGHT, WIDTH = 240, 480


@pytest.fixture(
    params=[ByteTrack(), OCSort(), UltralyticsByteTrack(), UltralyticsBoTSORT()], ids=lambda tracker: tracker.name
)
def tracker(request) -> Tracker:
    if request.param.name.startswith("ultralytics") and importlib.util.find_spec("ultralytics") is None:
        pytest.skip("ultralytics is not installed")
    request.param.load()
    return request.param


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """A wall with a pattern, seen by a camera that stands still."""
    blocks = np.random.default_rng(0).integers(0, 256, (12, 24, 3), dtype=np.uint8)
    return np.broadcast_to(blocks.repeat(20, axis=0).repeat(20, axis=1), (40, HEIGHT, WIDTH, 3)).copy()


def person(x: float, y: float, score: float = 0.8) -> tuple[np.ndarray, np.ndarray, float]:
    """Box 40 x 90 around (x, y), COCO-17 joints on its diagonal, score."""
    joints = np.stack([x + np.linspace(-18, 18, 17), y + np.linspace(-42, 42, 17), np.full(17, 0.7)], axis=-1)
    return np.array([x - 20, y - 45, x + 20, y + 45]), joints, score


def together(*people) -> Detections:
    boxes, joints, scores = zip(*people, strict=True) if people else ([], [], [])
    return Detections(
        boxes_N4=np.array(boxes, np.float32).reshape(-1, 4),
        scores_N=np.array(scores, np.float32),
        joints_NJ3=np.array(joints, np.float32).reshape(-1, 17, 3),
    )


def follow(tracker, detections, frames, *, layout="coco17"):
    pts = np.arange(len(detections)) / FPS
    return tracker.track(detections, pts, layout=layout, frames_THW3=frames[: len(detections)])


def walk(frame: int) -> Detections:
    """One walks right, another left 60 pixels below; the second leaves after 30 of 40 frames."""
    second = [person(400 - 4 * frame, 170)] if frame < 30 else []
    return together(person(60 + 4 * frame, 60), *second)


def test_it_fits_the_port(tracker):
    assert isinstance(tracker, Tracker)
    assert tracker.name
    assert pickle.loads(pickle.dumps(tracker)) == tracker
    assert hash(tracker) == hash(type(tracker)())


def test_everybody_keeps_their_identity(tracker, frames):
    tracks = follow(tracker, [walk(t) for t in range(40)], frames)
    assert tracks.people == 2
    centres = (tracks.boxes_MT4[..., 0] + tracks.boxes_MT4[..., 2]) / 2
    np.testing.assert_allclose(centres[0], [60 + 4 * t for t in range(40)], atol=1e-3)
    np.testing.assert_allclose(centres[1, :30], [400 - 4 * t for t in range(30)], atol=1e-3)


def test_arrays_have_their_shapes_and_unseen_people_are_zero(tracker, frames):
    tracks = follow(tracker, [walk(t) for t in range(40)], frames)
    assert tracks.boxes_MT4.shape == (2, 40, 4)
    assert tracks.joints_MTJ3.shape == (2, 40, 17, 3)
    assert tracks.layout == "coco17"
    arrays = (tracks.boxes_MT4, tracks.scores_MT, tracks.joints_MTJ3)
    assert {array.dtype for array in arrays} == {np.dtype("float32")}
    assert [bool(array[1, 30:].any()) for array in arrays] == [False] * 3


def test_boxes_scores_and_joints_are_the_detectors(tracker, frames):
    tracks = follow(tracker, [walk(t) for t in range(40)], frames)
    for t in range(40):
        np.testing.assert_array_equal(tracks.boxes_MT4[0, t], walk(t).boxes_N4[0])
        np.testing.assert_array_equal(tracks.joints_MTJ3[0, t], walk(t).joints_NJ3[0])
    np.testing.assert_allclose(tracks.scores_MT[0], 0.8)


def test_the_most_persistent_comes_first_whatever_the_order_of_detections(tracker, frames):
    one = follow(tracker, [walk(t) for t in range(40)], frames)
    turned = []
    for t in range(40):
        found = walk(t)
        order = slice(None, None, -1 if t % 3 else 1)
        turned.append(
            Detections(
                boxes_N4=found.boxes_N4[order], scores_N=found.scores_N[order], joints_NJ3=found.joints_NJ3[order]
            )
        )
    other = follow(tracker, turned, frames)
    assert (np.diff((one.scores_MT > 0).sum(1)) <= 0).all()
    np.testing.assert_array_equal(one.boxes_MT4, other.boxes_MT4)


def test_a_person_unseen_for_a_moment_stays_the_same_person(tracker, frames):
    detections = [together() if 15 <= t < 22 else together(person(200, 120)) for t in range(40)]
    tracks = follow(tracker, detections, frames)
    assert tracks.people == 1
    assert (tracks.scores_MT[0] > 0).tolist() == [not 15 <= t < 22 for t in range(40)]


def test_nothing_is_left_over_from_the_clip_before(tracker, frames):
    first = follow(tracker, [walk(t) for t in range(40)], frames)
    follow(tracker, [together(person(300 - 2 * t, 100)) for t in range(20)], frames[::-1])
    again = follow(tracker, [walk(t) for t in range(40)], frames)
    np.testing.assert_array_equal(first.boxes_MT4, again.boxes_MT4)
    np.testing.assert_array_equal(first.joints_MTJ3, again.joints_MTJ3)


def test_clips_followed_at_once_do_not_mix(tracker, frames):
    if not tracker.thread_safe:
        pytest.skip("it serves one thread")
    clips = [[walk(t) for t in range(begin, begin + 20)] for begin in range(0, 20, 5)]
    alone = [follow(tracker, clip, frames) for clip in clips]
    with ThreadPoolExecutor(len(clips)) as pool:
        at_once = list(pool.map(lambda clip: follow(tracker, clip, frames), clips))
    for one, other in zip(alone, at_once, strict=True):
        np.testing.assert_array_equal(one.boxes_MT4, other.boxes_MT4)


def test_a_clip_without_people_has_no_tracks(tracker, frames):
    tracks = follow(tracker, [together()] * 5, frames)
    assert tracks.boxes_MT4.shape == (0, 5, 4)
    assert tracks.scores_MT.shape == (0, 5)


def test_a_single_frame_is_a_clip(tracker, frames):
    tracks = follow(tracker, [walk(0)], frames)
    assert tracks.boxes_MT4.shape[1:] == (1, 4)


def test_detectors_without_joints_give_tracks_without_joints(tracker, frames):
    detections = [Detections(boxes_N4=walk(t).boxes_N4, scores_N=walk(t).scores_N) for t in range(10)]
    tracks = follow(tracker, detections, frames, layout=None)
    assert tracks.people == 2
    assert tracks.joints_MTJ3 is None
    assert tracks.layout is None


def test_what_it_is_given_stays_as_it_is(tracker, frames):
    detections = [walk(t) for t in range(10)]
    kept = frames.copy()
    follow(tracker, detections, frames)
    np.testing.assert_array_equal(frames, kept)
    for t, found in enumerate(detections):
        np.testing.assert_array_equal(found.boxes_N4, walk(t).boxes_N4)
