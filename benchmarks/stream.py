"""Samples per second into training batches: every loader side by side on the same samples, local and from an S3 server.

    python benchmarks/stream.py [--samples 8192] [--frames 16] [--seconds 3] [--latencies 5 50]

Everyone reads the same samples (one person, joints and a video and a text vector of 512) from the same disk into
batches of 256 float tensors, with two workers (or two threads), and is timed on whole passes after a first one, so that
start-up does not count. tmor_train also shuffles all samples, chooses frames and normalises; the others go through
their shards in order and only stack. "no thread" gathers in the thread that uses the batches, which shows the cost of a
batch by itself; during training, threads gather while the network computes. litData and MosaicML Streaming take part
where they are installed.

With ``--latencies``, the loaders that read object stores do so from a server that answers reads as S3 does, so many
milliseconds after each was asked (object_server.py). It runs on the same machine and takes its share of the cores,
which is why its processor time is printed, too. Every pass reads all from the server, but for "cached", which keeps
shards on disk: there only the pass that is not timed reads from the server.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import datasets
import fsspec
import numpy as np
import torch
import webdataset
from measuring import made_sample, parser_of
from torch.utils.data import DataLoader

import posecap
from posecap.inference.package_compat import ensure_torchvision
from posecap.shards import write_dataset_list, write_part
from posecap.storage import Location
from posecap.stream import Field
from posecap.types import PartName, Sample
from tmor_train.data import Batching, Loader, Sampling, read_shards

BATCH = 256  # samples
WORKERS = 2  # processes or threads that make batches
PARTS = 8  # or shards
BUCKET = "benchmark"  # folder that the server shows as one
WIDTH = 512  # of the video and text vectors, as ViCLIP B/16 gives them
FIELDS: tuple[Field, ...] = ("joints", "video", "text")

Pass = Callable[[], Iterable[Any]]
"""Gives the batches of one pass, each (joints, video vectors, text vectors)."""


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--frames", type=int, default=16, help="of each sample (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="each is timed for at least (default: %(default)s)")
    about = "milliseconds that an S3 server waits before each answer (default: no server)"
    parser.add_argument("--latencies", type=float, nargs="*", default=[], metavar="MS", help=about)
    parser.add_argument("--only", default="", metavar="WORDS", help="contenders whose name has these words in it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = [sample(number, options.frames) for number in range(options.samples)]
    size = made[0].joints_MTJ3.nbytes + made[0].video_D.nbytes + made[0].text_CD.nbytes
    print(f"{len(made)} samples of {options.frames} frames, {size} bytes each; batches of {BATCH}, {WORKERS} workers")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / BUCKET / "dataset"
        contenders = ours(root, made, options.frames) | with_others_loaders(root) | others(Path(folder), root, made)
        rates = measured(contenders, options, size)
        for latency in options.latencies:
            print(f"from an S3 server that waits {latency:g} ms before each answer:")
            with object_server(Path(folder), latency / 1000) as server:
                cache = Path(folder) / f"cache-{latency:g}"
                measured(from_store(f"s3://{BUCKET}/dataset", cache), options, size, local=rates, server=server)
                gc.collect()  # ends their workers, whose processor time would else be taken for that of the next ones


def measured(
    contenders: dict[str, Pass],
    options: argparse.Namespace,
    size: int,
    *,
    local: dict[str, float] | None = None,
    server: int | None = None,
) -> dict[str, float]:
    """Print and return samples per second, beside those of the first, or of the same loader on local disk; ``server``
    is the process that they read from."""
    rates: dict[str, float] = {}
    for name, run in contenders.items():
        if options.only not in name:
            continue
        before = process_seconds(server) if server else 0.0
        found = rate(name, run, options)
        served = (process_seconds(server) - before) / found.samples if server else 0.0
        rates[name] = found.samples_per_second
        beside = local.get(name.removesuffix(", cached"), 0) if local else next(iter(rates.values()))
        ratio = f"   this / local = {rates[name] / beside:.2f}" if local and beside else ""
        ratio = ratio if local else f"   {next(iter(rates))} / this = {beside / rates[name]:.1f}"
        work = f"{1e6 * found.core_seconds:>4,.0f} µs of a core a sample"
        work += f", {1e6 * served:.0f} µs of the server's" if server else ""
        speed = f"{rates[name]:>9,.0f} samples/s {rates[name] * size / 1e6:>5,.0f} MB/s"
        print(f"{name:<30} {speed} {work}, first pass {found.first_pass_seconds:.1f} s{ratio}", flush=True)
    return rates


@dataclass(frozen=True)
class Rate:
    """How fast whole passes were, after a first one.

    Args:
        core_seconds: processor time for each sample, of this process and its workers.
        first_pass_seconds: with the start of the workers, and of their connections.
        samples: that were read in all passes.
    """

    samples_per_second: float
    core_seconds: float
    first_pass_seconds: float
    samples: int


def rate(name: str, run: Pass, options: argparse.Namespace) -> Rate:
    """The rate of a contender."""
    began = perf_counter()
    first = count(run())
    passes, started, before = 0, perf_counter(), spent_seconds()
    while perf_counter() - started < options.seconds:
        got = count(run())
        if not options.samples - WORKERS * BATCH < got <= options.samples:
            raise SystemExit(f"{name} gave {got} samples of {options.samples}")
        passes += got
    seconds = perf_counter() - started
    return Rate(passes / seconds, (spent_seconds() - before) / passes, started - began, first + passes)


def spent_seconds() -> float:
    """Processor seconds of this process and of its workers so far; what other programs do meanwhile changes them less
    than it does the clock."""
    workers = (process.pid for process in multiprocessing.active_children())
    return sum(process_seconds(pid) for pid in (os.getpid(), *workers) if pid is not None)


def count(batches: Iterable[Any]) -> int:
    """Samples in all batches; every tensor must be there, and one value of it is read."""
    seen = 0
    for batch in batches:
        joints, video, text = batch
        seen += len(joints)
        if len(video) != len(joints) or len(text) != len(joints) or not bool(joints.flatten()[-1].isfinite()):
            raise SystemExit("a batch is not whole")
    return seen


def sample(number: int, frames: int) -> Sample:
    """One person who is seen throughout."""
    rng = np.random.default_rng(number)
    joints, video, text = (rng.random(shape, np.float32) for shape in ((1, frames, 17, 3), WIDTH, (1, WIDTH)))
    caption = f"Somebody walks by, for the {number}th time."
    return made_sample(number, joints + np.float32(0.1), video_D=video, text_CD=text, caption=caption)


def ours(root: Path, made: list[Sample], frames: int) -> dict[str, Pass]:
    """Passes through a posecap dataset of the samples, which is written to ``root``."""
    each = -(-len(made) // PARTS)
    for part in range(PARTS):
        kept = made[part * each : (part + 1) * each]
        write_part(root, PartName("train", part), kept, record={"fingerprint": "f" * 64})
    write_dataset_list(root)
    motions = read_shards(root)

    def loader(workers: int, layout: str) -> Pass:
        sampling, batching = Sampling(frames=frames, layout=layout), Batching(size=BATCH, last="keep")
        batches = Loader(motions, sampling=sampling, batching=batching, workers=workers)
        return lambda: ((b.motion_NCTVM, b.video_ND, b.text_ND) for b in batches)

    return {
        "tmor_train, columns": loader(WORKERS, "coco17"),
        "tmor_train, columns, no thread": loader(0, "coco17"),
        "tmor_train, columns, as unik17": loader(WORKERS, "unik17"),
        "posecap.open, tar": with_posecap(root, "tar"),
        "posecap.open, columns": with_posecap(root, "columns"),
    }


def with_posecap(location: Location, read: Literal["tar", "columns"]) -> Pass:
    """Passes by ``posecap.open``, in the order of the shards."""
    stream = posecap.open(location, seed=None, fields=FIELDS, read=read)
    loader = stream.loader(BATCH, num_workers=WORKERS, persistent_workers=True)
    return lambda: ((b["joints_BMTJ3"], b["video_BD"], b["text_BCD"]) for b in loader)


def with_others_loaders(location: Location) -> dict[str, Pass]:
    """posecap's samples in the loaders of others."""
    names = (f"{name}.npy" for name in FIELDS)
    pipeline = posecap.webdataset(location, seed=None).to_tuple(*names).batched(BATCH)
    theirs = webdataset.WebLoader(pipeline, batch_size=None, num_workers=WORKERS, persistent_workers=True)
    return {
        "posecap.webdataset": lambda: (tuple(map(torch.as_tensor, batch)) for batch in theirs),
        "posecap.huggingface": hugging_face_batches(posecap.huggingface(location), FIELDS),
    }


