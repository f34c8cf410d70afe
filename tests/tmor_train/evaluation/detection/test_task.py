from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests import acted
from tmor_train.benchmarks import BENCHMARKS, FrameParts
from tmor_train.evaluation.config import HoldOut, TaskConfig
from tmor_train.evaluation.detection.task import frame_task_of, selected
from tmor_train.evaluation.task import TaskError

SOME = TaskConfig(benchmark="acted", folder="anywhere")


@pytest.fixture(autouse=True)
def _acted(monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "acted", acted.benchmark())


def test_some_recordings_keep_their_own_events():
    found = acted.recordings((40, 28, 33))
    chosen = selected(found, np.array([2, 0]))
    assert chosen.motions.clips.key_N.tolist() == ["p3", "p1"]
    assert np.array_equal(chosen.labels(0), found.labels(2))
    assert np.array_equal(chosen.labels(1), found.labels(0))
    assert len(chosen.events.class_E) == (found.events.recording_E != 1).sum()


def test_the_test_part_is_measured():
    task = frame_task_of(SOME)
    assert (len(task.train.motions), len(task.test.motions), task.notes) == (3, 2, ())


def test_whole_recordings_of_the_train_part_are_held_out():
    task = frame_task_of(replace(SOME, part="holdout", holdout=HoldOut(by="subjects", share=0.3)))
    train, held = (set(part.motions.clips.subject_N.tolist()) for part in (task.train, task.test))
    assert train | held == {1, 2, 3}
    assert len(held) == 1
    assert not train & held
    assert "held out" in task.notes[0]


def test_one_recording_cannot_be_held_out(monkeypatch):
    one = acted.recordings((40,))
    made = replace(acted.benchmark(), read=lambda folder, protocol: FrameParts(one, one))
    monkeypatch.setitem(BENCHMARKS, "acted", made)
    with pytest.raises(TaskError, match="one recording"):
        frame_task_of(replace(SOME, part="holdout"))


def test_a_part_without_events_is_refused(monkeypatch):
    some, none = acted.recordings((40,)), acted.recordings((5,))
    made = replace(acted.benchmark(), read=lambda folder, protocol: FrameParts(some, none))
    monkeypatch.setitem(BENCHMARKS, "acted", made)
    with pytest.raises(TaskError, match="test part of acted only has no recordings, or no events"):
        frame_task_of(SOME)


def test_a_benchmark_of_clips_is_refused(demo_shards: Path):
    with pytest.raises(TaskError, match="measured in clips"):
        frame_task_of(TaskConfig(benchmark="shards", folder=str(demo_shards)))
