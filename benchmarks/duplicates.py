"""Near-duplicates: eight copies of each of a folder's videos, looked for among many other clips.

    python benchmarks/duplicates.py VIDEOS --others 100000 --seed 0

Of every video the first ten seconds at most are a clip. Each clip is copied eight times, and each copy goes through an
encoder and a decoder: encoded at a low rate, scaled to two fifths, cropped to nine tenths of both sides anywhere,
mirrored, put between black bars, 10 % faster, 10 % slower, and trimmed at both ends. A ninth copy, of several of these
at once, is counted apart. By a hash of their names videos make two halves: thresholds were chosen on the first, and the
second is measured (--half).

The other clips are signatures that are made up: pictures with the frequencies of a frame of the half that is not
measured, of random signs, so that no two show the same, in which moves what moves in another clip of that half, turned
or mirrored at random.

With --signatures they are written into a file, and taken from it the next time: making them takes most of the time.

Recall is the share of copies that end in the group of their original, precision that of the found pairs of one video
among all found pairs but those of two measured videos. These are counted by name, to be looked at: some of the shared
videos show the same footage.
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
from posecap.signatures import SIDE, VALUES, Signature, is_near_duplicate, likeness, make_signature
from posecap.stage import Reject
from posecap.types import Pixels, Seconds, Span
from posecap.video import FrameRateLimiter, decode_span, working_size

SUFFIXES = (".mp4", ".avi", ".mkv", ".mov")
COPIES = ("encoded", "scaled", "cropped", "mirrored", "letterbox", "faster", "slower", "trimmed")
ALL = "all at once"
SHORTEST_SECONDS = 0.5
"""Of a clip, as in posecap's pipelines."""


@dataclass(frozen=True)
class Filmed:
    """A video's clip: its signature, and those of its copies by name."""

    name: str
    original: str
    copies: dict[str, str]


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
    """Name, frames, times and x264's rate factor of each copy; all strengths are our choices, of what
    sites and people do to a video before they upload it again."""
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
    if pts[-1] - pts[0] < SHORTEST_SECONDS:
        raise Reject("too_short", f"{pts[-1] - pts[0]:.2f} s, at least {SHORTEST_SECONDS}")
    since = cpu_seconds()
    original = make_signature(frames, pts)
    took = cpu_seconds() - since
    random = np.random.default_rng(number_of(name))
    signed = {}
    for kind, changed, at, crf in copies(frames, pts, random) if copied else ():
        scratch.write_bytes(PyAVEncoder(crf=crf).encode(np.ascontiguousarray(changed), at))
        signed[kind] = make_signature(*decode(scratch))
    return Filmed(name, original, signed), took, len(Signature.parse(original).values_NK)


def read_kept(path: Path | None) -> dict[str, tuple[Filmed, float, int]]:
    """What :func:`keep` wrote, by the video's name; the last line of each."""
    lines = path.read_text().splitlines() if path is not None and path.exists() else []
    found = (json.loads(line) for line in lines)
    return {
        one["name"]: (Filmed(one["name"], one["original"], one["copies"]), one["seconds"], one["frames"])
        for one in found
    }


def keep(path: Path | None, filmed: Filmed, seconds: float, frames: int) -> None:
    """Add what :func:`film` gave to a file, if there is one."""
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps({**vars(filmed), "seconds": seconds, "frames": frames}) + "\n")


def number_of(name: str) -> int:
    """A video's own seed, so that it is copied in the same way every time."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)


def other(donors: list[Signature], random: np.random.Generator) -> Signature:
    """A clip with the frequencies of one clip, of random signs, in which what moves in another moves."""
    still, moving = (donors[number].values_NK for number in random.choice(len(donors), 2, replace=False))
    picture = still[random.integers(len(still))] * random.choice((-1.0, 1.0), VALUES)
    count = int(random.integers(8, 25))
    moments = np.abs((np.arange(count) + random.integers(len(moving))) % max(1, 2 * len(moving) - 2) - len(moving) + 1)
    # Turned upside down, mirrored or both.
    down, across = random.choice((-1.0, 1.0), 2)
    signs = np.outer(down ** np.arange(SIDE), across ** np.arange(SIDE)).reshape(-1)[1:]
    values = picture + (moving[moments] - moving.mean(0)) * signs
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    return Signature(unit.astype(np.float32), round(float(random.uniform(0.25, 0.42)), 3))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("videos", type=Path, help="folder of videos")
    parser.add_argument("--others", type=int, default=100_000, help="other clips (default: %(default)s)")
    parser.add_argument("--half", type=int, choices=(0, 1), default=1, help="0 is that of the choice (default: 1)")
    share = "of the pairs of two other clips that are near in the index, the share that is compared (default: 1)"
    parser.add_argument("--compared", type=float, default=1.0, metavar="SHARE", help=share)
    parser.add_argument("--seed", type=int, default=0)
    kept = "JSON lines in which signatures are kept, those that are there taken: of the same videos and functions"
    parser.add_argument("--signatures", type=Path, metavar="FILE", help=kept)
    options = parser.parse_args()
    measured: list[Filmed] = []
    donors: list[Filmed] = []
    seconds, frames = [], []
    known = read_kept(options.signatures)
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(path for path in options.videos.rglob("*") if path.suffix.lower() in SUFFIXES):
            name = path.relative_to(options.videos).as_posix()
            half = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2
            copied = half == options.half
            try:
                found = known.get(name)
                if found is None or (copied and not found[0].copies):
                    found = film(path, name, Path(folder) / "copy.mp4", copied=copied)
                    keep(options.signatures, *found)
            except Reject as rejected:
                print(f"passed over {name}: {rejected}")
                continue
            filmed, took, moments = found
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
        originals = [Signature.parse(filmed.original) for filmed in donors]
        for _ in range(options.others):
            store.add(other(originals, random))
        report(store, [filmed.name for filmed in measured], kinds, share=options.compared)


def report(store: SignatureStore, names: list[str], kinds: list[str], *, share: float = 1.0) -> None:
    """Search and print what was found. The first clips are originals and their copies, video by video.

    Args:
        share: of the pairs of two other clips, drawn at random, that are compared.
    """
    known = len(names) * len(kinds)
    since = cpu_seconds()
    vectors_VK, clip_V = store.vectors()
    pairs = candidates(vectors_VK, clip_V)
    searched = cpu_seconds() - since
    drawn = np.random.default_rng(0).random(len(pairs)) < share
    pairs = pairs[(pairs[:, 0] < known) | drawn]
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
    others = sum(max(pair) >= known and min(pair) < known for pair in wrong)
    made_up = sum(min(pair) >= known for pair in wrong)
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
        "right pairs, of one video": len(near) - len(wrong),
        "wrong pairs, of a video and another clip": others,
        "wrong pairs, of two other clips": made_up,
        "precision": round((len(near) - len(wrong)) / max(1, len(near) - sum(of_videos.values())), 4),
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
