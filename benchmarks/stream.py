"""Samples per second into training batches: tmor_train's loader beside webdataset, litData and MosaicML Streaming.

    python benchmarks/stream.py [--samples 8192] [--frames 16] [--seconds 3]

Everyone reads the same samples (one person, joints and a video and a text vector of 512) from the same disk into
batches of 256 float tensors, with two workers (or two threads), and is timed on whole passes after a first one, so that
start-up does not count. tmor_train also shuffles all samples, chooses frames and normalises; the others go through
their shards in order and only stack. "no thread" gathers in the thread that uses the batches, which shows the cost of a
batch by itself; during training, threads gather while the network computes. litData and MosaicML Streaming take part
where they are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import webdataset
from measuring import made_sample, parser_of
from torch.utils.data import DataLoader

import posecap
from posecap.inference.package_compat import ensure_torchvision
from posecap.shards import write_dataset_list, write_part
from posecap.stream import Field, collate
from posecap.types import PartName, Sample
from tmor_train.data import Batching, Loader, Sampling, read_shards

BATCH = 256
WORKERS = 2
PARTS = 2  # or shards, one for each worker
WIDTH = 512  # of the video and text vectors, as ViCLIP B/16 gives them
FIELDS: tuple[Field, ...] = ("joints", "video", "text")

Pass = Callable[[], Iterable[Any]]
"""Gives the batches of one pass, each (joints, video vectors, text vectors)."""


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--frames", type=int, default=16, help="of each sample (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="each is timed for at least (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = [sample(number, options.frames) for number in range(options.samples)]
    size = made[0].joints_MTJ3.nbytes + made[0].video_D.nbytes + made[0].text_CD.nbytes
    print(f"{len(made)} samples of {options.frames} frames, {size} bytes each; batches of {BATCH}, {WORKERS} workers")
    with tempfile.TemporaryDirectory() as folder:
        contenders = ours(Path(folder) / "posecap", made, options.frames) | others(Path(folder), made)
        rates = {name: rate(name, run, options) for name, run in contenders.items()}
    first = next(iter(rates.values()))
    for name, found in rates.items():
        ratio = "" if found == first else f"   columns / this = {first / found:.1f}"
        print(f"{name:<32} {found:>9,.0f} samples/s {found * size / 1e6:>7,.0f} MB/s{ratio}")


def rate(name: str, run: Pass, options: argparse.Namespace) -> float:
    """Samples per second over whole passes, after one that is not timed."""
    count(run())
    passes, started = 0, perf_counter()
    while perf_counter() - started < options.seconds:
        got = count(run())
        if not options.samples - WORKERS * BATCH < got <= options.samples:
            raise SystemExit(f"{name} gave {got} samples of {options.samples}")
        passes += got
    return passes / (perf_counter() - started)


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

    stream: DataLoader[Any] = DataLoader(
        posecap.open(root, seed=None, fields=FIELDS),
        batch_size=BATCH,
        num_workers=WORKERS,
        collate_fn=collate,
        persistent_workers=True,
    )
    return {
        "tmor_train, columns": loader(WORKERS, "coco17"),
        "tmor_train, columns, no thread": loader(0, "coco17"),
        "tmor_train, columns, as unik17": loader(WORKERS, "unik17"),
        "posecap.open, tar": lambda: ((b["joints_BMTJ3"], b["video_BD"], b["text_BCD"]) for b in stream),
    }


def others(root: Path, made: list[Sample]) -> dict[str, Pass]:
    """Passes through the same samples as other libraries write and read them."""
    found = {"webdataset": with_webdataset(root / "webdataset", made)}
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
