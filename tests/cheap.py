"""Pipelines of real stages with engines that take microseconds, and a folder of small films to build from.

cheap.manifest(folder, pipeline="…")        films, rows.csv, pipeline.py and manifest.yaml; returns the manifest's path
cheap.runs(manifest)                        what engines did since this was asked last: "detect", "pose" …
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests import small

ENGINES = """\
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from posecap.engines.local_file import LocalFile
from posecap.engines.pyav import PyAV
from posecap.interfaces import Detections
from posecap.pipeline import Pipeline
from posecap.stage import Engine, Reject
from posecap.stages.caption import WriteCaptions
from posecap.stages.decode import Decode
from posecap.stages.download import Download
from posecap.stages.pack import Embed
from posecap.stages.filter_people import FilterPeople
from posecap.stages.pack import Pack
from posecap.stages.pose import Pose, Skeleton, Track
from posecap.stages.smooth import SavitzkyGolay, Smooth
from posecap.stages.decode import Split
from posecap.types import Tracks

FOLDER = Path(__file__).parent


def did(what):
    with (FOLDER / "runs").open("a") as runs:
        runs.write(what + "\\n")


@dataclass(frozen=True)
class File(LocalFile):
    name: ClassVar[str] = "file"

    def fetch(self, uri, folder, *, limits, span=None):
        did("fetch")
        return LocalFile.fetch(self, uri, folder, limits=limits, span=span)


@dataclass(frozen=True)
class Blobs(Engine):
    # Nobody in the dark, else people whose boxes follow the brightness of the frame.
    name: ClassVar[str] = "blobs"
    people: int = 2
    layout: str | None = None

    def detect(self, frames_THW3):
        did("detect")
        found = []
        for mean in frames_THW3.mean((1, 2, 3)) / 255:
            count = 0 if mean < 0.1 else self.people
            at = np.arange(count, dtype=np.float32)[:, None] * 15 + np.float32(mean)
            boxes = at + np.float32([3, 2, 13, 40])
            found.append(Detections(boxes_N4=boxes, scores_N=np.full(count, 0.5 + mean / 3, np.float32)))
        return found


@dataclass(frozen=True)
class InOrder(Engine):
    name: ClassVar[str] = "in-order"

    def track(self, detections, pts_T, *, layout, frames_THW3):
        people = max(len(found.scores_N) for found in detections)
        boxes, scores = np.zeros((people, len(pts_T), 4), np.float32), np.zeros((people, len(pts_T)), np.float32)
        for t, found in enumerate(detections):
            boxes[: len(found.scores_N), t], scores[: len(found.scores_N), t] = found.boxes_N4, found.scores_N
        return Tracks(boxes_MT4=boxes, scores_MT=scores, layout=layout)


@dataclass(frozen=True)
class Grid(Engine):
    # Joints at places of the box that tremble with the frame's colours; later people are seen less.
    name: ClassVar[str] = "grid"
    width: float = 1.0
    layout: str = "coco17"

    def estimate(self, frames_THW3, tracks):
        did("pose")
        people, frames = tracks.scores_MT.shape
        joints = np.zeros((people, frames, 17, 3), np.float32)
        places = np.stack([np.arange(17) % 4 / 4, np.arange(17) / 17], -1).astype(np.float32)
        colours = frames_THW3.reshape(frames, -1, 3).mean(1).astype(np.float32) / 64
        sizes = tracks.boxes_MT4[..., 2:] - tracks.boxes_MT4[..., :2]
        joints[..., :2] = tracks.boxes_MT4[:, :, None, :2] + places * sizes[:, :, None] * self.width
        joints[..., :2] += (colours[:, None, :2] * np.arange(17, dtype=np.float32)[:, None]) % 7
        joints[..., 2] = 0.9
        for person in range(1, people):
            joints[person, :: person + 1, :, 2] = 0.1
        joints[tracks.scores_MT == 0] = 0
        return joints


@dataclass(frozen=True)
class Colours(Engine):
    name: ClassVar[str] = "colours"
    frames: int = 3
    dimension: int = 3

    def frame_indices(self, clip):
        return np.linspace(0, clip.frame_count - 1, self.frames).round().astype(int).tolist()

    def embed_video(self, frames_THW3):
        did("video")
        mean = frames_THW3.mean((0, 1, 2)) + 1
        return (mean / np.linalg.norm(mean)).astype(np.float32)


