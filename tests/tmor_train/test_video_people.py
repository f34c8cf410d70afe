"""Windows of a clip, and pipelines without skeletons; videos are gone through in test_recognition.py."""

from collections.abc import Iterator

import numpy as np
import pytest

from posecap.pipeline import Pipeline
from posecap.stage import Stage
from posecap.types import Row, Sample, Span
from tmor_train.video_people import RecognitionError, SkeletonStages, windows


def test_windows_cover_a_clip() -> None:
    pts_T = 5 + np.arange(40) / 10
    assert windows(pts_T, Span(5, 9), length=2.0, stride=1.0) == [(0, 20), (10, 30), (20, 40)]
    assert windows(pts_T, Span(5, 9), length=2.5, stride=1.0) == [(0, 25), (10, 35), (15, 40)]
    assert windows(pts_T, Span(5, 9), length=4.0, stride=1.0) == [(0, 40)]
    assert windows(pts_T, Span(5, 9), length=60.0, stride=1.0) == [(0, 40)]
    assert windows(pts_T[:1], Span(5, 5.1), length=2.0, stride=0.5) == [(0, 1)]


def test_a_pipeline_without_skeletons_is_rejected() -> None:
    with pytest.raises(RecognitionError, match="no stage that gives a SkeletonClip"):
        SkeletonStages(Pipeline(stages=(Blind(),)))


class Blind(Stage):
    """Samples without any skeleton before them."""

    name, takes, gives = "blind", Row, Sample

    def __call__(self, item: Row) -> Iterator[Sample]:
        return iter(())
