"""How exact skeletons are, without an annotator: four calibrated cameras, triangulation and reprojection.

    python benchmarks/multiview.py SETTING … [--score 0.2] [--long-side PIXELS] [--offsets] [--smooth]
    python benchmarks/multiview.py movenet:imgsz=256 movenet:imgsz=512 ultralytics:weights_from=yolo11n-pose

A SETTING is an engine and its parameters, or a pipeline file (``benchmarks/detectors.py`` has the form).

The footage is Pose2Sim's demo (BSD-3), out of the same pinned package as the project's own demo: a man on a treadmill,
alone and with a woman, 100 frames from each of four cameras at 60 Hz. Each view goes through the stages Decode, Track
and Pose of a pipeline. In each frame the tracked people of each view are ranked by frames times height of their track,
and the first one or two are taken; two people are assigned across views so that the squared reprojection error is
lowest. A joint is triangulated from all views in which its score reaches ``--score``: undistorted, then linear DLT with
rows weighted by score (Hartley and Zisserman, "Multiple View Geometry", section 12.2). Two views are the minimum, but
a joint of two views always fits well, so errors are those of joints that three or four views see. Printed are

- the distance, in pixels of the original footage, between each joint as a view shows it and its triangulated point
  projected into that view: median and mean over all frames, views and joints;
- the median of the same as a share of the body's height in that view: the length of nose, neck, hips, knee, ankle in
  space (medians over the frames), times focal length, divided by the hips' distance from the camera;
- joints triangulated from three or more views, and from two, as shares of people times frames times joints.

Settings find different joints. A second table compares each two of them on the (frame, view, joint) that both have
found, with the same views and height for both; "nearer" is the share in which the second one's error is smaller.
An error that all views share, such as hips that a model puts too high, costs little here: this compares settings, and
does not replace annotations. Two recordings of 1.7 s say nothing about people who lie or are small.

With ``--smooth`` a third table has, for each setting, the joints as they are and as the stage Smooth makes them, with
each of its filters and their default parameters:

- jitter of the tracked people of a view (:func:`posecap.skeletons.measure`), in thousandths of the body's size: the
  mean over the views;
- the error as above, all views smoothed alike. It cannot show lag, which shifts the triangulated point along;
- the error of one smoothed view against the joints that the other views, as they are, triangulate: lag adds to it;
- lag in milliseconds: by how much later a joint is where it was, by least squares of its displacement by the filter on
  its velocity, which is that of the point that the other views triangulate (over four frames, without the fastest
  hundredth, where people changed places). Faster joints weigh more.

Facts about the footage, checked with this program and the footage itself:

- The package carries the calibration as Qualisys writes it (``Calib.qca.txt``); its ``Calib*.toml`` is made from it
  when Pose2Sim runs. Rotation rows are the camera's axes in the world, y up and z backwards, the translation is the
  camera's position in mm; both become OpenCV's world-to-camera here, as in Pose2Sim. Lengths in the picture are in
  units of 1/64 px. Pose2Sim divides the distortion by 64 as well, which leaves none of it; here it is applied in
  full. The difference is 0.06 px of the median error, on the side of Pose2Sim's: too little to tell them apart.
- Views 1 and 2 of the one man are 1080 px wide, the calibration's 1088. They lack 8 px on the right: their background
  lies within 4 px of where it lies in the other recording of these views, on the left and on the right alike.
- Synchronous to about a frame: with ``--offsets``, the median error of MoveNet rises by 4 to 18 % with any view three
  frames (50 ms) off in the worse direction. The best offset is 0 for view 2, 0 or -1 for view 4, -1 or -2 for view 1
  and +1 or +2 for view 3, but lies at most 6 % below that of 0. So nothing is shifted.
"""

from __future__ import annotations

