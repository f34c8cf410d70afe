"""Recognition in videos of two coloured figures, found by their colours, with the encoder of a small run."""

import json
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch

import tmor_train
from posecap.files import OutputExistsError
from posecap.interfaces import Detections
from posecap.stage import Engine
from tests import small
from tmor_train import recognition
from tmor_train.data.provenance import Inputs
from tmor_train.encoder import UnusableEncoderError
from tmor_train.recognition import RIDGE, Examples
from tmor_train.video_people import RecognitionError, video_row

torch.set_num_threads(1)

FPS, WIDTH, HEIGHT = 10, 128, 96
_COLOURS = {"red": (250, 0, 0), "blue": (0, 0, 250)}

PIPELINE = """\
from posecap.engines.bytetrack import ByteTrack
from posecap.engines.local_file import LocalFile
from posecap.engines.pyav import PyAV
from posecap.pipeline import Pipeline
from posecap.stages.caption import WriteCaptions
from posecap.stages.decode import Decode, Split
from posecap.stages.download import Download
from posecap.stages.pack import Embed, Pack
from posecap.stages.pose import Pose, Skeleton, Track
from tests.tmor_train.test_recognition import Colours, Lengths

pipeline = Pipeline(
    stages=(
        Download(fetchers=(LocalFile(),)),
        Split(shortest_seconds=0.5, longest_seconds=2.0),
        Decode(prober=PyAV(), decoders=(PyAV(),)),
        Track(detector=Colours(), tracker=ByteTrack()),
        Pose(),
        Skeleton(),
        WriteCaptions(),
        Embed(video=None, text=Lengths()),
        Pack(),
    ),
)
"""


class Colours(Engine):
    """Finds a figure of each colour: its joints are spread over the colour's box."""

    name, layout = "colours", "coco17"

    def detect(self, frames_THW3: np.ndarray) -> list[Detections]:
        return [self._of(frame_HW3.astype(int)) for frame_HW3 in frames_THW3]

    def _of(self, frame_HW3: np.ndarray) -> Detections:
        boxes, joints = [], []
        for colour in _COLOURS.values():
            y, x = np.nonzero(np.abs(frame_HW3 - colour).sum(-1) < 150)
            if len(x) > 20:
                boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
                down = np.linspace(0, 1, 17)
                xy = [x.min() + (down * 7 % 1) * np.ptp(x), y.min() + down * np.ptp(y), np.ones(17)]
                joints.append(np.stack(xy, -1))
        return Detections(
            boxes_N4=np.array(boxes, np.float32).reshape(-1, 4),
            scores_N=np.full(len(boxes), 0.9, np.float32),
            joints_NJ3=np.array(joints, np.float32).reshape(-1, 17, 3),
        )


@dataclass(frozen=True)
class Lengths(Engine):
    """A sentence's vector: waves whose frequency is the number of its letters; as wide as those of the small run."""

    name = "lengths"
    dimension: int = field(default=4, init=False)

    def embed_text(self, sentences: list[str]) -> np.ndarray:
        waves = [np.sin((1 + len(sentence)) * np.arange(1, 1 + self.dimension)) for sentence in sentences]
        return np.array([wave / np.linalg.norm(wave) for wave in waves], np.float32)


def frame(figures: dict[str, tuple[int, int]], *, ground: int = 40) -> np.ndarray:
    """Figures of 16 x 40 pixels by colour, each with its upper left corner."""
    picture = np.full((HEIGHT, WIDTH, 3), ground, np.uint8)
    for colour, (x, y) in figures.items():
        picture[y : y + 40, x : x + 16] = _COLOURS[colour]
    return picture


def walking(seconds: float) -> list[np.ndarray]:
    return [frame({"red": (10 + t, 30)}) for t in range(round(seconds * FPS))]


def jumping(seconds: float) -> list[np.ndarray]:
    return [frame({"red": (50, 20 + 4 * abs(t % 10 - 5))}) for t in range(round(seconds * FPS))]


