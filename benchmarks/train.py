"""Milliseconds of one step of pre-training: tmor_train's TrainState beside the same step written the usual way.

    python benchmarks/train.py [--batch 16 64] [--frames 64] [--queue 4096] [--repeats 3] [--threads N]
                               [--device cpu|cuda] [--set "FIELD=VALUE …"] [--parts]

A step is everything between two batches: the positive view, the encoder's forward on the clips and the EMA encoder's on
that view, L_mm, L_mv and L_mt against a full queue, backward, gradient clipping, AdamW, both moving averages, the
queue. "plain" is UNIK with a loop over its heads, a softmax over all logits in each loss, and an average taken
parameter by parameter. Both begin with the same weights, queue, clusters and batch, and have the same losses where both
see the same view (a test without augmentation holds them to it). They take turns with a product of square matrices,
called the peak; bests are printed, so that a busy machine is no one's disadvantage. In float32 on CUDA that product is
computed without TF32 and convolutions with it, as PyTorch does by default, so a step's share of the peak may exceed 100
%. FLOPs are those of the plain step's products: the share is the work as it is written, even where TrainState computes
the same numbers with fewer operations.

Then batches are loaded and trained on, one after the other as a run does it, from a set that was read into memory and
from columns mapped from disk: what share of the time is waiting for data.

``--parts`` prints instead what TrainState's step consists of on one thread of a CPU: the share of each kind of
operation in its processor time, and at how many GFLOP/s those that multiply do so.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import numpy as np
import torch
from measuring import best, made_sample, parser_of
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from posecap.shards import write_dataset_list, write_part
from posecap.types import PartName, Sample
from tmor_train.configuration import changed
from tmor_train.data import Loader, MotionBatch, MotionSet, read_shards
from tmor_train.data.augment import augmented
from tmor_train.losses.queue import Entries
from tmor_train.recipes.pretrain import joint
from tmor_train.training.config import PretrainConfig
from tmor_train.training.distributed import DistributedContext, autocast_of
from tmor_train.training.train_state import TrainState

sys.path.append(str(Path(__file__).parents[1]))
from tests import plain_unik

CLIPS, CLUSTERS, SENTENCES = 512, 40, 200  # of the made-up dataset; our choices
WIDTH = 512  # of video and text vectors, as ViCLIP B/16 gives them
SQUARE = {"cpu": 1536, "cuda": 8192}
"""Rows of the matrices whose product is the peak. Our choices: arithmetic outweighs reading them."""


# --- the plain step -------------------------------------------------------------------------------------------------


def plain_weights(encoder: nn.Module) -> dict[str, Tensor]:
    """Copies of an encoder's weights, which take gradients, and of its statistics, by the names of UNIK's published
    weights."""
    statistics = {name for name, _ in encoder.named_buffers()}
    copies = {name: tensor.detach().clone() for name, tensor in encoder.state_dict().items()}
    return {name: tensor.requires_grad_(name not in statistics) for name, tensor in copies.items()}


def weights_in(part: nn.Module | dict[str, Tensor]) -> list[Tensor]:
    """What an optimizer changes of a head, or of weights by name."""
    if isinstance(part, nn.Module):
        return list(part.parameters())
    return [tensor for tensor in part.values() if tensor.requires_grad]


class PlainTrainer:
    """The step of ``train_state``, written plainly; begins with its weights and queue.

    For the configuration that :func:`configuration` makes, with other momentum, rate, weight decay, clipping and
    positive view at will, and one temperature for all three losses, as by default.
    """

    def __init__(self, train_state: TrainState) -> None:
        self.config, self.device = train_state.config, train_state.distributed.device
        encoder, objective = train_state.encoder, train_state.objective
        config = self.config.objective
        self.encoder, self.key_encoder = plain_weights(encoder), plain_weights(train_state.ema.module)
        assert objective.video_head is not None, "configuration() has all three losses"
        assert objective.text_head is not None, "configuration() has all three losses"
        heads = (objective.motion_head, objective.video_head, objective.text_head)
        self.motion_head, self.video_head, self.text_head = (copy.deepcopy(head.layers) for head in heads)
        self.key_head = copy.deepcopy(self.motion_head)  # as the EMA head of a new TrainState
        trained = (self.encoder, self.motion_head, self.video_head, self.text_head)
        self.parameters = [tensor for part in trained for tensor in weights_in(part)]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=self.config.optimizer.lr, weight_decay=self.config.optimizer.weight_decay
        )
        kept = objective.memory.state_dict()
        names = ("motion_KD", "video_KDv", "text_KDt", "index_K", "text_id_K")
        self.queue = {name: kept[name].clone() for name in names}
        self.pointer, self.momentum, self.temperature = 0, config.momentum, config.temperature_mm
        self.cluster_of = train_state.cluster_of
        self.generator = torch.Generator(self.device)  # its views are not train_state's, but cost the same

    def train(self, batch: MotionBatch) -> float:
        """One step; returns its loss."""
        view = augmented(batch, self.config.views.positive, self.generator)
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.loop.precision == "bfloat16")
        with autocast:  # these weights have no classifier, without which ``scores`` gives clip features
            features = plain_unik.scores(self.encoder, batch.motion_NCTVM, training=True)
            with torch.no_grad():
                key_features = plain_unik.scores(self.key_encoder, view.motion_NCTVM, training=True)
        anchors = functional.normalize(self.motion_head(features.float()), dim=1)
        with torch.no_grad():
            keys = functional.normalize(self.key_head(key_features.float()), dim=1)
        loss = self.loss(anchors, keys, batch)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.optimizer.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.config.optimizer.clip)
        self.optimizer.step()
        self.update_ema()
        self.enqueue(keys, batch)
        return loss.item()

    def loss(self, anchors: Tensor, keys: Tensor, batch: MotionBatch) -> Tensor:
        """L_mm + L_mv + L_mt of Eqs. 1 to 9 against the batch's own candidates and the queue's."""
        assert batch.video_ND is not None, "every sample has a video vector"
        assert batch.text_ND is not None, "every sample has a caption"
        assert self.cluster_of is not None, "new_train_state() sets clusters"
        queue = self.queue
        videos = functional.normalize(self.video_head(torch.cat([batch.video_ND, queue["video_KDv"]])), dim=1)
        texts = functional.normalize(self.text_head(torch.cat([batch.text_ND, queue["text_KDt"]])), dim=1)
        index = torch.cat([batch.index_N, queue["index_K"]])
        text_id = torch.cat([batch.text_id_N, queue["text_id_K"]])
        cluster = self.cluster_of[index]
        count = len(anchors)
        own = torch.eye(count, len(index), dtype=torch.bool, device=self.device)
        same_clip = index[:count, None] == index
        same_cluster = (cluster[:count, None] == cluster) & (cluster != -1)
        same_text = text_id[:count, None] == text_id
        related = same_clip | same_cluster
        return (
            self.contrast(anchors, torch.cat([keys, queue["motion_KD"]]), related, ~related)
            + self.contrast(anchors, videos, own, ~related)
            + self.contrast(anchors, texts, own, ~(related | same_text))
        )

    def contrast(self, anchors: Tensor, pool: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        logits = anchors @ pool.T / self.temperature
        logits = logits.masked_fill(~(positives | negatives), float("-inf"))
        return -(torch.softmax(logits, dim=1) * positives).sum(1).log().mean()

    @torch.no_grad()
    def update_ema(self) -> None:
        """The EMA encoder and head, parameter by parameter."""
        for ema, online in ((self.key_encoder, self.encoder), (self.key_head, self.motion_head)):
            for own, new in zip(weights_in(ema), weights_in(online), strict=True):
                own.data = own.data * self.momentum + new.data * (1 - self.momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor, batch: MotionBatch) -> None:
        fresh = (keys, batch.video_ND, batch.text_ND, batch.index_N, batch.text_id_N)
        slots = (self.pointer + torch.arange(len(keys), device=self.device)) % len(self.queue["index_K"])
        for name, new in zip(self.queue, fresh, strict=True):
            self.queue[name][slots] = new
        self.pointer = (self.pointer + len(keys)) % len(self.queue["index_K"])


# --- configuration and data of both ---------------------------------------------------------------------------------


def configuration(*, batch: int, frames: int, queue: int, precision: str = "float32", also: str = "") -> PretrainConfig:
    """All three losses at once. The learning rate is low, so that weights stay finite over the repeated steps."""
    settings = [
        f"sampling.frames={frames}",
        "sampling.people=1",
        f"batching.size={batch}",
        f"objective.queue_size={queue}",
        "optimizer.method=adamw",
        "optimizer.lr=1e-4",
        f"loop.precision={precision}",
        *also.split(),
    ]
    return changed(joint(), settings)


def new_train_state(config: PretrainConfig, motions: MotionSet, device: torch.device) -> TrainState:
    """A new TrainState with a full queue and with clusters; every fourth clip is in none."""
    train_state = TrainState(config, motions, DistributedContext(device=device))
    rng, size = np.random.default_rng(0), config.objective.queue_size

    def vectors(width: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal((size, width), np.float32)).to(device)

    def numbers(most: int, count: int = size) -> Tensor:
        return torch.from_numpy(rng.integers(0, most, count)).to(device)

    everybody = torch.ones(size, dtype=torch.bool, device=device)
    full = Entries(
        motion_KD=functional.normalize(vectors(config.objective.width), dim=1),
        video_KDv=vectors(WIDTH),
        text_KDt=vectors(WIDTH),
        has_video_K=everybody,
        has_text_K=everybody,
        index_K=numbers(len(motions)),
        text_id_K=numbers(len(motions.sentences)),
    )
    train_state.objective.after_step([full])  # one list entry for each memory, of which there is one
    labels = numbers(CLUSTERS, len(motions))
    labels[::4] = -1
    train_state.cluster_of = labels
    return train_state


def write_dataset(root: Path, *, clips: int, frames: int) -> None:
    """A posecap dataset of ``clips`` walks of ``frames`` to two times as many frames, with one caption each."""
    samples = [sample(number, frames + number * frames // clips) for number in range(clips)]
    write_part(root, PartName("train", 0), samples, record={"fingerprint": "f" * 64})  # any will do
    write_dataset_list(root)


def sample(number: int, frames: int) -> Sample:
    """One person who is seen throughout and walks at random, within one pixel: only shapes matter here."""
    rng = np.random.default_rng(number)
    steps = rng.standard_normal((1, frames, 17, 3), np.float32) * np.float32(0.01)
    joints = (0.5 + steps.cumsum(1)).clip(0.0, 1.0).astype(np.float32)
    joints[..., 2] = 0.9
    video, text = rng.standard_normal(WIDTH, np.float32), rng.standard_normal((1, WIDTH), np.float32)
    caption = f"Somebody walks in manner {number % SENTENCES}."
    return made_sample(number, joints, video_D=video, text_CD=text, caption=caption)


# --- measuring ------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64], metavar="N")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--queue", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--set", default="", metavar="FIELD=VALUE …", help="fields of TrainState's loop, such as loop.compile=on"
    )
    parser.add_argument("--parts", action="store_true", help="what a step consists of, on one thread of a CPU")
    options = parser.parse_args()
    if options.parts and (options.threads, options.device) != (1, "cpu"):
        parser.error("--parts reads the clock of one thread: give --threads 1 --device cpu")
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {options.threads} threads"
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before the start"
    print(f"{name}; {options.frames} frames, 17 joints, queue {options.queue:,}; bests of {options.repeats}; {load}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root, clips=CLIPS, frames=options.frames)
        # By default the columns of a folder are mapped; "tar" reads all into memory.
        sets = {"in memory": read_shards(root, read="tar"), "columns, mapped": read_shards(root)}
        for precision in precisions(device):
            for batch in options.batch:
                config = configuration(
                    batch=batch, frames=options.frames, queue=options.queue, precision=precision, also=options.set
                )
                train_state = new_train_state(config, sets["in memory"], device)
                if options.parts:
                    print_parts(train_state)
                    continue
                compare(train_state, options.repeats)
                for of, motions in sets.items():
                    waits(train_state, motions, of, options.repeats)


def precisions(device: torch.device) -> Iterator[str]:
    """float32, and bfloat16 where the device has it."""
    yield "float32"
    try:
        autocast_of("bfloat16", device)
    except ValueError as error:
        print(f"bfloat16 is left out: {error}")
    else:
        yield "bfloat16"


def compare(train_state: TrainState, repeats: int) -> None:
    """Prints both steps, on the same batch again and again."""
    config, device = train_state.config, train_state.distributed.device
    loader = Loader(train_state.motions, sampling=config.sampling, batching=config.batching)
    batch = loader.gather(np.arange(config.batching.size)).to(device)
    plain = PlainTrainer(train_state)
    dtype = torch.bfloat16 if config.loop.precision == "bfloat16" else torch.float32
    square = torch.rand(SQUARE[device.type], SQUARE[device.type], device=device, dtype=dtype)
    with FlopCounterMode(display=False) as counter:
        plain.train(batch)
    # The first step of both allocates, and is not timed. A step may have several batches; ``watch`` adds metrics.
    train_state.train_step([batch], lr_ratio=1.0, watch=False)
    seconds = best(
        {
            "plain": lambda: plain.train(batch),
            "ours": lambda: train_state.train_step([batch], lr_ratio=1.0, watch=False),
            "peak": lambda: square @ square,
        },
        repeats,
        synchronize=torch.cuda.synchronize if device.type == "cuda" else lambda: None,
    )
    peak = 2 * len(square) ** 3 / seconds["peak"]
    flop = counter.get_total_flops()
    print(
        f"{config.loop.precision}, batch {len(batch)}: {flop / 1e9:,.0f} GFLOP a step, peak {peak / 1e9:,.0f} GFLOP/s"
    )
    for name in ("plain", "ours"):
        spent = seconds[name]
        ratio = "" if name == "plain" else f"   plain / ours = {seconds['plain'] / spent:.2f}"
        print(
            f"  {name:<6} {1000 * spent:>9,.1f} ms {len(batch) / spent:>9,.1f} clips/s "
            f"{100 * flop / spent / peak:>5.0f} % of the peak{ratio}"
        )


class Parts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums up processor seconds of this thread and FLOP of each kind of operation, and counts its calls: lists
    [seconds, FLOP, calls] by name. FLOP are those of products and convolutions alone, by torch's own count."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.spent: dict[str, list[float]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        began = thread_time()
        out = func(*args, **kwargs)
        seconds = thread_time() - began
        count = flop_registry.get(func._overloadpacket)
        kind = self.spent.setdefault(str(func._overloadpacket).removeprefix("aten."), [0.0, 0.0, 0])
        for place, more in enumerate((seconds, count(*args, **kwargs, out_val=out) if count else 0, 1)):
            kind[place] += more
        return out


def print_parts(train_state: TrainState) -> None:
    """Prints the operations that take most of a step's processor time, and the rate of a product of matrices."""
    config = train_state.config
    loader = Loader(train_state.motions, sampling=config.sampling, batching=config.batching)
    batch = loader.gather(np.arange(config.batching.size))
    train_state.train_step([batch], lr_ratio=1.0, watch=False)
    with Parts() as parts:
        train_state.train_step([batch], lr_ratio=1.0, watch=False)
    dtype = torch.bfloat16 if config.loop.precision == "bfloat16" else torch.float32
    square = torch.rand(SQUARE["cpu"], SQUARE["cpu"], dtype=dtype)
    with Parts() as peak:
        for _ in range(3):
            square @ square
    whole = sum(seconds for seconds, _, _ in parts.spent.values())
    seconds, flop, _ = peak.spent["mm"]
    print(f"{config.loop.precision}, batch {len(batch)}: {whole:.2f} s, peak {flop / seconds / 1e9:,.0f} GFLOP/s")
    for name, (seconds, flop, calls) in sorted(parts.spent.items(), key=lambda one: -one[1][0])[:12]:
        rate = f"{flop / seconds / 1e9:>6,.0f} GFLOP/s" if flop else ""
        print(f"  {name:<28} {100 * seconds / whole:>5.1f} % {calls:>5,} calls {rate}".rstrip())


def waits(train_state: TrainState, motions: MotionSet, of: str, repeats: int) -> None:
    """Prints which share of the time passes until batches are on the device: waiting for the loader's threads (one by
    default, ``loop.workers``), pinning and copying. The very first batch is left out."""
    config, device = train_state.config, train_state.distributed.device
    batching = replace(config.batching, last="fill")  # every batch is full, also where the set has fewer clips
    loader = Loader(motions, sampling=config.sampling, batching=batching, workers=config.loop.workers)
    batches = chain.from_iterable(repeat(loader))  # epoch after epoch
    next(batches)
    began, waited = perf_counter(), 0.0
    for _ in range(repeats):
        asked = perf_counter()
        batch = next(batches)
        batch = (batch.pinned() if device.type == "cuda" else batch).to(device)
        waited += perf_counter() - asked
        train_state.train_step([batch], lr_ratio=1.0, watch=False)  # reads the loss, so it waits for the GPU
    share = waited / (perf_counter() - began)
    print(f"  loop   {of:<16} {100 * share:5.2f} % of {repeats} steps' time is waiting for data")


if __name__ == "__main__":
    main()
