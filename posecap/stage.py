"""What a stage is: one step of the walk, with its parameters, its engines and its appetite for hardware."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

from posecap.types import Span

JSON = Any


class Reject(Exception):  # noqa: N818 - an outcome, not an error
    """This item will never pass: recorded as *rejected*, with a reason that counts and a detail that explains.

    Args:
        reason: snake_case word that the report counts, e.g. ``no_person``.
        detail: one sentence; the same for the same input on every run (no times, no temporary paths).
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.detail)


class PermanentError(Reject):
    """This item could not be processed, though it might be sound: recorded as *failed*, not retryable."""


class TransientError(PermanentError):
    """A passing trouble (network, full disk): recorded as *failed*, retryable by ``build --retry-failed``."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """What a stage may yield beside its items: a stretch of a video that will never become one."""

    span: Span
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker of a stage occupies. Consecutive stages with equal resources share a worker.

    ``concurrency`` is how many items the worker has under way at once. They share its engines, so that one decodes
    while another one's frames are on the GPU.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    concurrency: int = 1

    def __post_init__(self) -> None:
        if self.cpus < 0 or self.gpus < 0 or self.concurrency < 1:
            raise ValueError(
                f"Resources(cpus={self.cpus:g}, gpus={self.gpus:g}, concurrency={self.concurrency}): "
                "needs cpus >= 0, gpus >= 0 and concurrency >= 1"
            )


class Stage(ABC):
    """One step. Subclasses are frozen dataclasses whose fields are their whole configuration.

    ``takes`` and ``gives`` are nouns of :mod:`posecap.types`; a pipeline checks them before anything runs.
    Calling a stage yields zero or more items; it raises :class:`Reject`, :class:`PermanentError` or
    :class:`TransientError`. Engines load lazily, in the worker that uses them.
    """

    name: ClassVar[str]
    takes: ClassVar[type]
    gives: ClassVar[type]
    resources: Resources = Resources()

    @abstractmethod
    def __call__(self, item: Any) -> Iterator[Any]: ...

    def load(self) -> None:
        """Load what the stage needs; called once in each worker before its first item."""
        for part in _engines_of(self):
            part.load()


class Engine:
    """A third-party package behind one of the ports. Frozen dataclass: its fields are its configuration."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions whose version changes the result; they go into every part's fingerprint."""
    thread_safe: ClassVar[bool] = False
    """Whether several threads may use one engine at once; see :attr:`Resources.concurrency`."""
    path_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that may hold a path of this machine. Only the file's name is recorded; hashes tell files apart."""

    @property
    def weights(self) -> tuple[str, ...]:
        """Names in :data:`posecap.weights.registry.REGISTRY` of the weights it loads."""
        return ()

    def load(self) -> None:
        """Load weights and build sessions. Engines with neither need not override it."""


def _engines_of(owner: object) -> Iterator[Engine]:
    """Engines among the fields of a dataclass, in field order, tuples included."""
    for f in fields(owner):  # type: ignore[arg-type]
        value = getattr(owner, f.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Engine):
                yield part
                if is_dataclass(part):
                    yield from _engines_of(part)


def engines_of(stage: Stage) -> tuple[Engine, ...]:
    """Every engine a stage holds, engines within engines included."""
    return tuple(_engines_of(stage))


def configuration(part: object) -> JSON:
    """A stage, an engine or a value of their fields as plain JSON, every parameter spelled out.

    Raises:
        TypeError: a field holds something that is neither data nor a dataclass, so no fingerprint could cover it.
    """
    if isinstance(part, str | int | float | bool) or part is None:
        return part
    if isinstance(part, Path):
        return part.as_posix()
    if isinstance(part, tuple | list):
        return [configuration(p) for p in part]
    if isinstance(part, dict):
        return {str(k): configuration(v) for k, v in sorted(part.items())}
    if is_dataclass(part) and not isinstance(part, type):
        places = part.path_fields if isinstance(part, Engine) else ()
        settings = {f.name: _written(getattr(part, f.name), f.name in places) for f in fields(part)}
        named = {"name": part.name} if isinstance(part, Stage | Engine) else {}
        return {**named, **settings}
    raise TypeError(f"{type(part).__name__} in a pipeline has no written form; use data or a frozen dataclass")


def _written(value: object, is_place: bool) -> JSON:
    return Path(value).name if is_place and isinstance(value, str) and os.sep in value else configuration(value)
