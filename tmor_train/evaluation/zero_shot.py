"""Zero-shot recognition: no classifier is trained, each clip is given the class whose text is nearest (T-MOR's Sec.
III-C).

The score of a clip and a class is cos(phi_M(E_M(sk)), phi_T(E_T(text of the class))): E_M is the motion encoder of the
skeletons sk, E_T the text encoder, phi_M and phi_T are the projections to the space that they share. Where all clips
have video vectors E_V, motion and video together are measured, too. Every set of prompts is a measurement of its own.
The cosines of a class that has several wordings are averaged, which is one product with the mean of their unit vectors.
Wordings on body parts can each be compared with the feature over the joints of their part instead
(:mod:`tmor_train.evaluation.rescoring`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from posecap.builtin import program
from tmor_train.configuration import from_json
from tmor_train.data.dataset import Floats
from tmor_train.data_sources import MissingTextError, sentence_vectors
from tmor_train.encoder import SHORTEST, Projection, UnusableEncoderError, head_of
from tmor_train.evaluation.config import SCRATCH, Rescoring, Visual, ZeroShotConfig
from tmor_train.evaluation.encoders import (
    encoder_name,
    features_of,
    leakage_notes,
    load_encoder,
    local_features_of,
)
from tmor_train.evaluation.rescoring import SPANS, contrasted, region_weights, rescored, side_by_side, skeleton_cache
from tmor_train.evaluation.runner import Begun, Trial, TrialOutput, clip_output, run_trials
from tmor_train.evaluation.task import Task, task_of
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.prompts import PromptSet, class_texts, prompts
from tmor_train.training import checkpoint
from tmor_train.training.checkpoint import CheckpointError
from tmor_train.training.config import PretrainConfig

Pooled = Literal["whole", "parts"]
"""What a class's sentences are compared with: the feature of the whole clip, or each with that of its own joints."""


