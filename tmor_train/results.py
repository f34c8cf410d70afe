"""The result of an evaluation as files: ``result.json``, and the scores from which the metrics follow.

``scores.npz`` has the fields of :class:`Scores` where whole clips are classified, ``frames.npz`` those of
:class:`FrameScores` where each frame is. Both are read without unpickling anything. ``result.json`` is written last, so
that a folder that has one is complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from posecap.files import atomic_path
from tmor_train import legacy
from tmor_train.configuration import from_json
from tmor_train.data.dataset import Floats, Numbers

FORMAT = "tmor_train.result/2"
RESULT, SCORES, FRAMES = "result.json", "scores.npz", "frames.npz"
# Bounds on what is read, against damaged files; our choices, far above what is written.
_MOST_BYTES = 64 * 2**20  # of a result.json
_MOST_ARRAY_BYTES = 2 * 2**30  # of all arrays of a file, unpacked

MOST_FRAMES = 2**19
"""The most frames whose scores :meth:`FrameScores.of` keeps, over all recordings together: of the 157 classes of
Charades, 157 MiB."""


class ResultError(ValueError):
    """A folder holds no result, or a damaged one; the message says which file."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The metrics of one encoder, or of one baseline, on one protocol of a benchmark with one seed.

    ``mode`` is how it was measured (``probe``, ``finetune``, ``logistic`` …), ``recipe`` the name of the recipe.
    ``checkpoint`` is a file's name, ``scratch`` for an encoder that was never trained, or None where no encoder takes
    part; ``checkpoint_sha256`` is the hash of its bytes, 64 hex digits. ``metrics`` are shares from 0 to 1 by name;
    ``primary_metric`` names the one that the paper's table has. ``intervals`` are the ends of 95 % intervals of some
    metrics, by name: of ``top1`` Wilson's score interval from the number of measured clips; in results of earlier
    versions, and of frames, there are none. ``labels`` is the share, from 0 to 1, of the train part's labels that was
    used. ``per_class`` has the share of each of ``classes``, None for a class that the measured
    part lacks; it is empty where no such shares were computed. ``counts`` are numbers of clips or recordings by part
    (``train``, ``test``), and of the test part's ``frames`` where those are scored. ``seconds`` is the wall-clock time
    of the measurement. ``config`` is the configuration, and ``chosen`` the settings that were chosen on a hold-out, as
    JSON values. ``notes`` are sentences to print beside every metric. ``reading`` is that of the
    :class:`~tmor_train.benchmarks.Benchmark` when it was measured; results of another one are not comparable.

    Raises:
        ValueError: ``primary_metric`` is none of ``metrics``, or ``per_class`` has not one share for each class.
    """

    benchmark: str
    protocol: str
    mode: str
    recipe: str
    seed: int
    checkpoint: str | None
    checkpoint_sha256: str | None = None
    metrics: Mapping[str, float]
    primary_metric: str
    intervals: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    labels: float = 1.0
    per_class: tuple[float | None, ...] = ()
    classes: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reading: int = 1

    def __post_init__(self) -> None:
        if self.primary_metric not in self.metrics:
            raise ValueError(
                f"the primary metric {self.primary_metric!r} is none of the metrics {', '.join(self.metrics)}"
            )
        if self.per_class and len(self.per_class) != len(self.classes):
            raise ValueError(f"{len(self.per_class)} metrics for {len(self.classes)} classes")


@dataclass(frozen=True, eq=False, slots=True)
class Scores:
    """``scores_NK`` float32 of N clips and K classes, more is likelier; ``label_N`` int64, the indices of their true
    classes; and the clips' names ``key_N``.

    Raises:
        ValueError: they are not of as many clips.
    """

    scores_NK: Floats
    label_N: Numbers
    key_N: NDArray[np.str_]

    def __post_init__(self) -> None:
        rows = len(self.scores_NK)
        if self.scores_NK.ndim != 2 or self.label_N.shape != (rows,) or self.key_N.shape != (rows,):
            raise ValueError(
                f"scores {self.scores_NK.shape}, labels {self.label_N.shape} and keys {self.key_N.shape} "
                "are not of the same clips"
            )


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class FrameScores:
    """Scores and true labels of frames: frame 0 and then every ``every``-th of each of R recordings, F in all.

    ``scores_FK`` float16 and ``label_FK`` bool are those frames, recording after recording; recording r has the rows
    ``offset_R[r]`` to ``offset_R[r + 1]`` (int64, R + 1). ``key_R`` are the recordings' names and ``fps_R`` their rates
    in frames per second, float32 (0 where not known). Scores of events have K + 1 columns, background first.

    Raises:
        ValueError: the arrays do not fit each other.
    """

    scores_FK: NDArray[np.float16]
    label_FK: NDArray[np.bool_]
    offset_R: Numbers
    key_R: NDArray[np.str_]
    fps_R: Floats
    every: int = 1

    def __post_init__(self) -> None:
        (rows, columns), recordings = self.scores_FK.shape, len(self.key_R)
        fits = self.label_FK.shape in ((rows, columns), (rows, columns - 1)) and self.fps_R.shape == (recordings,)
        offsets = self.offset_R.shape == (recordings + 1,) and (np.diff(self.offset_R) >= 0).all()
        if not fits or not offsets or self.offset_R[0] != 0 or self.offset_R[-1] != rows or self.every < 1:
            raise ValueError(
                f"scores {self.scores_FK.shape}, labels {self.label_FK.shape} and {recordings} recordings do not fit"
            )

    @classmethod
    def of(
        cls,
        recordings: Iterable[tuple[Floats, NDArray[np.bool_]]],
        *,
        frames: int,
        key_R: NDArray[np.str_],
        fps_R: Floats,
    ) -> FrameScores:
        """From the scores (T, K) and labels (T, K) of each whole recording, which have ``frames`` frames in all.

        Every frame is kept, or every second, fourth, eighth and so on, so that about ``MOST_FRAMES`` are kept at most
        (each recording's count is rounded up).
        """
        every = 1
        while frames > MOST_FRAMES * every:
            every *= 2
        kept = [(scores[::every].astype(np.float16), labels[::every]) for scores, labels in recordings]
        return cls(
            scores_FK=np.concatenate([scores for scores, _ in kept]),
            label_FK=np.concatenate([labels for _, labels in kept]),
            offset_R=np.cumsum([0, *(len(scores) for scores, _ in kept)]).astype(np.int64),
            key_R=key_R,
            fps_R=fps_R,
            every=every,
        )

    def recording(self, number: int) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Scores and labels of the kept frames of one recording; views."""
        begin, end = self.offset_R[number : number + 2].tolist()
        return self.scores_FK[begin:end], self.label_FK[begin:end]


_FILES: Mapping[type, tuple[str, Mapping[str, Any]]] = {
    Scores: (SCORES, {"scores_NK": np.float32, "label_N": np.int64, "key_N": np.str_}),
    FrameScores: (
        FRAMES,
        {
            "scores_FK": np.float16,
            "label_FK": np.bool_,
            "offset_R": np.int64,
            "key_R": np.str_,
            "fps_R": np.float32,
            "every": np.int64,
        },
    ),
}
"""The file of each kind of scores, and the arrays in it."""


def save(result: Result, folder: Path, *, scores: Scores | FrameScores | None = None) -> Path:
    """Write a result, and its scores if given, into ``folder``; returns the path of ``result.json``.

    Raises:
        posecap.files.OutputExistsError: the folder already holds a result.
    """
    path = folder / RESULT
    with atomic_path(path, existing="refuse") as part:
        if scores is not None:
            name, columns = _FILES[type(scores)]
            arrays: dict[str, Any] = {
                column: np.asarray(getattr(scores, column), dtype) for column, dtype in columns.items()
            }
            with atomic_path(folder / name, existing="replace") as scores_part, scores_part.open("wb") as file:
                np.savez_compressed(file, **arrays)
        part.write_text(json.dumps({"format": FORMAT, **asdict(result)}, indent=2) + "\n", encoding="utf-8")
    return path


def read_result(folder: Path) -> Result:
    """The result in ``folder``.

    Raises:
        ResultError: the folder has no ``result.json``, or it is damaged.
    """
    path = folder / RESULT
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ResultError(
                f"{path} is larger than {_MOST_BYTES >> 20} MiB, the limit for a result; it is damaged or no result"
            )
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise error if isinstance(error, ResultError) else ResultError(f"{path} cannot be read: {error}") from error
    written = found.pop("format", None) if isinstance(found, dict) else None
    if written not in (FORMAT, legacy.RESULT_FORMAT):
        raise ResultError(f"{path} is not a result of tmor_train ({FORMAT})")
    try:
        if written == legacy.RESULT_FORMAT:
            found = legacy.result_fields(found)
        return from_json(Result, found, name="result")
    except (TypeError, ValueError) as error:
        raise ResultError(f"{path} is damaged, or of another version: {error}") from error


def read_scores(folder: Path) -> Scores:
    """The scores of clips in the folder of a result.

    Raises:
        ResultError: the folder has no ``scores.npz``, or it is damaged.
    """
    return _read_arrays(Scores, folder)


def read_frame_scores(folder: Path) -> FrameScores:
    """The scores of frames in the folder of a result.

    Raises:
        ResultError: the folder has no ``frames.npz``, or it is damaged.
    """
    return _read_arrays(FrameScores, folder)


_AnyScores = TypeVar("_AnyScores", Scores, FrameScores)


def _read_arrays(kind: type[_AnyScores], folder: Path) -> _AnyScores:
    """Scores of a kind from their file; raises as :func:`read_scores`."""
    name, columns = _FILES[kind]
    try:
        found = np.load(folder / name, allow_pickle=False)
        if not isinstance(found, NpzFile) or found.zip is None:
            raise ValueError("it is not one file of several arrays")
        with found:
            if sum(member.file_size for member in found.zip.infolist()) > _MOST_ARRAY_BYTES:
                raise ValueError(f"its arrays are larger than {_MOST_ARRAY_BYTES >> 20} MiB, the limit for scores")
            arrays = {column: found[column].astype(dtype) for column, dtype in columns.items()}
        values: dict[str, Any] = {column: array if array.ndim else array.item() for column, array in arrays.items()}
        return kind(**values)
    except Exception as error:  # zip, NumPy and the check raise many kinds for a damaged file
        raise ResultError(f"{folder / name} cannot be read: {error}") from error


def results_under(folder: Path) -> list[tuple[Path, Result]]:
    """All results in ``folder`` and below it, with their folders, by path.

    Raises:
        ResultError: one of them is damaged.
    """
    return [(path.parent, read_result(path.parent)) for path in sorted(folder.rglob(RESULT))]
