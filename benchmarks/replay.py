"""Clips per second of an update that makes new captions and text vectors, where stages and models cost next to nothing.

    python benchmarks/replay.py [--clips 100000] [--clips-per-row 1] [--rows-per-part 1000] [--check]

A dataset is built from rows that are no videos: clips of 48 frames, one person, boxes and joints are made from random
numbers, and vectors of 384 numbers from letters. Then it is updated, by a process of its own with one worker on
threads, to another caption template and another text model. What that takes is what posecap adds to captions and text
model: planning, reading stored results, going on through the stages behind them, writing, hashing and committing.
CPU seconds are those of the process from its start to its end, user and system; ``clips/s`` is the number of clips
divided by them, so that what else runs on the machine hardly counts. With ``--check`` the changed pipeline also builds
anew, and every file of the parts and stored results is compared.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from measuring import parser_of
from update import built, files, size

PIPELINE = '''
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from posecap.files import clip_id, digest
from posecap.pipeline import Pipeline
from posecap.stage import Engine, Stage
from posecap.stages.caption import WriteCaptions
from posecap.stages.filter_people import FilterPeople
from posecap.stages.pack import Embed, Pack
from posecap.stages.pose import Skeleton
from posecap.types import Clip, Media, PosedClip, Row, Span, TrackedClip, Tracks, Video

FRAMES = 48
MEDIA = Media(width=640, height=360, fps=25.0, codec="h264", rotation_degrees=0, seconds=None)
BLACK = np.zeros((FRAMES, 2, 2, 3), np.uint8)


@dataclass(frozen=True)
class Make(Stage):
    """So many clips for each row, one after another in its video."""

    name: ClassVar[str] = "make"
    takes: ClassVar[type] = Row
    gives: ClassVar[type] = Clip

    clips: int = 1

    def __call__(self, item: Row) -> Iterator[Clip]:
        source = digest(item.uri)
        video = Video(row=item, path=Path("nowhere"), source_id=source, size_bytes=1)
        for number in range(self.clips):
            first = 2.0 * number
            span = Span(first, first + FRAMES / 25)
            yield Clip(
                video=video, clip_id=clip_id(source, item.row_id, span), span=span, media=MEDIA, decoder="none",
                frames_THW3=BLACK, pts_T=first + np.arange(FRAMES) / 25,
            )


@dataclass(frozen=True)
class Follow(Stage):
    """One person whose joints walk at random, in steps of a sixteenth of a pixel."""

    name: ClassVar[str] = "follow"
    takes: ClassVar[type] = Clip
    gives: ClassVar[type] = TrackedClip

    def __call__(self, item: Clip) -> Iterator[TrackedClip]:
        rng = np.random.default_rng(int(item.clip_id[:12], 16))
        steps = rng.integers(-16, 17, (1, FRAMES, 17, 2)) / 16
        steps[:, 0] = rng.integers(100, 300, (1, 17, 2))
        scores = rng.integers(512, 1024, (1, FRAMES, 17, 1)) / 1024
        joints = np.concatenate([steps.cumsum(1), scores], -1).astype(np.float32)
        boxes = np.concatenate([joints[..., :2].min(2), joints[..., :2].max(2)], -1)
        tracks = Tracks(
            boxes_MT4=boxes, scores_MT=joints[..., 2].mean(2), joints_MTJ3=joints, layout="coco17"
        )
        yield item.extend(TrackedClip, tracks=tracks)


@dataclass(frozen=True)
class Keep(Stage):
    """The joints that were followed."""

    name: ClassVar[str] = "keep"
    takes: ClassVar[type] = TrackedClip
    gives: ClassVar[type] = PosedClip

    def __call__(self, item: TrackedClip) -> Iterator[PosedClip]:
        yield item.extend(PosedClip, joints_MTJ3=item.tracks.joints_MTJ3, layout="coco17")


@dataclass(frozen=True)
class Black(Engine):
    name: ClassVar[str] = "black"
    dimension: int = 384

    def frame_indices(self, clip: Clip) -> Sequence[int]:
        return [0, FRAMES - 1]

    def embed_video(self, frames_THW3: np.ndarray) -> np.ndarray:
        return np.full(self.dimension, self.dimension**-0.5, np.float32)


@dataclass(frozen=True)
class Letters(Engine):
    name: ClassVar[str] = "letters"
    first: int = 1
    dimension: int = 384

    def embed_text(self, sentences: Sequence[str]) -> np.ndarray:
        vectors = np.full((len(sentences), self.dimension), self.first, np.float32)
        vectors[:, : len(sentences)] += np.eye(len(sentences), dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


pipeline = Pipeline(
    stages=(
        Make(clips=CLIPS),
        Follow(),
        Keep(),
        FilterPeople(motion=0.0),
        Skeleton(layout="coco17"),
        WriteCaptions(templates=("{}", TEMPLATE)),
        Embed(video=Black(), text=Letters(first=FIRST)),
        Pack(thumbnail_side=0),
    )
)
'''
BEFORE, AFTER = ("'a person is {}'", "1"), ("'somebody is {}'", "2")
"""Template and first number of the text model, before and after the change."""


def written(path: Path, clips: int, change: tuple[str, str]) -> None:
    """Write the pipeline."""
    template, first = change
    path.write_text(PIPELINE.replace("CLIPS", str(clips)).replace("TEMPLATE", template).replace("FIRST", first))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--clips-per-row", type=int, default=1)
    parser.add_argument("--rows-per-part", type=int, default=1000)
    parser.add_argument("--check", action="store_true", help="compare with a fresh build of the changed pipeline")
    options = parser.parse_args()
    rows = -(-options.clips // options.clips_per_row)
    with tempfile.TemporaryDirectory(prefix="posecap-bench-") as name:
        folder = Path(name)
        pipeline, manifest, root = folder / "pipeline.py", folder / "manifest.yaml", folder / "dataset"
        lines = "".join(f"{number},{number}.mp4,walking {number % 97}\n" for number in range(rows))
        (folder / "rows.csv").write_text(f"id,video,label\n{lines}")
        manifest.write_text(
            "name: replay\nversion: 1.0.0\nlicense: CC0-1.0\ncontact: somebody@example.com\npipeline: pipeline.py\n"
            f"output: dataset\ntables:\n  - path: rows.csv\nrows_per_part: {options.rows_per_part}\n"
        )
        written(pipeline, options.clips_per_row, BEFORE)
        clips, whole = rows * options.clips_per_row, built(manifest, root)
        stored, samples = size(root, "results") / clips, size(root, "data") / clips
        print(
            f"{clips:,} clips of {rows:,} rows: {stored:,.0f} bytes of stored results a clip, {samples:,.0f} of samples"
        )
        print(f"built   {whole:8.1f} CPU s  {clips / whole:8,.0f} clips/s", flush=True)
        written(pipeline, options.clips_per_row, AFTER)
        seconds = built(manifest, root, "--update")
        print(f"updated {seconds:8.1f} CPU s  {clips / seconds:8,.0f} clips/s", flush=True)
        if options.check:
            fresh = folder / "fresh"
            built(manifest, fresh)
            same = files(root) == files(fresh)
            print(f"bytes of a fresh build: {'equal' if same else 'DIFFERENT'}")
            sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
