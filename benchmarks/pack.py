"""Samples per second, writing and reading: posecap's shards beside webdataset and the standard library's tarfile.

    python benchmarks/pack.py [--samples 4000] [--frames 16] [--repeats 3]

Everyone writes the same members of the same samples to the same disk. posecap also writes columns and index, hashes
every file, forces it to disk and reads it back; webdataset and tarfile do none of that. Readers decode arrays and
JSON, except that "arrays only" leaves JSON and captions unread. Each figure is the best of the repeats, which take
turns, so that other load on the machine favours none.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from measuring import best, made_sample, parser_of

import posecap
from posecap.shards import read_part, write_part
from posecap.shards.serialization import arrays_of, facts_json
from posecap.types import PartName, Sample

PART = PartName("train", 0)


def main() -> None:
    parser = parser_of(__doc__)
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


def report(what: str, samples: int, seconds: dict[str, float]) -> None:
    ours = seconds["posecap"]
    for name, spent in seconds.items():
        ratio = "" if name == "posecap" else f"   posecap / {name} = {spent / ours:.2f}"
        print(f"{what:<5} {name:<30} {samples / spent:>9,.0f} samples/s{ratio}")


def sample(number: int, frames: int) -> Sample:
    """One person, an EfficientNet-sized video vector and a MiniLM-sized text vector."""
    rng = np.random.default_rng(number)
    joints, video, text = (rng.random(shape, np.float32) for shape in ((1, frames, 17, 3), 1280, (1, 384)))
    caption = f"Somebody walks by, for the {number}th time."
    return made_sample(number, joints, video_D=video, text_CD=text, caption=caption)


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
    """Samples, decoded, by the endings of their members."""
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
