"""Rerun recordings, one for each clip: ``{split}/{key}.rrd``.

The entities and static values of a recording, whose id is the clip's key::

    video                       AnnotationContext: a class for each person, with the layout's joints and bones
                                AssetVideo, and a VideoFrameReference for each frame, where the clip's video is stored
    video/people                Transform3D: from pixels of the source to those of the stored video, where these differ
    video/people/{person}       Points2D of the joints that are seen, in pixels of the source video, with keypoint_ids
                                (joint), class_ids (person) and the component score; person counts from 0
    video/people/{person}/box   Boxes2D around these joints
    captions                    TextDocument

Frames are on two timelines: ``frame`` (from 0) and ``time`` (the clock of the whole video, in whole nanoseconds). The
property ``clip`` has key, split, label, license and quality, which a catalog of recordings shows as columns. Vectors
are left out, and times are rounded, so that no dataset can be made of it again.

A recording is written before the next clip is read. Two exports differ in the ids that Rerun gives chunks of data.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecap.export import Clips, ExportError, clip_path, joint_boxes, package, picture_size
from posecap.joints import LAYOUTS

if TYPE_CHECKING:
    from posecap.stream import Streamed

_PROPERTIES = ("split", "label", "license", "source", "uri", "fps", "width", "height", "people")
"""Facts among the properties."""


def write(clips: Clips, folder: Path) -> int:
    """Write the recordings; returns their number.

    Raises:
        ExportError: Rerun cannot read a stored video, or the dataset changed meanwhile.
        ModuleNotFoundError: Rerun is not installed.
        ShardError, WhereError: as ``posecap.open``.
    """
    rr = package("rerun", extra="rerun")
    count = 0
    for sample, video in clips.samples_with_video(["joints", "pts", "captions", "facts"]):
        path = folder / clip_path(sample, ".rrd")
        path.parent.mkdir(exist_ok=True)
        _record(rr, path, sample, video)
        # Rerun keeps recordings that nobody holds, with two threads and a few hundred KB each, until it is asked to
        # look for them.
        rr.bindings.flush_and_cleanup_orphaned_recordings()
        count += 1
    return count


def _record(rr: Any, path: Path, sample: Streamed, video: bytes | None) -> None:
    """Write the recording of a clip. Raises ExportError as :func:`write` does."""
    # Without properties of its own: one of them is the time of the export.
    recording = rr.RecordingStream("posecap", recording_id=sample["key"], send_properties=False)
    recording.save(path)
    _describe(rr, recording, sample)
    times = [
        rr.TimeColumn("frame", sequence=range(len(sample["pts"]))),
        rr.TimeColumn("time", duration=sample["pts"].numpy()),
    ]
    if video is not None:
        _add_video(rr, recording, times, sample, video)
    _add_people(rr, recording, times, sample)
    recording.flush()
    recording.disconnect()


def _describe(rr: Any, recording: Any, sample: Streamed) -> None:
    """Log what holds for all frames."""
    facts, layout = sample["facts"], LAYOUTS[sample["facts"]["layout"]]
    recording.send_recording_name(" ".join(filter(None, (facts.get("label"), sample["key"]))))
    known = {name: facts.get(name) for name in _PROPERTIES} | (facts.get("quality") or {})
    values = {name: value for name, value in known.items() if value is not None}
    recording.send_property("clip", rr.AnyValues(key=sample["key"], captions=sample["captions"], **values))
    joints = [rr.AnnotationInfo(id=number, label=name) for number, name in enumerate(layout.names)]
    people = [
        rr.ClassDescription(
            info=rr.AnnotationInfo(id=person, label=f"person {person}"),
            keypoint_annotations=joints,
            keypoint_connections=layout.bones,
        )
        for person in range(facts["people"])
    ]
    recording.log("video", rr.AnnotationContext(people), static=True)
    text = "\n".join(f"- {caption}" for caption in sample["captions"])
    recording.log("captions", rr.TextDocument(text, media_type=rr.MediaType.MARKDOWN), static=True)


def _add_video(rr: Any, recording: Any, times: list[Any], sample: Streamed, video: bytes) -> None:
    """Log the clip's video, a reference to one of its frames for each frame, and how large its pixels are."""
    asset = rr.AssetVideo(contents=video, media_type=rr.MediaType.MP4)
    try:
        shown = asset.read_frame_timestamps_nanos()
    except RuntimeError as error:
        raise ExportError(f"clip {sample['key']}: Rerun cannot read its stored video: {error}") from error
    if len(shown) != len(sample["pts"]):
        raise ExportError(f"clip {sample['key']}: its stored video has {len(shown)} frames of {len(sample['pts'])}")
    recording.log("video", asset, static=True)
    recording.send_columns("video", times, rr.VideoFrameReference.columns_nanos(shown))
    scale = np.divide(_mp4_size(video), picture_size(sample))
    if not np.allclose(scale, 1):
        recording.log("video/people", rr.Transform3D(scale=[*scale.tolist(), 1.0]), static=True)


def _mp4_size(video: bytes) -> tuple[float, float]:
    """Width and height in pixels that the header of an mp4's first track states: the last eight bytes of its box, as
    numbers of 16 and 16 bits (ISO/IEC 14496-12, 8.3.2)."""
    kind = video.index(b"tkhd")
    end = kind - 4 + int.from_bytes(video[kind - 4 : kind])
    return int.from_bytes(video[end - 8 : end - 4]) / 65536, int.from_bytes(video[end - 4 : end]) / 65536


def _add_people(rr: Any, recording: Any, times: list[Any], sample: Streamed) -> None:
    """Log each person's joints and box in each frame; nothing where none is seen."""
    joints_MTJ3 = sample["joints"].numpy()
    seen_MTJ = joints_MTJ3[..., 2] > 0
    boxes_MT4 = joint_boxes(joints_MTJ3)
    for person, (joints_TJ3, seen_TJ) in enumerate(zip(joints_MTJ3, seen_MTJ, strict=True)):
        path, joints_S3 = f"video/people/{person}", joints_TJ3[seen_TJ]
        numbers_S = np.nonzero(seen_TJ)[1]
        counts_T, there_T = seen_TJ.sum(-1), seen_TJ.any(-1)
        points = rr.Points2D.columns(
            positions=joints_S3[:, :2], keypoint_ids=numbers_S, class_ids=np.full(len(numbers_S), person)
        )
        scores = rr.AnyValues.columns(score=joints_S3[:, 2])
        recording.send_columns(path, times, [*points.partition(counts_T), *scores.partition(counts_T)])
        corners_B4 = boxes_MT4[person, there_T]
        boxes = rr.Boxes2D.columns(
            centers=(corners_B4[:, :2] + corners_B4[:, 2:]) / 2,
            half_sizes=(corners_B4[:, 2:] - corners_B4[:, :2]) / 2,
            class_ids=np.full(len(corners_B4), person),
        )
        recording.send_columns(f"{path}/box", times, boxes.partition(there_T.astype(int)))
        recording.log(path, rr.Points2D.from_fields(show_labels=False), static=True)
