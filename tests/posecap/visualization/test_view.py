import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from posecap.engines.local_file import LocalFile
from posecap.engines.pyav import PyAV
from posecap.engines.pyav_encoder import PyAVEncoder
from posecap.files import ShardError, file_sha256
from posecap.types import Media, PartName, Span
from posecap.visualization.drawing import PALETTE, PAPER
from posecap.visualization.view import Footage, ViewError, describe, drawable, fitting_size, view_clip
from tests import building, built
from tests import footage as numbered_footage

FOOTAGE = Footage((LocalFile(),), PyAV(), (PyAV(),))
KEY = "ab" * 12


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """One sample: frames 5 to 14 of a video of numbered frames, and one person in its lower left corner."""
    video = numbered_footage.write_video(tmp_path / "numbered.mp4", frames=20, fps=10, size=(160, 96))
    pts_T = np.arange(5, 15) / 10
    joints = building.walkers(frames=10)
    joints[..., :2] = joints[..., :2] * 0.3 + (0, 30)
    sample = building.sample(
        key=KEY,
        joints_MTJ3=joints,
        pts_T=pts_T,
        span=Span(0.5, 1.5),
        media=Media(width=160, height=96, fps=10.0, codec="h264", rotation_degrees=0, seconds=2.0),
        facts={"uri": str(video), "source_id": file_sha256(video)},
    )
    root = tmp_path / "dataset"
    built.build(root, {PartName("train", 0): [sample]})
    return root


def frames_of(path: Path) -> tuple[np.ndarray, list[float]]:
    with av.open(io.BytesIO(path.read_bytes())) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        images = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
        return images, [round(float(frame.pts * stream.time_base), 3) for frame in frames]


def has_colour(image: np.ndarray, colour: tuple[int, ...]) -> bool:
    return bool((np.abs(image.astype(int) - colour).max(-1) < 40).any())


def test_an_mp4_shows_the_clip_s_own_frames_at_their_times(dataset: Path, tmp_path: Path):
    viewed = view_clip(dataset, KEY, out=tmp_path / "out" / "clip.mp4", encoder=PyAVEncoder(), footage=FOOTAGE)
    images, times = frames_of(viewed.path)
    assert (viewed.background, viewed.why_blank, viewed.frames, viewed.key) == ("footage", "", 10, KEY)
    assert images.shape[2] == 480
    assert 288 < images.shape[1] < 360
    assert [numbered_footage.numbered(image[:288]) for image in images] == list(range(5, 15))
    assert times == [round(i / 10, 3) for i in range(10)]


def test_skeletons_and_strip_are_drawn(dataset: Path, tmp_path: Path):
    view_clip(dataset, KEY, out=tmp_path / "clip.mp4", encoder=PyAVEncoder(crf=10), footage=FOOTAGE)
    images, _ = frames_of(tmp_path / "clip.mp4")
    dark_hue = tuple(round(c * 0.75) for c in PALETTE[0])
    assert all(has_colour(image[60:288, :200], dark_hue) for image in images)
    assert not has_colour(images[0][60:200, 240:], dark_hue)
    strip = images[:, 292:].astype(int)
    assert np.median(np.abs(strip - PAPER)) < 6
    assert (strip.max(-1) > 180).any()
    assert (np.abs(strip[0] - strip[-1]) > 60).any(), "the time in the strip changes"


def test_blank_shows_no_footage(dataset: Path, tmp_path: Path):
    viewed = view_clip(
        dataset, KEY, out=tmp_path / "clip.mp4", encoder=PyAVEncoder(), footage=FOOTAGE, background="blank"
    )
    images, _ = frames_of(viewed.path)
    assert (viewed.background, viewed.why_blank) == ("blank", "")
    assert np.abs(images[:, :60].astype(int) - PAPER).max() < 12
    assert has_colour(images[0][60:288], tuple(round(c * 0.75) for c in PALETTE[0]))


