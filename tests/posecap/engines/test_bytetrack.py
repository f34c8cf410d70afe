"""Identities through time, on people whose paths are known."""

import numpy as np
import pytest

from posecap.engines.bytetrack import ByteTrack, assign
from posecap.interfaces import Detections

FPS = 30.0
PICTURES = np.zeros((0, 1, 1, 3), np.uint8)  # ByteTrack does not look at them


def person(x: float, y: float, *, height: float = 100.0) -> np.ndarray:
    """A box around (x, y)."""
    return np.array([x - height / 4, y - height / 2, x + height / 4, y + height / 2], np.float32)


def frame(*people: tuple[float, float, float]) -> Detections:
    """Detections of (x, y, score), with joints on the box's diagonal."""
    boxes = np.array([person(x, y) for x, y, _ in people], np.float32).reshape(-1, 4)
    joints = np.zeros((len(people), 17, 3), np.float32)
    for n, (x, y, _) in enumerate(people):
        joints[n, :, 0] = x + np.linspace(-20, 20, 17)
        joints[n, :, 1] = y + np.linspace(-45, 45, 17)
        joints[n, :, 2] = 0.9
    return Detections(boxes_N4=boxes, scores_N=np.array([s for *_, s in people], np.float32), joints_NJ3=joints)


def follow(frames: list[Detections], **options):
    pts = np.arange(len(frames)) / FPS
    return ByteTrack(**options).track(frames, pts, layout="coco17", frames_THW3=PICTURES)


def centres(tracks, m: int) -> np.ndarray:
    return (tracks.boxes_MT4[m, :, 0] + tracks.boxes_MT4[m, :, 2]) / 2


def test_two_people_who_cross_keep_their_identities():
    left = [(50 + 6 * t, 200.0, 0.6) for t in range(60)]
    right = [(410 - 6 * t, 215.0, 0.6) for t in range(60)]
    # The order of detections swaps at random: it must not matter.
    rng = np.random.default_rng(0)
    frames = [frame(*((a, b) if rng.random() < 0.5 else (b, a))) for a, b in zip(left, right, strict=True)]
    tracks = follow(frames)
    assert tracks.people == 2
    steps = [np.diff(centres(tracks, m)) for m in range(2)]
    assert sorted(float(np.median(s)) for s in steps) == [-6.0, 6.0]
    assert all(np.all(np.sign(s) == np.sign(s[0])) for s in steps)


def test_a_person_unseen_for_a_moment_is_the_same_person():
    frames = [frame((100 + 2 * t, 100, 0.6)) if not 20 <= t < 32 else frame() for t in range(60)]
    tracks = follow(frames)
    assert tracks.people == 1
    assert (tracks.scores_MT[0] > 0).sum() == 48
    assert not tracks.scores_MT[0, 20:32].any()
    assert not tracks.boxes_MT4[0, 20:32].any()


def test_tracks_that_broke_for_longer_are_joined_when_the_second_begins_where_the_first_ended():
    frames = [frame((100, 100, 0.6)) if not 20 <= t < 70 else frame() for t in range(100)]
    assert follow(frames, track_buffer_seconds=1.0, join_seconds=2.0).people == 1
    assert follow(frames, track_buffer_seconds=1.0, join_seconds=1.2).people == 2


def test_somebody_else_elsewhere_is_not_joined():
    frames = [frame((100, 100, 0.6)) if t < 30 else frame((400, 100, 0.6)) for t in range(60)]
    assert follow(frames).people == 2


@pytest.mark.parametrize("score", [0.6, 0.2], ids=["first round", "second round"])
def test_a_newcomer_shifts_nobodys_identity(score):
    """B's best match is A's box, and A's second best a newcomer too far away to be A: A keeps theirs all the same."""

    def boxes(*lefts: float, score: float = 0.6) -> Detections:
        boxes_N4 = np.array([(x, 0, x + 100, 200) for x in lefts], np.float32).reshape(-1, 4)
        return Detections(boxes_N4=boxes_N4, scores_N=np.full(len(lefts), score, np.float32))

    frames = [*[boxes(0, 62)] * 10, *[boxes(25, -68, score=score)] * 3]
    found = ByteTrack(join_seconds=0.0, doubtful_likeness=0.2).track(
        frames, np.arange(len(frames)) / FPS, layout=None, frames_THW3=PICTURES
    )
    lefts_MT = found.boxes_MT4[..., 0]
    seen_MT = found.scores_MT > 0
    assert lefts_MT[0][seen_MT[0]].tolist() == [0.0] * 10 + [25.0] * 3
    assert lefts_MT[1][seen_MT[1]].tolist() == [62.0] * 10
    assert found.people == (3 if score == 0.6 else 2)  # the newcomer's doubtful box begins no track


