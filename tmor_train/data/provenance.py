"""What a run's data was, by hashes: which files it was read from, and which clips an encoder was pre-trained on.

Files, by their SHA-256, are recorded as they are read, and compared on resume. Readers call ``record_…`` for each file
whose content they use; outside of :func:`recording` that does nothing. Hashes of a posecap dataset are those in its
parts' sidecars, so its files are not read for them (``posecap verify`` compares them with the files); those of other
files are computed from the bytes that are read anyway.

Clips are recorded in the checkpoints of a run, and compared with those of an evaluation. A clip is known again by what
its publisher calls it and what it is: key, class, and numbers of frames and people. Its joints are not read for it, so
the same video estimated anew, or under another key, is another clip.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from posecap.files import digest, file_sha256
from posecap.shards import Dataset, read_sidecar
from posecap.storage import open_storage
from posecap.uris import public_uri
from tmor_train.data.dataset import MotionSet, Numbers

MOST_FILES = 4096
"""Files of one folder that are recorded by name, our choice; of more (NTU has 56,880) one hash of all their names
and hashes is recorded, for records are part of every checkpoint."""
LICENSES = ": licenses"
"""End of the name in :attr:`Inputs.about` of the licenses of a dataset's clips."""
_MODEL = ": model "  # in names of :attr:`Inputs.about`, between a dataset's place and the name of a model
_NAMED = 4  # changes that a message names
_SHOWN = 12  # hex digits of a hash in messages


@dataclass(frozen=True)
class Inputs:
    """``files``: SHA-256 (64 hex digits) by path or URL, of what was read. ``about``: what made them, words by name
    (the model files and the pipeline of a posecap dataset); it explains a change of files, and alone is none."""

    files: Mapping[str, str]
    about: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Its fields, sorted by name, as JSON values."""
        return {"files": dict(sorted(self.files.items())), "about": dict(sorted(self.about.items()))}

    @classmethod
    def from_json(cls, values: object) -> Inputs:
        """From what :meth:`as_json` gave.

        Raises:
            ValueError: it is something else.
        """
        known = values if isinstance(values, dict) else {}
        files, about = known.get("files"), known.get("about")
        if not isinstance(files, dict) or not isinstance(about, dict):
            raise ValueError("the record of the data's files is damaged")
        if not all(map(_is_text, (*files.items(), *about.items()))):
            raise ValueError("the record of the data's files is damaged")
        return cls(files, about)

    def models(self) -> frozenset[str]:
        """SHA-256 of the model files that made posecap's datasets among them; empty where none is known."""
        return frozenset(sha256 for name, words in self.about.items() if _MODEL in name for sha256 in words.split(", "))

    def with_files(self, files: Mapping[str, str]) -> Inputs:
        """The same with more files."""
        return Inputs({**self.files, **files}, self.about)

    def differences(self, now: Inputs) -> str:
        """What differs in ``now``, in words with old and new hashes, the models first; empty where all files are the
        same, be it in another place."""
        if sorted(self.files.values()) == sorted(now.files.values()):
            return ""
        files = _differences(self.files, now.files)
        # Licenses explain no change of files, and records of former versions have none.
        before, after = (
            {name: words for name, words in about.items() if not name.endswith(LICENSES)}
            for about in (self.about, now.about)
        )
        found = [*_differences(before, after), *files]
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        return "; ".join(found[:_NAMED]) + more


def _is_text(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], str)


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if new is None and old is not None:
            found.append(f"{name} ({old[:_SHOWN]}) is not there now")
        elif old is None and new is not None:
            found.append(f"{name} ({new[:_SHOWN]}) is new")
        elif old is not None and new is not None and old != new:
            found.append(f"{name} was {old[:_SHOWN]} and is {new[:_SHOWN]}")
    return found


