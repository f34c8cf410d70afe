"""Recognition by examples, one person's clips left out, and what an encoder costs in float32, float16 and int8.

    python benchmarks/recognize.py VIDEOS --from runs/sets_train --new 3 --picture recognition.png
    python benchmarks/recognize.py VIDEOS --from runs/sets_train --export --sets penn_action:train --folder SKELETONS
    python benchmarks/recognize.py VIDEOS --from runs/sets_train --live

VIDEOS has a folder of videos for each class. ``recognize_people.csv`` says who is in which; those who may be one person
count as one, and videos that it does not list are left out, as are classes of one person. The default pipeline makes
skeletons, ``tmor_train.recognition`` windows of them; a video's class is that with the highest mean score of its
windows, with the windows of all other people as examples.

Rows are raw coordinates (those that the first run's encoder takes, flattened), encoders that were never trained, of the
first run's configuration with several seeds, and runs, each with the mean and with the ridge regressions of several
strengths. With ``--export`` each run, and UNIK of its default size with new weights, is exported in three precisions,
and the rows are of those files: accuracy, mean cosine with float32 less the mean, bytes, and milliseconds of one window
on one thread, beside torch and beside the processor's own rate of products. With ``--live`` every fifth video is
recognised live without dropping a frame, with made-up classes: CPU seconds of all threads for a second of it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time, thread_time

import numpy as np
import torch
from measuring import parser_of
from numpy.typing import NDArray

import tmor_train
from posecap.builtin import pipeline_path
from posecap.pipeline import load_pipeline
from posecap.types import SkeletonClip
from tmor_train.backbones import FEATURES
from tmor_train.data import Clip, Normalise, Sampling, from_clips
from tmor_train.data.dataset import Floats
from tmor_train.data_sources import DataConfig, motions_of
from tmor_train.encoder import EncoderConfig, encoder_of
from tmor_train.live import Camera, watch
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.pretrained.export import OnnxBackbone, export
from tmor_train.recognition import RIDGE, STRIDE_SECONDS, WINDOW_SECONDS, Examples, Recognizer
from tmor_train.training.config import ViewConfig
from tmor_train.video_people import SkeletonStages, seen_windows, video_row

PEOPLE = Path(__file__).with_name("recognize_people.csv")
RIDGES = (0.003, 0.01, RIDGE, 0.1, 1.0)
Scorer = Callable[[Mapping[str, Floats], Floats], Floats]


@dataclass(frozen=True, kw_only=True)
class Footage:
    """Windows of videos: what is embedded, and of each the number of its video; of each video its class and person."""

    windows: tuple[Clip, ...]
    video_N: NDArray[np.int64]
    labels: tuple[str, ...]
    people: tuple[str, ...]
    names: tuple[str, ...]


def footage(videos: Path, people: Mapping[str, str]) -> Footage:
    """Skeletons of the listed videos by the default pipeline, in windows of the first person of each clip."""
    stages = SkeletonStages(load_pipeline(pipeline_path("default", Path.cwd())))
    windows: list[Clip] = []
    video_N: list[int] = []
    names = [name for name in people if (videos / name).is_file()]
    for number, name in enumerate(names):
        for clip, _ in stages.clips(video_row(videos / name)):
            if isinstance(clip, SkeletonClip):
                for person, begin, end in seen_windows(clip, [0], length=WINDOW_SECONDS, stride=STRIDE_SECONDS):
                    windows.append(
                        Clip(
                            key=str(len(windows)),
                            joints_MTJC=np.ascontiguousarray(clip.joints_MTJ3[person : person + 1, begin:end]),
                            layout=clip.layout,
                            width=float(clip.media.width),
                            height=float(clip.media.height),
                        )
                    )
                    video_N.append(number)
    return Footage(
        windows=tuple(windows),
        video_N=np.array(video_N),
        labels=tuple(name.split("/")[0] for name in names),
        people=tuple(people[name] for name in names),
        names=tuple(names),
    )


def left_out(seen: Footage, vectors_ND: Floats, scorer: Scorer) -> list[str]:
    """The class of each video, by the examples of all people but its own."""
    found = []
    class_N = np.array(seen.labels)[seen.video_N]
    person_N = np.array(seen.people)[seen.video_N]
    for video, person in enumerate(seen.people):
        others_N = person_N != person
        examples = {name: vectors_ND[others_N & (class_N == name)] for name in sorted(set(seen.labels))}
        examples = {name: of for name, of in examples.items() if len(of)}
        scores_NK = scorer(examples, vectors_ND[seen.video_N == video])
        found.append(list(examples)[int(scores_NK.mean(0).argmax())])
    return found


def by_ridge(examples: Mapping[str, Floats], vectors_ND: Floats, *, ridge: float) -> Floats:
    return Examples.of(examples, {}, ridge=ridge).scores(vectors_ND)


def by_mean(examples: Mapping[str, Floats], vectors_ND: Floats) -> Floats:
    """Cosines with the mean of each class, less the mean of all: what recognition did before the regression."""
    unit = [of / np.linalg.norm(of, axis=1, keepdims=True) for of in examples.values()]
    mean_KD = np.stack([of.mean(0) for of in unit])
    centred_KD = mean_KD - mean_KD.mean(0)
    centred_ND = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True) - mean_KD.mean(0)
    cosines: Floats = (centred_ND @ (centred_KD / np.linalg.norm(centred_KD, axis=1, keepdims=True)).T) / (
        np.linalg.norm(centred_ND, axis=1, keepdims=True)
    )
    return cosines


def raw(encoder: Pretrained, windows: tuple[Clip, ...]) -> Floats:
    """What the encoder takes of each window, as one vector: coordinates of all joints in all frames."""
    batches = encoder.network_inputs(from_clips(windows), workers=0)
    return np.concatenate([batch.motion_NCTVM.flatten(1).numpy() for batch in batches])


def never_trained(encoder: Pretrained, seed: int) -> Pretrained:
    """An encoder as UNIK's default with new weights, that takes what ``encoder`` takes."""
    torch.manual_seed(seed)
    network = encoder_of(
        EncoderConfig(channels=2 * len(encoder.views.streams)),
        layout=encoder.sampling.layout,
        persons=encoder.sampling.people,
    )
    return replace(encoder, network=network.eval().requires_grad_(False), heads=None)