import itertools
import logging
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# One thread, which the libraries read when they are imported.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
from detectors import DEFAULT, Setting, setting, video_of  # noqa: E402
from measuring import parser_of  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from posecap.download.package_index import PackageFile, fetch  # noqa: E402
from posecap.interfaces import Limits  # noqa: E402
from posecap.joints import LAYOUTS  # noqa: E402
from posecap.run.execute import execute  # noqa: E402
from posecap.skeletons import measure  # noqa: E402
from posecap.stages.pose import Skeleton  # noqa: E402
from posecap.stages.smooth import OneEuro, SavitzkyGolay, Smooth  # noqa: E402
from posecap.types import SkeletonClip  # noqa: E402

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

PACKAGE = "pypi://pose2sim/0.10.49/Pose2Sim"
CALIBRATION = (
    "Demo_SinglePerson/calibration/Calib.qca.txt"
    "?sha256=fd90e4bbae3278ef1dc0cdd42a34ee06bf88286f628a02c00a29407aa39e34c5"
)
"""Of both recordings: the package carries the same bytes beside each."""
# Title → number of people, folder in the package, and SHA-256 of its four videos, by camera.
FOOTAGE = {
    "one person": (
        1,
        "Demo_SinglePerson",
        (
            "cf4f2816c86bea4bfbea255333d8626ff32a3ecabdab8b0fb147cea9167fde3a",
            "94ff87cf978b8406e8aa36ab3c5362e72848994e87652f0dc7a33c315e8e0442",
            "b8b329f832f178f27ecb78d024d5026b96c6adb36c387bfe2c0af85eab8a11ca",
            "b5c0e7863fd70d008e7178d3c556b045b0ea5f78fcd61ca548a0b2e807e641f7",
        ),
    ),
    "two people": (
        2,
        "Demo_MultiPerson",
        (
            "543cee6a4c2c2b52dc9eac9137ee63d14f1f84e706a9a7264769edcb11e5ea53",
            "8895092a7cf26359205a427b7ac2f4a935c2e0bd36d9b7a5140cb33faa468a6b",
            "d3daf48cdf9f5603868ddb99166ddaf9b12279e7ce968922926560d5fd3f0c99",
            "1490149dc40e7301fa5ceae23862b044ba5c398a8b2a40df21ed894702728c09",
        ),
    ),
}
JOINT = {name: number for number, name in enumerate(LAYOUTS["coco17"].names)}
"""Numbers of joints by name."""
SUBPIXELS = 64
"""Units of a Qualisys file's lengths in the picture that make a pixel."""
DISTORTION = ("radialDistortion1", "radialDistortion2", "tangentalDistortion1", "tangentalDistortion2")
MINIMUM, WELL_SEEN = 2, 3
"""Number of views from which a joint can be triangulated, and from which its error is meaningful."""
OFFSETS = range(-3, 4)
"""Frames by which ``--offsets`` shifts one view."""
SMOOTHINGS = {"Savitzky-Golay": Smooth(filter=SavitzkyGolay()), "One-Euro": Smooth(filter=OneEuro())}
"""That ``--smooth`` compares with the joints as they are."""
VELOCITY_FRAMES = 2
"""Frames before and after a frame between which its velocity is measured."""
USUAL_SPEEDS = 0.99
"""Share of the joints, slowest first, that count for lag."""
FAR_OFF = 3
"""Medians of the error beyond which a joint does not count for lag: one of both sides shows another place there. This
and the two before are our choice."""
ANOTHER_PERSON = 500.0
"""Pixels of the source by which joints of two people, or of one whom only one setting finds, count as apart: about half
of a picture's width (1080 px and more)."""
UNDISTORT_STEPS = 20
"""Of the fixed-point iteration that undoes distortion; OpenCV's undistortPoints takes 5 by default."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with OpenCV's conventions: x right, y down, z into the scene; distortion k1, k2, p1, p2.

    ``size`` is (width, height) in pixels; ``intrinsics_33`` maps to pixels.
    """

    name: str
    size: tuple[int, int]
    intrinsics_33: Doubles
    distortion_4: Doubles
    rotation_33: Doubles
    """From world to camera: x_camera = rotation_33 @ x_world + translation_3, metres."""
    translation_3: Doubles

    @property
    def focal_length(self) -> float:
        """Mean of both directions, in pixels."""
        return float((self.intrinsics_33[0, 0] + self.intrinsics_33[1, 1]) / 2)

    def in_camera(self, points_N3: Doubles) -> Doubles:
        """Points of the world, (..., 3), in this camera's axes."""
        seen: Doubles = points_N3 @ self.rotation_33.T + self.translation_3
        return seen

    def project(self, points_N3: Doubles) -> Doubles:
        """Pixels (..., 2) of points of the world (..., 3)."""
        seen = self.in_camera(points_N3)
        return self._pixels(self._distorted(seen[..., :2] / seen[..., 2:]))

    def undistort(self, pixels_N2: Doubles) -> Doubles:
        """Where a camera of focal length 1 without distortion would show pixels (..., 2)."""
        seen = (pixels_N2 - self.intrinsics_33[:2, 2]) / np.array([self.intrinsics_33[0, 0], self.intrinsics_33[1, 1]])
        found: Doubles = seen.copy()
        for _ in range(UNDISTORT_STEPS):  # a fixed point: distortion is a small part of each distance
            found += seen - self._distorted(found)
        return found

    def _pixels(self, seen_N2: Doubles) -> Doubles:
        """Pixels of what a camera of focal length 1 would show, after distortion."""
        pixels: Doubles = seen_N2 * np.diag(self.intrinsics_33)[:2] + self.intrinsics_33[:2, 2]
        return pixels

    def _distorted(self, seen_N2: Doubles) -> Doubles:
        """Where the lens moves what a camera of focal length 1 shows (OpenCV's model of two radial and two tangential
        coefficients)."""
        x, y = seen_N2[..., 0], seen_N2[..., 1]
        k1, k2, p1, p2 = self.distortion_4
        square = x * x + y * y
        radial = 1 + k1 * square + k2 * square**2
        distorted: Doubles = np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
                y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
            ],
            -1,
        )
        return distorted


