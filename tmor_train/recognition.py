"""Actions in a video: its people are found and followed by a pipeline of posecap, and windows of each person's skeleton
are compared with texts, or with a few example videos of each class::

    recognizer = tmor_train.recognizer("runs/stage2", texts=("doing push-ups", "squatting"))
    found = recognizer.recognize("video.mp4", annotated=Path("actions.mp4"))
    for person in found.people:
        for segment in person.segments:
            print(person.number, segment.start_seconds, segment.end_seconds, segment.label, segment.score)

The pipeline's stages run up to the skeletons (:mod:`tmor_train.video_people`); nothing is stored but what is asked for.
A person is the same one in two clips where the video was split for length alone and boxes overlap; behind a cut
everybody gets a new number.

Arrays are named by their axes: N windows, K classes, P wordings of a class, D = 256 numbers of an embedding, M people
of a clip, T frames, J joints.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from posecap.builtin import DEFAULT_PIPELINE, pipeline_path
from posecap.engines.pyav_encoder import PyAVEncoder
from posecap.files import Existing, atomic_path
from posecap.interfaces import TextEmbedder
from posecap.pipeline import Pipeline, load_pipeline
from posecap.stage import Engine, engines_of
from posecap.types import Clip as VideoClip
from posecap.types import Pixels, SkeletonClip
from posecap.visualization.drawing import PALETTE, PAPER, draw_skeletons, font, pillow
from tmor_train.backbones import FEATURES
from tmor_train.data.dataset import Floats
from tmor_train.encoder import SHORTEST
from tmor_train.pretrained.encoder import Pretrained, load
from tmor_train.prompts import PromptSet, prompts
from tmor_train.video_people import (
    PersonNumbers,
    RecognitionError,
    SkeletonStages,
    embed_windows,
    frame_end,
    seen_windows,
    video_row,
    weights_by_name,
)

FORMAT = "tmor_train.recognition/1"
"""First in the JSON of a recognition; the number goes up where a reader of the last one would misread it."""

WINDOW_SECONDS, STRIDE_SECONDS = 3.0, 0.5
"""Length of a window and from one window's start to the next. Our choice: a window holds one or two repetitions of an
exercise, and the beginning of an action is placed to half a second."""

RIDGE = 0.03
"""Of :class:`Examples`. Our choice: the middle of the range from 0.003 to 0.1, over which accuracy changes by no more
than a clip or two, whether the encoder is trained or not (docs/results/recognition.md)."""

_FPS = 25.0  # what x264 plans its bits by; every frame of the annotated video has the time that it had in the source
_FEWEST_CLASSES = 2  # a score says which of several is nearest, nothing of one alone
_SAME_MOMENT_SECONDS = 0.1
"""Two segments of a class are one where the second begins this soon after the first has ended: times are rounded to
milliseconds, and clips of one shot follow each other without a gap, so this is wide of either."""
_SHORTEST_SECONDS = 1e-6  # a segment of one frame at the video's end may last 0 s; it is still given a weight's divisor


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A scored stretch of a person's skeleton: seconds of the video, and a score for each class in their order."""

    start_seconds: float
    end_seconds: float
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Frames, one after another, in which a class has a person's highest score: seconds of the video, and the mean of
    that score over them. A frame's scores are the means of those of the windows that it lies in."""

    start_seconds: float
    end_seconds: float
    label: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Person:
    """One person, by a ``number`` from 1 on in the order of appearance; without windows where too little was seen."""

    number: int
    windows: tuple[Window, ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A stretch of the video in which nobody was looked for or kept, with posecap's ``reason``, as
    ``no_person_found``."""

    start_seconds: float
    end_seconds: float
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """What was recognised in one video.

    ``video`` is its URI without secrets, ``sha256`` that of its bytes; ``source`` says what it was recognised with, as
    JSON values; ``notes`` are sentences about how far scores can be trusted. ``seconds`` are wall seconds: of all work,
    and of embedding the windows alone. They and ``frames``, the number of frames of all clips, are not in
    :meth:`as_json`, which is the same for the same input.
    """

    video: str
    sha256: str
    classes: tuple[str, ...]
    people: tuple[Person, ...]
    skipped: tuple[Skipped, ...]
    source: Mapping[str, Any]
    notes: tuple[str, ...]
    frames: int
    seconds: float
    embedding_seconds: float

    @property
    def windows(self) -> int:
        """The number of windows of all people."""
        return sum(len(person.windows) for person in self.people)

    def as_json(self) -> dict[str, Any]:
        """All of it but the time that it took, as JSON values."""
        return {
            "format": FORMAT,
            "video": {"uri": self.video, "sha256": self.sha256},
            **self.source,
            "notes": list(self.notes),
            "classes": list(self.classes),
            "people": [asdict(person) for person in self.people],
            "skipped": [asdict(one) for one in self.skipped],
        }


class Classes(Protocol):
    """Classes that embeddings are scored against."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def about(self) -> Mapping[str, Any]:
        """How they are scored, as JSON values."""
        ...

    def scores(self, vectors_ND: Floats) -> Floats:
        """(N, K) float32 of embeddings E_M, (N, 256); more is likelier."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Texts:
    """Classes by sentences: the score is the cosine of zero-shot recognition, averaged over wordings.

    ``vectors_KPD`` are text vectors of P wordings of each of K names.
    """

    encoder: Pretrained = field(repr=False)
    names: tuple[str, ...]
    vectors_KPD: Floats = field(repr=False)
    about: Mapping[str, Any]

    def scores(self, vectors_ND: Floats) -> Floats:
        """As :meth:`Classes.scores`: cosines, from -1 to 1.

        Raises:
            UnusableEncoderError: the encoder was trained without text, or with text vectors of another length.
        """
        return self.encoder.text_cosines(vectors_ND, self.vectors_KPD)


@dataclass(frozen=True, eq=False, kw_only=True)
class Examples:
    """Classes by examples: ridge regression from unit embeddings, less ``mean_D``, to 1 for the class and -1 / (K - 1)
    for the others. Embeddings share a large component, their mean, which says nothing of the class.

    A class seen from several sides has embeddings in several places. The mean of them may be nearer to another class
    than any of them is; a direction that tells classes apart can still be found (docs/results/recognition.md has both).
    """

    names: tuple[str, ...]
    mean_D: Floats = field(repr=False)
    weights_DK: Floats = field(repr=False)
    about: Mapping[str, Any]

    @classmethod
    def of(cls, examples: Mapping[str, Floats], about: Mapping[str, Any], *, ridge: float = RIDGE) -> Examples:
        """From embeddings (n, 256) of each class, n at least 1, of which every class counts alike, however many it has.

        Args:
            ridge: what the squared length of the weights is multiplied by, above 0, beside squared errors whose weights
                have the mean 1.
        """
        units = [_unit(vectors_ND).astype(np.float64) for vectors_ND in examples.values()]
        mean_D = np.stack([vectors_ND.mean(0) for vectors_ND in units]).mean(0)
        x_ND = _unit(np.concatenate(units) - mean_D)
        counts_K = np.array([len(vectors_ND) for vectors_ND in units])
        class_N, classes = np.repeat(np.arange(len(units)), counts_K), len(units)
        y_NK = np.where(class_N[:, None] == np.arange(classes), 1.0, -1 / (classes - 1))
        weight_N = counts_K.sum() / classes / counts_K[class_N]
        # The dual form: as many equations as examples, of which there are fewer than numbers in an embedding.
        dual_NK = np.linalg.solve(x_ND @ x_ND.T + ridge * np.diag(1 / weight_N), y_NK)
        weights_DK = (x_ND.T @ dual_NK).astype(np.float32)
        return cls(names=tuple(examples), mean_D=mean_D.astype(np.float32), weights_DK=weights_DK, about=about)

    def scores(self, vectors_ND: Floats) -> Floats:
        """As :meth:`Classes.scores`: near 1 for embeddings as the class's examples, and 0 in sum over the classes."""
        scores_NK: Floats = _unit(_unit(vectors_ND) - self.mean_D) @ self.weights_DK
        return scores_NK


def _unit(vectors: NDArray[Any]) -> NDArray[Any]:
    """Vectors of length 1 along the last axis, shorter where they were shorter than :data:`SHORTEST`."""
    scaled: NDArray[Any] = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32(SHORTEST))
    return scaled