def test_assignment_is_that_of_lap_with_its_cost_limit():
    lap = pytest.importorskip("lap")
    rng = np.random.default_rng(0)
    shapes = [(3, 3), (5, 2), (2, 6), (1, 1), (8, 8)]
    for like_KN in (rng.random(shape) ** power for shape in shapes for power in (1, 3) for _ in range(50)):
        for least in (0.2, 0.4):
            _, theirs, _ = lap.lapjv(1 - like_KN, extend_cost=True, cost_limit=1 - least)
            expected = [(k, int(n)) for k, n in enumerate(theirs) if n >= 0]
            assert assign(like_KN, least=least) == expected


def test_doubtful_detections_continue_a_track_but_start_none():
    fades = [frame((100 + t, 100, 0.6 if t < 10 else 0.2)) for t in range(40)]
    tracks = follow(fades)
    assert tracks.people == 1
    assert (tracks.scores_MT[0] > 0).all()
    assert follow([frame((100 + t, 100, 0.2)) for t in range(40)]).people == 0


def test_flickers_are_dropped_and_the_most_persistent_person_comes_first():
    frames = [
        frame((100, 100, 0.5), *([(300, 100, 0.9)] if 5 <= t < 25 else []), *([(500, 100, 0.9)] if t == 7 else []))
        for t in range(40)
    ]
    tracks = follow(frames)
    assert [(tracks.scores_MT[m] > 0).sum() for m in range(tracks.people)] == [40, 20]


def test_joints_are_those_of_the_detection():
    frames = [frame((100 + t, 100, 0.5), (300, 100, 0.5)) for t in range(10)]
    tracks = follow(frames)
    assert tracks.joints_MTJ3 is not None
    moving = next(m for m in range(2) if centres(tracks, m)[0] < 200)
    np.testing.assert_array_equal(tracks.joints_MTJ3[moving, 4], frames[4].joints_NJ3[0])


@pytest.mark.parametrize("frames", [[], [frame()], [frame() for _ in range(10)]])
def test_nobody_gives_no_tracks(frames):
    tracks = follow(frames)
    assert tracks.people == 0
    assert tracks.boxes_MT4.shape == (0, len(frames), 4)


def test_a_track_is_followed_back_to_its_doubtful_beginning():
    """Doubtful first, then clear; and somebody who is never clear."""
    frames = [frame((100 + 4 * t, 100, 0.6 if t >= 20 else 0.2), (400, 100, 0.2)) for t in range(40)]
    published, followed = follow(frames), follow(frames, follow_back="yes")
    assert (published.scores_MT[0] > 0).tolist() == [t >= 20 for t in range(40)]
    assert followed.people == 1
    np.testing.assert_allclose(centres(followed, 0), 100 + 4.0 * np.arange(40))


def test_following_back_takes_no_detection_from_another_track_and_stops_after_the_buffer():
    """B begins where A walks by; before that, nobody is seen for longer than the buffer."""
    a = [(100 + 6.0 * t, 100, 0.6) for t in range(60)]
    frames = [frame(a[t], (280, 104, 0.6)) if t >= 30 else frame(a[t]) for t in range(60)]
    before, after = follow(frames), follow(frames, follow_back="yes")
    np.testing.assert_array_equal(before.boxes_MT4, after.boxes_MT4)
    gap = [frame() if 10 <= t < 50 else frame((100, 100, 0.2 if t < 10 else 0.6)) for t in range(80)]
    assert not follow(gap, follow_back="yes", track_buffer_seconds=1.0).scores_MT[0, :10].any()
    assert follow(gap, follow_back="yes", track_buffer_seconds=2.0).scores_MT[0, :10].all()


def test_follow_back_is_yes_or_no():
    with pytest.raises(ValueError, match="follow_back is True; write 'yes' or 'no'"):
        ByteTrack(follow_back=True)
