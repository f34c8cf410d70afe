"""The result of an evaluation as files: ``result.json``, and ``scores.npz`` from which the metrics follow.

``scores.npz`` holds ``scores_NK`` float32, ``label_N`` int64 and ``key_N`` (words), a row for each clip measured. Where
frames are measured there is ``frames.npz`` instead, with the fields of :class:`FrameScores`. Both are read without
unpickling anything. ``result.json`` is written last, so that a folder that has one is complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from tmor_train import legacy
from tmor_train.atomic_write import atomic_write
from tmor_train.data.arrays import Floats, Numbers
from tmor_train.frame_scores import FrameScores

FORMAT = "tmor_train.result/2"
RESULT, SCORES, FRAMES = "result.json", "scores.npz", "frames.npz"
_MOST_BYTES = 64 * 2**20
_MOST_ARRAY_BYTES = 2 * 2**30  # of all arrays of a file, unpacked


class ResultError(ValueError):
    """A folder holds no result, or a damaged one; the message says which file."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measurement.

    ``mode`` is the way of it (``probe``, ``finetune``, ``logistic`` …). ``checkpoint`` is a file's name, ``scratch``
    for an encoder that was never trained, or none where no encoder takes part; ``checkpoint_sha256`` is that of its
    bytes. ``metrics`` are shares from 0 to 1 by name; ``primary_metric`` names the one that the paper's table has.
    ``labels`` is the share of the train part's labels that was used. ``per_class`` has a share for each of ``classes``,
    none where it has no clip. ``counts`` are numbers of clips. ``config`` is the configuration and ``chosen`` what was
    chosen on a hold-out, as JSON values. ``notes`` are to be said beside every metric.
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
    labels: float = 1.0
    per_class: Sequence[float | None] = ()
    classes: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.primary_metric not in self.metrics:
            raise ValueError(
                f"the primary metric {self.primary_metric!r} is none of the metrics {', '.join(self.metrics)}"
            )
        if self.per_class and len(self.per_class) != len(self.classes):
            raise ValueError(f"{len(self.per_class)} metrics for {len(self.classes)} classes")


@dataclass(frozen=True, eq=False, slots=True)
class Scores:
    """What was measured, clip by clip: scores (N, K) float32, classes (N,) int64, and keys (N,)."""

    scores_NK: Floats
    label_N: Numbers
    key_N: NDArray[np.str_]

    def __post_init__(self) -> None:
        rows = len(self.scores_NK)
        if self.scores_NK.ndim != 2 or self.label_N.shape != (rows,) or self.key_N.shape != (rows,):
            raise ValueError(
                f"scores {self.scores_NK.shape}, labels {self.label_N.shape} and keys {self.key_N.shape} do not fit"
            )


def save(result: Result, folder: Path, *, scores: Scores | FrameScores | None = None) -> Path:
    """Write a result into ``folder``; returns the path of ``result.json``.

    Raises:
        tmor_train.atomic_write.OutputExistsError: there is one already.
    """
    path = folder / RESULT
    with atomic_write(path, existing="refuse") as part:
        if isinstance(scores, Scores):
            _save_arrays(
                folder / SCORES,
                scores_NK=scores.scores_NK.astype(np.float32),
                label_N=scores.label_N.astype(np.int64),
                key_N=scores.key_N.astype(np.str_),
            )
        elif scores is not None:
            columns = {column.name: np.asarray(getattr(scores, column.name)) for column in fields(scores)}
            _save_arrays(folder / FRAMES, **columns)
        part.write_text(json.dumps({"format": FORMAT, **asdict(result)}, indent=2) + "\n", encoding="utf-8")
    return path


