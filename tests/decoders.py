"""What tests of decoders share: reading a file with a decoder, and what a player shows of the file."""

from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import pytest

from posecap.engines.pyav import PyAV
from posecap.interfaces import Decoder, Frames
from posecap.stage import Engine
from posecap.types import Media, Span

MEDIA = Media(
    width=160,
    height=96,
    fps=30.0,
    codec="h264",
    rotation_degrees=0,
    seconds=2.0,
    container="mov,mp4,m4a,3gp,3g2,mj2",
)
"""Of an MP4 file of two seconds whose container does not state how many frames it has."""
_UNTIMED = ("avi", "h264", "hevc", "mpegvideo", "ivf")
"""FFmpeg's formats without presentation times, or not exact ones (IVF): versions of FFmpeg differ by a frame or two."""


def installed(decoder: Engine) -> bool:
    """Whether a decoder's package is there, and the shared libraries that it needs."""
    try:
        decoder.load()
    except ModuleNotFoundError:
        return False
    return True


def installed_or_skip(decoder: Engine) -> None:
    """Load a decoder, or skip the test with what is missing."""
    try:
        decoder.load()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


def read(decoder: Decoder, path: Path, span: Span | None = None, size: tuple[int, int] = (160, 96)) -> Frames:
    """All blocks of a decoder as one, their times compared with those of a player (:func:`check_times`)."""
    media = PyAV().probe(path)
    assert decoder.accepts(media)
    blocks = list(decoder.frames(path, media, span=span, size=size))
    empty = Frames(np.zeros((0, *size[::-1], 3), np.uint8), np.zeros(0))
    fields = [np.zeros(len(b.pts_T), np.bool_) if b.deinterlaced_T is None else b.deinterlaced_T for b in blocks]
    frames = Frames(
        np.concatenate([b.frames_THW3 for b in (empty, *blocks)]),
        np.concatenate([b.pts_T for b in (empty, *blocks)]),
        np.concatenate(fields) if fields and any(field.any() for field in fields) else None,
        tuple(time for b in blocks for time in b.damaged),
    )
    check_times(path, frames.pts_T)
    return frames


def check_times(path: Path, pts_T: np.ndarray) -> None:
    """Compare times of frames with those at which a player shows frames of the file: each is one of them.

    To a millisecond, to which Matroska rounds; to two frames where the format has no presentation times, and to one
    where two frames have one time. From two frames before a place where recordings were joined a player's clock and
    ours may differ, and nothing is compared.
    """
    media, known = PyAV().probe(path), player_times(path)
    assert (np.diff(pts_T) > 0).all()
    found = np.asarray(pts_T)[np.asarray(pts_T) < min(media.joins, default=np.inf) - 2 / (media.fps or 25)]
    if not len(known) or not len(found):
        return
    repeated = (np.diff(known) < 1e-6).any()
    near = (2.1 if media.container in _UNTIMED else 1.0 if repeated else 0.0) / (media.fps or 25) + 0.0011
    apart = np.abs(found[:, None] - known[None]).min(axis=1)
    assert apart.max() <= near, f"{path.name}: frames at {found[apart > near][:3]} s, a player's at {known[:3]} s"


def player_times(path: Path) -> np.ndarray:
    """When the frames of FFmpeg's best video stream are shown, in order, in seconds from where the file's first stream
    starts: by ffprobe, or by PyAV's packets where ffprobe is not on PATH."""
    return _player_times(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _player_times(path: Path, version: int) -> np.ndarray:
    stream = PyAV().probe(path).stream
    return np.sort(_by_ffprobe(path, stream) if shutil.which("ffprobe") else _by_packets(path, stream))


def _by_ffprobe(path: Path, stream: int) -> np.ndarray:
    wanted = "frame=best_effort_timestamp_time:stream=avg_frame_rate:format=start_time"
    command = ["ffprobe", "-v", "quiet", "-of", "json", "-select_streams", str(stream), "-show_entries", wanted]
    probed = json.loads(subprocess.run([*command, str(path)], capture_output=True, check=False).stdout or "{}")
    start = float(probed.get("format", {}).get("start_time", 0.0))
    if -0.03 < start < 0:  # Older versions count from the silence with which sound encoders begin.
        start = 0.0
    rate = Fraction(next(iter(probed.get("streams", ())), {}).get("avg_frame_rate", "0/0").replace("0/0", "25"))
    times: list[float] = []
    for frame in probed.get("frames", ()):  # one without a time, as the last one of an MPEG-PS, follows the one before
        follows = times[-1] + 1 / float(rate) if times else start
        times.append(float(frame.get("best_effort_timestamp_time", follows)))
    return np.array(times) - start


def _by_packets(path: Path, stream: int) -> np.ndarray:
    with av.open(str(path), metadata_errors="ignore") as container:
        start = (container.start_time or 0) / 1e6
        times = [
            float((packet.dts if packet.pts is None else packet.pts) * packet.time_base) - start
            for packet in container.demux(container.streams[stream])
            if packet.size and not packet.is_discard and (packet.pts is not None or packet.dts is not None)
        ]
    return np.array(times)
