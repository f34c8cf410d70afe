import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from posecap.engines.local_file import LocalFile
from posecap.engines.pyav import PyAV
from posecap.engines.pyav_encoder import PyAVEncoder
from posecap.files import file_sha256
from posecap.types import Media, PartName, Span
from posecap.visualization.drawing import PALETTE, PAPER
from posecap.visualization.view import Footage, ViewError, drawable, fitting_size, view_clip
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
