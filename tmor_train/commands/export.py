"""``tmor_train embed``, ``export`` and ``recognize``: an encoder's embeddings as a Parquet file, an encoder as ONNX,
and what the people of a video do, as a timeline, JSON and an annotated video, or live, what those in front of a camera
are doing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from posecap.builtin import DEFAULT_PIPELINE
from posecap.terminal import COMPLETE, Commands, command, count_text
from tmor_train import legacy

if TYPE_CHECKING:
    from posecap.files import Existing
    from tmor_train.data_sources import DataConfig
    from tmor_train.live import Camera
    from tmor_train.recognition import Recognition, Recognizer


_EMBED_EXAMPLES = """\
examples:
  tmor_train embed runs/stage1 --data datasets/demo --output embeddings.parquet
  tmor_train embed runs/stage1 --sets penn_action:test --folder datasets/skeletons --output penn.parquet
"""
_EXPORT_NOTES = """\
The file's metadata says how clips are brought into the form that it takes, and has the SHA-256 of the checkpoint and of
the file itself. It is run in onnxruntime beside torch on batches of several sizes; if they differ by more than 1e-4 of
the largest output, no file is left. In float16 and int8, embeddings of the clips of --data or --sets are compared; int8
is scaled by half of them, and needs some.

examples:
  tmor_train export runs/stage2 --output encoder.onnx
  tmor_train export runs/stage2 --output encoder_int8.onnx --precision int8 --data datasets/mine
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add ``embed``, ``export`` and ``recognize``."""
    parser = command(
        commands, "embed", _embed, about="write the embeddings of all clips of a set", more=_EMBED_EXAMPLES
    )
    _add_encoder(parser, writes="the Parquet file")
    _add_clips(parser, what="posecap datasets, folders or URLs")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="clips at a time (default: %(default)s)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the encoder (default: %(default)s)",
    )
    parser = command(
        commands, "export", _export, about="write an encoder as an ONNX file, checked against torch", more=_EXPORT_NOTES
    )
    _add_encoder(parser, writes="the ONNX file")
    parser.add_argument("--frames", type=int, metavar="T", help="frames of a clip (default: as in training)")
    parser.add_argument("--persons", type=int, metavar="M", help="people of a clip (default: as in training)")
    parser.add_argument(
        "--precision",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="of the file's weights and products (default: %(default)s)",
    )
    _add_clips(parser, what="posecap datasets to compare with, folders or URLs")
    _add_recognize(commands)


def _add_clips(parser: argparse.ArgumentParser, *, what: str) -> None:
    """Add the arguments that name a set of clips; ``what`` says what ``--data`` is."""
    parser.add_argument("--data", nargs="+", default=(), metavar="SHARDS", help=what)
    parser.add_argument("--split", metavar="NAME", help="the split to read of them (default: all)")
    parser.add_argument(
        "--sets", nargs="+", default=(), metavar="NAME", help="published skeleton sets, e.g. penn_action"
    )
    parser.add_argument(
        "--folder", default="datasets/skeletons", metavar="DIR", help="where the sets lie (default: %(default)s)"
    )


def _add_encoder(parser: argparse.ArgumentParser, *, writes: str) -> None:
    """Add the arguments of both commands; ``writes`` is the file that ``--output`` names, in words."""
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a checkpoint, a run's folder (its newest one), or UNIK's weights"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=f"{writes} to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    parser.add_argument(
        "--of",
        type=legacy.encoder_word,
        choices=("ema", "online"),
        help="which of the run's encoders: the EMA over its steps, or the one that was trained "
        "(default: the one whose features were clustered)",
    )


def _embed(options: argparse.Namespace) -> int:
    """Write embeddings; returns the exit code."""
    from tmor_train.data_sources import motions_of
    from tmor_train.pretrained.encoder import embed_to_parquet, identity, load

    data = _clips(options)
    encoder = load(options.checkpoint, of=options.of, device=options.device, precision=options.precision)
    motions = motions_of(data)
    began = monotonic()
    clips = embed_to_parquet(
        encoder,
        motions,
        options.output,
        about=identity(data, motions),
        batch=options.batch,
        existing="replace" if options.overwrite else "refuse",
    )
    seconds = monotonic() - began
    print(
        f"{options.output}: {clips:,} embeddings by {encoder.path.name} ({encoder.of}), {clips / seconds:.0f} clips/s"
    )
    return COMPLETE


def _clips(options: argparse.Namespace) -> DataConfig:
    """The set of clips that the options name."""
    from tmor_train.data_sources import DataConfig

    return DataConfig(shards=tuple(options.data), split=options.split, sets=tuple(options.sets), folder=options.folder)


def _export(options: argparse.Namespace) -> int:
    """Write an encoder as ONNX and say what it takes and gives; returns the exit code."""
    from tmor_train.data_sources import motions_of
    from tmor_train.pretrained.encoder import load
    from tmor_train.pretrained.export import export

    clips = motions_of(_clips(options)) if options.data or options.sets else None
    encoder = load(options.checkpoint, of=options.of)
    exported = export(
        encoder,
        options.output,
        frames=options.frames,
        persons=options.persons,
        precision=options.precision,
        clips=clips,
        existing="replace" if options.overwrite else "refuse",
    )
    scale = encoder.sampling.normalise.screen
    for name, shape in exported.inputs.items():
        print(f"{name} ({', '.join(map(str, shape))}): {_meaning(name, encoder.sampling.layout, scale)}")
    outputs = " and ".join(exported.outputs)
    print(f"gives {outputs}; differs from torch by at most {exported.difference:.1e} of the largest")
    if options.precision != "float32":
        of = "clips" if clips is not None else "made-up clips"
        print(
            f"embeddings of {of} in {options.precision}: mean cosine {exported.cosine:.4f} with torch's, less the mean"
        )
    print(f"checkpoint {encoder.path.name}, SHA-256 {encoder.sha256}; of the file itself {exported.sha256}")
    print(f"done: {exported.path}")
    return COMPLETE


def _meaning(name: str, layout: str, scale: str) -> str:
    """An input of the ONNX file in words: its axes, or what its values mean."""
    if name == "present":
        return "1 for a person who is in a frame, else 0"
    return f"clips, coordinates, frames, joints of {layout}, people; scaled by {scale!r}, 0 where a joint is not seen"


_STREAMS = ("rtsp", "rtsps", "rtmp", "udp", "rtp", "srt", "tcp")
_NOTES = """\
examples:
  tmor_train recognize video.mp4 --from runs/stage2 --texts "doing push-ups" squatting
  tmor_train recognize video.mp4 --from runs/stage1 --examples exercises
  tmor_train recognize 0 --from runs/stage1 --examples exercises --onnx encoder_int8.onnx
  tmor_train recognize video.mp4 --live --from runs/stage1 --examples exercises

