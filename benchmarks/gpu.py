"""What a GPU does with tmor_train and posecap: speed beside what the same card can do, and agreement with the CPU.

    python benchmarks/gpu.py [--only SECTION …] [--seconds 120] [--total 540] [--output FILE.json] [--device cuda|cpu]

Under ten minutes on one GPU, and nothing is needed but the package's own dependencies, torch among them, and this
checkout: what needs a package that is missing is reported and left out, and a section that fails is reported and does
not end the run. ``--seconds`` bounds each section and ``--total`` all of them; the clock is read after each figure, so
a section ends late by one figure at most. ``--tiny`` takes sizes at which every section ends soon on any machine, to
see that the program runs; its figures mean nothing.

The sections:

* ``ceilings``: what the card reaches on a large product of matrices and on a large copy (bytes read and written).
  Everything else is a share of these two.
* ``agreement``: whether the results are those of the CPU: losses, features, clusters, vectors, boxes and joints.
* ``training``: one step of pre-training, plain and ours as in ``train.py``, by precision and batch, on one batch again
  and again. "matrix" is the share of the product's rate at which the plain step's multiplications were done in that
  time; "memory" is the share of the copy's rate at which the step's own operations, one by one, read their inputs and
  wrote their results. What is fused or comes from a cache counts as if it came from memory, so the latter may exceed
  100 %.
* ``compiled``: the same step with ``loop.compile=graphs`` and ``on``; "memory" is by the operations of the step that is
  not compiled.
* ``kernels``: where the time of a step goes, by torch's profiler, and for what share of it the GPU is at work.
* ``streaming``: clips a second that loaders deliver, and which share of the time training waits for them.
* ``clustering``: exact DBSCAN as after an epoch, of made-up embeddings (as in ``clustering.py``) of 256 numbers.
* ``viclip``, ``yolo``, ``rtmpose``, ``vitpose``: networks alone on pictures that are on the device, and posecap's
  engines from numpy to numpy with everything that they do on the CPU. Weights are random, in the format that is
  published: such figures are of speed only.
* ``chain``: decode → detect → pose → embed of one made-up video by one to several threads that share the models, as in
  a worker of a build; the models' share is the seconds that they take by themselves on decoded frames, divided by the
  seconds of the chain.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from itertools import chain as chained
from itertools import repeat
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

sys.path.append(
    str(Path(__file__).parents[1])
)  # tests.random_weights: networks that are only good for tests and timing
os.environ["POSECAP_RANDOM_WEIGHTS"] = "allow"  # else engines refuse them

import numpy as np
import torch
from clustering import MIN_SAMPLES, eps_for, made_up_embeddings
from measuring import parser_of, threaded_seconds
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from train import PlainTrainer, configuration, new_train_state, write_dataset

import posecap
from posecap.engines.viclip_model import VICLIP_B16, VICLIP_L14, Sizes, ViCLIP
from posecap.types import Clip, Pixels, Row, Tracks, Video
from tests.random_weights import viclip as random_viclip
from tmor_train.clustering.dbscan import dbscan
from tmor_train.data import Loader, MotionBatch, MotionSet, read_shards
from tmor_train.training.distributed import autocast_of
from tmor_train.training.train_state import TrainState

PEOPLE = 4
"""In each frame that pose estimators see."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the problems are; free choices.

    ``square`` rows of the matrices and ``copied`` numbers of float32 of the ceilings; ``frames``, ``queue`` and
    ``batches`` of the training step, ``clips`` of its dataset and threads or processes (``workers``) that load it;
    ``rows`` of embeddings, of which the first are clustered on the CPU too; ``videos``, ``pictures`` and ``crops`` are
    batch sizes of networks; ``sizes`` of ViCLIP, ``yolo`` and ``rtmpose`` say which networks; ``picture`` (width,
    height) and ``video_frames`` of the chain's video, ``threads`` that work on it; ``measured`` seconds for each
    figure at least, 0 for as few calls as can be.
    """

    square: int = 8192
    copied: int = 1 << 30
    frames: int = 64
    queue: int = 4096
    batches: tuple[int, ...] = (64, 256, 1024)
    clips: int = 2048
    workers: tuple[int, ...] = (1, 4, 8)
    rows: tuple[int, ...] = (20_000, 200_000, 1_000_000)
    sizes: dict[str, Sizes] = field(default_factory=lambda: {"viclip-b16": VICLIP_B16, "viclip-l14": VICLIP_L14})
    videos: tuple[int, ...] = (1, 8, 32, 64)
    pictures: tuple[int, ...] = (1, 16, 64)
    crops: tuple[int, ...] = (8, 64, 256)
    yolo: tuple[str, ...] = ("yolo11n", "yolo11m", "yolo11m-pose")
    rtmpose: tuple[str, ...] = ("t", "m")
    picture: tuple[int, int] = (1280, 720)
    video_frames: int = 120
    threads: tuple[int, ...] = (1, 4, 8)
    measured: float = 0.5


TINY = Scale(
    square=64,
    copied=1 << 12,
    frames=8,
    queue=16,
    batches=(4,),
    clips=24,
    workers=(1,),
    rows=(400, 600),
    sizes={"viclip-tiny": random_viclip.TINY},
    videos=(2,),
    pictures=(1,),
    crops=(4,),
    yolo=("yolo11n",),
    rtmpose=("t",),
    picture=(160, 96),
    video_frames=12,
    threads=(1,),
    measured=0.0,
)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table: ``value`` in ``unit``, and what else is known, by name; ``milliseconds`` of one call, None
    where that says nothing."""

    name: str
    value: float
    unit: str
    milliseconds: float | None = None
    more: dict[str, float | str] = field(default_factory=dict)

    def __str__(self) -> str:
        took = "" if self.milliseconds is None else f"{self.milliseconds:,.2f} ms"
        value = f"{self.value:,.3g}" if abs(self.value) < 100 else f"{self.value:,.0f}"
        more = "   ".join(
            f"{name} {about if isinstance(about, str) else format(about, ',.3g')}" for name, about in self.more.items()
        )
        return f"  {self.name:<46} {value:>9} {self.unit:<12} {took:>13}   {more}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every section gets: where and how large to measure, a folder for its files, and the ceilings when they are
    measured: ``peaks`` FLOP/s by dtype and ``copy`` bytes/s."""

    device: torch.device
    scale: Scale
    folder: Path
    ceilings: dict[str, float] = field(default_factory=dict)

    @property
    def half(self) -> torch.dtype:
        """What networks compute in: bfloat16 on a GPU, as posecap's engines do."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    @property
    def precisions(self) -> tuple[str, ...]:
        return ("float32", "bfloat16") if self.device.type == "cuda" else ("float32",)

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, run: Callable[[], object]) -> float:
        """Median seconds of a call, after two that are not counted. Calls that take little time follow one another
        without waiting for the device, 20 ms of them at a time."""
        for _ in range(2):
            began = perf_counter()
            run()
            self.synchronize()
        calls = max(1, int(0.02 / (perf_counter() - began))) if self.scale.measured else 1
        spent: list[float] = []
        until = perf_counter() + self.scale.measured
        while len(spent) < 3 or perf_counter() < until:
            began = perf_counter()
            for _ in range(calls):
                run()
            self.synchronize()
            spent.append((perf_counter() - began) / calls)
        return median(spent)

    def rate(self, name: str, run: Callable[[], object], count: int, unit: str, **more: float | str) -> Figure:
        """``count`` items a call. Where memory does not suffice, the figure says so."""
        try:
            seconds = self.seconds(run)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            return Figure(name=name, value=0.0, unit=unit, more={"": "out of memory"})
        return Figure(name=name, value=count / seconds, unit=unit, milliseconds=1000 * seconds, more=dict(more))

    @cached_property
    def motions(self) -> MotionSet:
        """The training step's dataset, columns mapped from disk."""
        root = self.folder / "dataset"
        write_dataset(root, clips=self.scale.clips, frames=self.scale.frames)
        return read_shards(root)

    def trained(self, *, batch: int, precision: str, also: str = "") -> tuple[TrainState, MotionBatch]:
        """A new TrainState and a batch on the device."""
        scale = self.scale
        config = configuration(batch=batch, frames=scale.frames, queue=scale.queue, precision=precision, also=also)
        loader = Loader(self.motions, sampling=config.sampling, batching=config.batching)
        index = np.arange(batch) % len(self.motions)
        return new_train_state(config, self.motions, self.device), loader.gather(index).to(self.device)

    def pictures(self, count: int, height: int, width: int) -> Tensor:
        """(count, 3, height, width) of random numbers on the device."""
        drawn = torch.rand(count, 3, height, width, device=self.device).to(self.half)
        return drawn.contiguous(memory_format=torch.channels_last)


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that operations read and write: each one's tensors once, views not at all."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [t for t in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        made = [t for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, Tensor)]
        if not func.is_view:
            self.bytes += sum(_span(tensor) for tensor in [*given, *made])
        return out


