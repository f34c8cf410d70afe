"""The last two stages: vectors for a clip, and a sample without its frames."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from posecap.stage import Reject
from posecap.stages.pack import Embed, Pack
from posecap.types import Span
from tests import building


class Sees:
    name = "sees"
    dimension = 3

    def frame_indices(self, clip):
        return [2, clip.frame_count - 3]

    def embed_video(self, frames_THW3):
        self.frames = frames_THW3
        return np.array([1, 0, 0], np.float32)


class Reads:
    name = "reads"
    dimension = 2

    def embed_text(self, sentences):
        return np.tile(np.array([0, 1], np.float32), (len(sentences), 1))


def test_embed_records_which_stretch_the_video_vector_saw():
    captioned, video = building.captioned(), Sees()
    (done,) = Embed(video=video, text=Reads())(captioned)
    np.testing.assert_array_equal(video.frames, captioned.frames_THW3[[2, captioned.frame_count - 3]])
    assert done.video_span.start_seconds == captioned.pts_T[2]
    assert done.video_span.end_seconds == pytest.approx(captioned.pts_T[-3])
    assert done.text_CD.shape == (len(captioned.captions), 2)
    assert (done.video_model, done.text_model) == ("sees", "reads")


def test_a_sample_holds_the_clip_and_names_every_model():
    clip = building.embedded()
    (sample,) = Pack(thumbnail_side=0)(clip)
    np.testing.assert_array_equal(sample.joints_MTJ3, clip.joints_MTJ3)
    assert sample.key == clip.clip_id
    assert sample.video_mp4 is None
    assert sample.thumbnail_jpeg is None
    assert sample.facts["models"].keys() == {"decoder", "detector", "tracker", "pose", "video", "text"}
    assert json.loads(json.dumps(sample.facts)) == sample.facts


def facts_of(**media):
    clip = building.embedded(frames=24)
    (sample,) = Pack(thumbnail_side=0)(replace(clip, media=replace(clip.media, **media)))
    return sample.facts


@pytest.mark.parametrize(
    ("source", "stored"), [(25.0, 25.0), (25.002, 25.002), (50.0, 25.0), (2000.0, 25.0), (0.0, 25.0)]
)
def test_fps_is_the_rate_of_the_stored_frames(source, stored):
    facts = facts_of(fps=source)
    assert (facts["fps"], facts["source_fps"]) == (pytest.approx(stored), source)


def test_facts_say_what_a_player_did_to_the_pictures():
    plain = facts_of()
    unusual = {
        "sample_aspect_ratio",
        "stream",
        "video_streams",
        "clock_restarts",
        "deinterlaced_frames",
        "damaged_frames",
    }
    assert not plain.keys() & unusual
    facts = facts_of(sample_aspect_ratio=(1024, 765), stream=2, video_streams=3, joins=(0.0, 0.5, 99.0))
    assert facts["sample_aspect_ratio"] == "1024:765"
    (sample,) = Pack(thumbnail_side=0)(replace(building.embedded(), deinterlaced_frames=5, damaged_frames=3))
    assert (sample.facts["deinterlaced_frames"], sample.facts["damaged_frames"]) == (5, 3)
    assert "signature" not in sample.facts
    (signed,) = Pack(thumbnail_side=0)(replace(building.embedded(), signature="AbC="))
    assert signed.facts["signature"] == "AbC="
    assert (facts["stream"], facts["video_streams"], facts["clock_restarts"]) == (2, 3, [0.5])


@pytest.mark.parametrize(
    "video_span",
    [Span(100.0, 101.0), Span(0.0, 1e-6)],
    ids=["elsewhere", "one moment of many"],
)
def test_a_triplet_that_does_not_belong_together_is_rejected(video_span):
    clip = replace(building.embedded(), video_span=video_span)
    with pytest.raises(Reject) as rejected:
        list(Pack(thumbnail_side=0)(clip))
    assert rejected.value.reason == "span_mismatch"


def test_a_skeleton_outside_its_span_is_rejected():
    clip = building.embedded()
    late = replace(clip, span=Span(clip.pts_T[-1] + 1, clip.pts_T[-1] + 2))
    with pytest.raises(Reject, match="span_mismatch: skeleton covers"):
        list(Pack(thumbnail_side=0)(late))


def test_the_thumbnail_is_a_small_picture():
    (sample,) = Pack(thumbnail_side=32)(building.embedded())
    with Image.open(io.BytesIO(sample.thumbnail_jpeg)) as picture:
        assert max(picture.size) <= 32


@pytest.mark.parametrize("fields", [{"tolerance_seconds": -0.1}, {"coverage": 1.1}, {"thumbnail_side": -1}])
def test_a_number_out_of_its_range_is_refused_by_name(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Pack(**fields)


def test_storing_video_needs_an_encoder():
    with pytest.raises(ValueError, match="needs an encoder"):
        Pack(store_video="clip")