@dataclass(frozen=True)
class Letters(Engine):
    name: ClassVar[str] = "letters"
    dimension: int = 5

    def embed_text(self, sentences):
        did("text")
        counts = [[1 + one.count(letter) for letter in "aeiou"[: self.dimension]] for one in sentences]
        vectors = np.array(counts, np.float32).reshape(len(sentences), self.dimension)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@dataclass(frozen=True)
class Words(Engine):
    # Says how bright the frames are, and how many people there are where it looks at them.
    name: ClassVar[str] = "words"
    word: str = "bright"
    longest: int = 100

    def write(self, clip):
        did("write")
        return [f"{self.word} {clip.frames_THW3[:3].mean():.1f} with {clip.tracks.people}"[: self.longest]]


@dataclass(frozen=True)
class WordsOfPeople(Words):
    # Says itself that it looks at nothing of a clip but how many people there are.
    name: ClassVar[str] = "words-of-people"

    def inputs(self, clip):
        return [clip.tracks.people]


@dataclass(frozen=True)
class Bytes(Engine):
    # No video, but as large as one and made of all its frames.
    name: ClassVar[str] = "bytes"
    step: int = 8

    def encode(self, frames_THW3, pts_T):
        did("encode")
        return frames_THW3[:, :: self.step, :: self.step].tobytes() + pts_T.tobytes()


pipeline = Pipeline(
    stages=(
        Download(fetchers=(File(),)),
        Split(shortest_seconds=0.2, longest_seconds=1.0, threshold=30.0),
        Decode(prober=PyAV(), decoders=(PyAV(),), long_side=64),
        Track(detector=Blobs(), tracker=InOrder()),
        Pose(estimator=Grid()),
        FilterPeople(fewest_frames=4, shortest_seconds=0.1, motion=0.0),
        Skeleton(layout="coco17"),
        WriteCaptions(),
        Embed(video=Colours(), text=Letters()),
        Pack(encoder=Bytes(), thumbnail_side=48),
    ),
)


def changed(name, **changes):
    global pipeline
    stages = tuple(replace(one, **changes) if one.name == name else one for one in pipeline.stages)
    pipeline = replace(pipeline, stages=stages)


"""
ROWS: tuple[dict[str, Any], ...] = (
    {"id": "span", "video": "one.mp4", "start": 0.1, "end": 0.7, "label": "walks"},
    {"id": "shots", "video": "two.mp4", "label": "runs"},
    {"id": "dark", "video": "dark.mp4", "label": "nothing"},
    {"id": "broken", "video": "broken.mp4", "label": "lost"},
    {"id": "gone", "video": "gone.mp4", "label": "lost"},
    {"id": "other", "video": "one.mp4", "start": 0.0, "end": 0.5, "label": "jumps", "split": "val"},
)


def films(folder: Path) -> None:
    """Two films of people, of which the second has a cut to the dark and one to another shot, and one of the dark."""
    rng = np.random.default_rng(0)

    def shot(level: int, count: int) -> list[np.ndarray]:
        ground = rng.integers(level, level + 40, (48, 64, 3))
        return [np.clip(ground + 3 * t % 30, 0, 255).astype(np.uint8) for t in range(count)]

    dark = [np.zeros((48, 64, 3), np.uint8)] * 12
    small.film(folder / "one.mp4", shot(90, 30))
    small.film(folder / "two.mp4", [*shot(60, 20), *dark, *shot(170, 45), *shot(90, 3)])
    small.film(folder / "dark.mp4", dark)
    (folder / "broken.mp4").write_bytes((folder / "one.mp4").read_bytes()[:300])


def manifest(
    folder: Path,
    rows: Sequence[dict[str, Any]] = ROWS,
    *,
    pipeline: str = "",
    keep: str = "perception",
    store_video: str = "none",
    rows_per_part: int = 4,
    media: Path | None = None,
) -> Path:
    """A manifest in ``folder``, with films there unless ``media`` has them.

    Args:
        pipeline: lines behind the pipeline, as ``changed("pose", …)``.
        keep: the manifest's ``keep_intermediates``.
    """
    path = small.manifest(folder, rows, rows_per_part=rows_per_part, store_video=store_video, media_root=media or ".")
    path.write_text(f"{path.read_text()}keep_intermediates: {keep}\n")
    (folder / "pipeline.py").write_text(ENGINES + pipeline)
    if media is None and not (folder / "one.mp4").exists():
        films(folder)
    return path


def runs(manifest: Path) -> Counter[str]:
    """What engines did since this was asked last."""
    path = manifest.with_name("runs")
    found = Counter(path.read_text().split()) if path.exists() else Counter[str]()
    path.unlink(missing_ok=True)
    return found
