"""Near-duplicates: eight copies of each of a folder's videos, looked for among many other clips.

    python benchmarks/duplicates.py VIDEOS --others 100000 --seed 0

Of every video the first ten seconds at most are a clip. Each clip is copied eight times, and each copy goes through an
encoder and a decoder: encoded at a low rate, scaled to two fifths, cropped to nine tenths of both sides anywhere,
mirrored, put between black bars, 10 % faster, 10 % slower, and trimmed at both ends. A ninth copy, of several of these
at once, is counted apart. By a hash of their names videos make two halves: thresholds were chosen on the first, and the
second is measured (--half).

The other clips are made up of real pictures and movements: each is the mean of windows of three clips of the half that
is not measured, turned, mirrored and shifted in time at random. No two have one origin.

Recall is the share of copies that end in the group of their original, precision the share of the found pairs that are
of one video, with pairs of two videos named: some of the shared videos show the same footage.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measuring import cpu_seconds, parser_of, peak_bytes
from PIL import Image

from posecap.duplicates import SignatureStore, candidates, joined
from posecap.engines.pyav import PyAV
from posecap.engines.pyav_encoder import PyAVEncoder
from posecap.signatures import Signature, is_near_duplicate, likeness, make_signature
from posecap.stage import Reject
from posecap.types import Pixels, Seconds, Span
from posecap.video import FrameRateLimiter, decode_span, working_size

SUFFIXES = (".mp4", ".avi", ".mkv", ".mov")
COPIES = ("encoded", "scaled", "cropped", "mirrored", "letterbox", "faster", "slower", "trimmed")
ALL = "all at once"
WINDOW, STORED = 64, 96
"""Pixels of a side of another clip's pictures, and of the pictures that it is made from."""


@dataclass(frozen=True)
class Filmed:
    """A video's clip, its signature, those of its copies by name, and its frames in small."""

    name: str
    original: str
    copies: dict[str, str]
    small_NHW: Pixels


def decode(path: Path, span: Span | None = None) -> tuple[Pixels, Seconds]:
    """Frames at 512 pixels and 30 a second at most, and their times."""
    decoder = PyAV()
    media = decoder.probe(path)
    limiter = FrameRateLimiter(30.0 if media.fps > 30 or media.fps <= 0 else 1e9)
    frames, times = [], []
    size = working_size(media, 512)
    for block in decode_span(decoder, path, media, begins_seconds=0.0, span=span, size=size):
        for frame, at in zip(block.frames_THW3, block.pts_T.tolist(), strict=True):
            if limiter.keeps(at):
                frames.append(frame.copy())
                times.append(at)
    return np.stack(frames), np.array(times)


def resized(frames_THW3: Pixels, share: float) -> Pixels:
    """Both sides scaled to a share of theirs, to even numbers of pixels."""
    height, width = (max(2, round(side * share / 2) * 2) for side in frames_THW3.shape[1:3])
    scaled = [Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR) for frame in frames_THW3]
    return np.stack([np.asarray(image) for image in scaled])


