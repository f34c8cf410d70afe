"""Seconds until the page of `posecap explore` can be used, on made-up clips, in a headless Chromium.

    python benchmarks/explore.py                      # 1,000, 10,000 and 100,000 clips, as file and from the server
    python benchmarks/explore.py --clips 1000 --repeats 1
    python benchmarks/explore.py --make FOLDER --clips 1000     # only makes a dataset, to look at
    python benchmarks/explore.py --pictures docs/images         # only the pictures of docs/explore.md, of 3,000 clips

Needs Playwright's Python package (`pip install 'posecap[browser]'`) and a Chromium (`apt-get install chromium`). Clips
are stick figures that walk, wave and jump, 24 frames each, one to three people, some near-duplicates and
rejected ones among them. For each size the page is written, then loaded in a new browser each time. Printed are, as
the shortest of the repetitions:

- `ready`: from the request until filters, counts and the first page of cards stand;
- `moving`: until the skeleton of every card on the screen has been drawn;
- `filter`, `sort`, `turn`, `open`: from an action until the page has been drawn again: a label is ticked, clips are
  sorted by a measure, the next page is turned to, a clip is opened;
- `CPU`: of all processes of the browser until then, user and system.
"""

from __future__ import annotations

import io
import os
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from time import process_time
from typing import Any

import numpy as np
import pyarrow as pa
from measuring import made_sample, parser_of, peak_bytes

from posecap.duplicates import GROUPS_SCHEMA, write_groups
from posecap.explore.contents import Choice
from posecap.explore.page import ExploreServer, write_page
from posecap.outcomes import ClipOutcome, RowOutcome, tally
from posecap.shards import write_dataset_list, write_part
from posecap.types import PartName, Sample

SIZES = (1_000, 10_000, 100_000)
DUPLICATE_EVERY = 97
"""Of so many clips the second has the movements of the first."""
FRAMES, FPS, CLIPS_PER_PART = 24, 12.5, 500
WIDTH, HEIGHT = 640, 360
VECTOR = 32
"""Numbers in a vector of video or text; real ones have 384 to 1,280, which takes longer to write and not to load."""
READY_WITHIN = 3.0
"""Seconds for 10,000 clips: what the page was made to keep."""

# A figure one unit high: lengths of trunk, upper arm, forearm, thigh and shin, half widths of shoulders and hips.
TRUNK, UPPER_ARM, FOREARM, THIGH, SHIN, SHOULDERS, HIPS = 0.30, 0.17, 0.16, 0.25, 0.24, 0.11, 0.07

EYES_AND_EARS = np.array([[0.02, -0.02], [-0.02, -0.02], [0.045, -0.01], [-0.045, -0.01]])
"""From the nose, of a figure towards the camera."""

Angles = dict[str, Any]
"""Angles of limbs to the line downwards, in radians, and of the trunk to the line upwards; ``down`` and ``up`` move the
hips by parts of the figure's height. Numbers, or one for each frame."""


def _swing(phase: np.ndarray, size: float, middle: float = 0.0) -> np.ndarray:
    return np.asarray(middle + size * np.sin(phase))