def _span(tensor: Tensor) -> int:
    """Bytes of a tensor, axes that were expanded counted once."""
    numbers = 1
    for length, step in zip(tensor.shape, tensor.stride(), strict=True):
        numbers *= length if step else 1
    return numbers * tensor.element_size()


# --- sections -------------------------------------------------------------------------------------------------------


def ceilings(bench: Bench) -> Iterator[Figure]:
    rows, device = bench.scale.square, bench.device
    for name in bench.precisions:
        square = torch.randn(rows, rows, device=device, dtype=getattr(torch, name))
        seconds = bench.seconds(lambda square=square: square @ square)  # type: ignore[misc]
        bench.ceilings[name] = 2 * rows**3 / seconds
        yield Figure(
            name=f"product of {rows:,} x {rows:,} in {name}",
            value=bench.ceilings[name] / 1e12,
            unit="TFLOP/s",
            milliseconds=1000 * seconds,
        )
    numbers = torch.randn(bench.scale.copied, device=device)
    copy = torch.empty_like(numbers)
    seconds = bench.seconds(lambda: copy.copy_(numbers))
    bench.ceilings["copy"] = 2 * numbers.nbytes / seconds
    yield Figure(
        name=f"copy of {numbers.nbytes / 1e9:.1f} GB",
        value=bench.ceilings["copy"] / 1e12,
        unit="TB/s",
        milliseconds=1000 * seconds,
    )