def test_other_bytes_under_the_same_uri_are_never_drawn_on(dataset: Path, tmp_path: Path):
    with (tmp_path / "numbered.mp4").open("ab") as file:
        file.write(b"one more byte")
    viewed = view_clip(dataset, KEY, out=tmp_path / "clip.mp4", encoder=PyAVEncoder(), footage=FOOTAGE)
    assert viewed.background == "blank"
    assert "it is not the file that the skeletons were made from" in viewed.why_blank


def test_footage_that_is_gone_or_out_of_reach_is_said(dataset: Path, tmp_path: Path):
    out = tmp_path / "clip.mp4"
    (tmp_path / "numbered.mp4").unlink()
    gone = view_clip(dataset, KEY, out=out, encoder=PyAVEncoder(), footage=FOOTAGE)
    assert (gone.background, "not_found" in gone.why_blank) == ("blank", True)
    nobody = view_clip(dataset, KEY, out=out, encoder=PyAVEncoder(), footage=Footage((), PyAV(), (PyAV(),)))
    assert "nothing here can fetch" in nobody.why_blank
    none = view_clip(dataset, KEY, out=out, encoder=PyAVEncoder(), footage=None)
    assert none.why_blank == "no way to fetch footage was given"


def test_a_gif_plays_for_as_long_as_the_clip(dataset: Path, tmp_path: Path):
    viewed = view_clip(dataset, KEY, out=tmp_path / "clip.gif", encoder=PyAVEncoder(), footage=FOOTAGE)
    with Image.open(viewed.path) as gif:
        assert gif.n_frames == viewed.frames == 10
        assert gif.info["loop"] == 0
        lasts, numbers = [], []
        for number in range(gif.n_frames):
            gif.seek(number)
            lasts.append(gif.info["duration"])
            numbers.append(numbered_footage.numbered(np.asarray(gif.convert("RGB"))[:288]))
    assert numbers == list(range(5, 15))
    assert sum(lasts) == 1000


def test_views_repeat_byte_for_byte(dataset: Path, tmp_path: Path):
    for ending in ("mp4", "gif"):
        first, again = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
        for out in (first, again):
            view_clip(dataset, KEY, out=out, encoder=PyAVEncoder(), footage=FOOTAGE)
        assert first.read_bytes() == again.read_bytes()


def test_other_endings_are_refused_before_anything_is_read(tmp_path: Path):
    with pytest.raises(ViewError, match=r"written as \.mp4 or \.gif"):
        view_clip(tmp_path / "none", KEY, out=tmp_path / "clip.avi", encoder=PyAVEncoder(), footage=None)


@pytest.mark.parametrize("name", ["uri", "source_id", "layout", "start_seconds", "width"])
def test_facts_of_another_form_are_named(name: str):
    for odd in (None, [], "" if name in ("start_seconds", "width") else 5):
        with pytest.raises(ViewError, match=rf"its facts have {name} not in the form .*posecap verify"):
            drawable(building.sample(facts={name: odd}))


def test_a_clip_whose_facts_lack_its_size_is_not_drawn(dataset: Path, tmp_path: Path):
    sample = building.sample(key=KEY, facts={"width": None})
    built.build(tmp_path / "odd", {PartName("train", 0): [sample]})
    with pytest.raises(ViewError, match="its facts have width not in the form"):
        view_clip(tmp_path / "odd", KEY, out=tmp_path / "clip.mp4", encoder=PyAVEncoder(), footage=None)


def test_sizes_are_even_enlarged_when_small_and_bounded_in_memory():
    assert fitting_size({"width": 1920, "height": 1080}, 10, 960) == (960, 540)
    assert fitting_size({"width": 160, "height": 96}, 10, 960) == (480, 288)
    assert fitting_size({"width": 641, "height": 360}, 10, 960) == (640, 360)
    width, height = fitting_size({"width": 1920, "height": 1080}, 3600, 960)
    assert 0.9 * (512 << 20) < 3 * width * height * 3600 < 1.02 * (512 << 20)
    with pytest.raises(ViewError, match="0 x 96 pixels"):
        fitting_size({"width": 0, "height": 96}, 10, 960)


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
