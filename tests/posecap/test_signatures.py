"""Signatures know a clip again after what copies of it go through, and no other clip."""

import base64

import numpy as np
import pytest

from posecap.signatures import (
    LEAST_EVIDENCE,
    VALUES,
    Signature,
    SignatureError,
    is_near_duplicate,
    likeness,
    make_signature,
)
from tests.moving import picture_at, scene, times


def signed(frames_THW3: np.ndarray, pts_T: np.ndarray) -> Signature:
    return Signature.parse(make_signature(frames_THW3, pts_T))


FRAMES = scene(0)
ORIGINAL = signed(FRAMES, times(len(FRAMES)))


def test_a_signature_is_small_and_the_same_again() -> None:
    text = make_signature(FRAMES, times(len(FRAMES)))
    assert len(text) <= 1600
    assert text == make_signature(FRAMES, times(len(FRAMES)))
    assert ORIGINAL.values_NK.shape == (12, 48)
    assert ORIGINAL.seconds == pytest.approx(3.0)


def test_a_clip_is_like_itself() -> None:
    found = likeness(ORIGINAL, ORIGINAL)
    assert found.picture > 0.999
    assert found.motion is not None
    assert found.motion > 0.99
    assert (found.mirrored, found.rate, found.share) == (False, 1.0, 1.0)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_another_clip_is_none(seed: int) -> None:
    other = scene(seed)
    assert not is_near_duplicate(likeness(ORIGINAL, signed(other, times(len(other)))))