def copies(frames: Pixels, pts: Seconds, random: np.random.Generator) -> Iterator[tuple[str, Pixels, Seconds, int]]:
    """Name, frames, times and x264's rate factor of each copy; all strengths are free choices."""
    count, height, width, _ = frames.shape
    down, across = random.random(2)
    rows, columns = round(0.9 * height), round(0.9 * width)
    top, left = round(down * (height - rows)), round(across * (width - columns))
    cropped = frames[:, top : top + rows, left : left + columns]
    bars = np.zeros((count, max(2, round(0.12 * height)), width, 3), np.uint8)
    begin, since = max(1, count // 5), pts - pts[0]
    yield "encoded", frames, pts, 38
    yield "scaled", resized(frames, 0.4), pts, 28
    yield "cropped", cropped, pts, 28
    yield "mirrored", frames[:, :, ::-1], pts, 28
    yield "letterbox", np.concatenate([bars, frames, bars], 1), pts, 28
    yield "faster", frames, since / 1.1, 28
    yield "slower", frames, since / 0.9, 28
    yield "trimmed", frames[begin : count - begin // 2], pts[begin : count - begin // 2], 28
    yield ALL, resized(cropped[begin:, :, ::-1], 0.6), since[begin:] / 1.07, 30


def film(path: Path, name: str, scratch: Path, *, copied: bool) -> tuple[Filmed, float, int]:
    """A video, with copies where they are asked for; CPU seconds of its own signature, and the frames in it."""
    frames, pts = decode(path, Span(0, 10))
    since = cpu_seconds()
    original = make_signature(frames, pts)
    took = cpu_seconds() - since
    random = np.random.default_rng(number_of(name))
    signed = {}
    for kind, changed, at, crf in copies(frames, pts, random) if copied else ():
        scratch.write_bytes(PyAVEncoder(crf=crf).encode(np.ascontiguousarray(changed), at))
        signed[kind] = make_signature(*decode(scratch))
    moments = np.linspace(0, len(frames) - 1, 32).astype(int)
    small = [Image.fromarray(frames[at]).convert("L").resize((STORED, STORED)) for at in moments]
    stored = np.stack([np.asarray(image) for image in small])
    return Filmed(name, original, signed, stored), took, len(Signature.parse(original).values_NK)


def number_of(name: str) -> int:
    """A video's own seed, so that it is copied in the same way every time."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)


def other(donors: list[Filmed], random: np.random.Generator) -> str:
    """The signature of a clip that is made from three others."""
    count, sum_NHW = int(random.integers(8, 25)), np.zeros((1, WINDOW, WINDOW))
    for donor in random.choice(len(donors), 3, replace=False):
        small = donors[donor].small_NHW
        side = int(random.integers(STORED // 2, STORED + 1))
        top, left = random.integers(0, STORED - side + 1, 2)
        grid = np.arange(WINDOW) * side // WINDOW
        # From a random moment on, to the end, and from there back again.
        moments = np.abs((np.arange(count) + random.integers(len(small))) % (2 * len(small) - 2) - len(small) + 1)
        window = small[moments][:, top + grid][:, :, left + grid]
        window = np.rot90(window, int(random.integers(4)), (1, 2))
        sum_NHW = sum_NHW + (window[:, :, ::-1] if random.integers(2) else window)
    frames = np.repeat((sum_NHW / 3).astype(np.uint8)[..., None], 3, 3)
    return make_signature(frames, np.arange(count, dtype=np.float64) * random.uniform(0.25, 0.42))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("videos", type=Path, help="folder of videos")
    parser.add_argument("--others", type=int, default=100_000, help="other clips (default: %(default)s)")
    parser.add_argument("--half", type=int, choices=(0, 1), default=1, help="0 is that of the choice (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    measured: list[Filmed] = []
    donors: list[Filmed] = []
    seconds, frames = [], []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(path for path in options.videos.rglob("*") if path.suffix.lower() in SUFFIXES):
            name = path.relative_to(options.videos).as_posix()
            half = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2
            try:
                filmed, took, moments = film(path, name, Path(folder) / "copy.mp4", copied=half == options.half)
            except Reject as rejected:
                print(f"passed over {name}: {rejected}")
                continue
            (measured if half == options.half else donors).append(filmed)
            seconds.append(took)
            frames.append(moments)
    per_frame = 1000 * sum(seconds) / sum(frames)
    print(f"signatures: {1000 * np.mean(seconds):.1f} ms of CPU a clip, {per_frame:.2f} ms a frame used, "
          f"{np.mean(frames):.1f} frames a clip")  # fmt: skip
    kinds = ["original", *COPIES, ALL]
    with SignatureStore() as store:
        for filmed in measured:
            for text in (filmed.original, *(filmed.copies[kind] for kind in (*COPIES, ALL))):
                store.add(Signature.parse(text))
        random = np.random.default_rng(options.seed)
        for _ in range(options.others):
            store.add(Signature.parse(other(donors, random)))
        report(store, [filmed.name for filmed in measured], kinds)


def report(store: SignatureStore, names: list[str], kinds: list[str]) -> None:
    """Search and print what was found. The first clips are originals and their copies, video by video."""
    known = len(names) * len(kinds)
    since = cpu_seconds()
    vectors_VK, clip_V = store.vectors()
    pairs = candidates(vectors_VK, clip_V)
    searched = cpu_seconds() - since
    near = []
    one, last = store.signature(0), 0
    for first, second in pairs.tolist():
        one, last = (one, last) if first == last else (store.signature(first), first)
        if is_near_duplicate(likeness(one, store.signature(second))):
            near.append((first, second))
    compared = cpu_seconds() - since - searched
    leader = joined(len(store), near)
    video = [at // len(kinds) if at < known else -at for at in range(len(store))]
    wrong = [(first, second) for first, second in near if video[first] != video[second]]
    of_videos = Counter((names[video[a]], names[video[b]]) for a, b in wrong if max(a, b) < known)
    others = len(wrong) - sum(of_videos.values())
    grouped = {
        kind: np.mean([leader[at] == leader[at + number] for at in range(0, known, len(kinds))])
        for number, kind in enumerate(kinds)
    }
    result = {
        "clips": len(store),
        "videos": len(names),
        "recall of eight copies": round(float(np.mean([grouped[kind] for kind in COPIES])), 4),
        "recall by copy": {kind: round(float(share), 4) for kind, share in grouped.items() if kind != "original"},
        "pairs found": len(near),
        "pairs with other clips": others,
        "precision, pairs of two videos counted as wrong": round(1 - len(wrong) / max(1, len(near)), 4),
        "precision, pairs of two videos left out": round(1 - others / max(1, len(near) - len(wrong) + others), 4),
        "pairs of two videos": {f"{a} and {b}": count for (a, b), count in of_videos.most_common()},
        "vectors": len(vectors_VK),
        "pairs compared": len(pairs),
        "CPU seconds of the index": round(searched, 1),
        "CPU seconds of comparing": round(compared, 1),
        "peak MB": round(peak_bytes() / 1e6),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
