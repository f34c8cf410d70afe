"""OC-SORT against what the authors' program gives, and its three additions one by one."""

from __future__ import annotations

import numpy as np
import pytest

from posecap.engines.oc_sort import OCSort
from posecap.interfaces import Detections

FPS = 30.0
PICTURES = np.zeros((0, 1, 1, 3), np.uint8)  # OC-SORT does not look at them


def found(*people: tuple[float, float, float]) -> Detections:
    """Detections of (x, y, score): boxes 40 wide and 80 high around a centre."""
    boxes = np.array([(x - 20, y - 40, x + 20, y + 40) for x, y, _ in people], np.float32).reshape(-1, 4)
    return Detections(boxes_N4=boxes, scores_N=np.array([score for *_, score in people], np.float32))


def follow(detections, *, fps: float = FPS, **options):
    pts = np.arange(len(detections)) / fps
    return OCSort(**options).track(detections, pts, layout=None, frames_THW3=PICTURES)


def crowd() -> list[Detections]:
    """Nine people who wander about among each other, each hidden for a while and missed now and then."""
    rng = np.random.default_rng(4)
    starts, speeds, widths = rng.uniform(0, 200, (9, 2)), rng.normal(0, 4, (9, 2)), rng.uniform(15, 40, 9)
    frames = []
    for t in range(60):
        there = [i for i in range(9) if rng.random() < 0.85 and not 20 < t < 20 + 3 * i]
        centres = 1000 + starts[there] + 20 * speeds[there] * np.sin(t / 20) + rng.normal(0, 2, (len(there), 2))
        wide = widths[there] * (1 + 0.1 * rng.normal(size=len(there)))
        half = np.stack([wide, 2 * wide], -1) / 2
        boxes = np.concatenate([centres - half, centres + half], -1).astype(np.float32).reshape(-1, 4)
        frames.append(Detections(boxes_N4=boxes, scores_N=rng.uniform(0.05, 1, len(there)).astype(np.float32)))
    return frames


# For each frame of ``crowd`` and each detection the letter of its track, in the order in which tracks begin; ``.`` is
# none. By the class OCSort of github.com/noahcao/OC_SORT, commit 8462e7e, with det_thresh=0.3 and min_hits=0, which
# gives tracks from their first frame on. Other commits and the package ocsort 0.0.2 have the same steps.
PUBLISHED = {
    "no": """
        .A.BCD EAFGHBCID EAFJCID EAFJHBI. AJHC. EA.JHBCI EAF.H.CID EAFJHBC.D EFJHBI. E.FJH..I
        A.J.BCI .A..H.C AFJHB.. .JHB.I. EA..H.CID .AF.HBCID EA.J..CID EAFJHCI. EAFJHBCID E.HBCI
        ...B.ID E . .A E - EAF EAF AF ...K E.K EA. EAKH E..K .AF.H EAF..B .FKHB EAFK.B ..FK..C
        E.FKH.C E.KBC .A.KHBCI .A.KH.CI EAFHBCI E.F.HCI. EAFJ.BC.D .AF.HBCID EAFH.I EAFLH.D .AFLB.ID
        EALHBCI. ..F.BC.D E..L.B.ID EALHBCID AFLHBCID AFL.B.I AF.HBCID EL.B.HD EAFL.B.H EAF.HBCID
    """,
    "yes": """
        .A.BCD EAFGHBCID EAFJCID EAFJHBID AJHCD EA.JHBCI EAF.HBCID EAFJHBC.D EFJHBID EAFJH.CI
        AFJHBCI EA..HBC AFJHBCI EJHB.ID EAFJHBCID EAFJHBCID EAFJHBCID EAFJHCID EAFJHBCID EFHBCI
        .JHB.ID E E EA E - HAF HAF AF HAFK HAK HAF HAKL HA.K .AFKL HAFKLB .FKLB HAFK.B HAFKLBC
        HAFKLBC H.KBC HAFKLBCI HAFKLBCI HAFLBCI H.FKLCI. HAFKLBCID HAF.LBCID HAFLBI HAFKLBD HAFKB.ID
        HAKLBCID HAFKBC.D HAFK.B.ID HAKLBCID AFKLBCID AFKLBCI AF.LBCID HK.BCLD HAFKIBCL HAFKLBCID
    """,
}