def read_qualisys(path: Path) -> tuple[Camera, ...]:
    """The cameras of a Qualisys calibration (``.qca.txt``, XML of a trusted source), sorted by name, which is a serial
    number: the order of cam01 to cam04. Raises KeyError, ValueError or ElementTree.ParseError for another file."""
    found = []
    for tag in ElementTree.parse(path).getroot().findall("cameras/camera"):
        lens, pose, view = (
            {k: v for child in tag.findall(name) for k, v in child.attrib.items()}
            for name in ("intrinsic", "transform", "fov_video")
        )
        left, top = float(view["left"]), float(view["top"])
        across, down, u, v = (
            float(lens[key]) / SUBPIXELS for key in ("focalLengthU", "focalLengthV", "centerPointU", "centerPointV")
        )
        # Rows of the file's rotation are the camera's axes; in Qualisys' y points up and z away from the scene.
        axes = np.array([[float(pose[f"r{row}{column}"]) for column in (1, 2, 3)] for row in (1, 2, 3)])
        rotation = np.diag([1.0, -1.0, -1.0]) @ axes
        position = np.array([float(pose[axis]) for axis in "xyz"]) / 1000
        found.append(
            Camera(
                name=tag.attrib["serial"],
                size=(int(float(view["right"]) - left) + 1, int(float(view["bottom"]) - top) + 1),
                intrinsics_33=np.array([[across, 0, u - left], [0, down, v - top], [0, 0, 1]]),
                distortion_4=np.array([float(lens[key]) for key in DISTORTION]),
                rotation_33=rotation,
                translation_3=-rotation @ position,
            )
        )
    return tuple(sorted(found, key=lambda camera: camera.name))


@dataclass(frozen=True)
class Reprojection:
    """Triangulated joints and how far from them each view shows them.

    ``points_PTJ3`` metres, NaN where fewer than two views see a joint; ``errors_VPTJ`` pixels, NaN where a view does
    not see it or it could not be triangulated; ``views_PTJ`` number of views that see it.
    """

    points_PTJ3: Doubles
    errors_VPTJ: Doubles
    views_PTJ: NDArray[np.int_]

    @property
    def judged(self) -> Bools:
        """(V, P, T, J) joints of views whose error counts: those that at least three views see."""
        judged: Bools = ~np.isnan(self.errors_VPTJ) & (self.views_PTJ >= WELL_SEEN)
        return judged