@pytest.mark.parametrize(
    ("frames", "pts"),
    [
        (FRAMES[:, :, ::-1], times(len(FRAMES))),
        (FRAMES[:, ::2, ::2], times(len(FRAMES))),
        (FRAMES[:, 7:, 11:], times(len(FRAMES))),
        (FRAMES[:, 4:-3, :-12], times(len(FRAMES))),
        (np.pad(FRAMES, ((0, 0), (12, 12), (0, 0), (0, 0)), constant_values=17), times(len(FRAMES))),
        (np.pad(FRAMES, ((0, 0), (0, 0), (20, 20), (0, 0))), times(len(FRAMES))),
        (FRAMES, times(len(FRAMES)) * 1.1),
        (FRAMES, times(len(FRAMES)) / 1.1),
        (FRAMES[15:], times(len(FRAMES))[15:]),
        (FRAMES[:40], times(len(FRAMES))[:40]),
        ((FRAMES.astype(int) * 9 // 10 + 20).astype(np.uint8), times(len(FRAMES))),
        (FRAMES[10:, 5:-4, 6:-8][:, ::-1, ::-1][:, ::-1], times(len(FRAMES) - 10) / 1.07),
        (np.pad(FRAMES[:, 9:, :, :][:, :, ::-1], ((0, 0), (14, 14), (0, 0), (0, 0))), times(len(FRAMES)) * 1.1),
        (np.pad(FRAMES, ((0, 0), (97, 97), (0, 0), (0, 0)), constant_values=16), times(len(FRAMES))),
    ],
    ids=["mirrored", "smaller", "cropped", "cropped otherwise", "letterbox", "pillarbox", "slower", "faster", "late",
         "early", "paler", "mirrored, cropped, late and faster", "mirrored, cropped, slower in a letterbox",
         "in an upright picture"],
)  # fmt: skip
def test_a_copy_is_known_again(frames: np.ndarray, pts: np.ndarray) -> None:
    found = likeness(ORIGINAL, signed(np.ascontiguousarray(frames), pts))
    assert is_near_duplicate(found), found
    assert is_near_duplicate(likeness(signed(np.ascontiguousarray(frames), pts), ORIGINAL))


def test_a_mirrored_copy_is_said_to_be_one() -> None:
    assert likeness(ORIGINAL, signed(FRAMES[:, :, ::-1], times(len(FRAMES)))).mirrored


def test_what_moves_otherwise_before_the_same_background_is_another_clip() -> None:
    still = np.stack([picture_at(0, 0.0)] * 75)
    one, two = still.copy(), still.copy()
    for number in range(75):
        one[number, 20:70, number : number + 40] = 250
        two[number, 5 + number // 2 : 30 + number // 2, 90:150] = 250
    found = likeness(signed(one, times(75)), signed(two, times(75)))
    assert not is_near_duplicate(found), found


def test_a_still_clip_has_no_motion_to_compare() -> None:
    still = signed(np.stack([picture_at(0, 0.0)] * 75), times(75))
    found = likeness(still, still)
    assert found.motion is None
    assert is_near_duplicate(found)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_copies_of_a_few_frames_are_known_and_others_are_not(count: int) -> None:
    one = signed(FRAMES[:count], times(count))
    assert is_near_duplicate(likeness(one, signed(FRAMES[:count, :, ::-1], times(count))))
    assert not is_near_duplicate(likeness(one, signed(scene(1)[:count], times(count))))


def test_pictures_of_few_frequencies_are_no_evidence() -> None:
    """Two walls, each lit from the left and a little from above: alike, as many are."""
    y, x = np.mgrid[:90, :160] / 90
    walls = [(60 + 60 * x + down * y).astype(np.uint8) for down in (20, 35)]
    one, two = (signed(np.repeat(np.stack([wall] * 50)[..., None], 3, 3), times(50)) for wall in walls)
    found = likeness(one, two)
    assert found.picture > 0.95
    assert not is_near_duplicate(found)


@pytest.mark.parametrize(("seed", "rows", "columns"), [(15, (7, 2), (4, 12)), (37, (3, 6), (13, 3))])
def test_a_crop_between_those_that_are_tried_is_known(
    monkeypatch: pytest.MonkeyPatch, seed: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    frames = scene(seed)
    whole = signed(frames, times(len(frames)))
    cropped = signed(frames[:, rows[0] : -rows[1], columns[0] : -columns[1]], times(len(frames)))
    assert is_near_duplicate(likeness(whole, cropped))
    assert is_near_duplicate(likeness(cropped, whole))
    monkeypatch.setattr("posecap.signatures._NEARLY", np.inf)
    assert likeness(whole, cropped).evidence < LEAST_EVIDENCE


def test_a_crop_that_agrees_with_the_whole_nowhere_is_known() -> None:
    """Fine patterns: a tenth less of either side moves each of their frequencies to another."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:90, :160] / [[[90]], [[160]]]
    light = rng.normal(size=(7, 7)) * (np.add.outer(np.arange(7), np.arange(7)) >= 6)
    grey = sum(light[v, u] * np.cos(np.pi * v * y) * np.cos(np.pi * u * x) for v in range(7) for u in range(7))
    still = np.repeat((120 + 18 * grey / np.std(grey)).clip(0, 255).astype(np.uint8)[..., None], 3, 2)
    frames = np.stack([still] * 50)
    whole, part = signed(frames, times(50)), signed(frames[:, 9:, 16:], times(50))
    assert (whole.values_NK[0] @ part.values_NK[0]) < 0.5
    assert likeness(whole, part).picture > 0.75


def test_black_frames_are_like_nothing() -> None:
    rng = np.random.default_rng(0)
    black = [signed(rng.integers(15, 18, (50, 90, 160, 3), np.uint8), times(50)) for _ in range(2)]
    assert not is_near_duplicate(likeness(*black))


def test_clips_that_share_a_second_are_known() -> None:
    frames = scene(5, seconds=6.0)
    early, late = signed(frames[:90], times(90)), signed(frames[60:], times(90))
    found = likeness(early, late)
    assert is_near_duplicate(found)
    assert found.seconds == pytest.approx(1.25, abs=0.3)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_clips_of_few_frames_have_signatures(count: int) -> None:
    signature = signed(FRAMES[:count], times(count))
    assert is_near_duplicate(likeness(signature, signature))


def test_a_picture_smaller_than_the_transform_has_one() -> None:
    tiny = signed(FRAMES[:, ::10, ::10], times(len(FRAMES)))
    assert is_near_duplicate(likeness(tiny, tiny))


@pytest.mark.parametrize(
    "text",
    ["", "?", "AAAA", base64.b64encode(b"\x02\x01\x00\x01" + bytes(49)).decode(),
     base64.b64encode(b"\x01\x02\x00\x01" + bytes(49)).decode(),
     base64.b64encode(b"\x01\x01\x00\x00" + bytes(49)).decode()],
)  # fmt: skip
def test_what_is_no_signature_is_refused(text: str) -> None:
    with pytest.raises(SignatureError):
        Signature.parse(text)


def test_moments_between_those_of_the_other_clip_are_compared_with_what_is_between() -> None:
    """What turns by 0.9 rad in a moment is, half a moment later, 0.45 rad away from either neighbour."""
    rng = np.random.default_rng(0)
    still, one, two = np.linalg.qr(rng.normal(size=(VALUES, 3)))[0].T

    def filmed(times: np.ndarray) -> Signature:
        turned = np.outer(np.cos(times * 0.9 / 0.3), one) + np.outer(np.sin(times * 0.9 / 0.3), two)
        return Signature((0.9 * still + np.sqrt(0.19) * turned).astype(np.float32), 0.3)

    times = (np.arange(20) + 0.5) * 0.3
    found = likeness(filmed(times), filmed(times[:-1] + 0.15))
    assert found.motion is not None
    assert found.motion > 0.95  # of the nearest moments 0.90