@dataclass(frozen=True, eq=False, kw_only=True)
class Recognizer:
    """An encoder, classes, and the stages that give skeletons; :func:`recognizer` makes it.

    ``window_seconds`` and ``stride_seconds`` are of the windows: a person of a shorter clip has one window, and the
    last window ends with the clip. ``source`` is what recognitions record, ``notes`` what they say.
    """

    encoder: Pretrained
    classes: Classes
    stages: SkeletonStages = field(repr=False)
    window_seconds: float = WINDOW_SECONDS
    stride_seconds: float = STRIDE_SECONDS
    source: Mapping[str, Any] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    def recognize(
        self, video: str | Path, *, annotated: Path | None = None, existing: Existing = "refuse"
    ) -> Recognition:
        """What the people of a video do.

        Args:
            video: a path, or a URI that the pipeline fetches.
            annotated: an ``.mp4`` to write: the frames of all clips, in the size that the pipeline decodes, with
                skeletons, and above each person the number, the class and its score. None writes none.
            existing: what happens if ``annotated`` exists (:func:`~posecap.files.atomic_path`).

        Raises:
            RecognitionError: the video cannot be read, has no clip, or ``annotated`` has another ending.
            OutputExistsError: ``annotated`` exists, and ``existing`` is ``refuse``.
            UnusableEncoderError, posecap.joints.LayoutError: the encoder does not take such skeletons or texts.
            posecap.models.MissingWeightsError: weights are neither on this machine nor downloadable.
            posecap.visualization.drawing.PillowMissingError: ``annotated`` is given, and Pillow is not installed.
        """
        if annotated is not None and annotated.suffix.lower() != ".mp4":
            raise RecognitionError(f"{annotated}: the annotated video is an mp4; give a name that ends in .mp4")
        found, began = _VideoInWork(self), perf_counter()
        if annotated is None:
            for _ in found.frames(video, painted=False):
                pass
        else:
            with atomic_path(annotated, existing=existing) as part:
                if not PyAVEncoder().encode_to(part, found.frames(video, painted=True), fps=_FPS):
                    raise found.nothing(video)
        if not found.count:
            raise found.nothing(video)
        return found.recognition(perf_counter() - began)