def reproject(cameras: Sequence[Camera], joints_VPTJ3: Doubles, seen_VPTJ: Bools) -> Reprojection:
    """Triangulate every joint from the views that see it, and project it back into them.

    Args:
        cameras: one for each view.
        joints_VPTJ3: pixels and score, by view, person, frame and joint.
        seen_VPTJ: which of them to use.
    """
    weights = np.where(seen_VPTJ, joints_VPTJ3[..., 2], 0.0)
    rows = []
    for camera, joints, weight in zip(cameras, joints_VPTJ3, weights, strict=True):
        projection = np.column_stack([camera.rotation_33, camera.translation_3])
        for axis, position in enumerate(np.moveaxis(camera.undistort(joints[..., :2]), -1, 0)):
            rows.append(weight[..., None] * (position[..., None] * projection[2] - projection[axis]))
    solution = np.linalg.svd(np.stack(rows, -2))[2][..., -1, :]
    views = seen_VPTJ.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        points = np.where((views >= MINIMUM)[..., None], solution[..., :3] / solution[..., 3:], np.nan)
    errors = [
        np.linalg.norm(c.project(points) - j[..., :2], axis=-1) for c, j in zip(cameras, joints_VPTJ3, strict=True)
    ]
    return Reprojection(points, np.where(seen_VPTJ, np.stack(errors), np.nan), views)


def same_people(cameras: Sequence[Camera], joints_VPTJ3: Doubles, score: float) -> Doubles:
    """The joints with each view's people in the order, frame by frame, that gives the lowest mean of the squared errors
    of joints with ``score`` or more. People of the first view keep their order."""
    views, people, frames = joints_VPTJ3.shape[:3]
    orders = list(itertools.permutations(range(people)))
    best = np.full(frames, np.inf)
    chosen = joints_VPTJ3
    for combination in itertools.product(orders, repeat=views - 1):
        ordered = np.stack([joints_VPTJ3[0], *(v[list(o)] for v, o in zip(joints_VPTJ3[1:], combination, strict=True))])
        errors = reproject(cameras, ordered, ordered[..., 2] >= score).errors_VPTJ
        counted = ~np.isnan(errors)
        cost = np.where(counted, errors, 0) ** 2
        mean_T = cost.sum((0, 1, 3)) / np.maximum(counted.sum((0, 1, 3)), 1)
        better = mean_T < best
        best = np.where(better, mean_T, best)
        chosen = np.where(better[:, None, None], ordered, chosen)
    return chosen


def in_order_of(joints_VPTJ3: Doubles, other_VPTJ3: Doubles) -> Doubles:
    """``other_VPTJ3`` with its people in the order, frame by frame, that is nearest to ``joints_VPTJ3`` in pixels."""
    both = (joints_VPTJ3[..., 2] > 0)[:, :, None] & (other_VPTJ3[..., 2] > 0)[:, None]
    apart = np.linalg.norm(joints_VPTJ3[:, :, None, ..., :2] - other_VPTJ3[:, None, ..., :2], axis=-1)
    distance_PPT = np.where(both, np.minimum(apart, ANOTHER_PERSON), ANOTHER_PERSON).mean((0, 4))
    orders = [list(order) for order in itertools.permutations(range(other_VPTJ3.shape[1]))]
    costs = np.stack([sum(distance_PPT[a, b] for a, b in enumerate(order)) for order in orders])
    chosen = costs.argmin(0)
    choices = np.stack([other_VPTJ3[:, order] for order in orders])
    found: Doubles = np.take_along_axis(choices, chosen[None, None, None, :, None, None], 0)[0]
    return found


