"""What is measured: hold-outs, protocols and files, and that a hold-out holds no clip of the test part."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests import acted, gestures, planted
from tmor_train.benchmarks import BENCHMARKS, FrameParts, Missing, Parts, UnknownBenchmarkError
from tmor_train.evaluation.config import HoldOut, TaskConfig
from tmor_train.evaluation.task import LeakError, TaskError, benchmark_of, frame_task_of, held_out, selected, task_of

SOME = TaskConfig(benchmark="gestures", folder="anywhere")
RECORDINGS = TaskConfig(benchmark="acted", folder="anywhere")
UNEVEN = ("bow",) * 10 + ("raise",) * 3 + ("stand",)


@pytest.fixture(autouse=True)
def _gestures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS, "gestures", gestures.benchmark())
    monkeypatch.setitem(BENCHMARKS, "acted", acted.benchmark())


@pytest.mark.parametrize(("share", "held_of_each"), [(0.2, [2, 1, 0]), (0.5, [5, 2, 0]), (0.99, [9, 2, 0])])
def test_of_each_class_a_share_of_the_clips_is_held_out(share: float, held_of_each: list[int]) -> None:
    motions = gestures.motions(UNEVEN)
    rest, held = held_out(motions, HoldOut(share=share))
    assert np.bincount(motions.clips.label_N[held], minlength=3).tolist() == held_of_each
    assert sorted([*rest, *held]) == list(range(14))
    assert rest.tolist() == sorted(rest)
    assert held.tolist() == sorted(held)


def test_hold_outs_are_a_function_of_their_seed() -> None:
    motions = gestures.motions(gestures.CLASSES * 10)
    draws = [held_out(motions, HoldOut(seed=seed))[1].tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.4, 2), (0.99, 4)])
def test_whole_subjects_are_held_out(share: float, count: int) -> None:
    motions = gestures.motions(gestures.CLASSES * 5, subjects=5)
    rest, held = held_out(motions, HoldOut(share=share, by="subjects"))
    subjects = [set(motions.clips.subject_N[index].tolist()) for index in (rest, held)]
    assert not subjects[0] & subjects[1]
    assert [len(some) for some in subjects] == [5 - count, count]
    assert sorted([*rest, *held]) == list(range(15))
    again = held_out(motions, HoldOut(share=share, by="subjects"))[1]
    assert held.tolist() == again.tolist()


@pytest.mark.parametrize("subjects", [1, None])
def test_subjects_that_are_not_known_cannot_be_held_out(subjects: int | None) -> None:
    motions = gestures.motions(gestures.CLASSES * 2, subjects=subjects or 3)
    if subjects is None:
        unknown = motions.clips.subject_N.copy()
        unknown[0] = -1
        motions = replace(motions, clips=replace(motions.clips, subject_N=unknown))
    with pytest.raises(TaskError, match="does not say whose each clip is"):
        held_out(motions, HoldOut(by="subjects"))


def test_classes_of_one_clip_each_leave_none_to_hold_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS, "gestures", gestures.benchmark(gestures.parts(per_class=1)))
    with pytest.raises(TaskError, match="gestures cross_subject has no class with two clips"):
        task_of(replace(SOME, part="holdout"))


def test_the_test_part_is_measured() -> None:
    task = task_of(SOME)
    assert task.protocol == "cross_subject"
    assert (len(task.train), len(task.test), task.validation, task.notes) == (12, 6, None, ())
    assert task.classes == gestures.CLASSES


@pytest.mark.parametrize("by", ["clips", "subjects"])
def test_a_hold_out_holds_no_clip_of_the_test_part(by: str) -> None:
    task = task_of(replace(SOME, part="holdout", holdout=HoldOut(by=by, share=0.34)))  # type: ignore[arg-type]
    train, test = (set(part.clips.key_N.tolist()) for part in (task.train, task.test))
    assert not train & test
    assert train | test == {f"train-{number}" for number in range(12)}
    assert "not on the test part" in task.notes[0]


def test_a_validation_part_is_the_hold_out_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    known = gestures.parts()
    made = Parts(known.train, known.test, gestures.motions(gestures.CLASSES, key="validation"))
    monkeypatch.setitem(BENCHMARKS, "gestures", gestures.benchmark(made))
    assert task_of(SOME).validation is made.validation
    task = task_of(replace(SOME, part="holdout"))
    assert task.test is made.validation
    assert task.train is made.train
    assert task.validation is None


def test_the_metric_is_the_primary_one() -> None:
    scores, labels = np.eye(3, dtype=np.float32)[[0, 0, 0, 2]], np.array([0, 0, 1, 2])
    assert gestures.task().metric(scores, labels) == 0.75
    assert gestures.task(primary_metric="mean_per_class").metric(scores, labels) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"benchmark": None}, r"give --benchmark NAME; `tmor_train bench list`"),
        ({"protocol": "cross_subjct"}, "gestures has no protocol 'cross_subjct'; did you mean cross_subject?"),
        ({"protocol": "xyz"}, "there are cross_subject, cross_view"),
        ({"folder": None}, r"the folder with the files of gestures is not given: --data DIR"),
    ],
)
def test_what_is_not_said_or_unknown_is_asked_for(changes: dict[str, str | None], said: str) -> None:
    with pytest.raises(TaskError, match=said.replace("?", r"\?")):
        benchmark_of(replace(SOME, **changes))  # type: ignore[arg-type]


def test_an_unknown_benchmark_has_a_nearest_one() -> None:
    with pytest.raises(UnknownBenchmarkError, match="gestures"):
        task_of(replace(SOME, benchmark="gesture"))


def test_files_that_are_missing_are_named_with_where_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(folder: Path, protocol: str) -> tuple[Missing, ...]:
        return tuple(Missing(name, "https://example.org", folder / name) for name in ("a.npy", "b.npy"))

    monkeypatch.setitem(BENCHMARKS, "gestures", replace(gestures.benchmark(), missing=missing))
    with pytest.raises(TaskError) as error:
        task_of(SOME)
    assert str(error.value).splitlines() == [
        "anywhere lacks files of gestures:",
        f"a.npy is missing: get it from https://example.org and put it at {Path('anywhere/a.npy')}",
        f"b.npy is missing: get it from https://example.org and put it at {Path('anywhere/b.npy')}",
    ]


def test_a_benchmark_of_frames_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS, "acted", acted.benchmark())
    with pytest.raises(TaskError, match="acted is measured in frames, not in clips"):
        task_of(replace(SOME, benchmark="acted"))


def test_parts_without_clips_or_with_unlabelled_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known = gestures.parts()
    labels = known.test.clips.label_N.copy()
    labels[3] = -1
    unlabelled = replace(known.test, clips=replace(known.test.clips, label_N=labels))
    for name, made in (
        ("train", Parts(known.train.select([]), known.test)),
        ("test", Parts(known.train, unlabelled)),
        ("validation", Parts(known.train, known.test, known.test.select([]))),
    ):
        monkeypatch.setitem(BENCHMARKS, "gestures", gestures.benchmark(made))
        with pytest.raises(
            TaskError, match=f"the {name} part of gestures cross_subject has no clips, or clips without"
        ):
            task_of(SOME)


def test_one_clip_to_train_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known = gestures.parts()
    one = gestures.benchmark(Parts(known.train.select([0]), known.test))
    monkeypatch.setitem(BENCHMARKS, "gestures", one)
    with pytest.raises(TaskError, match="holds one clip, so there is nothing to tell it from; name data with clips of"):
        task_of(SOME)


def test_some_recordings_keep_their_own_events() -> None:
    found = acted.recordings((40, 28, 33))
    chosen = selected(found, np.array([2, 0]))
    assert chosen.motions.clips.key_N.tolist() == ["p3", "p1"]
    assert np.array_equal(chosen.labels(0), found.labels(2))
    assert np.array_equal(chosen.labels(1), found.labels(0))
    assert len(chosen.events.class_E) == (found.events.recording_E != 1).sum()


def test_the_recordings_of_the_test_part_are_measured() -> None:
    task = frame_task_of(RECORDINGS)
    assert (len(task.train.motions), len(task.test.motions), task.notes) == (3, 2, ())


def test_whole_recordings_of_the_train_part_are_held_out() -> None:
    task = frame_task_of(replace(RECORDINGS, part="holdout", holdout=HoldOut(by="subjects", share=0.3)))
    train, held = (set(part.motions.clips.subject_N.tolist()) for part in (task.train, task.test))
    assert train | held == {1, 2, 3}
    assert len(held) == 1
    assert not train & held
    assert "held out" in task.notes[0]


def test_one_recording_cannot_be_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    one = acted.recordings((40,))
    made = replace(acted.benchmark(), read=lambda folder, protocol: FrameParts(one, one))
    monkeypatch.setitem(BENCHMARKS, "acted", made)
    with pytest.raises(TaskError, match="one recording"):
        frame_task_of(replace(RECORDINGS, part="holdout"))


def test_a_part_without_events_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    some, none = acted.recordings((40,)), acted.recordings((5,))
    made = replace(acted.benchmark(), read=lambda folder, protocol: FrameParts(some, none))
    monkeypatch.setitem(BENCHMARKS, "acted", made)
    with pytest.raises(TaskError, match="test part of acted only has no recordings, or no events"):
        frame_task_of(RECORDINGS)


def test_a_benchmark_of_clips_has_no_frames(demo_shards: Path) -> None:
    with pytest.raises(TaskError, match="measured in clips"):
        frame_task_of(TaskConfig(benchmark="shards", folder=str(demo_shards)))


def test_leaks_between_train_and_test_are_refused_or_noted_beside_every_metric(tmp_path: Path) -> None:
    planned = TaskConfig(benchmark="shards", folder=str(tmp_path))
    planted.build(tmp_path)
    with pytest.raises(LeakError, match=r"footage of 4 measured clips, .* --set task\.leaks=note"):
        task_of(planned)
    (note,) = task_of(replace(planned, leaks="note")).notes
    assert note.startswith("footage of 4 measured clips, or of their source videos, stands in the train or validation")
    assert note.endswith("lists 4 (checked: source videos, near-duplicates by signatures)")


SOUND = {**dict.fromkeys(planted.ROWS, "train"), "alone": "test", "next-day": "test"}


def test_without_leaks_there_is_no_note_unless_something_was_not_compared(tmp_path: Path) -> None:
    planted.build(tmp_path / "signed", SOUND)
    assert task_of(TaskConfig(benchmark="shards", folder=str(tmp_path / "signed"))).notes == ()
    planted.build(tmp_path / "bare", SOUND, signed=False)
    (note,) = task_of(TaskConfig(benchmark="shards", folder=str(tmp_path / "bare"))).notes
    assert note.endswith("was looked for by source videos, no near-duplicates, as no clip has a signature")


def test_what_settings_are_chosen_on_leaks_like_what_is_trained_on(tmp_path: Path) -> None:
    planted.build(tmp_path, {**SOUND, "one-day": "test", "next-day": "train", "copied": "val", "copy": "test"})
    config = TaskConfig(benchmark="shards", folder=str(tmp_path))
    with pytest.raises(LeakError, match="footage of 1 measured clips"):
        task_of(config)
    assert len(task_of(replace(config, part="holdout")).notes) == 1  # that of the hold-out: the test part is not read