def agreement(bench: Bench) -> Iterator[Figure]:
    """Differences are of norms, or of losses: |here - there| / |there|."""
    still, host = "views.positive=", replace(bench, device=torch.device("cpu"), scale=bench.scale)
    batch = min(bench.scale.batches[0], 16)
    ours, batched = bench.trained(batch=batch, precision="float32", also=still)
    plain = PlainTrainer(ours)
    losses = [(plain.train(batched), ours.train_step([batched], lr_ratio=1.0, watch=False).loss) for _ in range(3)]
    yield _difference("loss of three steps, ours beside plain", max(abs(a - b) / abs(a) for a, b in losses))
    there, batch_there = host.trained(batch=batch, precision="float32", also=still)
    fresh, _ = bench.trained(batch=batch, precision="float32", also=still)
    wanted = there.train_step([batch_there], lr_ratio=1.0, watch=True)
    for precision in bench.precisions:
        state, _ = bench.trained(batch=batch, precision=precision, also=still)
        got = state.train_step([batched], lr_ratio=1.0, watch=True)
        yield _difference(f"loss in {precision}, beside the CPU's", abs(got.loss - wanted.loss) / abs(wanted.loss))
        norm = abs(got.metrics["gradient"] - wanted.metrics["gradient"]) / wanted.metrics["gradient"]
        yield _difference(f"norm of its gradient in {precision}", norm)
    there, _ = host.trained(batch=batch, precision="float32", also=still)
    exact = there.encoder.double().eval().clip_features(batch_there.motion_NCTVM.double(), batch_there.present)
    for precision in bench.precisions:
        with torch.no_grad(), autocast_of(precision, bench.device):  # type: ignore[arg-type]
            features = fresh.encoder.eval().clip_features(batched.motion_NCTVM, batched.present)
        yield _difference(f"features in {precision}, beside float64", _apart(features, exact))
    first, second = (bench.trained(batch=batch, precision=bench.precisions[-1])[0] for _ in range(2))
    twice = [
        [state.train_step([batched], lr_ratio=1.0, watch=False).loss for _ in range(3)] for state in (first, second)
    ]
    same = all(
        torch.equal(a, b)
        for a, b in zip(first.encoder.state_dict().values(), second.encoder.state_dict().values(), strict=True)
    )
    words = "equal to the last bit" if same else "not to the last bit"
    yield Figure(
        name=f"two runs of three steps in {bench.precisions[-1]}",
        value=max(abs(a - b) / abs(a) for a, b in zip(*twice, strict=True)),
        unit="of the loss",
        more={"weights": words},
    )
    embeddings = made_up_embeddings(bench.scale.rows[0], 256)
    eps = eps_for(embeddings)
    here = dbscan(torch.from_numpy(embeddings).to(bench.device), eps=eps, min_samples=MIN_SAMPLES).cpu().numpy()
    on_cpu = dbscan(embeddings, eps=eps, min_samples=MIN_SAMPLES)
    yield Figure(
        name=f"clusters of {len(embeddings):,} rows", value=float((here != on_cpu).sum()), unit="labels differ"
    )
    name, sizes = next(iter(bench.scale.sizes.items()))
    weights = random_viclip.tensors(sizes=sizes)
    frames = torch.rand(1, sizes.frames, 3, sizes.side, sizes.side)
    with torch.inference_mode():
        vector = ViCLIP.from_state_dict(weights).encode_video(frames)
        again = ViCLIP.from_state_dict(weights).to(bench.device, bench.half).encode_video(frames.to(bench.device))
    yield _difference(f"{name}'s vector of a video in {bench.half}", _apart(again, vector))
    yield from _engines_agree(bench)