def body_heights(cameras: Sequence[Camera], points_PTJ3: Doubles) -> Doubles:
    """(V, P, T) height in pixels of each person in each view: the length of their bones at the distance of the hips, at
    its median where the hips of a frame are not triangulated, NaN where they never are."""

    def middle(part: str) -> Doubles:
        found: Doubles = (points_PTJ3[:, :, JOINT[f"left_{part}"]] + points_PTJ3[:, :, JOINT[f"right_{part}"]]) / 2
        return found

    def length(begin: Doubles, end: Doubles) -> Doubles:
        found: Doubles = np.nanmedian(np.linalg.norm(begin - end, axis=-1), axis=-1)
        return found

    def leg(upper: str, lower: str) -> Doubles:
        sides = [[points_PTJ3[:, :, JOINT[f"{side}_{part}"]] for part in (upper, lower)] for side in ("left", "right")]
        return sum((length(*side) for side in sides), np.zeros(len(points_PTJ3))) / 2

    spine = length(points_PTJ3[:, :, JOINT["nose"]], middle("shoulder")) + length(middle("shoulder"), middle("hip"))
    metres_P = spine + leg("hip", "knee") + leg("knee", "ankle")
    heights = []
    for camera in cameras:
        depth_PT = camera.in_camera(middle("hip"))[..., 2]
        usual_P1 = np.nanmedian(depth_PT, axis=1, keepdims=True)
        heights.append(camera.focal_length * metres_P[:, None] / np.where(np.isnan(depth_PT), usual_P1, depth_PT))
    return np.stack(heights)


def people_of(clip: SkeletonClip, people: int) -> Doubles:
    """(P, T, 17, 3) joints of each frame's tracked people, ranked by frames times height; zeros where fewer are."""
    joints = clip.joints_MTJ3.astype(np.float64)
    there_MT: Bools = np.any(joints[..., 2] > 0, axis=-1)
    height_MT = (clip.tracks.boxes_MT4[..., 3] - clip.tracks.boxes_MT4[..., 1]) * there_MT
    ranked = np.argsort(-height_MT.sum(1), kind="stable")
    found = np.zeros((people, clip.frame_count, *joints.shape[2:]))
    for t in range(clip.frame_count):
        present = [m for m in ranked if there_MT[m, t]][:people]
        found[: len(present), t] = joints[present, t]
    return found


def clips_of(chosen: Setting, folder: str, hashes: Sequence[str]) -> list[SkeletonClip]:
    """A recording with the skeletons that a setting finds, by view; fetched once, then from the cache.

    Raises:
        SystemExit: a view does not give one clip.
        posecap.stage.Reject, posecap.stage.TransientError: it cannot be fetched.
    """
    clips = []
    for number, sha256 in enumerate(hashes, 1):
        path = fetch(
            PackageFile.parse(f"{PACKAGE}/{folder}/videos/cam{number:02d}.mp4?sha256={sha256}"), limits=Limits()
        )
        result = execute([*chosen.decoding, *chosen.posing, Skeleton(layout="coco17")], video_of(path))
        if len(result.outputs) != 1:
            raise SystemExit(
                f"{chosen.name}: {folder} cam{number:02d} gave {result.outputs or result.clips or result.error}"
            )
        clips.append(result.outputs[0])
    return clips


def views_of(clips: Sequence[SkeletonClip], people: int) -> Doubles:
    """(V, P, T, 17, 3) joints of the people in all views, up to the end of the shortest one."""
    views = [people_of(clip, people) for clip in clips]
    frames = min(view.shape[1] for view in views)
    return np.stack([view[:, :frames] for view in views])


@dataclass(frozen=True)
class Summary:
    """Errors of ``count`` joints: median and mean in pixels, and the median as a ``share`` (0 to 1) of body height."""

    count: int
    median: float
    mean: float
    share: float

    def __str__(self) -> str:
        return f"{self.median:7.2f} {self.mean:7.2f} px {100 * self.share:6.2f} % of height"


