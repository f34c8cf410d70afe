"""Base classes of stages and engines, and the exceptions by which a stage says what became of an item.

A stage is one step of a pipeline. An item is what goes through the stages: a value of :mod:`posecap.types`.

Seconds that engines take are counted by name, in each thread by itself, around the methods by which stages call them:
:class:`Engine` wraps these in every class that defines one. Of an engine that calls another one the seconds of the
other do not count.
"""

from __future__ import annotations

import functools
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from posecap.types import Row, Span

_TIMED_METHODS = frozenset(
    {"fetch", "probe", "frames", "detect", "track", "estimate", "embed_video", "embed_text", "encode", "write"}
)
"""Methods of :mod:`posecap.interfaces` that work; the others answer at once."""
_END = object()
"""What :func:`_steps` gets from an iterator that has ended."""


class _Clock(threading.local):
    """``seconds`` by engine, of calls that have ended; ``inner``: those of engines called within the present call."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.inner = 0.0


_clock = _Clock()
"""Each thread's own."""


def take_engine_seconds() -> dict[str, float]:
    """Seconds by engine of calls in this thread that ended since this was last called."""
    found = _clock.seconds
    if found:
        _clock.seconds = {}
    return found


def _timed(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of an engine that counts its time; of an iterator that it returns, the time of each step."""

    @functools.wraps(method)
    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = _count(self.name, functools.partial(method, self, *args, **kwargs))
        return _steps(self.name, result) if isinstance(result, Iterator) else result

    return counted


def _steps(name: str, steps: Iterator[Any]) -> Iterator[Any]:
    """The values of an engine's iterator, each of which is counted by itself."""
    step = functools.partial(next, steps, _END)
    held: list[Any] = []  # a value that is handed on is not held here, so that its frames can be freed
    try:
        while (value := _count(name, step)) is not _END:
            held.append(value)
            del value
            yield held.pop()
    finally:
        close = getattr(steps, "close", None)
        if close is not None:
            close()


def _count(name: str, call: Callable[[], Any]) -> Any:
    """What a call returns; its seconds are counted, less those of engines that it calls."""
    outer, _clock.inner, since = _clock.inner, 0.0, perf_counter()
    try:
        return call()
    finally:
        took = perf_counter() - since
        _clock.seconds[name] = _clock.seconds.get(name, 0.0) + took - _clock.inner
        _clock.inner = outer + took


JSON = Any
"""A value of JSON."""


class Reject(Exception):  # noqa: N818 - an outcome, not an error
    """This item is unsuitable, whenever it is tried: recorded as *rejected*.

    Args:
        reason: snake_case word that the report counts, e.g. ``no_person_found``.
        detail: one sentence that explains; the same for the same input on every run (no times, no temporary paths).
        machine_dependent: whether another machine may decide otherwise, as where a file is not found because a disk is
            not mounted on this one. On a cluster the item's row is then tried on another node before it is recorded. A
            failure (:class:`PermanentError`) is, unless it is said that it is not, as of a web server that is busy.
    """

    def __init__(self, reason: str, detail: str = "", *, machine_dependent: bool = False) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail, self.machine_dependent = reason, detail, machine_dependent

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.detail), {"machine_dependent": self.machine_dependent}


class PermanentError(Reject):
    """This item could not be processed, though it may be suitable: recorded as *failed*, not retryable.

    It is a :class:`Reject` to ``except``, so handlers name :class:`TransientError` first, then this, then ``Reject``.
    """

    def __init__(self, reason: str, detail: str = "", *, machine_dependent: bool = True) -> None:
        super().__init__(reason, detail, machine_dependent=machine_dependent)