--texts needs a run of stage 2, trained with vectors of the pipeline's text model. --examples takes any run and does not
train it: DIR has a folder of videos for each class. Scores of texts are cosines, those of examples near 1 for
the class that they are as; the nearest class is named even if none fits.

A camera's number, a stream (rtsp://, rtmp://, udp://, srt://) and - for a video on the standard input are recognised
live, and so is a file with --live, at its own pace: a line for every person and stride, with the time from the newest
frame to its scores. --output then writes them as JSON lines. Frames that come faster than they can be worked on are
dropped and counted. Ctrl-C ends it.
"""


def _add_recognize(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add ``recognize``."""
    parser = command(
        commands, "recognize", _recognize, about="name what the people of a video do, over time", more=_NOTES
    )
    option = parser.add_argument
    option("video", metavar="VIDEO", help="a file, a URL that the pipeline fetches, or a camera's number, stream or -")
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
    option("--onnx", metavar="FILE", help="embed with this file, which `tmor_train export` made of the same checkpoint")
    option("--live", action="store_true", help="play a file at its own pace, as a camera would")
    option("--fps", type=float, default=15.0, metavar="N", help="frames a second, of cameras (default: %(default)s)")
    option(
        "--output", type=Path, metavar="FILE", help="the JSON to write (default: NAME.actions.json, here; live: none)"
    )
    option("--video-output", type=Path, metavar="FILE", help="the annotated mp4 (default: beside the JSON)")
    option("--no-video", action="store_true", help="write no annotated video")
    option("--overwrite", action="store_true", help="replace files that are there")
    option("--device", default="cpu", metavar="NAME", help="of the encoder: auto, cpu, cuda (default: %(default)s)")


