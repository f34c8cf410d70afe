"""Vectors of sentences, computed once: the captions of a dataset repeat its class names a million times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from posecap.types import Floats


class Remembered:
    """Vectors (D,) by sentence, of at most ``most`` sentences; beyond that all are forgotten."""

    def __init__(self, most: int = 10_000) -> None:
        self.most = most
        self._known: dict[str, Floats] = {}

    def vectors(self, sentences: Sequence[str], compute: Callable[[list[str]], Sequence[Floats]]) -> list[Floats]:
        """One vector per sentence, in order. ``compute`` gets each sentence that is not known, once."""
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._known]
        found = {sentence: self._known[sentence] for sentence in sentences if sentence in self._known}
        fresh = dict(zip(new, compute(new), strict=True)) if new else {}
        if len(self._known) + len(fresh) > self.most:
            self._known.clear()
        self._known.update(fresh)
        found.update(fresh)
        return [found[sentence] for sentence in sentences]
