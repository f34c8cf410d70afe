"""Pipelines: lists of stages that are checked before anything runs, divided into segments, and fingerprinted."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, cast

from posecap import legacy
from posecap.builtin import nearest_pipeline
from posecap.files import digest
from posecap.models import weights_sha256
from posecap.outcomes import LABELLED
from posecap.shards.extra import MemberName
from posecap.stage import Engine, Resources, Stage, check_words, configuration, engines_of
from posecap.stages.caption import WriteCaptions
from posecap.stages.filter_clips import FilterClips
from posecap.stages.pack import Embed, Pack
from posecap.types import (
    Addition,
    CaptionedClip,
    Clip,
    CutVideo,
    EmbeddedClip,
    KeepIntermediates,
    PosedClip,
    Row,
    Sample,
    SkeletonClip,
    TrackedClip,
)

if TYPE_CHECKING:
    from posecap.staging import Staging


class PipelineError(ValueError):
    """The pipeline cannot run as written; the message names the stage and the remedy."""


@dataclass(frozen=True)
class Perception:
    """What a pipeline stores of a row to use it again (:mod:`posecap.shards.results`), and what it must have been made
    with.

    Args:
        chains: :meth:`Pipeline.chain` by name, of every stage up to the last whose result is stored.
        stages: names of those after which clips are stored, in order: of clips, of tracks, of joints.
        vectors: hash of all that shapes a clip's video vector; empty where none is stored.
        texts, mp4: of all that shapes the vector of a sentence, and the stored video of a span of the row's video,
            which are taken from samples of the part that is replaced; empty where nothing is to be had.
        captioners: of each captioner, of all that shapes its sentences beside people and row
            (:class:`posecap.types.Sentences`).
        samples: of all that shapes samples but the row, captions and their vectors; empty where the pipeline may make
            captions of more than the row, or where what a stage makes of a clip may depend on the row otherwise than
            by ``row_fields``.
        shaping: names of the stages before that which makes captions, where ``samples`` is not empty.
        row_fields: fields of the row on which it depends what these stages make of a clip.
    """

    chains: Mapping[str, str]
    stages: tuple[str, ...]
    vectors: str = ""
    texts: str = ""
    mp4: str = ""
    captioners: tuple[str, ...] = ()
    samples: str = ""
    shaping: tuple[str, ...] = ()
    row_fields: tuple[str, ...] = ()

    def deepest(self, chains: Mapping[str, str]) -> str | None:
        """The last stage whose result, stored with these chains, is that of this pipeline; None if there is none."""
        return next((name for name in reversed(self.stages) if chains.get(name) == self.chains[name]), None)


@dataclass(frozen=True)
class Storing:
    """How a worker stores what its stages perceive, and goes on from what is stored.

    Args:
        before: the stages of earlier segments, with which it fetches a row's video where it needs frames after all.
        keep: what it stores: what stages perceive, sentences of captioners as well, or nothing.
    """

    perception: Perception
    before: tuple[Stage, ...] = ()
    keep: KeepIntermediates = "perception"


@dataclass(frozen=True)
class Segment:
    """Consecutive stages that run in one worker, between which items stay in its memory.

    ``resources`` are, number by number, what the most demanding of the stages asks for. ``staging`` is where a worker
    leaves the samples that come out of the last stage; None hands them to the driver. ``storing`` is for the segment
    whose stages perceive; None stores nothing and goes on from nothing. ``load`` says when workers load their engines:
    before their first item, or each once a stage needs it, as where most stages have nothing to do.
    """

    stages: tuple[Stage, ...]
    resources: Resources
    staging: Staging | None = None
    storing: Storing | None = None
    load: Literal["first", "on_use"] = "first"


@dataclass(frozen=True)
class Pipeline:
    """Stages from :class:`~posecap.types.Row` to :class:`~posecap.types.Sample`, in order; or to
    :class:`~posecap.types.Addition`, as :mod:`posecap.enrichment` makes them to add to samples that there are.

    Args:
        stages: in order.
        expected_rejections: stage name → share of the items entering it, 0 to 1, that it may reject before a build
            raises an alarm; 0.8 for stages that are not named. ``labelled`` is the share of the rows with a label,
            0.2 unless it is named (:mod:`posecap.outcomes`). It does not change samples, so it is not part of the
            fingerprint.
        extra: extra members of samples (:mod:`posecap.shards.extra`) by name, as ``"text.minilm": MiniLM()``, each made
            by a video or text embedder or a captioner, once the samples are built. Not part of the fingerprint:
            samples are the same without them.
        worker: resources of one computing worker, for stages that do not declare any, or declare ``Resources()`` as it
            is by default. Not part of the fingerprint.

    Raises:
        PipelineError: the stages do not fit together, or a field has a word that it does not know.
    """

    stages: tuple[Stage, ...]
    expected_rejections: Mapping[str, float] = field(default_factory=dict)
    worker: Resources = field(default_factory=Resources)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if not self.stages:
            raise PipelineError("a pipeline needs at least one stage")
        first, last = self.stages[0], self.stages[-1]
        if first.takes is not Row:
            raise PipelineError(f"the first stage must take a Row; {first.name!r} takes {first.takes.__name__}")
        for before, after in pairwise(self.stages):
            if not issubclass(before.gives, after.takes):
                takes, gives = after.takes.__name__, before.gives.__name__
                raise PipelineError(
                    f"stage {after.name!r} takes {takes}, but {before.name!r} before it gives {gives}: put the stage "
                    f"that makes a {takes} between them"
                )
        self._check_words()
        for name in self.expected_rejections:
            if name not in {LABELLED, *(stage.name for stage in self.stages)}:
                raise PipelineError(f"expected_rejections names {name!r}, which is not a stage of this pipeline")
        if not issubclass(last.gives, Sample | Addition):  # who writes a pipeline file wants samples
            raise PipelineError(f"the last stage must give a Sample (Pack does); {last.name!r} does not")
        for segment in self.segments():
            alone = [e.name for stage in segment.stages for e in engines_of(stage) if not e.thread_safe]
            if segment.resources.concurrency > 1 and alone:
                raise PipelineError(
                    f"a worker with concurrency={segment.resources.concurrency} shares its engines among threads, "
                    f"which {', '.join(alone)} cannot be: use concurrency=1, or other engines"
                )

    def _check_words(self) -> None:
        """Raise PipelineError for a field of a stage or engine with an unknown word, and for a member's bad name."""
        try:
            for stage in self.stages:
                check_words(stage)
                for engine in engines_of(stage):
                    check_words(engine)
            for name, engine in self.extra.items():
                MemberName.of(name)
                check_words(engine)
        except ValueError as error:  # which ShardError is, too
            raise PipelineError(str(error)) from None

    def filtered(self, where: str) -> Pipeline:
        """This pipeline with a filter of clips behind its skeletons, as a manifest's ``filter`` asks for; itself where
        that is empty. However many clips the filter rejects, it raises no alarm until it rejects (nearly) all of them.

        Raises:
            PipelineError: no stage gives clips with skeletons.
        """
        if not where:
            return self
        places = [number for number, stage in enumerate(self.stages) if stage.gives is SkeletonClip]
        if not places:
            raise PipelineError("the manifest's filter needs a stage that gives a SkeletonClip, as Skeleton() does")
        stages = (*self.stages[: places[-1] + 1], FilterClips(where=where), *self.stages[places[-1] + 1 :])
        return replace(self, stages=stages)

    def configuration(self) -> list[Any]:
        """Every stage with every parameter, as JSON."""
        return [configuration(stage) for stage in self.stages]

    def lineage(self) -> dict[str, Any]:
        """Versions of the packages and shared libraries, and hashes of the weights, that determine the result.

        Raises:
            MissingWeightsError: weights without a known hash are neither on disk nor downloadable.
        """
        return self._lineage_of(engine for stage in self.stages for engine in engines_of(stage))

    def _lineage_of(self, engines: Iterable[Engine]) -> dict[str, Any]:
        """:meth:`lineage` as far as these engines determine the result; posecap and NumPy always do."""
        engines = tuple(engines)
        weights = sorted({name for engine in engines for name in engine.weights})
        named = {name for engine in engines for name in (*engine.packages, *engine.libraries)} | {"posecap", "numpy"}
        return {
            "packages": {name: self._versions[name] for name in sorted(named)},
            "weights": {
                shown: weights_sha256(name) for shown, name in zip(_names_without_paths(weights), weights, strict=True)
            },
        }

    @cached_property
    def _versions(self) -> dict[str, str]:
        """Versions by package or shared library, looked up once: a package takes milliseconds, and a build asks for the
        lineage repeatedly."""
        engines = [engine for stage in self.stages for engine in engines_of(stage)]
        names = {name for engine in engines for name in engine.packages} | {"posecap", "numpy"}
        libraries = {name: version for engine in engines for name, version in engine.libraries.items()}
        return {name: _version(name) for name in sorted(names)} | libraries

    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) over configuration and lineage.

        It is taken over the names of format 1, so that renaming a stage or field does not rebuild any part.
        """
        return digest({"configuration": legacy.as_format_1(self.configuration()), "lineage": self.lineage()})

    def chain(self, stage: int) -> str:
        """SHA-256 (64 hex digits) over configuration and lineage of the stages up to a stage, that included: over all
        that shapes its result beside the row, and nothing else. Taken over the names of format 1, as the fingerprint.

        Args:
            stage: its position, from 0.

        Raises:
            IndexError: there is no such stage.
            MissingWeightsError: as :meth:`lineage`.
        """
        if not 0 <= stage < len(self.stages):
            raise IndexError(f"stage {stage} of a pipeline of {len(self.stages)} stages")
        first = self.stages[: stage + 1]
        shaped = legacy.as_format_1([configuration(one) for one in first])
        lineage = self._lineage_of(engine for one in first for engine in engines_of(one))
        return digest({"configuration": shaped, "lineage": lineage})

    def perception(self) -> Perception | None:
        """What of a row's results can be stored and used again; None where nothing can.

        That takes one stage which turns rows into clips, as Decode does; the results of a stage right behind it that
        adds tracks, and of one right behind that which adds joints, are stored too. Every stage up to the last of them
        has a name of its own. Stages that change clips otherwise in between, of somebody's own, end what is stored.

        Raises:
            MissingWeightsError: as :meth:`lineage`.
        """
        first = next((i for i, one in enumerate(self.stages) if issubclass(one.gives, Clip)), None)
        if first is None or issubclass(self.stages[first].gives, TrackedClip):
            return None
        stored = [first]
        for taken, given in ((Clip, TrackedClip), (TrackedClip, PosedClip)):
            after = self.stages[stored[-1] + 1]
            if (after.takes, after.gives) != (taken, given):
                break
            stored.append(stored[-1] + 1)
        chains = {one.name: self.chain(i) for i, one in enumerate(self.stages[: stored[-1] + 1])}
        if len(chains) <= stored[-1]:
            return None
        frames = chains[self.stages[first].name]
        embedding = [one for one in self.stages if one.gives is EmbeddedClip and one.takes is not EmbeddedClip]
        vectors = self._hash_of_engine(embedding, "video", {"frames": frames})
        texts = self._hash_of_engine(embedding, "text", {})
        packing = [one for one in self.stages if one.gives is Sample and getattr(one, "store_video", "none") == "clip"]
        mp4 = self._hash_of_engine(packing, "encoder", {"frames": frames})
        captioning = [one for one in self.stages if one.gives is CaptionedClip and one.takes is not CaptionedClip]
        engines = getattr(captioning[0], "captioners", ()) if len(captioning) == 1 else ()
        captioners = tuple(self._hash_of_captioner(one, frames) for one in engines)
        names = tuple(self.stages[i].name for i in stored)
        perception = Perception(chains, names, vectors, texts, mp4, captioners)
        fields = self._row_fields(self.stages[stored[-1] + 1 : -3])
        if fields is None or not vectors:
            return perception
        *shaping, _, _, pack = self.stages
        shaped = {
            "chain": self.chain(len(shaping) - 1),
            "vectors": vectors,
            "pack": legacy.as_format_1([configuration(pack)]),
            "lineage": self._lineage_of(engines_of(pack)),
        }
        names = tuple(stage.name for stage in shaping)
        return replace(perception, samples=digest(shaped), shaping=names, row_fields=fields)

    def _row_fields(self, between: Sequence[Stage]) -> tuple[str, ...] | None:
        """Fields of the row on which it depends what stages ``between`` stored results and captions make of a clip;
        None where it is not known, or the last three stages are not those of posecap, without captioners."""
        last = self.stages[-3:]
        known = [type(stage) for stage in last] == [WriteCaptions, Embed, Pack]
        if not known or cast(WriteCaptions, last[0]).captioners or any(one.row_fields is None for one in between):
            return None
        return tuple(sorted({name for one in between for name in one.row_fields or ()}))

    def _hash_of_captioner(self, captioner: Engine, frames: str) -> str:
        """SHA-256 over a captioner and the chain of the frames that it is given."""
        lineage = self._lineage_of((captioner, *engines_of(captioner)))
        return digest({"frames": frames, "captioner": configuration(captioner), "lineage": lineage})

    def _hash_of_engine(self, stages: Sequence[Stage], field: str, more: Mapping[str, str]) -> str:
        """SHA-256 over an engine and ``more``, which shapes what it is given. Empty where there is not a single stage,
        or its field of this name holds no engine."""
        engine = getattr(stages[0], field, None) if len(stages) == 1 else None
        if not isinstance(engine, Engine):
            return ""
        lineage = self._lineage_of((engine, *engines_of(engine)))
        shaped = legacy.as_format_1({"name": stages[0].name, field: configuration(engine)})[field]
        return digest({**more, field: shaped, "lineage": lineage})

    def segments(self) -> tuple[Segment, ...]:
        """Groups of stages that share a worker: neighbours with equal resources, or between which frames or cut videos
        are passed, whose file only the worker's node has and deletes after the video."""
        groups: list[tuple[list[Stage], list[Resources]]] = []
        for stage in self.stages:
            wanted = self.worker if stage.resources == Resources() else stage.resources
            if not groups or not (issubclass(stage.takes, Clip | CutVideo) or groups[-1][1][-1] == wanted):
                groups.append(([], []))
            groups[-1][0].append(stage)
            groups[-1][1].append(wanted)
        return tuple(
            Segment(
                tuple(stages),
                Resources(
                    cpus=max(r.cpus for r in wanted),
                    gpus=max(r.gpus for r in wanted),
                    concurrency=max(r.concurrency for r in wanted),
                ),
            )
            for stages, wanted in groups
        )


