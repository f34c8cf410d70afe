"""One sample in words."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from posecap.files import ShardError
from posecap.visualization.describe import describe
from tests import building


def test_says_axes_units_quality_and_captions() -> None:
    joints = np.zeros((2, 4, 17, 3), np.float32)
    joints[0, :, :, :] = (10, 20, 0.5)
    joints[0, 0, 0, :2] = (110, 220)
    sample = building.sample(joints_MTJ3=joints, fps=4.0, key="k" * 24)
    text = describe(sample)
    for line in (
        f"sample {'k' * 24}",
        "  from      row walk-1, videos/walk.mp4",
        "  span      0.000 s to 1.000 s of the video",
        "  video     640 x 360 px, 4 frames/s, h264",
        "  terms     license CC0-1.0, source made up",
        "  joints    float32 (2, 4, 17, 3)  M=2 people, T=4 frames, J=17 joints (coco17)",
        "            seen 50% of joints, within x 10 to 110, y 20 to 220 px",
        "  pts       float64 (4,)  T presentation times, seconds on the player's clock",
        "            0.000 s to 0.750 s",
        "  video     float32 (6,)  one vector of the frames from 0.000 s to 0.750 s",
        "            length 1.0000",
        "  text      float32 (2, 4)  one vector for each caption",
        "  coverage          0.5       share of frames in which a person is seen, averaged over the people",
        "  video             made-up-video-model",
        "captions (2)",
        "  [row] Somebody walks by.",
        "  [label] walking",
    ):
        assert line in text.splitlines(), line
    assert "nose" in text


def test_says_why_these_people_were_kept() -> None:
    kept = {"score": 3.25, "presence": 1.0, "size": 1.0, "motion": 0.5, "closeness": 0.25}
    choice = {"found": 5, "candidates": 2, "kept": [kept], "next": None}
    lines = describe(building.sample(facts={"people_choice": choice})).splitlines()
    at = lines.index("people (5 found, 2 of them long, clear and lively enough)")
    assert lines[at + 1] == "  kept              score 3.25, presence 1, size 1, motion 0.5, closeness 0.25"
    assert lines[at + 2].startswith("  presence          counts frames in which the person's joints are confident")
    assert lines[at + 3] == "models"


def test_says_how_joints_were_smoothed() -> None:
    done = {"filter": {"name": "OneEuro", "cutoff": 1.5}, "fill_frames": 4, "filled_joints": 12}
    lines = describe(building.sample(facts={"smoothing": done})).splitlines()
    assert "smoothing (quality is that of the joints before)" in lines
    assert "  filter            OneEuro, cutoff=1.5" in lines
    assert "  filled_joints     12" in lines
    assert "  filter            none" in describe(building.sample(facts={"smoothing": {"filter": None}})).splitlines()


def test_says_how_pictures_became_those_of_a_player() -> None:
    plain = describe(building.sample(fps=25.0)).splitlines()
    assert "  pixels    displayed ones, square; stored ones are square too" in plain
    nothing = "  noted     no other video stream, no interlaced frames, no damaged ones, no restart of the clock"
    assert nothing in plain
    changed = {
        "sample_aspect_ratio": "2:1",
        "stream": 1,
        "video_streams": 2,
        "clock_restarts": [0.5],
        "source_fps": 50.0,
    }
    lines = describe(building.sample(fps=25.0, facts=changed)).splitlines()
    assert "  video     640 x 360 px, 25 frames/s of the source's 50, h264" in lines
    assert "  pixels    displayed ones, square; stored ones are 2:1 (width:height)" in lines
    assert "  stream    number 1 of the file, the best of 2 with video" in lines
    assert "  noted     no interlaced frames, no damaged ones" in lines
    found = describe(building.sample(facts={"deinterlaced_frames": 9, "damaged_frames": 4})).splitlines()
    assert "  fields    of 9 interlaced frames the one shown first, scaled to the whole frame" in found
    assert "  damaged   4 frames of the source, left out" in found
    assert "  joined    recordings with clocks of their own meet at 0.500 s" in lines


def test_a_sample_of_which_little_is_known() -> None:
    sample = building.sample(frames=1)
    bare = replace(sample, facts={}, captions=(), text_CD=np.zeros((0, 4), np.float32), video_mp4=b"x")
    text = describe(bare)
    assert "  span      unknown to unknown of the video" in text.splitlines()
    assert "mp4 stored" in text
    assert text.endswith("captions (0)\n")


@pytest.mark.parametrize(
    "facts",
    [
        *({"quality": [1]}, {"quality": {"jitter": "x"}}, {"models": ["a"]}, {"people_choice": {"kept": 5}}),
        *({"smoothing": "x"}, {"video_span": 5}, {"fps": "x"}, {"start_seconds": "soon"}, {"fps": 10**400}),
    ],
    ids=str,
)
def test_facts_of_another_form_are_an_error_of_the_dataset(facts: dict[str, Any]) -> None:
    with pytest.raises(ShardError, match=r"facts have another form .*posecap verify"):
        describe(building.sample(frames=6, fps=4.0, facts=facts))