def hugging_face_batches(stream: Any, names: Iterable[str]) -> Pass:
    """Passes through an iterable dataset of Hugging Face; ``names`` are those of joints, video and text in it."""

    def stacked(rows: list[Any]) -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_numpy(np.stack([np.asarray(row[name], np.float32) for row in rows])) for name in names)

    names = tuple(names)
    loader: DataLoader[Any] = DataLoader(
        stream, batch_size=BATCH, num_workers=WORKERS, persistent_workers=True, collate_fn=stacked
    )
    return lambda: loader


def from_store(address: str, cache: Path) -> dict[str, Pass]:
    """Passes through a dataset in an object store; ``cache`` is a folder for shards."""
    cached = posecap.cached(address, cache)
    return {
        "posecap.open, tar": with_posecap(address, "tar"),
        "posecap.open, columns": with_posecap(address, "columns"),
        "posecap.open, tar, cached": with_posecap(cached, "tar"),
        "posecap.open, columns, cached": with_posecap(cached, "columns"),
        **with_others_loaders(address),
    }


@contextlib.contextmanager
def object_server(folder: Path, seconds: float) -> Iterator[int]:
    """The process of a server for ``folder``, which waits before it answers, and to which clients of S3 are sent."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }
    program = str(Path(__file__).with_name("object_server.py"))
    with subprocess.Popen([sys.executable, program, str(folder), str(port), str(seconds)]) as process:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            fsspec.filesystem("s3").clear_instance_cache()
            yield process.pid
        finally:
            process.terminate()


def process_seconds(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def others(root: Path, ours: Path, made: list[Sample]) -> dict[str, Pass]:
    """Passes through the same samples as other libraries write and read them; ``ours`` is posecap's dataset."""
    tars = sorted(map(str, ours.glob("data/train/pose-*.tar")))
    hugging_face = datasets.load_dataset("webdataset", data_files={"train": tars}, split="train", streaming=True)
    found = {
        "webdataset": with_webdataset(root / "webdataset", made),
        "Hugging Face, the same tars": hugging_face_batches(hugging_face, [f"{name}.npy" for name in FIELDS]),
    }
    for name, package, make in (
        ("litData", "litdata", with_litdata),
        ("MosaicML Streaming", "streaming", with_mosaicml),
    ):
        if importlib.util.find_spec(package):
            found[name] = make(root / package, made)
        else:
            print(f"{name} is not installed, so it is left out")
    return found