def _engines_agree(bench: Bench) -> Iterator[Figure]:
    """YOLO's boxes and RTMPose's joints in float32, in pixels of the frame; what is not installed is left out."""
    from posecap.engines.mmpose import RTMPose
    from posecap.engines.ultralytics import Ultralytics

    frames = _moving_pictures(*bench.scale.picture, 2)
    here: Any = bench.device.type
    try:
        weights = _yolo_weights(bench, "yolo11n")
        got, wanted = (
            Ultralytics(weights_from=weights, device=device, precision="fp32", max_det=300).detect(frames)
            for device in (here, "cpu")
        )
        overlaps = np.concatenate(
            [_overlaps(a.boxes_N4, b.boxes_N4).max(0, initial=0.0) for a, b in zip(got, wanted, strict=True)]
        )
        share = float((overlaps > 0.95).mean()) if len(overlaps) else 1.0
        more: dict[str, float | str] = {"of": len(overlaps)}
        yield Figure(name="boxes of yolo11n also found (IoU over 0.95)", value=100 * share, unit="%", more=more)
    except ModuleNotFoundError as error:
        yield Figure(name="boxes of yolo11n", value=0.0, unit="", more={"": f"left out: {error}"})
    try:
        weights = _rtmpose_weights(bench, "t")
        joints, on_cpu = (
            RTMPose(size="t", weights_from=weights, device=device).estimate(frames, standing_people(frames))
            for device in (here, "cpu")
        )
        apart = np.linalg.norm(joints[..., :2] - on_cpu[..., :2], axis=-1)
        more = {"largest": float(apart.max())}
        yield Figure(name="joints of rtmpose-t, median", value=float(np.median(apart)), unit="pixels apart", more=more)
    except ModuleNotFoundError as error:
        yield Figure(name="joints of rtmpose-t", value=0.0, unit="", more={"": f"left out: {error}"})