ACTIONS: dict[str, Callable[[np.ndarray], Angles]] = {
    "walking": lambda p: {
        "arms": (_swing(p, 0.5), _swing(p, -0.5)),
        "elbows": (0.3, 0.3),
        "legs": (_swing(p, -0.45), _swing(p, 0.45)),
        "knees": (_swing(p + 1, 0.3, -0.3), _swing(p - 2, 0.3, -0.3)),
    },
    "running": lambda p: {
        "trunk": 0.2,
        "arms": (_swing(2 * p, 0.9), _swing(2 * p, -0.9)),
        "elbows": (1.5, 1.5),
        "legs": (_swing(2 * p, -0.8, 0.2), _swing(2 * p, 0.8, 0.2)),
        "knees": (_swing(2 * p + 1, 0.8, -0.9), _swing(2 * p - 2, 0.8, -0.9)),
        "up": 0.03 * np.abs(np.sin(2 * p)),
    },
    "waving": lambda p: {"arms": (0.15, 2.5), "elbows": (0.1, _swing(3 * p, 0.7, 0.3))},
    "jumping jacks": lambda p: {
        "arms": (-1.4 + _swing(2 * p, 1.2), 1.4 - _swing(2 * p, 1.2)),
        "legs": (-0.3 + _swing(2 * p, 0.25), 0.3 - _swing(2 * p, 0.25)),
        "up": 0.06 * np.abs(np.cos(p)),
    },
    "squats": lambda p: {
        "trunk": _swing(p, 0.25, 0.25),
        "arms": (1.3, 1.3),
        "legs": (_swing(p, 0.6, 0.65), _swing(p, 0.6, 0.65)),
        "knees": (_swing(p, -0.7, -0.75), _swing(p, -0.7, -0.75)),
        "down": _swing(p, 0.1, 0.1),
    },
    "bowing": lambda p: {"trunk": _swing(p, 0.6, 0.6), "arms": (0.1, -0.1)},
    "kicking": lambda p: {
        "trunk": -0.1,
        "arms": (-0.8, 0.8),
        "elbows": (0.9, 0.9),
        "legs": (0.0, _swing(2 * p, 0.8, 0.5)),
        "knees": (0.0, _swing(2 * p + 1, 0.5, -0.5)),
    },
    "boxing": lambda p: {
        "arms": (_swing(3 * p, 0.5, 0.9), _swing(3 * p, -0.5, 0.9)),
        "elbows": (_swing(3 * p, -0.8, 1.2), _swing(3 * p, 0.8, 1.2)),
        "legs": (-0.2, 0.25),
        "knees": (-0.1, -0.2),
    },
    "raising both arms": lambda p: {"arms": (-1.5 + _swing(p, 1.4), 1.5 - _swing(p, 1.4))},
    "balancing on one leg": lambda p: {
        "trunk": _swing(p, 0.12),
        "arms": (-1.4, 1.4),
        "legs": (0.0, _swing(p, 0.15, 0.9)),
        "knees": (0.0, -0.9),
    },
    "throwing": lambda p: {
        "trunk": _swing(p, 0.25),
        "arms": (0.5, _swing(p, 1.8, 1.2)),
        "elbows": (0.2, _swing(p + 2, 0.8, 0.9)),
        "legs": (-0.3, 0.3),
    },
    "stretching to the side": lambda p: {"trunk": _swing(p, 0.55), "arms": (-2.7, 2.7), "elbows": (-0.2, 0.2)},
}


def figure(action: str, phase: np.ndarray, *, facing: float) -> np.ndarray:
    """(T, 17, 2) joints of ``coco17`` of a figure one unit high, its feet about at y = 0 and y downwards.

    Args:
        facing: from 1, towards the camera, over 0, from the side, to -1: shoulders and hips are so wide.
    """
    known: Angles = {
        "trunk": 0.0,
        "arms": (0.1, -0.1),
        "elbows": (0, 0),
        "legs": (-0.05, 0.05),
        "knees": (0, 0),
        "up": 0,
        "down": 0,
    }
    known |= ACTIONS[action](phase)
    joints = np.zeros((len(phase), 17, 2))

    def along(start: np.ndarray, angle: Any, length: float) -> np.ndarray:
        turned = np.broadcast_to(np.asarray(angle, float), phase.shape)
        return start + length * np.stack([np.sin(turned), np.cos(turned)], -1)

    hips = np.zeros((len(phase), 2))
    hips[:, 1] = -(THIGH + SHIN) + known["down"] - known["up"]
    neck = along(hips, np.pi - known["trunk"], TRUNK)
    joints[:, 0] = along(neck, np.pi - 1.3 * np.asarray(known["trunk"]), 0.1)
    joints[:, 1:5] = joints[:, :1] + np.array([[0.02, -0.02], [-0.02, -0.02], [0.045, -0.01], [-0.045, -0.01]]) * [
        facing,
        1,
    ]
    for side, sign in ((0, 1.0), (1, -1.0)):
        joints[:, 5 + side] = neck + np.array([sign * SHOULDERS * facing, 0.02])
        joints[:, 7 + side] = along(joints[:, 5 + side], known["arms"][side], UPPER_ARM)
        elbow = np.asarray(known["arms"][side]) + known["elbows"][side]
        joints[:, 9 + side] = along(joints[:, 7 + side], elbow, FOREARM)
        joints[:, 11 + side] = hips + np.array([sign * HIPS * facing, 0])
        joints[:, 13 + side] = along(joints[:, 11 + side], known["legs"][side], THIGH)
        knee = np.asarray(known["legs"][side]) + known["knees"][side]
        joints[:, 15 + side] = along(joints[:, 13 + side], knee, SHIN)
    return joints