def load_pipeline(path: Path) -> Pipeline:
    """The value named ``pipeline`` of a Python file. The file is executed, so it must be trusted.

    Names of posecap 0.1 in the file still work, with a :class:`FutureWarning` for each.

    Raises:
        PipelineError: no such file, it is not Python, it raises an exception, or it defines no ``pipeline``; the
            message names the file, and the line where there is one.
        ModuleNotFoundError: a module of posecap needs a package that is not installed.
    """
    path = legacy.pipeline_file(path)
    if not path.is_file():
        raise PipelineError(f"no pipeline file at {path}; {nearest_pipeline(path.name)}")
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        what = error.msg if isinstance(error, SyntaxError) else error
        raise PipelineError(f"{path}{line}: is not a Python file: {what}") from error
    for word in legacy.translated(tree):
        legacy.hint(word, path)
    module = ModuleType(f"<pipeline {path}>")  # where dataclasses look their annotations up
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(tree, str(path), "exec"), module.__dict__)  # noqa: S102
    except Exception as error:
        found = _error_in(path, error)
        if found is None:
            raise
        raise found from error
    finally:
        sys.modules.pop(module.__name__, None)
    pipeline = vars(module).get("pipeline")
    if not isinstance(pipeline, Pipeline):
        raise PipelineError(f"{path} defines no `pipeline = Pipeline([...])`")
    return pipeline


def _error_in(path: Path, error: Exception) -> PipelineError | None:
    """The error that names the line of a pipeline file that raised; None where posecap itself lacks a package."""
    frames = extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    is_own_import = frames[-1].filename == str(path) or str(getattr(error, "name", "")).split(".")[0] == "posecap"
    if isinstance(error, ModuleNotFoundError) and not is_own_import:
        return None
    line = lines[-1] if lines else getattr(error, "lineno", None) or 1
    kind = "" if isinstance(error, PipelineError) else f"{type(error).__name__}: "
    return PipelineError(f"{path}:{line}: {kind}{error}")


def _names_without_paths(weights: list[str]) -> list[str]:
    """Names of weights without paths: the file's name, preceded by those of as many folders as tell two files apart."""
    paths = [Path(name) for name in weights]
    shown = [path.name for path in paths]
    for folders in range(1, max((len(path.parts) for path in paths), default=0)):
        counts = Counter(shown)
        shown = [
            name if counts[name] == 1 else "/".join([*(p.name for p in reversed(path.parents[:folders])), path.name])
            for name, path in zip(shown, paths, strict=True)
        ]
    return shown


def _version(package: str) -> str:
    """The installed version, or words where there is none, which change a fingerprint like any other."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