def _overlaps(one_N4: Any, other_M4: Any) -> Any:
    """Intersection over union of each two boxes: (N, M)."""
    low = np.maximum(one_N4[:, None, :2], other_M4[None, :, :2])
    high = np.minimum(one_N4[:, None, 2:], other_M4[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (one_N4, other_M4)]
    return both / np.maximum(areas[0][:, None] + areas[1][None] - both, 1e-9)


def _yolo_weights(bench: Bench, name: str) -> str:
    from tests.random_weights import ultralytics

    path = bench.folder / f"{name}.pt"
    return str(path if path.is_file() else ultralytics.write(path, architecture=name))


def _rtmpose_weights(bench: Bench, size: str) -> str:
    from posecap.inference.package_compat import ensure_mmpose

    ensure_mmpose()
    from tests.random_weights import mmpose

    path = bench.folder / f"rtmpose-{size}.pth"
    return str(path if path.is_file() else mmpose.rtmpose(path, size=size))


def _difference(name: str, value: float) -> Figure:
    return Figure(name=name, value=value, unit="apart")


def _apart(here: Tensor, there: Tensor) -> float:
    here, there = here.detach().double().cpu(), there.detach().double().cpu()
    return float((here - there).norm() / there.norm())


def training(bench: Bench) -> Iterator[Figure]:
    for precision in bench.precisions:
        for batch in bench.scale.batches:
            yield from _steps(bench, precision, batch)


def _steps(bench: Bench, precision: str, batch: int) -> Iterator[Figure]:
    """Plain and ours with the same batch."""
    try:
        state, batched = bench.trained(batch=batch, precision=precision)
        plain = PlainTrainer(state)
        flop, _ = _counted(lambda: plain.train(batched))
        name = f"{precision}, batch {batch:,}"
        contenders = {"plain": lambda: plain.train(batched), "ours": _step(state, batched)}
        seconds: dict[str, float] = {}
        for who, run in contenders.items():
            _, read = _counted(run)
            figure = bench.rate(f"{name}, {who}", run, batch, "clips/s")
            if figure.milliseconds is None:
                yield figure
                continue
            seconds[who] = figure.milliseconds / 1000
            shares = _shares(bench, precision, flop, read, seconds[who])
            ratio: dict[str, float | str] = {}
            if who == "ours" and "plain" in seconds:
                ratio["plain / ours"] = seconds["plain"] / seconds["ours"]
            yield replace(figure, more=shares | ratio)
    except torch.cuda.OutOfMemoryError:
        yield Figure(name=f"{precision}, batch {batch:,}", value=0.0, unit="clips/s", more={"": "out of memory"})


def _step(state: TrainState, batched: MotionBatch) -> Callable[[], object]:
    return lambda: state.train_step([batched], lr_ratio=1.0, watch=False)


def _counted(run: Callable[[], object]) -> tuple[int, int]:
    """FLOP of a call's products of matrices and convolutions, and bytes that its operations read and write."""
    with FlopCounterMode(display=False) as flops:
        run()
    with Traffic() as traffic:
        run()
    return flops.get_total_flops(), traffic.bytes


def _shares(bench: Bench, precision: str, flop: float, read: float, seconds: float) -> dict[str, float | str]:
    if not {precision, "copy"} <= bench.ceilings.keys():
        return {}
    matrix, memory = flop / seconds / bench.ceilings[precision], read / seconds / bench.ceilings["copy"]
    return {"matrix": f"{100 * matrix:.0f} %", "memory": f"{100 * memory:.0f} %"}


def compiled(bench: Bench) -> Iterator[Figure]:
    precision, batches = bench.precisions[-1], bench.scale.batches
    middle = batches[len(batches) // 2]
    # Compiling takes about a minute each time, so what says most comes first.
    turns = [("graphs", middle), ("on", middle), *(("graphs", batch) for batch in batches if batch != middle)]
    for how, batch in turns:
        state, batched = bench.trained(batch=batch, precision=precision)
        flop, read = _counted(_step(state, batched))
        state, batched = bench.trained(batch=batch, precision=precision, also=f"loop.compile={how}")
        began = perf_counter()
        run = _step(state, batched)
        run()
        bench.synchronize()
        took = perf_counter() - began
        figure = bench.rate(f"{precision}, batch {batch:,}, compile={how}", run, batch, "clips/s")
        if figure.milliseconds is not None:
            shares = _shares(bench, precision, flop, read, figure.milliseconds / 1000)
            figure = replace(figure, more=shares | {"first step": f"{took:.0f} s"})
        yield figure


def kernels(bench: Bench) -> Iterator[Figure]:
    from torch.profiler import ProfilerActivity, profile

    batch, precision = bench.scale.batches[len(bench.scale.batches) // 2], bench.precisions[-1]
    state, batched = bench.trained(batch=batch, precision=precision)
    run, steps = _step(state, batched), 5
    for _ in range(2):
        run()
    bench.synchronize()
    gpu = bench.device.type == "cuda"
    unobserved = bench.seconds(run)
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as profiler:
        for _ in range(steps):
            run()
        bench.synchronize()
    spent: dict[str, list[float]] = {}
    for event in profiler.key_averages():
        # On a GPU only what ran there, kernels and copies; on a CPU each operation without those that it calls.
        micro = event.self_device_time_total if gpu else event.self_cpu_time_total
        annotation = event.key.startswith("Optimizer.")  # spans its kernels
        if micro and (not gpu or str(event.device_type).endswith("CUDA")) and not annotation:
            spent.setdefault(event.key, [0.0, 0])[0] += micro / 1e6 / steps
            spent[event.key][1] += event.count / steps
    total = sum(seconds for seconds, _ in spent.values())
    count = sum(calls for _, calls in spent.values())
    what = "kernels" if gpu else "operations"
    yield Figure(
        name=f"{precision}, batch {batch:,}: {what} of a step",
        value=count,
        unit=what,
        milliseconds=1000 * total,
        more={"share of the step": f"{100 * total / unobserved:.0f} %"},
    )
    for name, (seconds, calls) in sorted(spent.items(), key=lambda item: -item[1][0])[:24]:
        short = name if len(name) < 44 else f"{name[:21]}…{name[-22:]}"
        yield Figure(
            name=short,
            value=100 * seconds / total,
            unit="%",
            milliseconds=1000 * seconds,
            more={"calls": calls, "kernel": name[:160]},
        )


def streaming(bench: Bench) -> Iterator[Figure]:
    precision, batch = bench.precisions[-1], bench.scale.batches[len(bench.scale.batches) // 2]
    state, _ = bench.trained(batch=batch, precision=precision)
    config = state.config
    batching = replace(config.batching, last="fill")  # every batch is full
    gpu = bench.device.type == "cuda"

    def deliver(workers: int) -> Iterator[MotionBatch]:
        loader = Loader(bench.motions, sampling=config.sampling, batching=batching, workers=workers)
        for one in chained.from_iterable(repeat(loader)):  # epoch after epoch
            yield (one.pinned() if gpu else one).to(bench.device)

    for workers in bench.scale.workers:
        batches = deliver(workers)
        yield bench.rate(f"loader alone, {workers} threads, batch {batch}", partial(next, batches), batch, "clips/s")
    step = bench.rate("step alone, one batch", _step(state, next(deliver(1))), batch, "clips/s")
    yield step
    for workers in bench.scale.workers:
        batches = deliver(workers)

        def loop(batches: Iterator[MotionBatch] = batches) -> None:
            state.train_step([next(batches)], lr_ratio=1.0, watch=False)

        figure = bench.rate(f"both, as a run does it, {workers} threads", loop, batch, "clips/s")
        yield replace(
            figure, more={"of the step alone": f"{100 * figure.value / step.value:.0f} %"} if step.value else {}
        )
    stream = posecap.open(bench.folder / "dataset", seed=None, fields=("joints", "video", "text"), read="columns")
    for workers in bench.scale.workers:
        batches_of = stream.loader(min(batch, bench.scale.clips), num_workers=workers)
        began, seen = perf_counter(), 0
        for one in batches_of:
            seen += len(one["joints_BMTJ3"].to(bench.device))
        yield Figure(
            name=f"posecap.open, {workers} processes, one pass",
            value=seen / (perf_counter() - began),
            unit="clips/s",
            more={"": "with the start of its processes"},
        )


def clustering(bench: Bench) -> Iterator[Figure]:
    for rows in bench.scale.rows:
        embeddings = made_up_embeddings(rows, 256)
        eps = eps_for(embeddings)
        on_device = torch.from_numpy(embeddings).to(bench.device)
        dbscan(on_device[:1000], eps=eps, min_samples=MIN_SAMPLES)  # loads what it needs
        bench.synchronize()
        if bench.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(bench.device)
        began = perf_counter()
        labels = dbscan(on_device, eps=eps, min_samples=MIN_SAMPLES)
        bench.synchronize()
        seconds = perf_counter() - began
        more: dict[str, float | str] = {
            "clusters": float(labels.max()) + 1,
            "noise": float((labels < 0).float().mean()),
        }
        if bench.device.type == "cuda":
            more["peak GB"] = torch.cuda.max_memory_allocated(bench.device) / 1e9
        if bench.ceilings:
            least = rows**2 * 256 / max(bench.ceilings[name] for name in bench.precisions)
            more["all pairs' products alone"] = f"{least:.2g} s"
        yield Figure(name=f"exact, {rows:,} rows", value=seconds, unit="s", more=more)


def viclip(bench: Bench) -> Iterator[Figure]:
    from posecap.engines.viclip import ViCLIPEmbedder

    for name, sizes in bench.scale.sizes.items():
        tensors = random_viclip.tensors(sizes=sizes)
        network = ViCLIP.from_state_dict(tensors).to(bench.device, bench.half)
        with torch.inference_mode():
            for batch in bench.scale.videos:
                frames = torch.rand(batch, sizes.frames, 3, sizes.side, sizes.side, device=bench.device)
                run = partial(network.encode_video, frames)
                with FlopCounterMode(display=False) as flops:
                    run()
                figure = bench.rate(f"{name}, network, batch {batch}", run, batch, "videos/s")
                dtype = str(bench.half).removeprefix("torch.")
                if figure.milliseconds is not None and dtype in bench.ceilings:
                    share = flops.get_total_flops() / figure.milliseconds * 1000 / bench.ceilings[dtype]
                    figure = replace(figure, more={"matrix": f"{100 * share:.0f} %"})
                yield figure
            tokens = torch.randint(1, sizes.vocabulary, (256, sizes.context), device=bench.device)
            yield bench.rate(f"{name}, texts, batch 256", partial(network.text_encoder, tokens), 256, "sentences/s")
        path = bench.folder / f"{name}.pth"
        torch.save({"model": tensors, "posecap_random_weights": True}, path)
        picture = _moving_pictures(640, 360, sizes.frames)
        batch = bench.scale.videos[-1]
        engine = ViCLIPEmbedder(weights_from=str(path), batch=batch)
        yield bench.rate(
            f"{name}, engine, batch {batch}", partial(engine.embed_videos, [picture] * batch), batch, "videos/s"
        )
        path.unlink()


def yolo(bench: Bench) -> Iterator[Figure]:
    from posecap.engines.ultralytics import Ultralytics
    from posecap.inference.package_compat import ensure_ultralytics

    ensure_ultralytics()
    from ultralytics.nn.tasks import DetectionModel, PoseModel

    width, height = bench.scale.picture
    for name in bench.scale.yolo:
        kind = PoseModel if name.endswith("-pose") else DetectionModel
        network: Any = kind(f"{name}.yaml", verbose=False).eval().requires_grad_(False).fuse(verbose=False)
        network.to(bench.device, bench.half, memory_format=torch.channels_last)
        with torch.inference_mode():
            for batch in bench.scale.pictures:
                run = partial(network, bench.pictures(batch, 384, 640))  # 16:9 in YOLO's letterbox
                yield bench.rate(f"{name}, network, batch {batch}", run, batch, "frames/s")
        weights = _yolo_weights(bench, name)
        for batch in bench.scale.pictures:
            engine = Ultralytics(weights_from=weights, batch=batch, max_det=PEOPLE)
            frames = _moving_pictures(width, height, batch)
            yield bench.rate(f"{name}, engine, batch {batch}", partial(engine.detect, frames), batch, "frames/s")


def rtmpose(bench: Bench) -> Iterator[Figure]:
    from posecap.engines.mmpose import RTMPose
    from posecap.inference.package_compat import ensure_mmpose

    ensure_mmpose()
    from tests.random_weights import mmpose

    width, height = bench.scale.picture
    for size in bench.scale.rtmpose:
        network = mmpose.rtmpose_network(size).to(bench.device, bench.half, memory_format=torch.channels_last)
        with torch.inference_mode():
            for batch in bench.scale.crops:
                crops = bench.pictures(batch, 256, 192)
                run: Callable[[], object] = lambda: network.head(network.backbone(crops))  # noqa: B023, E731 – called at once
                yield bench.rate(f"rtmpose-{size}, network, batch {batch}", run, batch, "people/s")
        weights = _rtmpose_weights(bench, size)
        for batch in bench.scale.crops:
            engine = RTMPose(size=size, weights_from=weights, batch=batch, precision="auto")  # type: ignore[arg-type]
            frames = _moving_pictures(width, height, max(1, batch // PEOPLE))
            run = partial(engine.estimate, frames, standing_people(frames))
            people = PEOPLE * len(frames)
            yield bench.rate(f"rtmpose-{size}, engine with flip test, batch {batch}", run, people, "people/s")


def vitpose(bench: Bench) -> Iterator[Figure]:
    from posecap.engines.vitpose import ViTPose
    from tests.random_weights import vitpose as random_vitpose

    width, height = bench.scale.picture
    with nullcontext() if bench.scale.measured else random_vitpose.tiny():
        network = random_vitpose.network().to(bench.device, bench.half)
        with torch.inference_mode():
            for batch in bench.scale.crops:
                run = partial(network, bench.pictures(batch, 256, 192).contiguous())
                yield bench.rate(f"vitpose base-simple, network, batch {batch}", run, batch, "people/s")
        weights = str(random_vitpose.write(bench.folder / "vitpose.safetensors"))
        for batch in bench.scale.crops:
            engine = ViTPose(weights_from=weights, batch=batch)
            frames = _moving_pictures(width, height, max(1, batch // PEOPLE))
            run = partial(engine.estimate, frames, standing_people(frames))
            people = PEOPLE * len(frames)
            yield bench.rate(f"vitpose base-simple, engine, batch {batch}", run, people, "people/s")


def chain(bench: Bench) -> Iterator[Figure]:
    worker, scale = Worker(bench), bench.scale
    pixels = worker.decoded()
    bare = bench.seconds(lambda: worker.models(pixels))
    parts: dict[str, Callable[[], object]] = {
        "decode": worker.decoded,
        "detect": lambda: worker.detector.detect(pixels),
        "pose": lambda: worker.estimator.estimate(pixels, standing_people(pixels)),
        "embed": lambda: worker.embedder.embed_videos([pixels]),
    }
    yield Figure(
        name=f"models alone, {len(pixels)} frames, {PEOPLE} people",
        value=len(pixels) / bare,
        unit="frames/s",
        milliseconds=1000 * bare,
        more={part: f"{1000 * bench.seconds(run):.0f} ms" for part, run in parts.items()},
    )
    for count in scale.threads:
        rate = worker.rate(count)
        share = f"{100 * rate * bare / len(pixels):.0f} %"
        yield Figure(name=f"chain, {count} threads", value=rate, unit="frames/s", more={"models' share": share})


class Worker:
    """Models of a worker, and a made-up video that it works on."""

    def __init__(self, bench: Bench) -> None:
        from posecap.engines.mmpose import RTMPose
        from posecap.engines.pyav import PyAV
        from posecap.engines.pyav_encoder import PyAVEncoder
        from posecap.engines.ultralytics import Ultralytics
        from posecap.engines.viclip import ViCLIPEmbedder
        from posecap.stages.decode import Decode, Split

        scale, path = bench.scale, bench.folder / "video.mp4"
        if not path.is_file():
            frames = _moving_pictures(*scale.picture, scale.video_frames)
            path.write_bytes(PyAVEncoder().encode(frames, np.arange(len(frames)) / 25.0))
        name, sizes = next(iter(scale.sizes.items()))
        weights = bench.folder / f"{name}-chain.pth"
        if not weights.is_file():
            random_viclip.write(weights, sizes=sizes)
        size: Any = scale.rtmpose[-1]
        self.detector = Ultralytics(weights_from=_yolo_weights(bench, scale.yolo[0]), batch=64, max_det=PEOPLE)
        self.estimator = RTMPose(size=size, weights_from=_rtmpose_weights(bench, size), batch=256, precision="auto")
        self.embedder = ViCLIPEmbedder(weights_from=str(weights))
        row = Row(row_id="a", uri=path.name, start_seconds=0.0, end_seconds=None)
        video = Video(row=row, path=path, source_id="0" * 64, size_bytes=path.stat().st_size)
        (self._cut,) = Split()(video)
        self._decode = Decode(prober=PyAV(), decoders=(PyAV(),), long_side=640)

    def decoded(self) -> Pixels:
        (clip,) = self._decode(self._cut)
        assert isinstance(clip, Clip), clip
        return clip.frames_THW3

    def models(self, pixels: Pixels) -> int:
        """Detects, estimates and embeds; returns the number of frames."""
        self.detector.detect(pixels)
        self.estimator.estimate(pixels, standing_people(pixels))  # whom the detector finds is random
        self.embedder.embed_videos([pixels])
        return len(pixels)

    def rate(self, threads: int) -> float:
        """Frames a second, of two clips for each thread."""
        frames: list[int] = []
        spent = threaded_seconds(range(2 * threads), [lambda _: frames.append(self.models(self.decoded()))] * threads)
        return sum(frames) / spent


# --- pictures and people --------------------------------------------------------------------------------------------


def _moving_pictures(width: int, height: int, count: int) -> Pixels:
    """(count, height, width, 3) uint8: large soft patches that wander, and noise, so that a codec has work to do."""
    rng = np.random.default_rng(0)
    patches = torch.from_numpy(rng.uniform(0, 255, (1, 3, 9, 16)).astype(np.float32))
    big = torch.nn.functional.interpolate(patches, (height, 2 * width), mode="bicubic")[0].permute(1, 2, 0).numpy()
    noise = rng.normal(0, 4, (height, width, 3)).astype(np.float32)
    shifts = np.linspace(0, width - 1, count).astype(int)
    pictures = [np.clip(big[:, shift : shift + width] + np.roll(noise, shift, 1), 0, 255) for shift in shifts]
    return np.stack(pictures).astype(np.uint8)


def standing_people(frames: Pixels) -> Tracks:
    """People who stand beside one another throughout."""
    count, height, width = frames.shape[:3]
    boxes = np.zeros((PEOPLE, count, 4), np.float32)
    for m in range(PEOPLE):
        boxes[m] = m * width / PEOPLE, 0.1 * height, (m + 1) * width / PEOPLE, 0.9 * height
    return Tracks(boxes_MT4=boxes, scores_MT=np.ones((PEOPLE, count), np.float32))


# --- the program ----------------------------------------------------------------------------------------------------

Section = Callable[[Bench], Iterator[Figure]]
SECTIONS: tuple[Section, ...] = (
    ceilings,
    agreement,
    training,
    kernels,
    streaming,
    clustering,
    viclip,
    yolo,
    rtmpose,
    vitpose,
    chain,
    compiled,
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    names = [section.__name__ for section in SECTIONS]
    parser.add_argument("--only", nargs="*", default=names, choices=names, metavar="SECTION", help=", ".join(names))
    parser.add_argument("--seconds", type=float, default=120.0, help="for each section (default: %(default)s)")
    parser.add_argument("--total", type=float, default=540.0, help="for all of them (default: %(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="sizes at which every section ends soon")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="the figures, and what failed, as JSON")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    about = described(device)
    print("; ".join(f"{name} {value}" for name, value in about.items()))
    report: dict[str, Any] = {"machine": about, "sections": {}}
    began = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(device=device, scale=TINY if options.tiny else Scale(), folder=Path(folder))
        for section in SECTIONS:
            if section.__name__ in options.only:
                seconds = min(options.seconds, options.total - (perf_counter() - began))
                report["sections"][section.__name__] = measured(section, bench, seconds)
                if options.output is not None:  # after each section: a run that is cut off leaves what it has
                    options.output.write_text(json.dumps(report, indent=1))


def described(device: torch.device) -> dict[str, str]:
    """The machine in words."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        card = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    else:
        card = f"none, CPU with {torch.get_num_threads()} threads"
    return {"GPU": card, "cores": str(os.cpu_count()), "Python": platform.python_version(), "torch": torch.__version__}


def measured(section: Section, bench: Bench, seconds: float) -> dict[str, Any]:
    """The figures of a section, printed as they come, and what kept it from giving all; none without ``seconds``."""
    if seconds <= 0:
        print(f"{section.__name__}:\n  left out: no time is left")
        return {"figures": [], "left_out": "no time is left"}
    figures: list[dict[str, Any]] = []
    found: dict[str, Any] = {"figures": figures}
    print(f"{section.__name__}:", flush=True)
    began = perf_counter()
    try:
        for figure in section(bench):
            print(figure, flush=True)
            figures.append(asdict(figure))
            if perf_counter() - began > seconds:
                found["stopped"] = f"after {perf_counter() - began:.0f} s; the rest, if there is one, is left out"
                break
    except ModuleNotFoundError as error:
        found["left_out"] = str(error)
    except Exception as error:  # one section that fails does not end the run
        found["failed"], found["traceback"] = f"{type(error).__name__}: {error}", traceback.format_exc()
    found["seconds"] = perf_counter() - began
    for word in ("stopped", "left_out", "failed"):
        if word in found:
            print(f"  {word.replace('_', ' ')}: {found[word]}", flush=True)
    if "traceback" in found:
        print(found["traceback"], file=sys.stderr)
    gc.collect()
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
    return found


if __name__ == "__main__":
    main()