def summary(errors_VPTJ: Doubles, chosen_VPTJ: Bools, heights_VPT: Doubles) -> Summary:
    """Of the chosen errors; NaN for each figure where none is chosen."""
    errors = errors_VPTJ[chosen_VPTJ]
    if not errors.size:
        return Summary(0, np.nan, np.nan, np.nan)
    shares = (errors_VPTJ / heights_VPT[..., None])[chosen_VPTJ]
    return Summary(errors.size, float(np.median(errors)), float(errors.mean()), float(np.nanmedian(shares)))


def setting_line(name: str, cameras: Sequence[Camera], joints_VPTJ3: Doubles, score: float) -> str:
    """A line of the first table."""
    found = reproject(cameras, joints_VPTJ3, joints_VPTJ3[..., 2] >= score)
    every = found.views_PTJ.size
    well, barely = int((found.views_PTJ >= WELL_SEEN).sum()), int((found.views_PTJ == MINIMUM).sum())
    errors = summary(found.errors_VPTJ, found.judged, body_heights(cameras, found.points_PTJ3))
    return (
        f"  {name:<44} {errors}   3+ views {well:5} = {100 * well / every:5.1f} %, "
        f"2 views {barely:4} = {100 * barely / every:4.1f} % of {every}"
    )


def paired(
    names: tuple[str, str], cameras: Sequence[Camera], joints: tuple[Doubles, Doubles], score: float
) -> tuple[Summary, Summary, str]:
    """Two settings on what both have found, and the lines of the second table."""
    first, second = joints[0], in_order_of(*joints)
    both = (first[..., 2] >= score) & (second[..., 2] >= score)
    found = [reproject(cameras, each, both) for each in (first, second)]
    judged = found[0].judged & found[1].judged
    heights = body_heights(cameras, found[0].points_PTJ3)  # of the first for both: one person has one height
    one, other = (summary(each.errors_VPTJ, judged, heights) for each in found)
    nearer = float((found[1].errors_VPTJ < found[0].errors_VPTJ)[judged].mean()) if judged.any() else np.nan
    return (
        one,
        other,
        (f"  {names[0]:<44} {one}\n  {names[1]:<44} {other}   nearer in {100 * nearer:.1f} % of {one.count}\n"),
    )


def offsets(cameras: Sequence[Camera], joints_VPTJ3: Doubles, score: float) -> str:
    """Lines of the median and mean error in pixels with one view's frames shifted against the others', by each of
    :data:`OFFSETS`."""
    lines = []
    reach = max(OFFSETS)
    frames = np.arange(reach, joints_VPTJ3.shape[2] - reach)
    for view, camera in enumerate(cameras):
        cells = []
        for offset in OFFSETS:
            shifted = np.stack([v[:, frames + offset * (at == view)] for at, v in enumerate(joints_VPTJ3)])
            found = reproject(cameras, shifted, shifted[..., 2] >= score)
            errors = found.errors_VPTJ[found.judged]
            cells.append(f"{offset:+d}: {np.median(errors):5.2f} {errors.mean():5.2f}")
        lines.append(f"  {camera.name} shifted by frames  " + "   ".join(cells))
    return "\n".join(lines)


def from_others(cameras: Sequence[Camera], joints_VPTJ3: Doubles, score: float) -> Doubles:
    """(V, P, T, J, 2) pixels where each view should show each joint, as the other views triangulate it; else NaN."""
    seen = joints_VPTJ3[..., 2] >= score
    found = []
    for view, camera in enumerate(cameras):
        others = seen.copy()
        others[view] = False
        found.append(camera.project(reproject(cameras, joints_VPTJ3, others).points_PTJ3))
    return np.stack(found)


