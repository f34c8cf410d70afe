"""Recognition in front of a camera: here files that are played at their own pace, and a pipe."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
import pytest
import torch

import tmor_train
from tests import small
from tests.tmor_train.test_recognition import FPS, HEIGHT, PIPELINE, WIDTH, Colours, frame, walking
from tmor_train.live import Camera, watch
from tmor_train.recognition import Recognizer
from tmor_train.video_people import RecognitionError, video_row

torch.set_num_threads(1)


@pytest.fixture
def recognizer(demo_run: Path, tmp_path: Path) -> Recognizer:
    (tmp_path / "colours.py").write_text(PIPELINE)
    return tmor_train.recognizer(
        demo_run, texts=("a", "bb"), pipeline=str(tmp_path / "colours.py"), window_seconds=1.0, stride_seconds=0.5
    )


def test_a_file_at_its_own_pace(tmp_path: Path) -> None:
    camera, began = Camera(str(small.film(tmp_path / "walk.mp4", walking(1), fps=FPS)), fps=5.0), perf_counter()
    camera.open()
    camera.start(size=(64, 48), most=2)
    taken = [*camera.take(0.1), *camera.take(1e9)]
    assert perf_counter() - began > 0.7
    assert taken[0].frame_HW3.shape == (48, 64, 3)
    assert taken[-1].seconds == pytest.approx(0.8)
    assert (camera.frames, camera.passed_over, camera.frames - camera.dropped) == (5, 5, len(taken))
    assert all(one.arrived - began >= one.seconds for one in taken)


def test_a_moment_is_as_a_clip_of_its_window(recognizer: Recognizer, tmp_path: Path) -> None:
    both = [frame({"red": (10 + t, 30), "blue": (90, 20 + t % 7)}) for t in range(20)]
    video = small.film(tmp_path / "both.mp4", both, fps=FPS)
    camera = Camera(str(video), fps=FPS, late="wait")
    moments = list(watch(recognizer, camera))
    assert (camera.frames, camera.dropped, camera.passed_over) == (20, 0, 0)
    assert [moment.seconds for moment in moments] == pytest.approx([0.5, 1.0, 1.5, 1.9], abs=0.11)
    assert [one.number for one in moments[-1].people] == [1, 2]
    assert all([one.number for one in moment.people] == [1, 2] for moment in moments[1:])
    assert all(0 < moment.busy_seconds <= moment.latency_seconds for moment in moments)
    # The last window is that of recognition in the file.
    ((clip, _),) = list(recognizer.stages.clips(video_row(video)))
    wanted = recognizer.encoder.embed(clip.joints_MTJ3[:1, 10:], layout="coco17", size=(WIDTH, HEIGHT))
    np.testing.assert_allclose(moments[-1].people[0].scores, recognizer.classes.scores(wanted[None])[0], atol=2e-3)


@pytest.mark.slow
def test_late_frames_are_dropped_and_counted(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Colours.detect

    def slow(self: Colours, frames_THW3: np.ndarray) -> list[object]:
        sleep(1.5)
        return list(quick(self, frames_THW3))

    monkeypatch.setattr(Colours, "detect", slow)
    camera = Camera(str(small.film(tmp_path / "long.mp4", walking(3), fps=FPS)), fps=FPS)
    moments = list(watch(recognizer, camera))
    assert camera.frames == 30
    assert camera.dropped >= 5
    assert len(moments) <= 4
    assert moments[-1].seconds == pytest.approx(2.9)


def test_standard_input_and_fewer_frames(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = small.film(tmp_path / "walk.mkv", walking(2), fps=FPS)

    class Piped:
        buffer = io.BytesIO(video.read_bytes())

    monkeypatch.setattr(sys, "stdin", Piped)
    camera = Camera("-", fps=5.0)
    moments = list(watch(recognizer, camera))
    # A pipe gives its frames as fast as they are read: only the last ones wait until they are taken.
    assert (camera.frames, camera.passed_over) == (10, 10)
    assert moments[-1].seconds == pytest.approx(1.8, abs=0.11)


def test_a_camera_may_be_left_at_any_time(recognizer: Recognizer, tmp_path: Path) -> None:
    camera = Camera(str(small.film(tmp_path / "walk.mp4", walking(30), fps=FPS)), fps=FPS)
    moments: Iterator[object] = watch(recognizer, camera)
    next(moments)
    began = perf_counter()
    moments.close()  # type: ignore[attr-defined]
    assert perf_counter() - began < 1


def test_what_cannot_be_watched_is_said(demo_run: Path, recognizer: Recognizer, tmp_path: Path) -> None:
    for source in (str(tmp_path / "nowhere.mp4"), "987654", "rtsp://user:secret@127.0.0.1:9/live"):
        with pytest.raises(RecognitionError, match="no video can be read from it") as caught:
            next(watch(recognizer, Camera(source)))
        assert "secret" not in str(caught.value)
    with pytest.raises(RecognitionError, match="0 frames a second: give a number above 0"):
        Camera("0", fps=0)
    untracked = tmp_path / "other.py"
    untracked.write_text(PIPELINE.replace("Pose()", "Pose(estimator=Colours())"))
    by = tmor_train.recognizer(demo_run, texts=("a", "bb"), pipeline=str(untracked))
    with pytest.raises(RecognitionError, match="needs a pipeline with Track"):
        next(watch(by, Camera("0")))
