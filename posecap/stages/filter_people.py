"""Selects people of a clip, and rejects clips without a person or with too little time or motion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from posecap.skeletons import body_sizes, own_motion
from posecap.stage import Reject, Stage
from posecap.types import Floats, PosedClip, Tracks

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]
"""Their axes are in the names of variables: M people, T frames, J joints."""

_DIGITS = 4
"""Decimals of terms in the facts, and of the scores by which people are ranked, so that last bits decide nothing."""


@dataclass(frozen=True, kw_only=True)
class Prominence:
    """Weights of a score that says whom a clip is about. The score is the weighted sum of four terms in [0, 1]:

    * presence: share of the clip's frames in which the person is confident. It weighs most, since a person who is
      gone for half of the clip leaves half a skeleton; but not so much that those who stand by, and are seen well all
      the time, outweigh those who act, lose joints to blur and hide each other.
    * size: the median diagonal of the person's joints, as a share of that of the largest person among those who may
      be kept: who is near, is sharp, and mostly meant.
    * motion: :func:`posecap.skeletons.own_motion` as a share of ``lively``, 1 from there on. Joints of small and
      blurred people tremble, so more motion than that says little.
    * closeness: how near others are who move, averaged over the frames in which the person is confident. Of another
      person it is 1 where the boxes around the joints of the two touch, and falls to 0 where the gap between them is as
      wide as the two are large on average; times the ratio of the smaller size to the larger one, as a person far
      behind is not near; times the other's motion. The nearest counts in each frame.

    The person with the highest score is kept first. For everybody after that, closeness is to those who are kept
    already: two who fight or dance belong together, two who watch are close to each other only.

    Args:
        presence, size, motion, closeness: weights, 0 or more.
        lively: own motion, in body sizes, that counts fully. People in action have 0.06 to 0.5.

    The weights are our choice: between 0.5 and 2, in any combination, no more of the marked people were kept
    (docs/results/people.md).

    Raises:
        ValueError: a number is out of its range.
    """

    presence: float = 1.5
    size: float = 1.0
    motion: float = 1.0
    closeness: float = 1.0
    lively: float = 0.2

    def __post_init__(self) -> None:
        if min(self.presence, self.size, self.motion, self.closeness) < 0 or self.lively <= 0:
            raise ValueError(f"{self}: weights are 0 or more, and lively is above 0")


class _People:
    """What the choice among people depends on.

    Args:
        joints_MTJ3: (0, 0, 0) where a joint does not count or the person is not confident.
        motion_M: own motion of each, in [0, 1].
    """

    def __init__(self, joints_MTJ3: Floats, confident_MT: Mask, motion_M: Doubles) -> None:
        self.confident_MT, self.motion_M = confident_MT, motion_M
        self.sizes_M = body_sizes(joints_MTJ3)
        seen_MTJ1 = joints_MTJ3[..., 2:] > 0
        self._low_MT2 = np.where(seen_MTJ1, joints_MTJ3[..., :2], np.inf).min(2).astype(np.float64)
        self._high_MT2 = np.where(seen_MTJ1, joints_MTJ3[..., :2], -np.inf).max(2).astype(np.float64)

    def closeness(self, candidates: Sequence[int], others: Sequence[int]) -> Doubles:
        """(M,) how near the nearest of the others is to each candidate, over the frames in which they are confident."""
        closeness_M = np.zeros(len(self.sizes_M))
        for person in candidates:
            nearest_T = np.zeros(self.confident_MT.shape[1])
            for other in others:
                if other != person:
                    nearest_T = np.maximum(nearest_T, self._nearness(person, other) * self.motion_M[other])
            closeness_M[person] = nearest_T.sum() / max(int(self.confident_MT[person].sum()), 1)
        return closeness_M

    def _nearness(self, one: int, other: int) -> Doubles:
        """(T,) in [0, 1]; 0 where not both are confident."""
        near_T = np.zeros(self.confident_MT.shape[1])
        both_T = self.confident_MT[one] & self.confident_MT[other]
        small, large = sorted((float(self.sizes_M[one]), float(self.sizes_M[other])))
        if both_T.any() and small > 0:
            gap = np.maximum(
                self._low_MT2[one, both_T] - self._high_MT2[other, both_T],
                self._low_MT2[other, both_T] - self._high_MT2[one, both_T],
            )
            widths = np.linalg.norm(np.maximum(gap, 0), axis=-1) / ((small + large) / 2)
            near_T[both_T] = np.maximum(1 - widths, 0) * small / large
        return near_T


@dataclass(frozen=True, kw_only=True)
class FilterPeople(Stage):
    """Keeps at most ``people`` people, most prominent first, or rejects the clip.

    A person is *confident* in a frame when at least ``confident_joints_share`` of the joints score ``joint_score`` or
    more. *Presence* is the share of the clip's frames in which a person is confident. *Spread* is the standard
    deviation of x plus that of y over all joints of those frames that reach ``joint_score``, in pixels: near and moving
    people have more of it. People are chosen by :class:`Prominence`, with the terms of the choice in the sample's facts
    as ``people_choice``; without it they are ranked by presence times spread. Ties are in the tracker's order; tracks
    and joints leave in the order of the choice. Joints of those who are kept leave unchanged, also those that score
    less than ``joint_score``.

    People below ``person_presence`` are left out, and so are those whose joints, as far as they reach
    ``joint_score``, move less than ``motion`` (:func:`posecap.skeletons.own_motion`): posters, mannequins,
    trees, bystanders. Under a still camera, MoveNet's joints of a photograph measured 0.005 to 0.017, of a
    bystander 0.011, of a weightlifter holding his bar 0.038, of people in action 0.06 to 0.5. Under a panning,
    zooming or shaking camera a photograph measured up to 0.06 and passes.

    Args:
        people: most people to keep.
        fewest_frames: least number of frames of a clip.
        shortest_seconds: least duration of a clip: its number of frames times their mean interval.
        joint_score: score in [0, 1] from which a joint counts. MoveNet gives a clear joint 0.4 to 0.7.
        confident_joints_share: least share of a person's joints, in [0, 1], for the person to be confident.
        person_presence: least presence of a person, in [0, 1].
        confident_frames_share: least share of the clip's frames, in [0, 1], in which at least one of the kept people is
            confident. With :class:`Prominence`, the last place goes to somebody with whom that is so, where there is
            one.
        motion: least motion of a person, in body sizes. 0 keeps what stands still.
        prominence: weights by which people are chosen; None ranks by presence times spread, as posecap 0.1.0 did.

    The defaults are our choice, for MoveNet's scores and for footage in which people are in plain view: two people, as
    in most clips with anybody; half a second, in which an action can be seen; a joint that MoveNet is half as sure of
    as of a clear one; half of the joints, as of somebody who is seen from the waist up; a fifth of the clip for a
    person and two fifths for all together, as people turn and leave; and a motion between a bystander's and a
    weightlifter's.

    Rejects:
        ``too_short``; ``no_person_found`` (nobody was tracked, or nobody has a joint); ``low_confidence`` (nobody's
        presence reaches ``person_presence``, or too few frames have a kept person who is confident); ``no_motion``
        (nobody who is present enough moves enough).

    Raises:
        ValueError: ``people`` is below 1, a share is not in [0, 1], or another threshold is below 0.
    """

    name: ClassVar[str] = "filter_people"
    takes: ClassVar[type] = PosedClip
    gives: ClassVar[type] = PosedClip
    row_fields: ClassVar[tuple[str, ...] | None] = ()

    people: int = 2
    fewest_frames: int = 8
    shortest_seconds: float = 0.5
    joint_score: float = 0.2
    confident_joints_share: float = 0.5
    person_presence: float = 0.2
    confident_frames_share: float = 0.4
    motion: float = 0.02
    prominence: Prominence | None = None

    def __post_init__(self) -> None:
        if self.people < 1:
            raise ValueError(f"filter_people: people is {self.people}; keep at least one")
        for share in ("joint_score", "confident_joints_share", "person_presence", "confident_frames_share"):
            if not 0 <= getattr(self, share) <= 1:
                raise ValueError(f"filter_people: {share} is {getattr(self, share)}; it lies between 0 and 1")
        for least in ("fewest_frames", "shortest_seconds", "motion"):
            if getattr(self, least) < 0:
                raise ValueError(f"filter_people: {least} is {getattr(self, least)}; 0 leaves nothing out, so no less")

    def __call__(self, item: PosedClip) -> Iterator[PosedClip]:
        self._reject_short(item)
        counted_MTJ, confident_MT = self.confident(item.joints_MTJ3)
        if not (item.joints_MTJ3[..., 2] > 0).any():
            raise Reject("no_person_found", f"nobody was tracked in {item.frame_count} frames")
        presence_M = confident_MT.mean(-1)
        present_M = (presence_M > 0) & (presence_M >= self.person_presence)
        if not present_M.any():
            raise Reject(
                "low_confidence",
                f"the clearest of {item.tracks.people} people is confident in {_percent(presence_M.max())} of the "
                f"frames; needs {_percent(self.person_presence)}",
            )
        counted_MTJ3 = np.where(counted_MTJ[..., None], item.joints_MTJ3, np.float32(0))
        motion_M = own_motion(counted_MTJ3)
        moving_M = present_M & (motion_M >= self.motion)
        if not moving_M.any():
            raise Reject(
                "no_motion",
                f"the person who moves most moves {motion_M[present_M].max():.4f} sizes; needs {self.motion:.4f}",
            )
        choice: dict[str, Any] = {}
        if self.prominence is None:
            spread_M = _spread(item.joints_MTJ3, counted_MTJ & confident_MT[..., None])
            ranked = np.argsort(-presence_M * spread_M, kind="stable")
            kept = ranked[moving_M[ranked]][: self.people]
        else:
            people = _People(
                np.where(confident_MT[..., None, None], counted_MTJ3, np.float32(0)),
                confident_MT,
                np.minimum(motion_M / self.prominence.lively, 1.0),
            )
            kept, choice = self._choose(people, np.flatnonzero(moving_M), self.prominence)
        covered = float(confident_MT[kept].any(0).mean())
        if covered < self.confident_frames_share:
            raise Reject(
                "low_confidence",
                f"a kept person is confident in {_percent(covered)} of the frames; "
                f"needs {_percent(self.confident_frames_share)}",
            )
        yield replace(item, tracks=_only(item.tracks, kept), joints_MTJ3=item.joints_MTJ3[kept], people_choice=choice)

    def confident(self, joints_MTJ3: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which joints count, (M, T, J) bool, and in which frames a person is confident, (M, T) bool."""
        counted_MTJ = (joints_MTJ3[..., 2] >= self.joint_score) & (joints_MTJ3[..., 2] > 0)
        enough_MT = counted_MTJ.any(-1) & (counted_MTJ.mean(-1) >= self.confident_joints_share)
        return counted_MTJ, np.asarray(enough_MT, np.bool_)

    def _choose(
        self, people: _People, candidates: NDArray[np.intp], weights: Prominence
    ) -> tuple[NDArray[np.intp], dict[str, Any]]:
        """Who of the candidates is kept, in order, and why: the facts' ``people_choice``, with the numbers of people
        ``found`` and of ``candidates``, the terms of those ``kept``, and of the ``next`` one (None where nobody was
        left)."""
        sizes_M = people.sizes_M
        terms = {
            "presence": people.confident_MT.mean(-1),
            "size": np.minimum(sizes_M / max(float(sizes_M[candidates].max()), 1e-9), 1.0),
            "motion": people.motion_M,
        }
        kept: list[int] = []
        reasons: list[dict[str, float]] = []
        second: dict[str, float] | None = None
        left = candidates.tolist()
        while left and len(kept) < self.people:
            # Nearness to those who are kept; as long as that is nobody, to everybody.
            terms["closeness"] = people.closeness(left, kept or range(len(sizes_M)))
            score_M = np.sum([getattr(weights, name) * term_M for name, term_M in terms.items()], axis=0)
            scored = {"score": score_M.round(_DIGITS), **terms}
            # The last place goes to somebody with whom the clip is covered: nobody is kept in a rejected clip.
            short_M = np.zeros(len(sizes_M), np.bool_)
            if len(kept) == self.people - 1:
                together_MT = people.confident_MT | people.confident_MT[kept].any(0)
                short_M = together_MT.mean(-1) < self.confident_frames_share
            left.sort(key=lambda person: (short_M[person], -scored["score"][person], person))
            best, *left = left
            kept.append(best)
            reasons.append(_rounded(scored, best))
            second = _rounded(scored, left[0]) if left else None
        choice = {"found": len(sizes_M), "candidates": len(candidates), "kept": reasons, "next": second}
        return np.array(kept, np.intp), choice

    def _reject_short(self, item: PosedClip) -> None:
        """Reject a clip with too few frames or too little time as ``too_short``."""
        frames, seconds = item.frame_count, 0.0
        if frames > 1:
            seconds = float(item.pts_T[-1] - item.pts_T[0]) * frames / (frames - 1)
        # A span of exactly the shortest length must pass, whatever the rounding of its frame times.
        if frames < self.fewest_frames or seconds < self.shortest_seconds - 1e-6:
            raise Reject(
                "too_short",
                f"{frames} frames, {seconds:.3f} s; needs {self.fewest_frames} frames and {self.shortest_seconds:g} s",
            )


def _rounded(terms: Mapping[str, Doubles], person: int) -> dict[str, float]:
    """A person's terms, as the facts have them."""
    return {name: round(float(term_M[person]), _DIGITS) for name, term_M in terms.items()}


def _spread(joints_MTJ3: Floats, counted_MTJ: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(M,) standard deviation of x plus that of y over the counted joints, in pixels."""
    spread = np.zeros(len(joints_MTJ3))
    for person, (joints, counted) in enumerate(zip(joints_MTJ3, counted_MTJ, strict=True)):
        if counted.any():
            spread[person] = joints[counted][:, :2].astype(np.float64).std(0).sum()
    return spread


def _only(tracks: Tracks, kept: NDArray[np.intp]) -> Tracks:
    """The tracks of some people, in their order."""
    return replace(
        tracks,
        boxes_MT4=tracks.boxes_MT4[kept],
        scores_MT=tracks.scores_MT[kept],
        joints_MTJ3=None if tracks.joints_MTJ3 is None else tracks.joints_MTJ3[kept],
    )


def _percent(share: float) -> str:
    """A share as messages have it."""
    return f"{100 * share:.1f} %"