def lag_seconds(smooth_VPTJ2: Doubles, joints_VPTJ2: Doubles, others_VPTJ2: Doubles, interval: float) -> float:
    """By how much later, in seconds, joints are where they were before they were smoothed.

    Args:
        smooth_VPTJ2, joints_VPTJ2: pixels, smoothed and as they were.
        others_VPTJ2: where the other views show them; NaN excludes a joint.
        interval: seconds from frame to frame.
    """
    reach = VELOCITY_FRAMES
    inside = np.s_[:, :, reach:-reach]
    velocity = (others_VPTJ2[:, :, 2 * reach :] - others_VPTJ2[:, :, : -2 * reach]) / (2 * reach * interval)
    error = np.linalg.norm(joints_VPTJ2 - others_VPTJ2, axis=-1)[inside]
    speed = np.linalg.norm(velocity, axis=-1)
    counted = (speed <= np.nanquantile(speed, USUAL_SPEEDS)) & (error <= FAR_OFF * np.nanmedian(error))
    moved = (smooth_VPTJ2 - joints_VPTJ2)[inside][counted]
    return float(-(moved * velocity[counted]).sum() / (velocity[counted] ** 2).sum())


def smoothings(
    cameras: Sequence[Camera], clips: Sequence[SkeletonClip], joints_VPTJ3: Doubles, score: float
) -> Iterator[str]:
    """Lines of the third table.

    Args:
        joints_VPTJ3: of the clips as they are, people in one order across views.
    """
    others, seen = from_others(cameras, joints_VPTJ3, score), joints_VPTJ3[..., 2] >= score
    interval = float(np.median(np.diff(clips[0].pts_T)))
    for name, stage in {"as they are": None, **SMOOTHINGS}.items():
        smooth = list(clips) if stage is None else [next(stage(clip)) for clip in clips]
        found = views_of(smooth, joints_VPTJ3.shape[1])
        # Each view by itself: people are in one order across the views only in joints_VPTJ3.
        pairs = zip(joints_VPTJ3, found, strict=True)
        views = np.concatenate([in_order_of(known[None], view[None]) for known, view in pairs])
        jitter = np.mean([measure(clip.joints_MTJ3, clip.pts_T, clip.layout).jitter for clip in smooth])
        every = reproject(cameras, views, seen)
        errors = every.errors_VPTJ[every.judged]
        apart = np.where(seen, np.linalg.norm(views[..., :2] - others, axis=-1), np.nan)
        apart = apart[~np.isnan(apart)]
        lag = lag_seconds(views[..., :2], joints_VPTJ3[..., :2], np.where(seen[..., None], others, np.nan), interval)
        yield (
            f"    {name:<16} jitter {1000 * jitter:5.2f}   error {np.median(errors):6.2f} {errors.mean():6.2f} px   "
            f"against the others {np.median(apart):6.2f} {apart.mean():6.2f} px   lag {1000 * lag:+5.1f} ms"
        )


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("settings", nargs="+", metavar="SETTING")
    parser.add_argument("--score", type=float, default=0.2, help="from which a joint counts (default: %(default)s)")
    parser.add_argument("--pipeline", type=Path, default=DEFAULT, help="whose stages are used (default: %(default)s)")
    parser.add_argument("--long-side", type=int, help="of decoded frames, pixels, instead of the pipeline's")
    parser.add_argument("--offsets", action="store_true", help="also print errors with each view shifted in time")
    parser.add_argument("--smooth", action="store_true", help="also print what the filters of the stage Smooth do")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    settings = [setting(name, pipeline=options.pipeline, long_side=options.long_side) for name in options.settings]
    cameras = read_qualisys(fetch(PackageFile.parse(f"{PACKAGE}/{CALIBRATION}"), limits=Limits()))
    for title, (people, folder, hashes) in FOOTAGE.items():
        found = {}
        print(f"{title}, joints with a score of {options.score:g} or more: error median, mean", flush=True)
        for each in settings:
            each.load()
            clips = clips_of(each, folder, hashes)
            found[each.name] = same_people(cameras, views_of(clips, people), options.score)
            print(setting_line(each.name, cameras, found[each.name], options.score), flush=True)
            if options.offsets:
                print(offsets(cameras, found[each.name], options.score), flush=True)
            if options.smooth:
                print(*smoothings(cameras, clips, found[each.name], options.score), sep="\n", flush=True)
        for names in itertools.combinations(found, 2):
            print(f"{title}, joints of frames and views that both have found")
            print(paired(names, cameras, (found[names[0]], found[names[1]]), options.score)[2], flush=True)


if __name__ == "__main__":
    main()
