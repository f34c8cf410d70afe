"""Results as files: there and back, and what is refused of damaged or foreign ones."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecap.files import OutputExistsError
from tmor_train import results
from tmor_train.results import (
    FrameScores,
    Result,
    ResultError,
    Scores,
    read_frame_scores,
    read_result,
    read_scores,
    results_under,
    save,
)

RESULT = Result(
    benchmark="gestures",
    protocol="cross_view",
    mode="probe",
    recipe="probe",
    seed=3,
    checkpoint="step-000000008.pt (ema)",
    checkpoint_sha256="ab" * 32,
    metrics={"top1": 0.75, "mean_per_class": 0.5},
    primary_metric="top1",
    labels=0.05,
    per_class=(1.0, None, 0.0),
    classes=("bow", "raise", "stand"),
    counts={"train": 12, "test": 4},
    seconds=1.5,
    config={"recipe": "probe", "seeds": [0, 1], "task": {"folder": None}},
    chosen={"setting": 0.1, "held_out": {"0.1": 0.5}},
    notes=("to be said",),
)
SCORES = Scores(np.array([[0.1, 0.9], [2, -3]], np.float32), np.array([1, 0]), np.array(["a", "clip-b"]))


class Harmful:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return Path.touch, (Path("unpickled"),)  # type: ignore[return-value]


def test_a_result_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    assert save(RESULT, tmp_path / "a/b", scores=SCORES) == tmp_path / "a/b/result.json"
    assert read_result(tmp_path / "a/b") == RESULT
    found = read_scores(tmp_path / "a/b")
    assert np.array_equal(found.scores_NK, SCORES.scores_NK)
    assert (found.scores_NK.dtype, found.label_N.dtype) == (np.float32, np.int64)
    assert found.label_N.tolist() == [1, 0]
    assert found.key_N.tolist() == ["a", "clip-b"]
    assert sorted(path.name for path in (tmp_path / "a/b").iterdir()) == ["result.json", "scores.npz"]


def test_results_of_format_1_are_read(tmp_path: Path) -> None:
    path = save(RESULT, tmp_path)
    values = json.loads(path.read_text())
    old = {"figures": values.pop("metrics"), "headline": values.pop("primary_metric")}
    old["checkpoint"] = "step-000000008.pt (averaged)"
    counts = {"train": 12, "measured": 4}
    path.write_text(json.dumps(values | old | {"counts": counts, "format": "tmor_train.result/1"}))
    assert read_result(tmp_path) == RESULT


def test_a_result_is_not_written_over(tmp_path: Path) -> None:
    save(RESULT, tmp_path, scores=SCORES)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputExistsError, match=r"result\.json"):
        save(replace(RESULT, seed=4), tmp_path, scores=SCORES)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_has_a_result_only_when_it_is_whole(tmp_path: Path) -> None:
    """Scores that cannot be written leave no result behind."""
    (tmp_path / "scores.npz").mkdir()
    with pytest.raises(OutputExistsError, match=r"scores\.npz"):
        save(RESULT, tmp_path, scores=SCORES)
    assert not (tmp_path / "result.json").exists()


def test_all_results_below_a_folder_are_found(tmp_path: Path) -> None:
    for name in ("b", "a/deep", "a"):
        save(replace(RESULT, mode=name), tmp_path / name)
    found = results_under(tmp_path)
    assert [(place.relative_to(tmp_path).as_posix(), result.mode) for place, result in found] == [
        ("a/deep", "a/deep"),
        ("a", "a"),
        ("b", "b"),
    ]
    (tmp_path / "b/result.json").write_text("{}")
    with pytest.raises(ResultError, match=r"b/result\.json"):
        results_under(tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"primary_metric": "top5"}, "the primary metric 'top5' is none of the metrics top1, mean_per_class"),
        ({"per_class": (1.0,)}, "1 metrics for 3 classes"),
    ],
)
def test_a_result_that_does_not_fit_itself_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(RESULT, **values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("\x00\x01", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "is not a result of tmor_train"),
        ('{"format": "another/1"}', "is not a result of tmor_train"),
        ('{"format": "tmor_train.result/1"}', "is damaged, or of another version"),
    ],
)
def test_foreign_files_are_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ResultError, match=rf"result\.json {said}"):
        read_result(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": {"top1": "high"}},
        {"metrics": {"top1": True}},
        {"metrics": [0.5]},
        {"primary_metric": "top5"},
        {"seed": "0"},
        {"seed": True},
        {"labels": None},
        {"checkpoint": 7},
        {"per_class": [0.5, "x", None]},
        {"per_class": [0.5]},
        {"classes": "bow"},
        {"classes": [1, 2, 3]},
        {"counts": {"test": "many"}},
        {"notes": [None]},
        {"more": 1},
    ],
)
def test_damaged_fields_are_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    path = save(RESULT, tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ResultError, match=r"result\.json is damaged, or of another version"):
        read_result(tmp_path)


def test_no_result_and_a_far_too_large_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"result\.json cannot be read"):
        read_result(tmp_path)
    with (tmp_path / "result.json").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(ResultError, match="larger than 64 MiB"):
        read_result(tmp_path)


def test_scores_are_read_without_unpickling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    harmful = np.array([Harmful(), Harmful()], object)
    np.savez(tmp_path / "scores.npz", scores_NK=SCORES.scores_NK, label_N=SCORES.label_N, key_N=harmful)
    with pytest.raises(ResultError, match=r"scores\.npz cannot be read: Object arrays cannot be loaded"):
        read_scores(tmp_path)
    assert not (tmp_path / "unpickled").exists()
    np.load(tmp_path / "scores.npz", allow_pickle=True)["key_N"]
    assert (tmp_path / "unpickled").exists()  # it would have run


def test_damaged_scores_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    with pytest.raises(ResultError, match=r"scores\.npz cannot be read"):
        read_scores(tmp_path)
    known = {"scores_NK": SCORES.scores_NK, "label_N": SCORES.label_N, "key_N": SCORES.key_N}
    for changes in (
        {"label_N": np.array([1, 0, 1])},
        {"scores_NK": np.zeros(2)},
        {"key_N": np.array(["a"])},
        {"label_N": np.array(["bow", "raise"])},
    ):
        np.savez(path, **(known | changes))
        with pytest.raises(ResultError, match=r"scores\.npz cannot be read"):
            read_scores(tmp_path)
    np.savez(path, **known)
    whole = path.read_bytes()
    read_scores(tmp_path)
    for content in (whole[: len(whole) // 2], b"", b"PK", b"\x80\x04K\x01."):  # the last is a pickle
        path.write_bytes(content)
        with pytest.raises(ResultError, match=r"scores\.npz cannot be read"):
            read_scores(tmp_path)
    with path.open("wb") as file:
        np.save(file, SCORES.scores_NK)
    with pytest.raises(ResultError, match="not one file of several arrays"):
        read_scores(tmp_path)
    del known["key_N"]
    np.savez(path, **known)
    with pytest.raises(ResultError, match="key_N"):
        read_scores(tmp_path)


def test_scores_that_unpack_to_far_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(RESULT, tmp_path, scores=SCORES)
    monkeypatch.setattr(results, "_MOST_ARRAY_BYTES", 700)
    read_scores(tmp_path)
    many = Scores(np.zeros((1000, 2), np.float32), np.zeros(1000, np.int64), np.array(["a"] * 1000))
    save(RESULT, tmp_path / "many", scores=many)
    assert (tmp_path / "many/scores.npz").stat().st_size < 3000
    with pytest.raises(ResultError, match=r"scores\.npz cannot be read: its arrays are larger than"):
        read_scores(tmp_path / "many")


def some(lengths: tuple[int, ...] = (5, 3), columns: int = 2) -> tuple[list[tuple[Any, Any]], FrameScores]:
    rng = np.random.default_rng(0)
    pairs = [(rng.random((n, columns), np.float32), rng.random((n, 2)) > 0.5) for n in lengths]
    keys = np.array([f"r{n}" for n in range(len(lengths))])
    return pairs, FrameScores.of(pairs, frames=sum(lengths), key_R=keys, fps_R=np.full(len(lengths), 20, np.float32))


@pytest.mark.parametrize("columns", [2, 3])
def test_scores_of_frames_come_back_as_they_were_saved(tmp_path: Path, columns: int) -> None:
    pairs, scores = some(columns=columns)
    save(RESULT, tmp_path, scores=scores)
    found = read_frame_scores(tmp_path)
    assert read_result(tmp_path) == RESULT
    assert (found.every, found.key_R.tolist(), found.fps_R.tolist()) == (1, ["r0", "r1"], [20, 20])
    for number, (scores_TK, label_TK) in enumerate(pairs):
        kept_TK, marks_TK = found.recording(number)
        assert kept_TK.dtype == np.float16
        assert np.array_equal(kept_TK, scores_TK.astype(np.float16))
        assert np.array_equal(marks_TK, label_TK)


def test_of_long_recordings_every_second_or_fourth_frame_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST_FRAMES", 4)
    pairs, scores = some((9, 6))
    assert scores.every == 4
    assert scores.offset_R.tolist() == [0, 3, 5]
    assert np.array_equal(scores.recording(1)[1], pairs[1][1][[0, 4]])


def test_scores_of_frames_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    _, scores = some()
    with pytest.raises(ValueError, match="do not fit"):
        FrameScores(
            scores_FK=scores.scores_FK,
            label_FK=scores.label_FK[1:],
            offset_R=scores.offset_R,
            key_R=scores.key_R,
            fps_R=scores.fps_R,
        )
    with pytest.raises(ResultError, match=r"frames\.npz cannot be read"):
        read_frame_scores(tmp_path)
    (tmp_path / "frames.npz").write_bytes(b"damaged")
    with pytest.raises(ResultError, match=r"frames\.npz cannot be read"):
        read_frame_scores(tmp_path)
