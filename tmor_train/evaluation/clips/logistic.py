"""Logistic regression on raw coordinates: what a learned feature has to be better than.

Frames at even steps from the first to the last, each joint relative to the middle of the hips and to the size of the
picture (joints in space stay in metres); all joints of all frames side by side, scaled by their deviation over the
train part. Whether a joint was seen is ignored: one that was not lies where its file says, if only at 0. A person whom
a clip does not have is 0 everywhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posecap.joints import LAYOUTS
from tmor_train.data import MotionSet
from tmor_train.data.arrays import Floats
from tmor_train.data.modalities import people_of
from tmor_train.evaluation.clips.cached import cached, classified
from tmor_train.evaluation.clips.config import LogisticConfig, RawConfig
from tmor_train.evaluation.config import HoldOut
from tmor_train.evaluation.task import Task, task_of
from tmor_train.evaluation.trials import Begun, Found, Trial, begin, measured, of_each_seed

_MOST_PEOPLE = 2
_HIPS = ("left_hip", "right_hip")


def logistic(config: LogisticConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """The baseline of a benchmark; returns ``folder``.

    Raises:
        RunError: the folder holds a run.
        NoTask: it is not said what is to be measured.
    """
    task = task_of(config.task)
    trials = [
        raw_trial(task, config.raw, config.task.holdout, name=name, seed=seed)
        for seed, name in of_each_seed(config.seeds)
    ]
    begin(config, folder, begun)
    return measured(trials, task=task, config=config, folder=folder)


def raw_trial(task: Task, config: RawConfig, holdout: HoldOut, *, name: str, seed: int) -> Trial:
    """The baseline as one measurement of a run."""

    def measure(place: Path) -> Found:
        features = cached(task, lambda motions: raw_coordinates(motions, config, people=_people(task)))
        scores_NK, chosen = classified(features, task, config.linear, holdout, seed=seed)
        return Found(scores_NK=scores_NK, source=None, trained=len(task.train), chosen=chosen)

    return Trial(mode="logistic", name=name, seed=seed, measure=measure)


def _people(task: Task) -> int:
    return min(int(task.train.clips.people_N.max()), _MOST_PEOPLE)


def raw_coordinates(motions: MotionSet, config: RawConfig, *, people: int) -> Floats:
    """Coordinates of all joints, frames and people of each clip, centred and scaled: (N, M * T * V * C) float32."""
    clips, layout = motions.clips, motions.blocks[0].layout
    index_N = np.arange(len(motions))
    last_N1 = (clips.frames_N - 1)[:, None]
    frame_NT = np.rint(np.linspace(0, 1, config.frames) * last_N1).astype(np.int64)
    person_NM = people_of(motions, most=people, by="first")
    found, _ = motions.gather(index_N, frame_NT=frame_NT, person_NM=person_NM, layout=layout)
    joints_NMTVC = found.numpy()
    hips = [LAYOUTS[layout].names.index(name) for name in _HIPS]
    middle = joints_NMTVC[:, :1, :, hips].mean(3, keepdims=True)  # the first person's, for all
    centred = joints_NMTVC - (middle[:, :, :1] if config.centre == "first" else middle)
    centred[person_NM < 0] = 0  # the set gathers anything for a person whom a clip does not have
    size_NC = np.ones((len(motions), joints_NMTVC.shape[-1]), np.float32)
    flat = ~motions.has_depth
    size_NC[flat, :2] = np.stack([clips.width_N, clips.height_N], 1)[flat]
    scaled: Floats = (centred / size_NC[:, None, None, None]).reshape(len(motions), -1).astype(np.float32)
    return scaled


__all__ = ["logistic", "raw_coordinates", "raw_trial"]