def sample(number: int) -> Sample:
    """A made-up clip, the same for the same number."""
    rng = np.random.default_rng(number - 1 if number % DUPLICATE_EVERY == 1 else number)
    actions = list(ACTIONS)
    action = actions[int(rng.zipf(1.35)) % len(actions)]
    people = int(rng.choice([1, 1, 1, 1, 2, 3]))
    noise = float(rng.gamma(2, 0.0015))
    joints = np.zeros((people, FRAMES, 17, 3), np.float32)
    for person in range(people):
        phase = 2 * np.pi * (np.arange(FRAMES) / FRAMES * rng.uniform(0.8, 1.6) + rng.random())
        size = rng.uniform(120, 250)
        xy = figure(action, phase, facing=rng.uniform(-1, 1)) * size * [rng.choice([-1, 1]), 1]
        xy += [WIDTH * (person + 1) / (people + 1) + rng.normal(0, 20), HEIGHT - rng.uniform(10, 60)]
        joints[person, ..., :2] = xy + rng.normal(0, noise * size, xy.shape)
        joints[person, ..., 2] = np.clip(rng.normal(0.75 - 12 * noise, 0.1, (FRAMES, 17)), 0.05, 1)
    joints[rng.random(joints.shape[:3]) < 0.02] = 0
    split = part_of(number).split
    vectors = np.random.default_rng(1000 + actions.index(action)).normal(size=(2, VECTOR)) + rng.normal(
        0, 0.5, (2, VECTOR)
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made = made_sample(
        number,
        joints,
        video_D=vectors[0].astype(np.float32),
        text_CD=vectors[1:].astype(np.float32),
        caption=f"{['a person', 'two people', 'three people'][people - 1]} {action}, seen from the front",
    )
    pts_T = made.pts_T * 25.0 / FPS  # as made_sample has them, at 25 frames a second
    facts = {
        **made.facts,
        "pts_span": [0.0, float(pts_T[-1])],
        "video_span": [0.0, float(pts_T[-1])],
        "split": split,
        "label": action,
        "fps": FPS,
        "end_seconds": FRAMES / FPS,
        "width": WIDTH,
        "height": HEIGHT,
        "license": ["CC-BY-4.0", "CC0-1.0", "BSD-3-Clause"][number % 7 % 3],
        "source": ["studio", "outdoors", "archive"][number % 5 % 3],
        "quality": {
            "coverage": float(1 - rng.beta(1, 12)),
            "mean_score": float(joints[..., 2].mean()),
            "zero_pose_share": float(rng.beta(1, 60)),
            "jitter": noise * 3,
            "bone_jump_share": noise * float(rng.uniform(1, 4)),
            "identity_switches": int(rng.poisson(0.05 * (people - 1))),
            "motion": float(rng.gamma(4, 0.05)),
        },
    }
    return replace(made, facts=facts, pts_T=pts_T)


def part_of(number: int) -> PartName:
    """Of six parts four are for training, one for validation and one for test."""
    part = number // CLIPS_PER_PART
    split = {3: "val", 5: "test"}.get(part % 6, "train")
    return PartName(split, part)


def make_dataset(folder: Path, clips: int) -> None:
    """Write a dataset of made-up clips, with what a build notes of those that were not kept, and near-duplicates."""
    stages = [{"name": name} for name in ("download", "split", "decode", "track", "pose", "filter_people", "pack")]
    lineage = {"packages": {"posecap": "0.1.0"}, "weights": {}}
    for first in range(0, clips, CLIPS_PER_PART):
        numbers = range(first, min(clips, first + CLIPS_PER_PART))
        rows = [row for number in numbers for row in outcomes(number)]
        record = {
            "fingerprint": "f" * 64,
            "pipeline": stages,
            "lineage": lineage,
            "counts": tally(rows).as_json(),
            "rows": [row.as_json() for row in rows],
        }
        write_part(folder, part_of(first), map(sample, numbers), record=record)
    write_dataset_list(folder)
    grouped = [
        {
            "group": number // DUPLICATE_EVERY,
            "best": at == 0,
            "key": f"{number + at:024x}",
            "split": part_of(number + at).split,
            "row_id": f"row-{number + at}",
            "uri": f"videos/{number + at}.mp4",
            "label": None,
            "start_seconds": 0.0,
            "end_seconds": FRAMES / FPS,
            "picture": 0.9,
            "mirrored": False,
        }
        for number in range(0, clips - 2, DUPLICATE_EVERY)
        for at in range(2)
    ]
    write_groups(folder, pa.Table.from_pylist(grouped, schema=GROUPS_SCHEMA))


def outcomes(number: int) -> Iterator[RowOutcome]:
    """Of the row of a clip, and of a row that was not kept beside some of them."""
    kept = ClipOutcome(status="kept", clip_id=f"{number:024x}", start_seconds=0.0, end_seconds=FRAMES / FPS)
    yield RowOutcome(row_id=f"row-{number}", uri=f"videos/{number}.mp4", status="kept", clips=(kept,))
    why = {
        0: ("rejected", "filter_people", "no_person", "nobody is seen in more than 20 % of the frames"),
        1: ("rejected", "filter_people", "too_few_confident_joints", "of 24 frames 7 have 9 confident joints"),
        2: ("failed", "download", "timeout", "the server did not answer within 30 s"),
        3: ("rejected", "decode", "too_short", "0.21 s; at least 0.3 s"),
        5: ("rejected", "filter_people", "no_person", "nobody is seen in more than 20 % of the frames"),
    }.get(number % 37)
    if why is None:
        return
    status, stage, reason, detail = why
    lost: Any = {"status": status, "stage": stage, "reason": reason, "detail": detail}
    row: Any = {"row_id": f"lost-{number}", "uri": f"videos/lost-{number}.mp4"}
    if stage == "filter_people":
        yield RowOutcome(**row, **lost, clips=(ClipOutcome(**lost, start_seconds=1.0, end_seconds=3.0),))
    else:
        yield RowOutcome(**row, **lost)


def main() -> None:
    options = parsed()
    if options.make:
        make_dataset(options.make, options.clips[0])
        return
    if options.pictures:
        take_pictures(options.pictures)
        return
    print(f"{'clips':>8}  from    MB  written in  {'  '.join(f'{name:>7}' for name in COLUMNS)}", flush=True)
    for clips in options.clips:
        with tempfile.TemporaryDirectory(prefix="posecap-explore-") as folder:
            measure(Path(folder), clips, options.repeats)


def parsed(arguments: list[str] | None = None) -> Namespace:
    """The options; ``arguments`` None takes those of the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=SIZES, help="sizes of datasets (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="loads of each page (default: %(default)s)")
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="write a dataset there, and do nothing else")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write pictures of the page, and nothing else")
    return parser.parse_args(arguments)


COLUMNS = ("ready", "moving", "filter", "sort", "turn", "open", "CPU")


def measure(folder: Path, clips: int, repeats: int) -> None:
    """Print two lines: of the page as a file, and of that from the server."""
    dataset, page = folder / "dataset", folder / "page.html"
    dataset.mkdir()
    make_dataset(dataset, clips)
    since = process_time()
    write_page(dataset, page, Choice())
    written = process_time() - since
    print_line(clips, "file", page.stat().st_size, written, loaded(page.as_uri(), repeats))
    since = process_time()
    with closing(ExploreServer(dataset, Choice())) as server:
        made = process_time() - since
        thread = Thread(target=server.run)
        thread.start()
        try:
            print_line(clips, "server", 0, made, loaded(server.address, repeats))
        finally:
            server.stop()
            thread.join()
    print(f"{'':>8}  peak memory of this process, with both: {peak_bytes() / 1e6:,.0f} MB", flush=True)


def print_line(clips: int, kind: str, size: int, written: float, seconds: dict[str, float]) -> None:
    megabytes = f"{size / 1e6:5.1f}" if size else "    –"
    figures = "  ".join(f"{seconds[name]:6.2f}s" for name in COLUMNS)
    slow = "  too slow" if clips == 10_000 and seconds["ready"] > READY_WITHIN else ""
    print(f"{clips:>8,}  {kind:<6}{megabytes}  {written:6.1f}s CPU  {figures}{slow}", flush=True)


def loaded(address: str, repeats: int) -> dict[str, float]:
    """The shortest seconds of each kind."""
    each = [load(address) for _ in range(repeats)]
    return {name: min(one[name] for one in each) for name in COLUMNS}


ACTS = {
    "filter": "document.querySelector('#filters .option input').click()",
    "sort": "const box = document.getElementById('sort'); box.value = 'jitter'; box.dispatchEvent(new Event('change'))",
    "turn": "document.querySelector('.pager button:nth-of-type(3)').click()",
    "open": "document.querySelector('.card').click()",
}
"""What is done, as JavaScript; each draws the page again before it ends."""


def load(address: str) -> dict[str, float]:
    """Load the page once in a new browser, and use it."""
    with chromium() as browser:
        before = browser_cpu_seconds()
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address, wait_until="commit")
        page.wait_for_selector("#view[data-moving]", timeout=120_000)
        cpu = browser_cpu_seconds() - before
        found = {
            name: page.evaluate(f"performance.getEntriesByName('posecap-{name}')[0].startTime") / 1000
            for name in ("ready", "moving")
        }
        for name, act in ACTS.items():
            # Two frames: the first may have been about to be drawn already.
            found[name] = page.evaluate(
                f"new Promise((done) => {{ const since = performance.now(); {act}; requestAnimationFrame(() => "
                "requestAnimationFrame(() => done((performance.now() - since) / 1000))); })"
            )
        return {**found, "CPU": cpu}


SHOTS = {
    "explore_clips": [("", 1280, 800, "light")],
    "explore_map": [("view=map&label=waving%0Asquats%0Ajumping+jacks%0Akicking%0Abowing%0Aboxing", 1280, 800, "dark")],
    "explore_clip": [("sort=motion&descending=&clip=" + f"{4:024x}", 1280, 800, "light")],
    "explore_phone": [
        ("people=2%0A3", 390, 844, "light"),
        (f"clip={4:024x}", 390, 844, "dark"),
        ("view=numbers", 390, 844, "light"),
    ],
}
"""By the name of a picture, the looks side by side on it: what stands behind # in the address, width and height of the
window, and theme."""
_GAP = 24


def take_pictures(folder: Path) -> None:
    """Write pictures of the page of a made-up dataset as .webp."""
    from PIL import Image

    with tempfile.TemporaryDirectory(prefix="posecap-explore-") as made, chromium() as browser:
        dataset, page = Path(made) / "made-up", Path(made) / "page.html"
        dataset.mkdir()
        make_dataset(dataset, 3000)
        write_page(dataset, page, Choice())
        for name, looks in SHOTS.items():
            images = []
            for look, width, height, theme in looks:
                window = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
                window.goto(f"{page.as_uri()}#{look}")
                window.wait_for_selector("#view:not([aria-busy])")
                window.wait_for_timeout(1200)  # until something has moved
                images.append(Image.open(io.BytesIO(window.screenshot())).convert("RGB"))
                window.close()
            sizes = [image.size for image in images]
            across = sum(width for width, _ in sizes) + _GAP * (len(images) - 1)
            whole = Image.new("RGB", (across, max(height for _, height in sizes)), (128, 132, 140))
            left = 0
            for image in images:
                whole.paste(image, (left, 0))
                left += image.width + _GAP
            whole.save(folder / f"{name}.webp", quality=82, method=6)


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    path = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(path).exists()), None)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            browser.close()


def browser_cpu_seconds() -> float:
    """Of all processes that this one and those below it have started and that run."""
    parents, times = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        pid = int(path.parent.name)
        parents[pid], times[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    own = os.getpid()

    def is_below(pid: int) -> bool:
        while pid in parents and pid != own:
            pid = parents[pid]
        return pid == own

    return sum(ticks for pid, ticks in times.items() if pid != own and is_below(pid)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
