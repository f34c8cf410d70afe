"""``tmor_train recognize``: what the people of a video do, as a timeline, JSON and an annotated video."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from posecap.builtin import DEFAULT_PIPELINE
from posecap.terminal import COMPLETE, Commands, command, count_text

if TYPE_CHECKING:
    from posecap.files import Existing
    from tmor_train.recognition import Recognition

_NOTES = """\
examples:
  tmor_train recognize video.mp4 --from runs/stage2 --texts "doing push-ups" squatting
  tmor_train recognize video.mp4 --from runs/stage1 --examples exercises

--texts needs a run of stage 2, trained with vectors of the pipeline's text model. --examples takes any run and does not
train it: DIR has a folder of videos for each class. Scores are cosines; the nearest class is named even if none fits.
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add ``recognize``."""
    parser = command(
        commands, "recognize", _recognize, about="name what the people of a video do, over time", more=_NOTES
    )
    option = parser.add_argument
    option("video", metavar="VIDEO", help="a file, or a URL that the pipeline fetches")
    option(
        "--from",
        dest="run",
        required=True,
        metavar="RUN",
        help="a run's folder (its newest checkpoint) or a checkpoint",
    )
    classes = parser.add_mutually_exclusive_group(required=True)
    classes.add_argument("--texts", nargs="+", default=(), metavar="TEXT", help="the classes in words, two or more")
    classes.add_argument("--examples", metavar="DIR", help="a folder with a folder of videos for each class")
    option(
        "--pipeline",
        default=DEFAULT_PIPELINE,
        metavar="NAME",
        help="of posecap, or a pipeline's file, which is executed (default: %(default)s)",
    )
    option(
        "--prompts",
        choices=("plain", "person", "templates"),
        default="plain",
        help="wordings of the texts: as they are, in one sentence, or in sixteen (default: %(default)s)",
    )
    option("--window", type=float, default=3.0, metavar="S", help="seconds of a window (default: %(default)s)")
    option("--stride", type=float, default=0.5, metavar="S", help="seconds to the next one (default: %(default)s)")
    option("--output", type=Path, metavar="FILE", help="the JSON to write (default: NAME.actions.json, here)")
    option("--video-output", type=Path, metavar="FILE", help="the annotated mp4 (default: beside the JSON)")
    option("--no-video", action="store_true", help="write no annotated video")
    option("--overwrite", action="store_true", help="replace files that are there")
    option("--device", default="cpu", metavar="NAME", help="of the encoder: auto, cpu, cuda (default: %(default)s)")


def _recognize(options: argparse.Namespace) -> int:
    from posecap.files import atomic_path
    from tmor_train.recognition import recognizer

    found_by = recognizer(
        options.run,
        texts=tuple(options.texts),
        examples=options.examples,
        pipeline=options.pipeline,
        prompt_set=options.prompts,
        window_seconds=options.window,
        stride_seconds=options.stride,
        device=options.device,
    )
    output = options.output or Path(f"{Path(options.video.rstrip('/')).stem}.actions.json")
    annotated = None if options.no_video else options.video_output or output.with_suffix(".mp4")
    existing: Existing = "replace" if options.overwrite else "refuse"
    with atomic_path(output, existing=existing) as part:  # refused before the work, where it is there
        found = found_by.recognize(options.video, annotated=annotated, existing=existing)
        part.write_text(json.dumps(found.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(_lines(found)))
    print(f"done: {output}" + (f", {annotated}" if annotated else ""))
    return COMPLETE


def _lines(found: Recognition) -> Iterator[str]:
    """The timeline, what was skipped, and what it took."""
    people = "1 person" if len(found.people) == 1 else f"{len(found.people)} people"
    yield f"{found.video}: {people}, {count_text(found.frames, 'frame')}, {count_text(found.windows, 'window')}"
    for person in found.people:
        yield f"person {person.number}" + ("" if person.segments else ": too little is seen to say")
        for segment in person.segments:
            yield f"  {segment.start_seconds:7.1f} – {segment.end_seconds:.1f} s  {segment.score:5.2f}  {segment.label}"
    for lost in found.skipped:
        yield f"skipped {lost.start_seconds:.1f} – {lost.end_seconds:.1f} s: {lost.reason}, {lost.detail}"
    for note in found.notes:
        yield f"note: {note}"
    each = 1000 * found.embedding_seconds / max(found.windows, 1)
    yield f"{found.seconds:.1f} s in all, {found.frames / found.seconds:.0f} frames a second; {each:.1f} ms a window"