@pytest.fixture
def pipeline(tmp_path: Path) -> str:
    path = tmp_path / "colours.py"
    path.write_text(PIPELINE)
    return str(path)


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Three seconds of red and blue, one second of nobody behind a cut, and one of red behind another."""
    frames = [frame({"red": (10 + t, 30), "blue": (90, 20 + t % 7)}) for t in range(30)]
    frames += [frame({}, ground=200)] * 10 + walking(1)
    return small.film(tmp_path / "pair.mp4", frames, fps=FPS)


def test_a_video_by_texts(demo_run: Path, pipeline: str, pair: Path, tmp_path: Path) -> None:
    texts = ("walking", "standing still", "hopping about")
    by = tmor_train.recognizer(demo_run, texts=texts, pipeline=pipeline, window_seconds=1.0)
    found = by.recognize(pair, annotated=tmp_path / "out.mp4")
    # Red and blue keep their numbers where the video is split for length, at 2 s; behind a cut red is somebody new.
    assert [person.number for person in found.people] == [1, 2, 3]
    first, _, last = found.people
    assert [first.windows[0].start_seconds, first.windows[-1].end_seconds] == [0.0, 3.0]
    assert [(window.start_seconds, window.end_seconds) for window in last.windows] == [(4.0, 5.0)]
    assert [(lost.start_seconds, lost.end_seconds, lost.reason) for lost in found.skipped] == [
        (3.0, 4.0, "no_person_found")
    ]
    for person in found.people:
        assert all(len(window.scores) == 3 and min(window.scores) >= -1 for window in person.windows)
        ends = [(segment.start_seconds, segment.end_seconds) for segment in person.segments]
        assert ends[0][0] == person.windows[0].start_seconds
        assert ends[-1][1] == person.windows[-1].end_seconds
        assert all(a[1] == b[0] for a, b in pairwise(ends))
        assert all(a.label != b.label for a, b in pairwise(person.segments))
    with av.open(str(tmp_path / "out.mp4")) as container:
        pictures = [one.to_ndarray(format="rgb24") for one in container.decode(video=0)]
    assert len(pictures) == found.frames == 50
    assert pictures[0].shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pictures[35].astype(int) - 200).max() < 12  # nobody: the frame as it is
    assert np.abs(pictures[0].astype(int) - frame({"red": (10, 30), "blue": (90, 20)})).max() > 100
    again = by.recognize(pair)
    assert again.as_json() == found.as_json()
    assert json.loads(json.dumps(found.as_json()))["format"] == "tmor_train.recognition/1"
    assert found.as_json()["scores"] == {"of": "texts", "prompt_set": "plain", "text_model": "lengths"}
    with pytest.raises(OutputExistsError):
        by.recognize(pair, annotated=tmp_path / "out.mp4")


def test_a_score_is_that_of_the_encoder(demo_run: Path, pipeline: str, tmp_path: Path) -> None:
    video = small.film(tmp_path / "walk.mp4", walking(1), fps=FPS)
    by = tmor_train.recognizer(demo_run, texts=("a", "bb"), pipeline=pipeline)
    (person,) = by.recognize(video).people
    ((clip, why),) = by.stages.clips(video_row(video))
    assert why is None
    vector = by.encoder.embed(clip.joints_MTJ3, layout="coco17", size=(WIDTH, HEIGHT))
    expected = by.encoder.text_cosines(vector, Lengths().embed_text(["a", "bb"]))[0]
    np.testing.assert_allclose(person.windows[0].scores, expected, atol=1e-4)
    best = max(range(2), key=person.windows[0].scores.__getitem__)
    assert (person.segments[0].label, person.segments[0].score) == (("a", "bb")[best], person.windows[0].scores[best])


def test_a_video_by_examples(demo_run: Path, pipeline: str, tmp_path: Path) -> None:
    for name, acted in (("jumping", jumping), ("walking", walking)):
        (tmp_path / "examples" / name).mkdir(parents=True)
        small.film(tmp_path / "examples" / name / "one.mp4", acted(2), fps=FPS)
        (tmp_path / "examples" / name / ".hidden").write_text("passed over")
    by = tmor_train.recognizer(demo_run, examples=tmp_path / "examples", pipeline=pipeline, window_seconds=1.0)
    assert by.source["scores"] == {
        "of": "examples",
        "ridge": RIDGE,
        "classes": {name: {"videos": 1, "windows": 3} for name in ("jumping", "walking")},
    }
    for name, acted in (("jumping", jumping), ("walking", walking)):
        (person,) = by.recognize(small.film(tmp_path / f"{name}.mp4", acted(1), fps=FPS)).people
        assert [segment.label for segment in person.segments] == [name]


def test_examples_count_classes_alike() -> None:
    many, one = np.tile([[1.0, 0.2]], (9, 1)), np.array([[1.0, -0.2]])
    found = Examples.of({"many": many.astype(np.float32), "one": one.astype(np.float32)}, {})
    np.testing.assert_allclose(found.mean_D, [1 / np.hypot(1, 0.2), 0], atol=1e-6)
    np.testing.assert_allclose(found.scores(np.array([[1, 0.1]], np.float32)), [[1, -1]], atol=0.05)
    few = Examples.of({"many": many[:1].astype(np.float32), "one": one.astype(np.float32)}, {}, ridge=1.0)
    assert 0.3 < few.scores(np.array([[1, 0.1]], np.float32))[0, 0] < 0.7  # a larger ridge draws scores to 0


def test_examples_of_a_class_seen_from_two_sides() -> None:
    """Its mean is nearer to the other class than to either side; a direction tells the classes apart nevertheless."""
    draw = np.random.default_rng(0)
    sides = [np.array([3.0, 2.0, 1.0]), np.array([3.0, -2.0, 1.0])]
    both = np.concatenate([side + 0.1 * draw.standard_normal((9, 3)) for side in sides]).astype(np.float32)
    other = (np.array([3.0, 1.4, -0.4]) + 0.1 * draw.standard_normal((9, 3))).astype(np.float32)
    found = Examples.of({"both": both, "other": other}, {})
    assert (found.scores(both).argmax(1) == 0).all()
    assert (found.scores(other).argmax(1) == 1).all()
    np.testing.assert_allclose(found.scores(both).sum(1), 0, atol=1e-5)


def test_other_models_are_noted(demo_run: Path) -> None:
    encoder = tmor_train.load(demo_run)
    assert encoder.inputs is not None
    assert encoder.inputs.models() == {"ab" * 32}  # what tests.built says made the dataset
    assert recognition._model_notes(encoder, {"net": "ab" * 32}) == ()
    (note,) = recognition._model_notes(encoder, {"net": "ab" * 32, "other": "cd" * 32})
    assert "other models made than other, so" in note
    assert recognition._model_notes(replace(encoder, inputs=None), {"other": "cd" * 32}) == ()
    assert recognition._model_notes(replace(encoder, inputs=Inputs({})), {"other": "cd" * 32}) == ()


def test_what_cannot_be_recognised_is_said(demo_run: Path, pipeline: str, tmp_path: Path) -> None:
    page = tmp_path / "page.mp4"
    page.write_text("<!doctype html><title>Gone</title>")
    by = tmor_train.recognizer(demo_run, texts=("a", "bb"), pipeline=pipeline)
    with pytest.raises(RecognitionError, match=r"page\.mp4: not_a_video"):
        by.recognize(page)
    with pytest.raises(RecognitionError, match=r"nowhere\.mp4: not_found"):
        by.recognize(tmp_path / "nowhere.mp4", annotated=tmp_path / "out.mp4")
    short = small.film(tmp_path / "short.mp4", walking(0.3), fps=FPS)
    with pytest.raises(RecognitionError, match=r"short\.mp4 gives the pipeline no clip: too_short"):
        by.recognize(short, annotated=tmp_path / "out.mp4")
    with pytest.raises(RecognitionError, match=r"out\.gif: the annotated video is an mp4"):
        by.recognize(short, annotated=tmp_path / "out.gif")
    assert {path.name for path in tmp_path.iterdir()} == {"colours.py", "page.mp4", "short.mp4"}


def test_classes_that_cannot_be_used_are_said(demo_run: Path, pipeline: str, tmp_path: Path) -> None:
    with pytest.raises(RecognitionError, match="either as texts or as a folder of examples"):
        tmor_train.recognizer(demo_run, pipeline=pipeline)
    with pytest.raises(RecognitionError, match="give two or more, each once"):
        tmor_train.recognizer(demo_run, texts=("a", "a"), pipeline=pipeline)
    with pytest.raises(RecognitionError, match="above 0 for both"):
        tmor_train.recognizer(demo_run, texts=("a", "bb"), pipeline=pipeline, stride_seconds=0)
    for folder in ("nowhere", "."):
        with pytest.raises(RecognitionError, match="has 0 folders of examples"):
            tmor_train.recognizer(demo_run, examples=tmp_path / folder, pipeline=pipeline)
    for name in ("a", "b"):
        (tmp_path / "examples" / name).mkdir(parents=True)
    with pytest.raises(RecognitionError, match="nobody was followed in its 0 videos"):
        tmor_train.recognizer(demo_run, examples=tmp_path / "examples", pipeline=pipeline)


def test_pipelines_and_encoders_that_cannot_be_used_are_said(demo_run: Path, tmp_path: Path) -> None:
    wider = tmp_path / "wider.py"
    wider.write_text(PIPELINE.replace("Lengths", "Wider"))
    with pytest.raises(UnusableEncoderError, match="text vectors of 4 numbers are needed"):
        tmor_train.recognizer(demo_run, texts=("a", "bb"), pipeline=str(wider))
    silent = tmp_path / "silent.py"
    silent.write_text(PIPELINE.replace("text=Lengths()", "text=None"))
    with pytest.raises(RecognitionError, match="the pipeline has no text model"):
        tmor_train.recognizer(demo_run, texts=("a", "bb"), pipeline=str(silent))


@dataclass(frozen=True)
class Wider(Lengths):
    dimension: int = field(default=5, init=False)