class _VideoInWork:
    """One video in work: gathers windows and segments while its frames pass. ``count`` is of frames so far."""

    def __init__(self, by: Recognizer) -> None:
        self._by, self._people = by, PersonNumbers()
        self._windows: dict[int, list[Window]] = defaultdict(list)
        self._segments: dict[int, list[Segment]] = defaultdict(list)
        self._skipped: list[Skipped] = []
        self._video = ("", "")  # URI and SHA-256, from the first clip on
        self._embedding_seconds = 0.0
        self.count = 0

    def frames(self, video: str | Path, *, painted: bool) -> Iterator[tuple[Pixels, float]]:
        """Go through the video, and yield its clips' frames, (H, W, 3) uint8 RGB, with their times in seconds.

        ``painted`` yields the frames of every clip, with skeletons and labels where it has some; without it none is
        yielded, but everything else is done. Raises what :meth:`Recognizer.recognize` names.
        """
        for clip, reason in self._by.stages.clips(video_row(video)):
            if reason is not None:
                span = clip.span if isinstance(clip, VideoClip) else clip
                lost = Skipped(
                    start_seconds=_rounded(span.start_seconds),
                    end_seconds=_rounded(span.end_seconds),
                    reason=reason.reason,
                    detail=reason.detail,
                )
                self._skipped.append(lost)
            if not isinstance(clip, VideoClip):
                continue
            self.count += clip.frame_count
            self._video = clip.row.uri, clip.video.source_id
            if isinstance(clip, SkeletonClip):
                numbers = self._people.numbers(clip)
                scores_MTK = self._scores(clip, numbers)
                if painted:
                    yield from self._painted(clip, numbers, scores_MTK)
            elif painted:
                yield from zip(clip.frames_THW3, clip.pts_T.tolist(), strict=True)
            del clip

    def _scores(self, clip: SkeletonClip, numbers: Sequence[int]) -> Floats:
        """Scores of each frame, (M, T, K): means over the person's windows that hold it, NaN where none does. Enters
        windows and segments under the people's ``numbers``."""
        chosen = seen_windows(clip, range(len(numbers)), length=self._by.window_seconds, stride=self._by.stride_seconds)
        classes = self._by.classes.names
        sum_MTK = np.zeros((len(numbers), clip.frame_count, len(classes)), np.float32)
        count_MT1 = np.zeros((len(numbers), clip.frame_count, 1), np.float32)
        if chosen:
            began = perf_counter()
            vectors_ND = embed_windows(self._by.encoder, clip, chosen)
            self._embedding_seconds += perf_counter() - began
            for (person, begin, end), scores_K in zip(chosen, self._by.classes.scores(vectors_ND), strict=True):
                sum_MTK[person, begin:end] += scores_K
                count_MT1[person, begin:end] += 1
                window = Window(
                    start_seconds=_rounded(clip.pts_T[begin]),
                    end_seconds=_rounded(frame_end(clip, end)),
                    scores=tuple(round(float(score), 4) for score in scores_K),
                )
                self._windows[numbers[person]].append(window)
        scores_MTK: Floats = np.where(count_MT1 > 0, sum_MTK / np.maximum(count_MT1, 1), np.float32(np.nan))
        for person, number in enumerate(numbers):
            _ = self._windows[number]  # so that somebody without windows is listed, too
            self._add_segments(clip, number, scores_MTK[person])
        return scores_MTK

    def _add_segments(self, clip: SkeletonClip, number: int, scores_TK: Floats) -> None:
        """Enter runs of frames of one highest class, the first run as more of the last segment where that is of the
        class and has just ended. Frames without scores (NaN) are in no segment."""
        scored_T = np.isfinite(scores_TK[:, 0])
        label_T = np.where(scored_T, np.where(scored_T[:, None], scores_TK, 0).argmax(1), -1)
        edges = [0, *(np.flatnonzero(np.diff(label_T)) + 1).tolist(), len(label_T)]
        segments = self._segments[number]
        for begin, end in pairwise(edges):
            if label_T[begin] < 0:
                continue
            new = Segment(
                start_seconds=_rounded(clip.pts_T[begin]),
                end_seconds=_rounded(frame_end(clip, end)),
                label=self._by.classes.names[label_T[begin]],
                score=round(float(scores_TK[begin:end, label_T[begin]].mean()), 4),
            )
            last = segments[-1] if segments else None
            if last and last.label == new.label and new.start_seconds - last.end_seconds < _SAME_MOMENT_SECONDS:
                new = _joined(segments.pop(), new)
            segments.append(new)

    def _painted(
        self, clip: SkeletonClip, numbers: Sequence[int], scores_MTK: Floats
    ) -> Iterator[tuple[Pixels, float]]:
        """The clip's frames with skeletons, whose hues are those of the people's numbers, and labels."""
        x, y = clip.source_per_working
        joints_MTJ3 = clip.joints_MTJ3 / np.array([x, y, 1], np.float32)
        # draw_skeletons takes the hue from the place in the array, and draws nobody whose scores are all 0.
        slots_PTJ3 = np.zeros((max(numbers, default=0), *joints_MTJ3.shape[1:]), np.float32)
        slots_PTJ3[[number - 1 for number in numbers]] = joints_MTJ3
        for frame, seconds in enumerate(clip.pts_T.tolist()):
            picture = draw_skeletons(
                pillow().Image.fromarray(clip.frames_THW3[frame]), slots_PTJ3[:, frame], clip.layout
            )
            for person, number in enumerate(numbers):
                scores_K, joints_J3 = scores_MTK[person, frame], joints_MTJ3[person, frame]
                if np.isfinite(scores_K).all() and (joints_J3[:, 2] > 0).any():
                    best = int(scores_K.argmax())
                    words = f"{number}: {self._by.classes.names[best]} {scores_K[best]:.2f}"
                    _write_above(picture, joints_J3[joints_J3[:, 2] > 0, :2], words, number)
            yield np.asarray(picture), seconds

    def nothing(self, video: str | Path) -> RecognitionError:
        """The error of a video without any clip."""
        why = f": {self._skipped[0].reason}, {self._skipped[0].detail}" if self._skipped else ""
        return RecognitionError(f"{video_row(video).uri} gives the pipeline no clip{why}")

    def recognition(self, seconds: float) -> Recognition:
        """What was gathered, after ``seconds`` of work."""
        people = tuple(
            Person(number=number, windows=tuple(entered), segments=tuple(self._segments[number]))
            for number, entered in sorted(self._windows.items())
        )
        return Recognition(
            video=self._video[0],
            sha256=self._video[1],
            classes=self._by.classes.names,
            people=people,
            skipped=tuple(self._skipped),
            source=self._by.source,
            notes=self._by.notes,
            frames=self.count,
            seconds=seconds,
            embedding_seconds=self._embedding_seconds,
        )


