"""Selects people of a clip, and rejects clips without a person or with too little time or motion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from posecap.skeletons import own_motion
from posecap.stage import Reject, Stage
from posecap.types import Floats, PosedClip, Tracks


@dataclass(frozen=True, kw_only=True)
class FilterPeople(Stage):
    """Keeps at most ``people`` people, most prominent first, or rejects the clip.

    A person is *confident* in a frame when at least ``confident_joints_share`` of the joints score
    ``joint_score`` or more. *Presence* is the share of the clip's frames in which a person is confident.
    *Spread* is the standard deviation of x plus that of y over all joints of those frames that reach
    ``joint_score``, in pixels: near and moving people have more of it. People are ranked by presence times
    spread, ties in the tracker's order; tracks and joints leave in that rank.

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
        confident_frames_share: least share of the clip's frames, in [0, 1], in which a kept person is confident.
        motion: least motion of a person, in body sizes. 0 keeps what stands still.

    Rejects:
        ``too_short``; ``no_person_found`` (nobody was tracked); ``low_confidence`` (nobody's presence reaches
        ``person_presence``, or too few frames have a kept person who is confident); ``no_motion`` (nobody who is
        present enough moves enough).
    """

    name: ClassVar[str] = "filter_people"
    takes: ClassVar[type] = PosedClip
    gives: ClassVar[type] = PosedClip

    people: int = 2
    fewest_frames: int = 8
    shortest_seconds: float = 0.5
    joint_score: float = 0.2
    confident_joints_share: float = 0.5
    person_presence: float = 0.2
    confident_frames_share: float = 0.4
    motion: float = 0.02

    def __post_init__(self) -> None:
        if self.people < 1:
            raise ValueError(f"filter_people: people is {self.people}; keep at least one")
        for share in ("joint_score", "confident_joints_share", "person_presence", "confident_frames_share"):
            if not 0 <= getattr(self, share) <= 1:
                raise ValueError(f"filter_people: {share} is {getattr(self, share)}; it lies between 0 and 1")

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
        motion_M = own_motion(np.where(counted_MTJ[..., None], item.joints_MTJ3, np.float32(0)))
        moving_M = present_M & (motion_M >= self.motion)
        if not moving_M.any():
            raise Reject(
                "no_motion",
                f"the person who moves most moves {motion_M[present_M].max():.4f} sizes; needs {self.motion:.4f}",
            )
        spread_M = _spread(item.joints_MTJ3, counted_MTJ & confident_MT[..., None])
        ranked = np.argsort(-presence_M * spread_M, kind="stable")
        kept = ranked[moving_M[ranked]][: self.people]
        covered = float(confident_MT[kept].any(0).mean())
        if covered < self.confident_frames_share:
            raise Reject(
                "low_confidence",
                f"a kept person is confident in {_percent(covered)} of the frames; "
                f"needs {_percent(self.confident_frames_share)}",
            )
        yield replace(item, tracks=_only(item.tracks, kept), joints_MTJ3=item.joints_MTJ3[kept])

    def confident(self, joints_MTJ3: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which joints count, (M, T, J), and in which frames a person is confident, (M, T)."""
        counted_MTJ = (joints_MTJ3[..., 2] >= self.joint_score) & (joints_MTJ3[..., 2] > 0)
        enough_MT = counted_MTJ.any(-1) & (counted_MTJ.mean(-1) >= self.confident_joints_share)
        return counted_MTJ, np.asarray(enough_MT, np.bool_)

    def _reject_short(self, item: PosedClip) -> None:
        frames, seconds = item.frame_count, 0.0
        if frames > 1:
            seconds = float(item.pts_T[-1] - item.pts_T[0]) * frames / (frames - 1)
        # A span of exactly the shortest length must pass, whatever the rounding of its frame times.
        if frames < self.fewest_frames or seconds < self.shortest_seconds - 1e-6:
            raise Reject(
                "too_short",
                f"{frames} frames, {seconds:.3f} s; needs {self.fewest_frames} frames and {self.shortest_seconds:g} s",
            )


def _spread(joints_MTJ3: Floats, counted_MTJ: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(M,) standard deviation of x plus that of y over the counted joints, in pixels."""
    spread = np.zeros(len(joints_MTJ3))
    for person, (joints, counted) in enumerate(zip(joints_MTJ3, counted_MTJ, strict=True)):
        if counted.any():
            spread[person] = joints[counted][:, :2].astype(np.float64).std(0).sum()
    return spread


def _only(tracks: Tracks, kept: NDArray[np.intp]) -> Tracks:
    return replace(
        tracks,
        boxes_MT4=tracks.boxes_MT4[kept],
        scores_MT=tracks.scores_MT[kept],
        joints_MTJ3=None if tracks.joints_MTJ3 is None else tracks.joints_MTJ3[kept],
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