def _save_arrays(path: Path, **arrays: Any) -> None:
    with atomic_write(path, existing="replace") as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_result(folder: Path) -> Result:
    """The result in ``folder``.

    Raises:
        ResultError: there is none, or its file is not as :func:`save` writes it.
    """
    path = folder / RESULT
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ResultError(f"{path} is larger than {_MOST_BYTES >> 20} MiB, which no result is")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise error if isinstance(error, ResultError) else ResultError(f"{path} cannot be read: {error}") from error
    written = found.pop("format", None) if isinstance(found, dict) else None
    if written not in (FORMAT, legacy.RESULT_FORMAT):
        raise ResultError(f"{path} is no result of tmor_train ({FORMAT})")
    try:
        if written == legacy.RESULT_FORMAT:
            found = legacy.result_fields(found)
        _check(found)
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
        return Result(**values)
    except (TypeError, ValueError) as error:
        raise ResultError(f"{path} is damaged, or of another version: {error}") from error


def _arrays(path: Path) -> NpzFile:
    found = np.load(path, allow_pickle=False)
    if not isinstance(found, NpzFile):
        raise ValueError("it is not one file of several arrays")
    members = () if found.zip is None else found.zip.infolist()
    if sum(member.file_size for member in members) > _MOST_ARRAY_BYTES:
        found.close()
        raise ValueError(f"its arrays are larger than {_MOST_ARRAY_BYTES >> 20} MiB, which no scores are")
    return found


def read_scores(folder: Path) -> Scores:
    """The scores beside a result.

    Raises:
        ResultError: there are none, or their file is not as :func:`save` writes it.
    """
    path = folder / SCORES
    try:
        with _arrays(path) as found:
            return Scores(
                found["scores_NK"].astype(np.float32),
                found["label_N"].astype(np.int64),
                found["key_N"].astype(np.str_),
            )
    except Exception as error:  # zip, NumPy and the check raise many kinds for a damaged file
        raise ResultError(f"{path} cannot be read: {error}") from error


def read_frame_scores(folder: Path) -> FrameScores:
    """The frames' scores beside a result.

    Raises:
        ResultError: there are none, or their file is not as :func:`save` writes it.
    """
    path = folder / FRAMES
    try:
        with _arrays(path) as found:
            return FrameScores(
                scores_FK=found["scores_FK"].astype(np.float16),
                label_FK=found["label_FK"].astype(np.bool_),
                offset_R=found["offset_R"].astype(np.int64),
                key_R=found["key_R"].astype(np.str_),
                fps_R=found["fps_R"].astype(np.float32),
                every=int(found["every"]),
            )
    except Exception as error:  # as above
        raise ResultError(f"{path} cannot be read: {error}") from error


def results_under(folder: Path) -> list[tuple[Path, Result]]:
    """All results in ``folder`` and below it, with their folders, by path.

    Raises:
        ResultError: one of them is damaged.
    """
    return [(path.parent, read_result(path.parent)) for path in sorted(folder.rglob(RESULT))]


_KINDS: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "str": (str,),
    "float": (int, float),
    "str | None": (str, type(None)),
    "Mapping": (dict,),
    "Sequence": (list,),
}


def _check(found: Mapping[str, Any]) -> None:
    """Refuse values of another type than the fields have."""
    for known in fields(Result):
        if known.name in found:
            kinds = _KINDS[str(known.type).partition("[")[0]]
            if not isinstance(found[known.name], kinds) or isinstance(found[known.name], bool):
                raise TypeError(f"{known.name} is {found[known.name]!r}")
    shares = [*found.get("metrics", {}).values(), *(share for share in found.get("per_class", ()) if share is not None)]
    if not all(isinstance(share, int | float) and not isinstance(share, bool) for share in shares):
        raise TypeError("a metric is no number")
    if not all(isinstance(count, int) for count in found.get("counts", {}).values()):
        raise TypeError("a count is no number")
    if not all(isinstance(words, str) for words in [*found.get("classes", ()), *found.get("notes", ())]):
        raise TypeError("a class or a note is no text")


__all__ = [
    "FORMAT",
    "FRAMES",
    "RESULT",
    "SCORES",
    "FrameScores",
    "Result",
    "ResultError",
    "Scores",
    "read_frame_scores",
    "read_result",
    "read_scores",
    "results_under",
    "save",
]