def _joined(before: Segment, after: Segment) -> Segment:
    """Two segments of one class as one, whose score is weighted by their lengths."""
    lengths = [before.end_seconds - before.start_seconds, after.end_seconds - after.start_seconds]
    total = max(sum(lengths), _SHORTEST_SECONDS)
    score = (before.score * lengths[0] + after.score * lengths[1]) / total
    return Segment(
        start_seconds=before.start_seconds, end_seconds=after.end_seconds, label=after.label, score=round(score, 4)
    )


def _rounded(seconds: float) -> float:
    """To milliseconds: a frame of 60 a second lasts 17."""
    return round(float(seconds), 3)


def _write_above(picture: Any, xy_N2: NDArray[np.float32], words: str, number: int) -> None:
    """Write a person's label above the highest joint, within the picture, on a dark ground."""
    letters = font(max(12, max(picture.size) // 32))  # pixels; this, the margins and the height chosen by eye
    words = letters.shortened(words, picture.width - 4)
    width, height = int(letters.length(words)) + 4, letters.line_height
    left = int(np.clip(xy_N2[:, 0].mean() - width / 2, 0, max(0, picture.width - width)))
    top = int(np.clip(xy_N2[:, 1].min() - 1.5 * height, 0, max(0, picture.height - height)))
    pen = pillow().ImageDraw.Draw(picture)
    pen.rectangle([left, top, left + width, top + height], fill=PAPER)
    letters.draw(pen, (left + 2, top), words, fill=PALETTE[(number - 1) % len(PALETTE)])


def recognizer(
    run: str | Path | Pretrained,
    *,
    texts: Sequence[str] = (),
    examples: str | Path | None = None,
    pipeline: str = DEFAULT_PIPELINE,
    prompt_set: PromptSet = "plain",
    window_seconds: float = WINDOW_SECONDS,
    stride_seconds: float = STRIDE_SECONDS,
    device: str = "cpu",
) -> Recognizer:
    """A recognizer of classes that are given by texts or by examples.

    Args:
        run: a run's folder or a checkpoint, as :func:`tmor_train.load` takes it, or what that gave; for texts
            one that was trained with
            text vectors of the pipeline's text model.
        texts: the classes in words, two or more, each once.
        examples: instead of texts, a folder that has a folder of videos for each class, by its name; hidden files are
            passed over. The windows of the first, most prominent person of each clip are its examples. The encoder is
            not trained.
        pipeline: one of posecap's by name, or the path of a pipeline file, which is executed.
        prompt_set: wordings of the texts (:data:`tmor_train.prompts.PROMPTS`).
        window_seconds, stride_seconds: of the windows, also of the examples; above 0.
        device: as :func:`tmor_train.load` takes it, for ``run``.

    Raises:
        RecognitionError: not exactly one of ``texts`` and ``examples``, fewer than two classes, a number that is not
            above 0, a pipeline that cannot be used for it, or an example that cannot.
        posecap.pipeline.PipelineError: there is no such pipeline, or it cannot be loaded.
        tmor_train.training.checkpoint.CheckpointError: there is no such run.
        UnusableEncoderError: the encoder was trained without text, or with text vectors of another length.
        tmor_train.prompts.MissingTextError: ``prompt_set`` describes movements and a class has no description.
        posecap.models.MissingWeightsError: weights are neither on this machine nor downloadable.
    """
    if bool(texts) == (examples is not None):
        raise RecognitionError("give the classes either as texts or as a folder of examples: --texts or --examples")
    if not (window_seconds > 0 and stride_seconds > 0):
        raise RecognitionError(
            f"windows of {window_seconds:g} s every {stride_seconds:g} s: give numbers above 0 for both"
        )
    if texts and (len(texts) < _FEWEST_CLASSES or len(set(texts)) < len(texts)):
        raise RecognitionError(f"{len(texts)} texts: give two or more, each once, as a score says which is nearest")
    loaded = load_pipeline(pipeline_path(pipeline, Path.cwd()))
    stages, encoder = SkeletonStages(loaded), run if isinstance(run, Pretrained) else load(run, device=device)
    timing = {"window_seconds": window_seconds, "stride_seconds": stride_seconds}
    models = stages.models()
    if texts:
        classes, text_models = _texts(encoder, loaded, tuple(texts), prompt_set)
        models |= text_models
    else:
        classes = _examples(encoder, stages, Path(examples or ""), timing)
    source = {
        "encoder": encoder.facts()["checkpoint"] | ({} if encoder.onnx is None else {"onnx": dict(encoder.onnx)}),
        "pipeline": {"name": Path(pipeline).stem, "models": models},
        "scores": dict(classes.about),
        **timing,
    }
    notes = _model_notes(encoder, models)
    return Recognizer(encoder=encoder, classes=classes, stages=stages, source=source, notes=notes, **timing)


def _model_notes(encoder: Pretrained, models: Mapping[str, str]) -> tuple[str, ...]:
    """A note that names the models of ``models`` (SHA-256 by name) that made none of the skeletons and texts that the
    encoder was trained on. Empty where there are none, and where its checkpoint does not say which models did."""
    trained = encoder.inputs.models() if encoder.inputs is not None else frozenset()
    others = [name for name, sha256 in models.items() if sha256 not in trained]
    if not trained or not others:
        return ()
    return (
        f"the encoder was trained on what other models made than {', '.join(others)}, so its scores say less here; a "
        "pipeline as that of its training data is the surer choice",
    )


def _texts(
    encoder: Pretrained, pipeline: Pipeline, names: tuple[str, ...], prompt_set: PromptSet
) -> tuple[Classes, dict[str, str]]:
    """Classes by texts, their vectors from the pipeline's text model, and the SHA-256 of its weights by name.

    Raises:
        RecognitionError: the pipeline has no text model.
        UnusableEncoderError: the encoder takes no such text vectors.
        tmor_train.prompts.MissingTextError: as :func:`recognizer`.
    """
    model = next((e for s in pipeline.stages for e in engines_of(s) if isinstance(e, TextEmbedder)), None)
    if model is None or not isinstance(model, Engine):
        raise RecognitionError("the pipeline has no text model; use one with Embed(text=…), or --examples")
    sentences = prompts(prompt_set, names)
    vectors_KPD = model.embed_text(sentences).reshape(len(names), -1, model.dimension)
    about = {"of": "texts", "prompt_set": prompt_set, "text_model": model.name}
    found = Texts(encoder=encoder, names=names, vectors_KPD=vectors_KPD, about=about)
    found.scores(np.zeros((1, FEATURES), np.float32))  # an encoder without text fails here, not later
    return found, weights_by_name((model, *engines_of(model)))


def _examples(encoder: Pretrained, stages: SkeletonStages, folder: Path, timing: Mapping[str, float]) -> Classes:
    """The classes in a folder; ``timing`` is window_seconds and stride_seconds.

    Raises:
        RecognitionError: there are fewer than two folders, one of them gives no window, or a video cannot be read.
    """
    places = folder.iterdir() if folder.is_dir() else ()
    named = sorted(place for place in places if place.is_dir() and place.name[0] != ".")
    if len(named) < _FEWEST_CLASSES:
        raise RecognitionError(f"{folder} has {len(named)} folders of examples; make two or more, one for each class")
    examples, counts = {}, {}
    for place in named:
        vectors = []
        videos = sorted(path for path in place.iterdir() if path.is_file() and path.name[0] != ".")
        for path in videos:
            for clip, _ in stages.clips(video_row(path)):
                if isinstance(clip, SkeletonClip):
                    chosen = seen_windows(clip, [0], length=timing["window_seconds"], stride=timing["stride_seconds"])
                    vectors += [embed_windows(encoder, clip, chosen)] if chosen else []
                del clip
        if not vectors:
            raise RecognitionError(
                f"{place}: nobody was followed in its {len(videos)} videos; add some in which a person moves"
            )
        examples[place.name] = np.concatenate(vectors)
        counts[place.name] = {"videos": len(videos), "windows": len(examples[place.name])}
    return Examples.of(examples, {"of": "examples", "ridge": RIDGE, "classes": counts})