def letters(frames: list[Detections], **options) -> str:
    """As in ``PUBLISHED``."""
    tracks = follow(frames, fewest_frames=1, **options)
    tracked: list[dict[int, str]] = [{} for _ in frames]
    begins = [int((scores_T > 0).argmax()) for scores_T in tracks.scores_MT]
    index = {(t, box.tobytes()): i for t, one in enumerate(frames) for i, box in enumerate(one.boxes_N4)}
    first = [index[begin, tracks.boxes_MT4[m, begin].tobytes()] for m, begin in enumerate(begins)]
    for letter, m in enumerate(sorted(range(len(begins)), key=lambda m: (begins[m], first[m]))):
        for t in np.flatnonzero(tracks.scores_MT[m] > 0):
            tracked[t][index[t, tracks.boxes_MT4[m, t].tobytes()]] = chr(ord("A") + letter)
    return " ".join(
        "".join(names.get(i, ".") for i in range(len(one.scores_N))) or "-"
        for names, one in zip(tracked, frames, strict=True)
    )


@pytest.mark.parametrize("low_scores", ["no", "yes"])
def test_people_are_those_of_the_authors_program(low_scores):
    assert letters(crowd(), low_scores=low_scores).split() == PUBLISHED[low_scores].split()


def test_two_people_who_cross_keep_their_identities():
    frames = [found((50 + 6 * t, 200, 0.6), (410 - 6 * t, 215, 0.6)) for t in range(60)]
    turned = [
        one if t % 3 else Detections(boxes_N4=one.boxes_N4[::-1], scores_N=one.scores_N) for t, one in enumerate(frames)
    ]
    tracks = follow(turned)
    assert tracks.people == 2
    steps = np.sort(np.median(np.diff(tracks.boxes_MT4[..., 0]), axis=1))
    np.testing.assert_allclose(steps, [-6, 6], atol=1e-3)


def test_who_is_hidden_and_turns_back_meanwhile_is_recovered_where_last_seen():
    """The filter has run on for 20 frames at 8 px each by then."""
    frames = [found((40 + 8 * t, 100, 0.9)) if t < 20 else found() for t in range(40)]
    frames += [found((40 + 8 * 19 - 4 * t, 100, 0.9)) for t in range(20)]
    assert follow(frames).people == 1


def test_after_a_gap_the_filter_forgets_what_it_made_up():
    """Seen again behind where the filter ran to: without the re-update it would run on and lose them at once."""
    frames = [found((100 + 6.0 * t, 100, 0.9)) if t < 15 else found() for t in range(20)]
    frames += [found((100 + 6.0 * 14 + 10, 100, 0.9)) for _ in range(20)]
    tracks = follow(frames)
    assert tracks.people == 1
    assert (tracks.scores_MT[0] > 0).sum() == 35


def test_of_two_alike_the_one_ahead_is_taken():
    """A prediction lies between two detections, a little nearer to the one behind."""

    def ends(inertia: float) -> float:
        frames = [found((100 + 5.0 * t, 100, 0.9)) for t in range(10)]
        ahead, behind = 150 + 17.0, 150 - 16.0  # three frames before, the person was at 135
        frames += [found((behind, 100, 0.9), (ahead, 100, 0.9))]
        tracks = follow(frames, inertia=inertia)
        return float(tracks.boxes_MT4[0, 10, 0]) + 20

    assert ends(0.0) == 134
    assert ends(0.2) == 167


@pytest.mark.parametrize("fps", [10.0, 60.0])
def test_how_long_a_person_may_be_lost_is_counted_in_seconds(fps):
    away = range(round(fps), round(1.5 * fps))  # for half a second
    frames = [found() if t in away else found((160, 120, 0.9)) for t in range(round(3 * fps))]
    assert follow(frames, fps=fps, track_buffer_seconds=0.7).people == 1
    assert follow(frames, fps=fps, track_buffer_seconds=0.3).people == 2


def test_low_scores_continue_a_track_where_that_is_asked_for_and_begin_none():
    frames = [found((100 + t, 100, 0.9 if t < 10 else 0.2), (300, 100, 0.2)) for t in range(40)]
    assert (follow(frames).scores_MT > 0).sum(1).tolist() == [10]
    assert (follow(frames, low_scores="yes").scores_MT > 0).sum(1).tolist() == [40]


def test_short_tracks_are_dropped():
    frames = [found((100, 100, 0.9), *([(250, 100, 0.9)] if t < 4 else [])) for t in range(20)]
    assert follow(frames, fewest_frames=4).people == 2
    assert follow(frames, fewest_frames=5).people == 1


def test_boxes_without_area_break_nothing():
    flat = Detections(boxes_N4=np.float32([[50, 50, 50, 90]]), scores_N=np.float32([0.9]))
    assert follow([flat] * 10).people in (0, 1, 10)
    assert follow([flat, *[found((100, 100, 0.9))] * 10]).people == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [({"low_scores": True}, "low_scores is True; write 'yes' or 'no'"), ({"direction_frames": 0}, "at least 1")],
)
def test_options_that_mean_nothing_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        OCSort(**options)