class Recorder:
    """What was recorded so far, in the block of :func:`recording`."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._about: dict[str, set[str]] = {}

    @property
    def inputs(self) -> Inputs:
        """All of it; folders of more than :data:`MOST_FILES` files as one entry each."""
        files: dict[str, str] = {}
        for folder, group in groupby(sorted(self._files), key=lambda name: name.rpartition("/")[0]):
            names = list(group)
            if len(names) > MOST_FILES:
                files[f"{folder}/ ({len(names):,} files)"] = digest({name: self._files[name] for name in names})
            else:
                files |= {name: self._files[name] for name in names}
        return Inputs(files, {name: ", ".join(sorted(words)) for name, words in self._about.items()})

    def add(self, name: str, sha256: str) -> None:
        self._files[name] = sha256

    def add_about(self, name: str, words: str) -> None:
        self._about.setdefault(name, set()).add(words)


_recorder: ContextVar[Recorder | None] = ContextVar("recorder", default=None)  # of the innermost block of recording()


@contextmanager
def recording() -> Iterator[Recorder]:
    """Records what readers read in the block, in this thread; of nested blocks the innermost records."""
    recorder = Recorder()
    token = _recorder.set(recorder)
    try:
        yield recorder
    finally:
        _recorder.reset(token)


def record_bytes(path: Path, content: bytes) -> None:
    """A file whose whole content is ``content``."""
    if (recorder := _recorder.get()) is not None:
        recorder.add(path.as_posix(), hashlib.sha256(content).hexdigest())


def record_file(path: Path) -> None:
    """A file that is read in pieces; it is read once more, for its hash."""
    if (recorder := _recorder.get()) is not None:
        recorder.add(path.as_posix(), file_sha256(path))


def record_parts(location: str, split: str | None, *, read: Literal["columns", "tar"]) -> None:
    """The parts of a split (None: of all) of a posecap dataset, by their sidecars: their indexes, the files ``read``,
    the models and the pipeline that made them, and the licenses that its clips state.

    Raises:
        posecap.shards.ShardError: a sidecar is missing or damaged.
    """
    recorder = _recorder.get()
    if recorder is None:
        return
    storage, place = open_storage(location), public_uri(location.rstrip("/"))
    for license_ in set(Dataset(storage).index(split).to_table(columns=["license"])["license"].to_pylist()):
        recorder.add_about(f"{place}{LICENSES}", license_ or "none stated")
    for part, _ in Dataset(storage).parts(split):
        document = read_sidecar(storage, part, names="stored")
        for name, entry in document["files"].items():
            # Tars of videos, which training does not read, are named video-….tar.
            if name.endswith((f".{read}", ".parquet")) and "/video-" not in name:
                recorder.add(f"{place}/{name}", entry["sha256"])
        lineage = document.get("lineage")
        weights = lineage.get("weights") if isinstance(lineage, dict) else None
        for model, sha256 in weights.items() if isinstance(weights, dict) else ():
            recorder.add_about(f"{place}{_MODEL}{model}", str(sha256))
        recorder.add_about(f"{place}: pipeline", digest(document.get("pipeline")))


_HASH_BYTES = 8  # of a clip: of a million clips two share one with a probability of 3e-8


@dataclass(frozen=True, eq=False)
class SeenClips:
    """N clips as hashes ``clip_N`` int64, ascending, each once; ``named_N`` bool: a caption said the clip's class."""

    clip_N: Numbers
    named_N: NDArray[np.bool_]

    @classmethod
    def of(cls, motions: MotionSet, *, captions: bool) -> SeenClips:
        """The clips of a set; ``captions``: whether their captions are trained on."""
        named_N = class_in_caption(motions) if captions else np.zeros(len(motions), np.bool_)
        return cls._each_once(_hashes(motions), named_N)

    @classmethod
    def from_state(cls, state: object) -> SeenClips:
        """From what :meth:`state` gave.

        Raises:
            ValueError: it is something else.
        """
        parts = [state.get(name) for name in ("clips", "named")] if isinstance(state, Mapping) else []
        if len(parts) != 2 or not all(isinstance(part, torch.Tensor) and part.ndim == 1 for part in parts):
            raise ValueError("its record of the clips that were trained on is damaged")
        clips, named = (part for part in parts if isinstance(part, torch.Tensor))
        if clips.dtype != torch.int64 or named.dtype != torch.bool or len(clips) != len(named):
            raise ValueError("its record of the clips that were trained on is damaged")
        return cls._each_once(clips.cpu().numpy(), named.cpu().numpy())

    @classmethod
    def _each_once(cls, clip_N: Numbers, named_N: NDArray[np.bool_]) -> SeenClips:
        clips, index_N = np.unique(clip_N, return_inverse=True)
        named = np.zeros(len(clips), np.bool_)
        np.logical_or.at(named, index_N, named_N)
        return cls(clips, named)

    def state(self) -> dict[str, Any]:
        """As tensors, for a checkpoint."""
        return {"clips": torch.from_numpy(self.clip_N), "named": torch.from_numpy(self.named_N)}

    def joined(self, other: SeenClips) -> SeenClips:
        """The clips of both."""
        return self._each_once(
            np.concatenate([self.clip_N, other.clip_N]), np.concatenate([self.named_N, other.named_N])
        )

    def count(self, motions: MotionSet) -> tuple[int, int]:
        """How many clips of a set are among these, and of how many of those a caption said the class."""
        hash_N = _hashes(motions)
        seen_N = np.isin(hash_N, self.clip_N)
        named_N = np.isin(hash_N, self.clip_N[self.named_N])
        return int(seen_N.sum()), int(named_N.sum())


