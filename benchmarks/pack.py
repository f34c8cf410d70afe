"""Samples per second, writing and reading: posecap's shards beside webdataset and the standard library's tarfile.

    python benchmarks/pack.py [--samples 4000] [--frames 16] [--repeats 3]

Everyone writes the same members of the same samples to the same disk. posecap also writes columns and index, hashes
every file, forces it to disk and reads it back; webdataset and tarfile do none of that. Readers decode arrays and
JSON. Each figure is the best of the repeats, which take turns, so that a busy machine is no one's disadvantage.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import webdataset

import posecap
from posecap.shards import read_part, write_part
from posecap.shards.serialization import arrays_of, facts_json
from posecap.types import Caption, PartName, Quality, Sample, Span

PART = PartName("train", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--frames", type=int, default=16, help="of each sample, one person (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    made = [sample(number, options.frames) for number in range(options.samples)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        writing: dict[str, Callable[[], object]] = {
            "posecap": lambda: write_part(root, PART, made, record={"fingerprint": "f" * 64}),
            "webdataset": lambda: write_webdataset(root / "webdataset.tar", made),
            "tarfile": lambda: write_tarfile(root / "tarfile.tar", made),
        }
        report("write", options.samples, best(writing, options.repeats))
        size = (root / "data/train/pose-00000.tar").stat().st_size / options.samples
        print(f"      {size:.0f} bytes of tar for each sample")
        reading: dict[str, Callable[[], object]] = {
            "posecap": lambda: count(posecap.open(root, seed=None)),
            "posecap, columns": lambda: count(posecap.open(root, seed=None, read="columns")),
            "posecap, columns, arrays only": lambda: count(
                posecap.open(root, seed=None, read="columns", fields=("joints", "pts", "video", "text"))
            ),
            "posecap, whole part": lambda: count(read_part(root, PART)),
            "webdataset": lambda: count(read_webdataset(root / "webdataset.tar")),
            "tarfile": lambda: count(read_tarfile(root / "tarfile.tar")),
        }
        report("read", options.samples, best(reading, options.repeats))


def best(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Shortest time of each in seconds; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            started = perf_counter()
            run()
            seconds[name].append(perf_counter() - started)
    return {name: min(times) for name, times in seconds.items()}


def report(what: str, samples: int, seconds: dict[str, float]) -> None:
    ours = seconds["posecap"]
    for name, spent in seconds.items():
        ratio = "" if name == "posecap" else f"   posecap / {name} = {spent / ours:.2f}"
        print(f"{what:<5} {name:<30} {samples / spent:>9,.0f} samples/s{ratio}")


def sample(number: int, frames: int) -> Sample:
    """One person, an EfficientNet-sized video vector and a MiniLM-sized text vector."""
    rng = np.random.default_rng(number)
    key, pts = f"{number:024x}", np.arange(frames) / 25.0
    span = Span(0.0, frames / 25.0)
    quality = Quality(
        coverage=1.0,
        mean_score=0.5,
        zero_pose_share=0.0,
        jitter=0.01,
        bone_jump_share=0.0,
        identity_switches=0,
        motion=0.3,
    )
    facts = {
        "clip_id": key,
        "row_id": f"row-{number}",
        "uri": f"videos/{number}.mp4",
        "source_id": f"{number:064x}",
        "start_seconds": span.start_seconds,
        "end_seconds": span.end_seconds,
        "pts_span": [float(pts[0]), float(pts[-1])],
        "video_span": [float(pts[0]), float(pts[-1])],
        "fps": 25.0,
        "width": 640,
        "height": 360,
        "codec": "h264",
        "frames": frames,
        "people": 1,
        "joints": 17,
        "layout": "coco17",
        "label": "walking",
        "split": "train",
        "license": "CC0-1.0",
        "source": "made up",
        "quality": {name: getattr(quality, name) for name in Quality.__slots__},
        "models": {"decoder": "decord", "video": "efficientnet-lite0", "text": "minilm"},
    }
    return Sample(
        key=key,
        joints_MTJ3=rng.random((1, frames, 17, 3), np.float32),
        pts_T=pts,
        video_D=rng.random(1280, np.float32),
        text_CD=rng.random((1, 384), np.float32),
        captions=(Caption(f"Somebody walks by, for the {number}th time.", "row"),),
        facts=facts,
    )


def write_webdataset(path: Path, made: list[Sample]) -> None:
    with webdataset.TarWriter(str(path)) as writer:
        for one in made:
            arrays = {f"{name}.npy": array for name, array in arrays_of(one).items()}
            writer.write(
                {"__key__": one.key, **arrays, "txt": one.captions[0].text, "json": json.loads(facts_json(one))}
            )


def write_tarfile(path: Path, made: list[Sample]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as file:
        for one in made:
            contents = {"txt": one.captions[0].text.encode(), "json": facts_json(one)}
            for name, array in arrays_of(one).items():
                stream = io.BytesIO()
                np.save(stream, array, allow_pickle=False)
                contents[f"{name}.npy"] = stream.getvalue()
            for ending, content in contents.items():
                info = tarfile.TarInfo(f"{one.key}.{ending}")
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))


def read_webdataset(path: Path) -> Any:
    return webdataset.WebDataset(f"file:{path}", shardshuffle=False, empty_check=False).decode()


def read_tarfile(path: Path) -> Iterator[dict[str, Any]]:
    with tarfile.open(path) as file:
        key, found = "", dict[str, Any]()
        for info in file:
            owner, _, ending = info.name.partition(".")
            if owner != key:
                if found:
                    yield found
                key, found = owner, {}
            member = file.extractfile(info)
            content = member.read() if member else b""
            if ending.endswith("npy"):
                found[ending] = np.load(io.BytesIO(content), allow_pickle=False)
            else:
                found[ending] = json.loads(content) if ending == "json" else content.decode()
        yield found


def count(samples: Any) -> int:
    return sum(1 for _ in samples)


if __name__ == "__main__":
    main()