class TransientError(PermanentError):
    """An error that may pass (network, full disk): recorded as *failed*, retryable by ``build --retry-failed``."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A span of a video, in seconds of the whole video, that becomes no clip; a stage may yield it among its clips.

    ``reason`` and ``detail`` are those of :class:`Reject`.
    """

    span: Span
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources of one worker of a stage. Consecutive stages with equal resources share a worker.

    Args:
        cpus: cores that a worker occupies, fractions allowed; 0 for stages that mostly wait.
        gpus: GPUs that a worker occupies, fractions allowed.
        concurrency: how many items the worker processes at once. They share its engines, so that one is decoded
            while the frames of another are on the GPU. With more than 1 a pipeline refuses engines that are not
            :attr:`Engine.thread_safe`.

    Raises:
        ValueError: a number is out of its range.
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

    ``takes`` and ``gives`` are classes of :mod:`posecap.types`; a pipeline checks them before anything runs.
    Engines load lazily, in the worker that uses them.
    """

    name: ClassVar[str]
    takes: ClassVar[type]
    gives: ClassVar[type]
    runtime_fields: ClassVar[tuple[str, ...]] = ()
    """As :attr:`Engine.runtime_fields`."""
    row_fields: ClassVar[tuple[str, ...] | None] = None
    """Fields of the row on which it depends what the stage makes of a clip; None where that is not said. Where an
    update changes others alone, samples that an earlier build made behind the stage can be used."""

    @property
    def resources(self) -> Resources:
        """Of one worker. A class writes ``resources = Resources(…)``, or a property where an instance decides.

        ``Resources()``, which this is, stands for those of :attr:`posecap.pipeline.Pipeline.worker`.
        """
        return Resources()

    @abstractmethod
    def __call__(self, item: Any) -> Iterator[Any]:
        """Yield zero or more items of type ``gives`` for one of type ``takes``, and :class:`Rejected` spans.

        Raises:
            Reject, PermanentError, TransientError: the item goes no further, and is recorded with the reason.
        """

    def check_row(self, row: Row) -> None:  # noqa: B027 - most stages know nothing
        """Raise what the row alone tells: whatever its video holds, the stage will reject all of it.

        Asked before anything is downloaded or decoded.

        Raises:
            Reject: with the reason that the stage itself would give.
        """

    def load(self) -> None:
        """Load what the stage needs; called once in each worker before its first item."""
        for engine in engines_of(self):
            engine.load()


class Engine:
    """A third-party package behind one of :mod:`posecap.interfaces`: a frozen dataclass of its configuration.

    A field that is a choice of words is a ``Literal``: a pipeline refuses other words (:func:`check_words`). The time
    within the methods by which stages call it is counted (:func:`take_engine_seconds`).
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions whose version changes the result; they go into every part's fingerprint."""
    extra: ClassVar[str] = ""
    """The extra of posecap that brings :attr:`modules`, as ``ultralytics``."""
    modules: ClassVar[tuple[str, ...]] = ()
    """Top-level modules without which it cannot run; a build looks for them before it starts any worker."""
    thread_safe: ClassVar[bool] = False
    """Whether several threads may use one engine at once; see :attr:`Resources.concurrency`."""
    path_fields: ClassVar[tuple[str, ...]] = ()
    """Fields of text that may hold a path of this machine: of one with a separator only the last part is recorded.
    Where the file changes the result, :attr:`weights` names it, and its hash is recorded.
    """

    runtime_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that say how it runs (how much at once, where it may connect) and not what a sample is: they are neither
    in the recorded configuration nor in fingerprints.
    """

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        for method in _TIMED_METHODS:
            if callable(own := vars(cls).get(method)):
                setattr(cls, method, _timed(own))

    @property
    def weights(self) -> tuple[str, ...]:
        """The weights that it loads, each as :func:`posecap.models.locate` takes it: a name in
        :data:`posecap.weights.registry.REGISTRY`, or a path. Their hashes go into every part's fingerprint.
        """
        return ()

    @property
    def libraries(self) -> Mapping[str, str]:
        """Versions, by name, of shared libraries of the machine that no package brings and that change the result;
        they go into every part's fingerprint, beside :attr:`packages`. Constant while the process runs.
        """
        return {}

    def load(self) -> None:
        """Load weights and build sessions. Engines with neither need not override it."""


def engines_of(owner: object) -> tuple[Engine, ...]:
    """The engines among the fields of a dataclass, in field order; also those in tuples and in fields of engines."""
    found: list[Engine] = []
    for f in fields(owner) if is_dataclass(owner) else ():
        value = getattr(owner, f.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Engine):
                found += (part, *engines_of(part))
    return tuple(found)


def check_installed(stages: Iterable[Stage]) -> None:
    """Look for the modules that the engines of stages need (:attr:`Engine.modules`), without importing them.

    Raises:
        ModuleNotFoundError: some are not installed; the message has a line for each engine, with the extra to install.
    """
    problems: dict[str, str] = {}
    for engine in (engine for stage in stages for engine in engines_of(stage)):
        missing = [module for module in engine.modules if find_spec(module) is None]
        if missing:
            needs = f"{engine.name} needs {' and '.join(missing)}, not installed: pip install 'posecap[{engine.extra}]'"
            problems.setdefault(needs, missing[0])
    if problems:
        raise ModuleNotFoundError("\n".join(problems), name=next(iter(problems.values())))


def check_words(part: Stage | Engine) -> None:
    """Refuse a value of a field whose type is a choice of words (``Literal``) that it is not one of.

    Such a field is compared with one of its words, so that a misspelt one would quietly mean another. A class that
    names a type which it imports for type checkers alone is not checked, since the types of its fields are not known.

    Raises:
        ValueError: with the stage's or engine's name, the field and its words.
    """
    kind: type = type(part)
    for name, (words, others) in _choices(kind).items():
        value = getattr(part, name)
        wants_word = not others or (isinstance(value, str) and str not in others)
        if wants_word and value not in words:
            raise ValueError(f"{part.name}: {name} is {value!r}, expected one of {', '.join(map(repr, words))}")


@functools.lru_cache(maxsize=256)  # more classes than a pipeline has; those of a pipeline file are new each time
def _choices(kind: type) -> dict[str, tuple[tuple[object, ...], tuple[object, ...]]]:
    """Of the fields of a dataclass whose type is a choice of words: the words by the field's name, and the other types
    that the choice allows. Annotations are evaluated for it, which takes a millisecond for a class."""
    if not is_dataclass(kind):
        return {}
    try:
        types = get_type_hints(kind)
    except NameError:
        return {}
    found = {}
    for f in fields(kind):
        members = get_args(types[f.name]) if get_origin(types[f.name]) in (Union, UnionType) else (types[f.name],)
        words = tuple(word for member in members if get_origin(member) is Literal for word in get_args(member))
        if words:
            found[f.name] = words, tuple(member for member in members if get_origin(member) is not Literal)
    return found


def configuration(part: object) -> JSON:
    """A stage, an engine or a value of their fields as plain JSON, with every parameter, also those left at defaults.

    Fingerprints are made from it. ``runtime_fields`` are left out, and of ``path_fields`` all but the last part.

    Raises:
        TypeError: a field holds something that is neither plain data nor a dataclass.
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
        left_out = part.runtime_fields if isinstance(part, Stage | Engine) else ()
        values = {f.name: getattr(part, f.name) for f in fields(part) if f.name not in left_out}
        for name in values.keys() & (part.path_fields if isinstance(part, Engine) else ()):
            if isinstance(values[name], str) and os.sep in values[name]:
                values[name] = Path(values[name]).name
        written = {name: configuration(value) for name, value in values.items()}
        return {"name": part.name, **written} if isinstance(part, Stage | Engine) else written
    raise TypeError(f"{type(part).__name__} in a pipeline cannot be recorded; use plain data or a frozen dataclass")
