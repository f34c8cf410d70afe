"""Speed of every engine by batch size, and the share of the models in the time of the stages that use them.

    python benchmarks/engines.py [--only NAME …] [--batches 1 8 64] [--seconds 3] [--concurrency 1 2] [--clips 8]

Detectors see frames of a clip of the demo at most 640 pixels long, pose estimators four people in each of them,
embedders of videos its first eight; embedders of text see sentences. Each engine is compared with itself at the first
batch size. MoveNet, BlazePose, EfficientNet and MiniLM have their real weights; every other engine has random ones in
the published format, which cost the same time, and its line says so. With a GPU, engines that can use it do.

Decoders (``--only decoders``) read the video of that clip at 512 pixels at most, all of it and 16 frames from its
middle on. Their rates are frames per second of CPU time, the process's own, which other programs on the machine change
little; with TorchCodec on a GPU, of the clock.

The chain is decode → detect → track → pose → embed over the same clip again and again, in one worker with one or more
threads. Its share is the seconds that the three models take by themselves, on frames decoded beforehand, divided by the
seconds of the chain.
"""

from __future__ import annotations

import csv
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # tests.random_weights: networks that are only good for tests and for timing
os.environ["POSECAP_RANDOM_WEIGHTS"] = "allow"  # else engines refuse them

import numpy as np  # noqa: E402
from measuring import cpu_seconds, parser_of, threaded_seconds  # noqa: E402

from posecap.engines.blazepose import BlazePose  # noqa: E402
from posecap.engines.decord import Decord  # noqa: E402
from posecap.engines.efficientnet import EfficientNetLite0, EfficientNetLite0Onnx  # noqa: E402
from posecap.engines.minilm import MiniLM  # noqa: E402
from posecap.engines.mmpose import RTMPose  # noqa: E402
from posecap.engines.movenet import MoveNet  # noqa: E402
from posecap.engines.pyav import PyAV  # noqa: E402
from posecap.engines.registry_package import RegistryPackage  # noqa: E402
from posecap.engines.rtmdet_onnx import RTMDetOnnx  # noqa: E402
from posecap.engines.rtmo_onnx import RTMOOnnx  # noqa: E402
from posecap.engines.rtmpose_onnx import RTMPoseOnnx  # noqa: E402
from posecap.engines.torchcodec import TorchCodec  # noqa: E402
from posecap.engines.transformers_detector import TransformersDetector  # noqa: E402
from posecap.engines.ultralytics import Ultralytics, UltralyticsByteTrack  # noqa: E402
from posecap.engines.viclip import ViCLIPEmbedder  # noqa: E402
from posecap.engines.viclip_model import VICLIP_B16  # noqa: E402
from posecap.engines.vitpose import ViTPose  # noqa: E402
from posecap.files import file_sha256  # noqa: E402
from posecap.interfaces import DecoderGaveUpError, Limits  # noqa: E402
from posecap.run.execute import execute  # noqa: E402
from posecap.stage import Engine, Stage  # noqa: E402
from posecap.stages.decode import Decode, Split  # noqa: E402
from posecap.stages.pose import Pose, Track  # noqa: E402
from posecap.types import CaptionedClip, Clip, Pixels, Row, Span, TrackedClip, Tracks, Video  # noqa: E402
from posecap.video import working_size  # noqa: E402
from tests.random_weights import mmpose, transformers_detector, ultralytics, viclip, vitpose  # noqa: E402

SENTENCE = "a person balances on a treadmill"
PEOPLE = 4
"""In each frame that pose estimators see."""