def _recognize(options: argparse.Namespace) -> int:
    from posecap.files import atomic_path
    from tmor_train.pretrained.encoder import load
    from tmor_train.recognition import recognizer

    found_by = recognizer(
        load(options.run, device=options.device, onnx=options.onnx),
        texts=tuple(options.texts),
        examples=options.examples,
        pipeline=options.pipeline,
        prompt_set=options.prompts,
        window_seconds=options.window,
        stride_seconds=options.stride,
    )
    if options.live or _is_camera(options.video):
        return _live(found_by, options)
    output = options.output or Path(f"{Path(options.video.rstrip('/')).stem}.actions.json")
    annotated = None if options.no_video else options.video_output or output.with_suffix(".mp4")
    existing: Existing = "replace" if options.overwrite else "refuse"
    with atomic_path(output, existing=existing) as part:  # refused before the work, where it is there
        found = found_by.recognize(options.video, annotated=annotated, existing=existing)
        part.write_text(json.dumps(found.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(_lines(found)))
    print(f"done: {output}" + (f", {annotated}" if annotated else ""))
    return COMPLETE


def _is_camera(video: str) -> bool:
    """Whether it is a camera by its name: a number, the standard input, or a stream."""
    return video.isdecimal() or video == "-" or video.partition("://")[0].lower() in _STREAMS


def _live(by: Recognizer, options: argparse.Namespace) -> int:
    """Print and write what is seen until the camera ends or Ctrl-C is pressed; returns the exit code."""
    from posecap.files import atomic_path
    from tmor_train.live import Camera, watch

    camera, moments = Camera(options.video, fps=options.fps), []
    existing: Existing = "replace" if options.overwrite else "refuse"
    with ExitStack() as stack:
        output = stack.enter_context(atomic_path(options.output, existing=existing)) if options.output else None
        lines = stack.enter_context(output.open("w", encoding="utf-8")) if output else None
        watching = stack.enter_context(closing(watch(by, camera)))
        try:
            for moment in watching:
                moments.append((moment.latency_seconds, moment.busy_seconds))
                for one in moment.people:
                    print(
                        f"{moment.seconds:7.1f} s  person {one.number}  {one.score:5.2f}  {one.label}  "
                        f"({1000 * moment.latency_seconds:.0f} ms)",
                        flush=True,
                    )
                if lines:
                    lines.write(json.dumps(asdict(moment), ensure_ascii=False) + "\n")
        except KeyboardInterrupt:
            pass  # how it is meant to end
    for note in by.notes:
        print(f"note: {note}")
    print(_live_summary(camera, moments))
    return COMPLETE


def _live_summary(camera: Camera, moments: Sequence[tuple[float, float]]) -> str:
    """What became of the frames, and how late scores were; ``moments`` are latencies and times of work, in seconds."""
    frames = (
        f"{count_text(camera.frames, 'frame')}, {camera.dropped} of them dropped, "
        f"{camera.passed_over} passed over above {camera.fps:g} a second"
    )
    if not moments:
        return f"{frames}; nothing was scored"
    latency_N, busy_N = sorted(late for late, _ in moments), [busy for _, busy in moments]
    half, most = latency_N[len(latency_N) // 2], latency_N[int(0.95 * (len(latency_N) - 1))]
    return (
        f"{frames}; {count_text(len(moments), 'moment')}, from frame to score {1000 * half:.0f} ms (95 %: "
        f"{1000 * most:.0f} ms), {1000 * sum(busy_N) / len(busy_N):.0f} ms of work each"
    )


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