def zero_shot(config: ZeroShotConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """Measure each set of prompts, with motion alone and, where clips have video vectors, with video; returns
    ``folder``.

    Raises:
        RunError: the run is new and the folder already holds one.
        TaskError, EncoderNotFoundError: no benchmark or no encoder is named, or files are missing; and other errors of
            :func:`~tmor_train.evaluation.task.task_of` and :func:`~tmor_train.evaluation.encoders.load_encoder`.
        MissingTextError: a class has no words, or a sentence no vector.
        UnusableEncoderError: the encoder was trained without text, or with text vectors of another length.
    """
    if encoder_name(config.start) == SCRATCH:
        raise UnusableEncoderError(
            "an encoder that was never trained knows no texts; name a checkpoint that was trained with them"
        )
    task = task_of(config.task)
    recognition = _Recognition(config, task)
    return run_trials(recognition.trials(), task=task, config=config, folder=folder, begun=begun)


class _Recognition:
    """The vectors of a task's clips, and those of its classes for each set of prompts; raises as :func:`zero_shot`."""

    def __init__(self, config: ZeroShotConfig, task: Task) -> None:
        self._config, self._task = config, task
        texts = config.class_texts or class_texts(task.benchmark.name, task.classes)
        if len(texts) != len(task.classes):
            raise MissingTextError(
                f"class_texts gives words for {len(texts)} classes, but there are {len(task.classes)}"
            )
        self._texts = {name: self._vectors(name, texts) for name in config.prompts}
        self._encoder, self._source = load_encoder(config.start, seed=config.seed, device=config.device)
        if self._encoder.heads is None or self._encoder.heads.text is None:
            raise UnusableEncoderError(f"{self._encoder.path} was trained without text; name a checkpoint of stage 2")
        self._heads = self._encoder.heads
        self._motion: Floats | None = None
        self._local: Floats | None = None
        self._video, video_note = _video_of(task)
        self._video_head = None if self._video is None else video_head_of(self._encoder)
        seen = leakage_notes(task.benchmark.name, config.task.folder, self._encoder.config)
        self._notes = (chance(task), *seen, *video_note)
        self._contrast_note = (
            (f"from each class's text, {config.text_contrast:g} of {config.text_neighbours} nearest ones is taken off",)
            if config.text_neighbours
            else ()
        )

    def _vectors(self, name: PromptSet, texts: tuple[str, ...]) -> Floats:
        """Text vectors of one set of prompts: (K, P, D), K classes in P wordings; MissingTextError where one is
        missing."""
        task, config = self._task, self._config
        of_clips = f"={config.task.folder}" if not task.benchmark.classes else ""
        own = f"--class-texts {shlex.join(config.class_texts)}" if config.class_texts else ""
        sentences = own or f"{task.benchmark.name}{of_clips}"
        made_by = f"`{program('prompt_vectors')} {config.texts or 'FILE'} {sentences}`"
        if config.texts is None:
            raise MissingTextError(
                f"the file with vectors of the classes' sentences is not named: give --texts FILE; {made_by} makes it"
            )
        vectors = sentence_vectors(Path(config.texts), prompts(name, texts), remedy=made_by)
        return vectors.reshape(len(texts), -1, vectors.shape[-1])

    def trials(self) -> Iterator[Trial]:
        """For each set of prompts, motion alone, rescored in each way, and then each way of adding video; those that
        need phi_V are left out where the encoder was trained without video."""
        ways = self._config.visual if self._video is not None else ()
        for name in self._config.prompts:
            for way in (None, *(way for way in ways if way == "frozen_mean" or self._video_head is not None)):
                mode = f"zero_shot_{name}" + (f"_visual_{way}" if way else "")
                folder = f"{name}/{f'visual_{way}' if way else 'motion'}"
                yield Trial(mode=mode, name=folder, seed=self._config.seed, measure=partial(self._measure, name, way))
                if way is None:
                    yield from self._rescored_trials(name, "whole")
            if name == "body_parts" and self._config.part_pooling == "on":
                measure = partial(self._measure_pooled, name)
                mode, folder = f"zero_shot_{name}_pooled", f"{name}/pooled"
                yield Trial(mode=mode, name=folder, seed=self._config.seed, measure=measure)
                yield from self._rescored_trials(name, "parts")

    def _rescored_trials(self, name: PromptSet, pooled: Pooled) -> Iterator[Trial]:
        """Motion alone by a set of prompts, once for each way of rescoring."""
        end, part = ("_pooled", "pooled") if pooled == "parts" else ("", "motion")
        for how in self._config.rescoring:
            measure = partial(self._measure_rescored, name, pooled, how)
            mode = f"zero_shot_{name}{end}_{how}"
            yield Trial(mode=mode, name=f"{name}/{part}_{how}", seed=self._config.seed, measure=measure)

    def _measure(self, name: PromptSet, way: Visual | None, folder: Path) -> TrialOutput:
        """Scores by a set of prompts, of motion and video as ``way`` says, of motion alone for None. Nothing is kept in
        ``folder``."""
        if way is None or self._video is None:
            return self._output(self._cosines(name, "whole"))
        sides = Sides(motion_ND=self._features(), video_NDv=self._video, texts_KPDt=self._texts[name])
        return self._output(combined(self._encoder, self._video_head, sides, way), of="video")

    def _measure_pooled(self, name: PromptSet, _: Path) -> TrialOutput:
        """Scores of motion alone, each sentence on a part compared with the feature over its joints."""
        return self._output(self._cosines(name, "parts"))

    def _measure_rescored(self, name: PromptSet, pooled: Pooled, how: Rescoring, _: Path) -> TrialOutput:
        """Scores of motion alone by a set of prompts, corrected by the measured clips."""
        config, (motion_NW, texts_KW) = self._config, self._compared(name, pooled)
        if how == "skeleton_cache":
            of_text_NK = rescored(motion_NW, texts_KW, "centred", config.rescored_by)
            scores_NK = skeleton_cache(of_text_NK, self._local_features(), config.rescored_by, seed=config.seed)
        else:
            scores_NK = rescored(motion_NW, texts_KW, how, config.rescored_by, seed=config.seed)
        return self._output(scores_NK, "scores are corrected by the measured clips themselves, without their labels")

    def _output(self, scores_NK: Floats, *notes: str, of: Literal["motion", "video"] = "motion") -> TrialOutput:
        """What is stored of scores, of motion alone or with ``video``, with the notes on the task and further ones."""
        every = (*self._notes, *(self._contrast_note if of == "motion" else ()), *notes)
        return clip_output(self._task, scores_NK, source=self._source, trained=0, notes=every)

    def _cosines(self, name: PromptSet, pooled: Pooled) -> Floats:
        """Cosines of motion alone and the texts of a set of prompts: (N, K)."""
        motion_NW, texts_KW = self._compared(name, pooled)
        cosines_NK: Floats = motion_NW @ texts_KW.T
        return cosines_NK

    def _compared(self, name: PromptSet, pooled: Pooled) -> tuple[Floats, Floats]:
        """Vectors of clips (N, W) and of classes (K, W) whose products are the scores of motion alone."""
        config, heads, texts_KPD = self._config, self._heads, self._texts[name]
        if pooled == "whole":
            motion_NW, texts_KW = heads.project(self._features()), heads.project_texts(texts_KPD)
        else:
            regions = range(texts_KPD.shape[1])
            weights_R = region_weights(len(regions), config.part_share)
            local_NRD = self._local_features()
            motion_NRW = np.stack([heads.project(local_NRD[:, r]) for r in regions], 1)
            texts_KRW = np.stack([heads.project_texts(texts_KPD[:, r]) for r in regions], 1)
            motion_NW, texts_KW = side_by_side(motion_NRW, weights_R), side_by_side(texts_KRW, weights_R)
        if config.text_neighbours:
            texts_KW = contrasted(texts_KW, neighbours=config.text_neighbours, weight=config.text_contrast)
        return motion_NW, texts_KW

    def _local_features(self) -> Floats:
        """Features of regions of the measured clips, computed once: (N, R, 256), the whole, parts and shares of
        time."""
        if self._local is None:
            config = self._config
            self._local = local_features_of(
                self._encoder, self._task.test, config.look, spans=SPANS, workers=config.workers
            )
        return self._local

    def _features(self) -> Floats:
        """E_M of the measured clips, computed once."""
        if self._motion is None:
            config = self._config
            self._motion = features_of(self._encoder, self._task.test, config.look, workers=config.workers)
        return self._motion


def _video_of(task: Task) -> tuple[Floats | None, tuple[str, ...]]:
    """Video vectors (N, D) of the measured clips and no note; or None where a clip has none, and a note where others
    have."""
    motions = task.test
    without = int((motions.clips.video_N < 0).sum())
    if motions.video is None or without == len(motions):
        return None, ()
    if without:
        return None, (f"{without} of {len(motions)} clips have no video vector, so video is left out",)
    return motions.video.rows(motions.clips.video_N), ()


def chance(task: Task) -> str:
    """A note on the accuracy of guessing: each class with the same probability, or always the most frequent one."""
    most = np.bincount(task.test.clips.label_N).max() / len(task.test)
    return f"chance is {100 / len(task.classes):.2f} %, the most frequent class alone {100 * most:.2f} %"


@dataclass(frozen=True, eq=False, kw_only=True)
class Sides:
    """Vectors of N clips and of K classes in P wordings, float32, before any projection: ``motion_ND`` of the motion
    encoder E_M, ``video_NDv`` of the video encoder E_V, ``texts_KPDt`` of the text encoder E_T."""

    motion_ND: Floats
    video_NDv: Floats
    texts_KPDt: Floats


def unit(vectors: ArrayLike) -> Floats:
    """Vectors of length 1 along the last axis; shorter than 1 where they were shorter than :data:`SHORTEST`."""
    values = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(values, axis=-1, keepdims=True)
    scaled: Floats = values / np.maximum(lengths, np.float32(SHORTEST))
    return scaled


def combined(encoder: Pretrained, video_head: Projection | None, sides: Sides, how: Visual) -> Floats:
    """Scores of motion and video together: (N, K) float32, more is likelier.

    Args:
        video_head: phi_V; ``frozen_mean`` needs none.
        how: ``frozen_mean`` and ``score_mean`` average the cosines of motion with text and of video with text, those of
            video without any projection, or with phi_V and phi_T. The others take the cosine of text with the sum of
            both projected vectors: ``raw_mean`` of the projections' outputs as they are, else of their unit vectors.

    Raises:
        UnusableEncoderError: a head is missing, or vectors have other lengths than it takes.
    """
    motion_NK, heads = encoder.text_cosines(sides.motion_ND, sides.texts_KPDt), encoder.heads
    if how == "frozen_mean":
        mean_NK: Floats = (motion_NK + frozen(sides)) / np.float32(2)
        return mean_NK
    if video_head is None or heads is None or heads.text is None:
        raise UnusableEncoderError(
            f"{encoder.path} was trained without video, so it has no projection of video vectors"
        )
    texts_KW = _through(heads.text, sides.texts_KPDt).mean(1)
    video_NW = _through(video_head, sides.video_NDv)
    if how == "score_mean":
        average_NK: Floats = (motion_NK + video_NW @ texts_KW.T) / np.float32(2)
        return average_NK
    if how == "raw_mean":
        sum_NW = _through(heads.motion.layers, sides.motion_ND) + _through(video_head.layers, sides.video_NDv)
    else:
        sum_NW = encoder.project(sides.motion_ND) + video_NW
    scores_NK: Floats = unit(sum_NW) @ texts_KW.T
    return scores_NK


def frozen(sides: Sides) -> Floats:
    """cos(E_V, E_T) without any projection, the mean over wordings: (N, K) float32.

    Raises:
        UnusableEncoderError: the two have different lengths, so they are not of one space.
    """
    video, text = sides.video_NDv.shape[-1], sides.texts_KPDt.shape[-1]
    if video != text:
        raise UnusableEncoderError(
            f"video vectors have {video} numbers and text vectors {text}, so they are of two models; leave "
            "frozen_mean out of visual"
        )
    cosines: Floats = unit(sides.video_NDv) @ unit(sides.texts_KPDt).mean(1).T
    return cosines


def video_head_of(encoder: Pretrained) -> Projection | None:
    """phi_V of the run that an encoder is from; None where it was trained without video.

    Raises:
        CheckpointError: its checkpoint is gone, or does not hold what it says.
    """
    if encoder.config is None:
        return None
    config = from_json(PretrainConfig, encoder.config).objective
    if not config.w_mv:
        return None
    try:
        state = checkpoint.load(encoder.path)["learner"]["objective"]  # "learner" is the state of a TrainState
        head, _ = head_of(config.video_head, state, "video_head.", config.width)
    except (FileNotFoundError, KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{encoder.path} holds no projection of video vectors: {error}") from error
    return head


@torch.no_grad()
def _through(head: Any, vectors: Floats) -> Floats:
    """Vectors (…, D) through a head or its layers, on the CPU; UnusableEncoderError for another D than it takes."""
    flat = torch.from_numpy(np.array(vectors.reshape(-1, vectors.shape[-1]), np.float32))
    try:
        out: Floats = head(flat).numpy()
    except RuntimeError as error:
        raise UnusableEncoderError(f"a projection does not take vectors of {flat.shape[1]} numbers: {error}") from error
    return out.reshape(*vectors.shape[:-1], out.shape[-1])
