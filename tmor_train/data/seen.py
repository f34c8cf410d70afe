"""Which clips an encoder was pre-trained on: hashes that its checkpoint records and an evaluation compares.

A clip is known again by what its publisher calls it and what it is: key, class, and numbers of frames and people. Its
joints are not read for it, so the same video estimated anew, or under another key, is another clip.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tmor_train.data.arrays import Numbers
from tmor_train.data.dataset import MotionSet

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