def with_open_branches(encoder: Pretrained) -> Pretrained:
    """The encoder with factors of batch norms from 0.5 to 1 and small biases, as training leaves them. New factors of
    1e-6 close every spatial unit, and biases that are all 0 are one constant in an ONNX file: its convolutions stay in
    float32."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in encoder.network.named_parameters():
        if "bn." in name and name.endswith("weight"):
            tensor.uniform_(0.5, 1.0, generator=generator)
        elif name.endswith("bias"):
            tensor.normal_(0, 0.005, generator=generator)
    return encoder


def accuracy_row(name: str, seen: Footage, vectors_ND: Floats) -> list[str]:
    """Print right videos of a row for every scorer, and return the classes found with the default ridge."""
    scorers = {"mean": by_mean} | {f"{ridge:g}": partial(by_ridge, ridge=ridge) for ridge in RIDGES}
    found = {words: left_out(seen, vectors_ND, scorer) for words, scorer in scorers.items()}
    right = {words: sum(map(str.__eq__, classes, seen.labels)) for words, classes in found.items()}
    print(f"| {name} | " + " | ".join(map(str, right.values())) + " |", flush=True)
    return found[f"{RIDGE:g}"]


def milliseconds(run: Callable[[], object], repeats: int = 50) -> tuple[float, float]:
    """CPU milliseconds of this thread: the least and the median; other programs on the core count less than in wall
    time."""
    times = []
    for _ in range(repeats):
        began = thread_time()
        run()
        times.append(1000 * (thread_time() - began))
    return min(times), median(times)


def product_rate() -> float:
    """1e9 multiplications and additions a second of a product of float32 matrices in ONNX Runtime, on one thread."""
    import onnx
    import onnxruntime

    size = 1024
    value = partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT, shape=(size, size))
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["a", "b"], ["c"])], "product", [value("a"), value("b")], [value("c")]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    one = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
    least, _ = milliseconds(lambda: session.run(None, {"a": one, "b": one}), 15)
    return size**3 / least / 1e6


def exported_rows(plain: Pretrained, seen: Footage, clips: DataConfig) -> None:
    """Print a row for torch and for each precision of an exported encoder."""
    motions = motions_of(clips)
    wanted_ND = plain.embed_clips(seen.windows)
    mean_D = wanted_ND.mean(0)
    sampling = plain.sampling
    print(f"{plain.path}: {sampling.frames} frames of {sampling.layout}, {sampling.people} person")
    print("| computed by | right | cosine | least cosine | MB | ms, least | ms, median |")
    with TemporaryDirectory() as folder:
        for precision in (None, "float32", "float16", "int8"):
            encoder, size = plain, 0
            if precision is not None:
                path = Path(folder) / f"{precision}.onnx"
                export(plain, path, precision=precision, clips=motions)
                encoder, size = replace(plain, network=OnnxBackbone(path, plain)), path.stat().st_size
            vectors_ND = encoder.embed_clips(seen.windows)
            less_ND, less_wanted_ND = vectors_ND - mean_D, wanted_ND - mean_D
            lengths_N = np.linalg.norm(less_ND, axis=1) * np.linalg.norm(less_wanted_ND, axis=1)
            cosine_N = (less_ND * less_wanted_ND).sum(1) / lengths_N
            found = left_out(seen, vectors_ND, partial(by_ridge, ridge=RIDGE))
            right = sum(map(str.__eq__, found, seen.labels))
            (batch,) = encoder.network_inputs(from_clips(seen.windows[:1]), workers=0)
            with torch.no_grad():
                network, motion, present = encoder.network, batch.motion_NCTVM, batch.present
                least, middle = milliseconds(partial(network.clip_features, motion, present))
            print(
                f"| {precision or 'torch'} | {right} | {cosine_N.mean():.4f} | {cosine_N.min():.4f} | "
                f"{size / 1e6:.1f} | {least:.1f} | {middle:.1f} |",
                flush=True,
            )


def live_rows(encoder: Pretrained, stages: SkeletonStages, videos: Sequence[Path]) -> None:
    """Print what a second of live recognition takes, for each video and for all."""
    draw_KD = np.random.default_rng(0).standard_normal((2, FEATURES)).astype(np.float32)
    classes = Examples.of({"a": draw_KD[:1], "b": draw_KD[1:]}, {})
    recognizer = Recognizer(encoder=encoder, classes=classes, stages=stages)
    print("| video | s | moments | CPU s a second | CPU ms a moment: median, most |")
    footage_seconds = cpu = 0.0
    for video in videos:
        times, last = [process_time()], 0.0
        for moment in watch(recognizer, Camera(str(video), late="wait")):
            times.append(process_time())
            last = moment.seconds
        each_ms = 1000 * np.diff(times)[1:]  # without the first, which loads and prepares
        footage_seconds, cpu = footage_seconds + last, cpu + float(each_ms.sum()) / 1000
        rate = each_ms.sum() / 1000 / max(last - STRIDE_SECONDS, 0.1)
        most = f"{np.median(each_ms):.0f}, {each_ms.max():.0f}"
        print(f"| {video.name} | {last:.1f} | {len(each_ms)} | {rate:.2f} | {most} |", flush=True)
    print(f"all: {cpu / (footage_seconds - STRIDE_SECONDS * len(videos)):.2f} CPU seconds a second")


def draw(path: Path, seen: Footage, columns: Mapping[str, list[str]]) -> None:
    """A picture: a line for each video, a column for each row of the table, and the class that was found."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    classes = sorted(set(seen.labels))
    order = sorted(range(len(seen.names)), key=lambda n: (seen.labels[n], int(seen.people[n])))
    table = np.array([[classes.index(found[n]) for found in columns.values()] for n in order])
    wrong = np.array([[found[n] != seen.labels[n] for found in columns.values()] for n in order])
    figure, axes = pyplot.subplots(figsize=(1.5 + 1.1 * len(columns), 6.5), layout="constrained")
    axes.imshow(
        table, cmap=matplotlib.colors.ListedColormap(["#86b6d9", "#f2c879", "#a9cf8e", "#d3a6d6"][: len(classes)])
    )
    for row, column in np.argwhere(wrong):
        axes.text(column, row, "×", ha="center", va="center")
    axes.set_xticks(range(len(columns)), columns, rotation=25, ha="right", fontsize=8)
    axes.set_yticks(range(len(order)), [f"{seen.names[n]}, person {seen.people[n]}" for n in order], fontsize=7)
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=axes.images[0].cmap(n)) for n in range(len(classes))]
    axes.legend(handles, classes, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(classes), frameon=False)
    axes.set_aspect("auto")
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("videos", type=Path, help="a folder with a folder of videos for each class")
    parser.add_argument("--from", dest="runs", nargs="+", required=True, metavar="RUN", help="runs, the first as model")
    parser.add_argument("--new", type=int, default=3, metavar="N", help="seeds of encoders that were never trained")
    parser.add_argument("--screen", choices=("frame", "body"), help="normalisation of the rows without training")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="a picture to write of what was found where")
    parser.add_argument("--export", action="store_true", help="measure exported files of the runs instead")
    parser.add_argument("--live", action="store_true", help="measure live recognition by the first run instead")
    parser.add_argument("--sets", nargs="+", default=("penn_action:train",), help="what int8 is scaled by")
    parser.add_argument("--folder", default="datasets/skeletons", help="where the sets lie")
    options = parser.parse_args()

    torch.set_num_threads(1)
    with PEOPLE.open() as file:
        people = {row["clip"]: row["person"] for row in csv.DictReader(file)}
    if options.live:
        stages = SkeletonStages(load_pipeline(pipeline_path("default", Path.cwd())))
        live_rows(tmor_train.load(options.runs[0]), stages, [options.videos / name for name in list(people)[::5]])
        return
    seen = footage(options.videos, people)
    print(f"{len(seen.names)} videos of {len(set(seen.people))} people, {len(seen.windows)} windows")
    if options.export:
        print(f"product of float32 matrices: {product_rate():.0f} GMAC/s on one thread")
        loaded = [tmor_train.load(run) for run in options.runs]
        default = replace(loaded[0], sampling=Sampling(), views=ViewConfig(), path=Path("UNIK, never trained"))
        for encoder in (*loaded, with_open_branches(never_trained(default, 0))):
            exported_rows(encoder, seen, DataConfig(sets=tuple(options.sets), folder=options.folder))
        return
    columns: dict[str, list[str]] = {}
    print("| of what | mean | " + " | ".join(f"ridge {ridge:g}" for ridge in RIDGES) + " |")
    first = tmor_train.load(options.runs[0])
    if options.screen:
        first = replace(first, sampling=replace(first.sampling, normalise=Normalise(options.screen)))
    columns["raw coordinates"] = accuracy_row("raw coordinates", seen, raw(first, seen.windows))
    for seed in range(options.new):
        vectors_ND = never_trained(first, seed).embed_clips(seen.windows)
        columns[f"new, seed {seed}"] = accuracy_row(f"never trained, seed {seed}", seen, vectors_ND)
    for run in options.runs:
        for of in ("ema", "online"):
            vectors_ND = tmor_train.load(run, of=of).embed_clips(seen.windows)
            columns[f"{Path(run).name}, {of}"] = accuracy_row(f"{Path(run).name}, {of}", seen, vectors_ND)
    if options.picture:
        draw(options.picture, seen, columns)


if __name__ == "__main__":
    main()