def _hashes(motions: MotionSet) -> Numbers:
    clips = motions.clips
    columns = clips.key_N.tolist(), clips.label_N.tolist(), clips.frames_N.tolist(), clips.people_N.tolist()
    texts = (
        f"{key}\0{motions.classes[label] if label >= 0 else ''}\0{frames}\0{people}"
        for key, label, frames, people in zip(*columns, strict=True)
    )
    found = b"".join(hashlib.sha256(text.encode()).digest()[:_HASH_BYTES] for text in texts)
    return np.frombuffer(found, "<i8").astype(np.int64)


def class_in_caption(motions: MotionSet) -> NDArray[np.bool_]:
    """Of which clips a caption says the class: (N,) bool.

    It does if all words of the class's name are in it (``jumping_jacks``: jumping, jacks), or if it is the caption of
    several clips, all of that class, as sentences are that were written for a class.
    """
    clips = motions.clips
    clip_K = np.repeat(np.arange(len(clips)), clips.caption_count_N)
    begin_N = np.cumsum(clips.caption_count_N) - clips.caption_count_N
    at_K = np.arange(len(clip_K)) + np.repeat(clips.caption_first_N - begin_N, clips.caption_count_N)
    sentence_K, label_K = motions.caption_K[at_K], clips.label_N[clip_K]
    # Pairs of a sentence and a class that occur together, P of them, and the pair of each caption.
    pair_P2, pair_K = np.unique(np.stack([sentence_K, label_K], 1), axis=0, return_inverse=True)
    sentences = len(motions.sentences)
    of_one_class = np.bincount(pair_P2[:, 0], minlength=sentences) == 1
    of_several_clips = np.bincount(np.unique(np.stack([sentence_K, clip_K], 1), axis=0)[:, 0], minlength=sentences) > 1
    known = {name: _words(name) for name in motions.classes}
    named_P = np.array(
        [
            label >= 0 and known[motions.classes[label]] <= _words(motions.sentences[sentence])
            for sentence, label in pair_P2.tolist()
        ],
        np.bool_,
    )
    named_K = (label_K >= 0) & (named_P[pair_K.reshape(-1)] | (of_one_class & of_several_clips)[sentence_K])
    named_N = np.zeros(len(clips), np.bool_)
    np.logical_or.at(named_N, clip_K, named_K)
    return named_N


def _words(text: str) -> frozenset[str]:
    """The words of a name or a sentence, in lower case: ``jumpingJacks`` and ``jumping_jacks`` have the same."""
    return frozenset(re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()))