def arrays(one: Sample) -> dict[str, Any]:
    """What everyone writes of a sample, by the names of :data:`FIELDS`."""
    return {"joints": one.joints_MTJ3, "video": one.video_D, "text": one.text_CD}


def with_webdataset(root: Path, made: list[Sample]) -> Pass:
    root.mkdir()
    for part in range(PARTS):
        with webdataset.TarWriter(str(root / f"{part}.tar")) as writer:
            for one in made[part::PARTS]:
                writer.write({"__key__": one.key, **{f"{name}.npy": array for name, array in arrays(one).items()}})
    dataset = (
        webdataset.WebDataset(str(root / f"{{0..{PARTS - 1}}}.tar"), shardshuffle=False, empty_check=False)
        .decode()
        .to_tuple(*(f"{name}.npy" for name in FIELDS))
        .batched(BATCH)
    )
    loader = webdataset.WebLoader(dataset, batch_size=None, num_workers=WORKERS, persistent_workers=True)
    return lambda: (tuple(map(torch.as_tensor, batch)) for batch in loader)


def with_litdata(root: Path, made: list[Sample]) -> Pass:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    root.mkdir()
    writer = BinaryWriter(str(root), chunk_bytes=64 << 20)
    for number, one in enumerate(made):
        writer[number] = arrays(one)
    writer.done()
    writer.merge()
    loader = StreamingDataLoader(
        StreamingDataset(str(root)), batch_size=BATCH, num_workers=WORKERS, persistent_workers=True
    )
    return lambda: (tuple(batch[name] for name in FIELDS) for batch in loader)


def with_mosaicml(root: Path, made: list[Sample]) -> Pass:
    ensure_torchvision()  # its package imports torchvision
    from streaming import MDSWriter, StreamingDataset

    columns = {name: f"ndarray:float32:{','.join(map(str, array.shape))}" for name, array in arrays(made[0]).items()}
    with MDSWriter(out=str(root), columns=columns) as writer:
        for one in made:
            writer.write(arrays(one))
    dataset = StreamingDataset(local=str(root), batch_size=BATCH, shuffle=False)
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=BATCH, num_workers=WORKERS, persistent_workers=True)
    return lambda: (tuple(batch[name] for name in FIELDS) for batch in loader)


if __name__ == "__main__":
    main()