@dataclass(frozen=True)
class Contender:
    """An engine to measure.

    Args:
        items: what it processes, for the unit of the printed rate: ``frames``, ``clips`` or ``sentences``.
        make: builds it for a batch size.
        run: calls it with some items of ``feed``.
        feed: items to process, at least as many as the largest batch.
    """

    name: str
    items: str
    make: Callable[[int], Engine]
    run: Callable[[Any, Sequence[Any]], object]
    feed: Sequence[Any]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="engines whose names begin so")
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 8, 64])
    parser.add_argument("--concurrency", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--clips", type=int, default=8, help="that the chain works through (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure (default: %(default)s)")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print(device_words())
    with tempfile.TemporaryDirectory() as folder:
        video, clip = footage()
        for contender in contenders(Path(folder), clip.frames_THW3):
            if not options.only or any(contender.name.startswith(begin) for begin in options.only):
                measure(contender, options.batches, options.seconds)
        if not options.only or "decoders" in options.only:
            decoders(video.path, options.seconds)
        if not options.only or "chain" in options.only:
            chain(Path(folder), video, clip, options.concurrency, options.clips)


def device_words() -> str:
    import torch

    if torch.cuda.is_available():
        return f"GPU: {torch.cuda.get_device_name()}; torch {torch.__version__}"
    return f"CPU, one thread; torch {torch.__version__}"


def footage() -> tuple[Video, Clip]:
    """One of the demo's clips."""
    with (ROOT / "manifests/demo.csv").open(newline="", encoding="utf-8") as file:
        cells = next(row for row in csv.DictReader(file) if row["id"] == "balance-cam02")
    path = RegistryPackage().fetch(cells["video"], Path(), limits=Limits()).path
    row = Row(row_id="a", uri=cells["video"], start_seconds=0.0, end_seconds=1.0)
    video = Video(row=row, path=path, source_id=file_sha256(path), size_bytes=path.stat().st_size)
    (cut,) = Split()(video)
    (clip,) = decode_stage()(cut)
    assert isinstance(clip, Clip)
    return video, clip


def decoders(path: Path, seconds: float) -> None:
    """Decode all of a video, and 16 frames of its middle, again and again for some seconds, with each decoder."""
    import torch

    prober = PyAV()
    media = prober.probe(path)
    middle = (media.seconds or 0.0) / 2
    spans = {"whole": None, "16 frames": Span(middle, middle + 16 / media.fps)}
    # Decord does not seek, and leaves a span that begins late to the next decoder unless it may read up to there.
    found: list[tuple[str, Decord | PyAV | TorchCodec]] = [
        ("decord", Decord(reads_over_seconds=middle)),
        ("pyav", prober),
        ("torchcodec", TorchCodec()),
    ]
    if torch.cuda.is_available():
        found.append(("torchcodec cuda", TorchCodec(device="cuda")))
    size = working_size(media, 512)
    print(f"decoders: {media.frame_count} frames of {media.width}x{media.height}, to {size[0]}x{size[1]}")
    for name, decoder in found:
        try:
            decoder.load()
            clock = perf_counter if "cuda" in name else cpu_seconds
            for words, span in spans.items():
                frames, until, since = 0, perf_counter() + seconds, clock()
                while perf_counter() < until:
                    frames += sum(len(b.pts_T) for b in decoder.frames(path, media, span=span, size=size))
                print(f"{name:<28} {words:<10} {frames / (clock() - since):>8.1f} frames/s", flush=True)
        except (ModuleNotFoundError, DecoderGaveUpError) as error:
            print(f"{name:<28} left out: {error}")


def decode_stage() -> Decode:
    return Decode(prober=PyAV(), decoders=(PyAV(),), long_side=640)


def contenders(folder: Path, frames: Pixels) -> list[Contender]:
    """Every engine but decoders; networks with random weights are written into ``folder`` when they are needed."""

    written: dict[str, str] = {}

    def random(write: Callable[[Path], Path], name: str) -> str:
        if name not in written:
            written[name] = str(write(folder / name))
        return written[name]

    def yolo(name: str, batch: int) -> Ultralytics:
        write = partial(ultralytics.write, architecture=name)
        return Ultralytics(weights_from=random(write, f"{name}.pt"), batch=batch)

    def b16(batch: int) -> ViCLIPEmbedder:
        return ViCLIPEmbedder(
            weights_from=random(partial(viclip.write, sizes=VICLIP_B16), "viclip.safetensors"), batch=batch
        )

    clips = [frames[:8]] * 64

    def detect(engine: Any, feed: Sequence[Any]) -> object:
        return engine.detect(np.stack(feed))

    def pose(engine: Any, feed: Sequence[Any]) -> object:
        return engine.estimate(np.stack(feed), standing_people(frames[: len(feed)]))

    def video(engine: Any, feed: Sequence[Any]) -> object:
        return engine.embed_videos(feed) if hasattr(engine, "embed_videos") else [engine.embed_video(f) for f in feed]

    def text(engine: Any, feed: Sequence[Any]) -> object:
        return engine.embed_text(feed)

    many = list(frames) * (1 + 64 // len(frames))
    return [
        Contender("movenet 512", "frames", lambda n: MoveNet(imgsz=512), detect, many),
        Contender("blazepose", "frames", lambda n: BlazePose(), detect, many),
        Contender("yolo11n, random", "frames", lambda n: yolo("yolo11n", n), detect, many),
        Contender("yolo26n, random", "frames", lambda n: yolo("yolo26n", n), detect, many),
        Contender("yolo26n-pose, random", "frames", lambda n: yolo("yolo26n-pose", n), detect, many),
        Contender(
            "rtmdet-n onnx, random",
            "frames",
            lambda n: RTMDetOnnx(size="n", weights_from=random(mmpose.rtmdet_onnx, "rtmdet.onnx"), batch=n),
            detect,
            many,
        ),
        Contender(
            "rtmo-t onnx, random",
            "frames",
            lambda n: RTMOOnnx(size="t", weights_from=random(mmpose.rtmo_onnx, "rtmo.onnx"), batch=n),
            detect,
            many,
        ),
        Contender(
            "rf-detr-base, random",
            "frames",
            lambda n: TransformersDetector(
                checkpoint=random(transformers_detector.rf_detr_base, "rf-detr-base"), batch=n
            ),
            detect,
            many,
        ),
        Contender(
            f"rtmpose-t mmpose, {PEOPLE} people, random",
            "frames",
            lambda n: RTMPose(size="t", weights_from=random(mmpose.rtmpose, "rtmpose.pth"), batch=n * PEOPLE),
            pose,
            many,
        ),
        Contender(
            f"rtmpose-t onnx, {PEOPLE} people, random",
            "frames",
            lambda n: RTMPoseOnnx(size="t", weights_from=random(mmpose.rtmpose_onnx, "rtmpose.onnx"), batch=n * PEOPLE),
            pose,
            many,
        ),
        Contender(
            f"vitpose-base-simple, {PEOPLE} people, random",
            "frames",
            lambda n: ViTPose(weights_from=random(vitpose.write, "vitpose.safetensors"), batch=n * PEOPLE),
            pose,
            many,
        ),
        Contender("efficientnet-lite0", "clips", lambda n: EfficientNetLite0(), video, clips),
        Contender("efficientnet-lite0 onnx", "clips", lambda n: EfficientNetLite0Onnx(), video, clips),
        Contender("viclip-b16 video, random", "clips", b16, video, clips),
        Contender("minilm", "sentences", lambda n: MiniLM(), text, sentences()),
        Contender("viclip-b16 text, random", "sentences", b16, text, sentences()),
    ]


def sentences() -> list[str]:
    """All different, since engines cache the vectors of sentences."""
    return [f"{SENTENCE}, {number}" for number in range(100_000)]


def standing_people(frames: Pixels) -> Tracks:
    """People who stand beside one another throughout."""
    count, height, width = frames.shape[:3]
    boxes = np.zeros((PEOPLE, count, 4), np.float32)
    for m in range(PEOPLE):
        boxes[m] = m * width / PEOPLE, 0.1 * height, (m + 1) * width / PEOPLE, 0.9 * height
    return Tracks(boxes_MT4=boxes, scores_MT=np.ones((PEOPLE, count), np.float32))


def measure(contender: Contender, batches: Sequence[int], seconds: float) -> None:
    """Print a contender's rate for each batch size, each measured for some seconds."""
    baseline = None
    for batch in batches:
        engine = contender.make(batch)
        engine.load()
        starts = cycle(range(0, len(contender.feed) - batch + 1, batch))
        contender.run(engine, contender.feed[-batch:])
        done, since = 0, perf_counter()
        while perf_counter() - since < seconds:
            start = next(starts)
            contender.run(engine, contender.feed[start : start + batch])
            done += batch
        rate = done / (perf_counter() - since)
        baseline = baseline or rate
        ratio = "" if batch == batches[0] else f"   {rate / baseline:.2f} x batch {batches[0]}"
        print(f"{contender.name:<40} batch {batch:<4} {rate:>10.2f} {contender.items}/s{ratio}", flush=True)


@dataclass(frozen=True)
class EmbedVideo(Stage):
    """The embedding of a clip's pixels, as :class:`posecap.stages.pack.Embed` does it, without sentences."""

    name = "embed_video"
    takes = TrackedClip
    gives = CaptionedClip

    video: ViCLIPEmbedder | EfficientNetLite0

    def __call__(self, item: Any) -> Any:
        self.video.embed_video(item.frames_THW3[self.video.frame_indices(item)])
        yield item


def chain(folder: Path, video: Video, clip: Clip, thread_counts: Sequence[int], clips: int) -> None:
    """Print clips a second of the chain, by number of threads, and the models' share of its time."""
    import torch

    small = not torch.cuda.is_available()
    frames, crops = (8, 8) if small else (64, 256)  # a CPU gains nothing from more, and pays for the memory
    yolo = Ultralytics(weights_from=str(ultralytics.write(folder / "yolo11n.pt")), batch=frames, max_det=PEOPLE)
    rtmpose = RTMPose(size="t", weights_from=str(mmpose.rtmpose(folder / "rtmpose.pth")), batch=crops)
    if small:
        embedder: EfficientNetLite0 | ViCLIPEmbedder = EfficientNetLite0()
    else:
        b16 = viclip.write(folder / "viclip.safetensors", sizes=VICLIP_B16)
        embedder = ViCLIPEmbedder(weights_from=str(b16))
    stages = (
        decode_stage(),
        Track(yolo, UltralyticsByteTrack(track_low_thresh=0.01, track_high_thresh=0.05, begin=0.05)),
        Pose(rtmpose),
        EmbedVideo(embedder),
    )
    for stage in stages:
        stage.load()
    (cut,) = Split()(video)
    result = execute(stages, cut)  # everything once, so that nothing is loaded while the clock runs
    if not result.outputs:
        raise SystemExit(f"the chain's clip was not kept: {result.clips or result.error}")
    since = perf_counter()
    yolo.detect(clip.frames_THW3)
    tracks = result.outputs[0].tracks
    rtmpose.estimate(clip.frames_THW3, tracks)
    embedder.embed_video(clip.frames_THW3[embedder.frame_indices(clip)])
    bare = perf_counter() - since
    print(f"chain: a clip of {clip.frame_count} frames with {tracks.people} people; bare models {bare:.2f} s")
    for count in thread_counts:
        spent = threaded_seconds(range(clips), [lambda _: execute(stages, cut)] * count)
        print(
            f"chain, {count} threads: {clips / spent:.2f} clips/s, share of bare-model speed {bare * clips / spent:.2f}"
        )


if __name__ == "__main__":
    main()
