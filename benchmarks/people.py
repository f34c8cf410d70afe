"""What detectors find in everyday footage: clips kept, frames with a person, people where nobody is, milliseconds.

    python benchmarks/people.py SETTING … [--half choose|report|all] [--exercise DIR] [--scenery DIR] …
    python benchmarks/people.py movenet:imgsz=512 movenet:imgsz=256 ultralytics:weights_from=yolo11n-pose

A SETTING is an engine and its parameters, or a pipeline file (``benchmarks/detectors.py`` has the form). Each video is
a row without a span: it is cut into shots, decoded, tracked, posed and filtered by the stages of a pipeline, so that
"kept" is what a build keeps. Settings that decode alike share the decoded clips of a video.

Three folders of videos, by default those of ``$POSECAP_TEST_DATA/videos``: ``exercise``, where one person is plainly in
view, ``surveillance``, where several small ones are, and ``scenery``, where nobody is and whatever is found is wrong.
Half of the videos are for choosing a setting and the others for reporting on it; the first bit of the SHA-256 of
a file's name decides which, so that the division favours no setting.

Whether the right people are kept is counted at marks (``--marks``, by default ``people_marks.csv`` here): a table of
``video`` (a file's name without its suffix), ``seconds``, and ``x`` and ``y``, shares of the picture's width and
height, of the middle of somebody's trunk. Of each moment named, everybody whom the clip is about has a row: those who
fight in a fight, else those in plain view. Somebody found is whoever is marked if the middle of the shoulders and hips
lies within a quarter of the body's size (:func:`posecap.skeletons.body_sizes`) of the mark, nearest pairs first.
Counted are the marks of each moment, at most as many as a clip keeps people; how many of them are found, confident in
that frame, whether kept or not; how many are kept; and people kept and confident in that frame who are not marked. The
marks there are were set by eye on three frames of each surveillance video, without skeletons drawn on them.

With ``--cut-out`` nothing of this is done: each setting's detector is given the marked moments, whole and as squares
around each mark of several sides, scaled to several sizes. Printed is how many marks have somebody, as above, with
which score at best: what the model could find at all, if it knew where to look.

A video is kept when a clip of it is; videos and clips are both counted. A person is confident in a frame as
FilterPeople defines it (enough joints with a high enough score), whether kept or not: printed are the share of frames
with one, and how many persons times frames that makes. Milliseconds are the detector's alone, a frame, on one thread:
the median over the clips, of wall time and of CPU time, which does not count waiting for other processes. Videos that
settings disagree on are listed, with the reason of rejection."""

from __future__ import annotations

import csv
import hashlib
import itertools
import logging
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# One thread, which the libraries read when they are imported.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
from detectors import DEFAULT, Setting, setting, video_of  # noqa: E402
from measuring import parser_of  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from PIL import Image  # noqa: E402

from posecap.download.file_type import content_of  # noqa: E402
from posecap.joints import LAYOUTS, convert  # noqa: E402
from posecap.run.execute import ItemResult, execute  # noqa: E402
from posecap.skeletons import body_sizes  # noqa: E402
from posecap.stages.filter_people import FilterPeople  # noqa: E402
from posecap.types import Clip, Floats, PosedClip  # noqa: E402

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("POSECAP_TEST_DATA", ROOT.parent / "shared" / "data"))
FOLDERS = ("exercise", "surveillance", "scenery")
HALVES = ("choose", "report")
"""Of the videos in each folder; see the module's description."""
MARKS = Path(__file__).with_name("people_marks.csv")
# Shoulders and hips.
TRUNK = [LAYOUTS["coco17"].names.index(f"{side}_{part}") for part in ("shoulder", "hip") for side in ("left", "right")]
NEAR = 0.25
"""Body sizes from a mark within which somebody is whoever is marked. Our choice: a body's size is the diagonal of the
box around its joints, so this is less than a trunk's length of a standing person."""

CUT_OUTS = (0.2, 0.3, 0.45, 0.65)
"""Sides of the squares of ``--cut-out``, as shares of the frame's width. Our choice: each half as large again as the
one before, from a bystander's height to most of the frame."""
CUT_OUT_PIXELS = (192, 256)
"""To which each of them is scaled. Our choice: of the order of the default pipeline's MoveNet for small people, 256."""
SCORES = (0.1, 0.2, 0.3)
"""That a mark's best score is compared with. The default's tracker begins a track at the last of them."""

Marks = Mapping[float, NDArray[np.float64]]
"""(N, 2) shares of width and height by seconds of the video."""


@dataclass(frozen=True)
class MarkedPeople:
    """Marks of people, how many of them were found and how many kept, and people kept who are not marked."""

    wanted: int = 0
    found: int = 0
    kept: int = 0
    others: int = 0

    def __add__(self, more: MarkedPeople) -> MarkedPeople:
        return MarkedPeople(*(getattr(self, name) + getattr(more, name) for name in self.__dataclass_fields__))

    def __str__(self) -> str:
        return f"of {self.wanted} marks {self.found} found, {self.kept} kept; {self.others} others kept"


@dataclass(frozen=True)
class VideoResult:
    """What one setting found in one video.

    ``reasons`` are those of the clips that were rejected, or of the whole video; ``person_frames`` counts confident
    persons times frames, ``seen_frames`` the frames with at least one.
    """

    clips: int
    kept: int
    reasons: tuple[str, ...]
    frames: int
    seen_frames: int
    person_frames: int
    marked: MarkedPeople

    def __str__(self) -> str:
        if self.kept:
            return f"kept {self.kept}" if self.kept == self.clips else f"kept {self.kept} of {self.clips}"
        return ", ".join(dict.fromkeys(self.reasons)) or "nothing"


def half_of(path: Path) -> str:
    """The half that a file belongs to, by its name alone."""
    return HALVES[hashlib.sha256(path.name.encode()).digest()[0] >> 7]


def videos_in(folder: Path) -> list[Path]:
    """Files under a folder that begin as a video does, whatever their names; none where there is no such folder."""
    return sorted(path for path in folder.rglob("*") if content_of(path) == "video")


def read_marks(path: Path) -> dict[str, Marks]:
    """Marks by video, that is a file's name without its suffix. Raises KeyError for a missing column, ValueError for
    what is no number."""
    rows: dict[str, dict[float, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows[row["video"]][float(row["seconds"])].append((float(row["x"]), float(row["y"])))
    return {video: {at: np.array(places) for at, places in times.items()} for video, times in rows.items()}


def finish(chosen: Setting, decoded: ItemResult, marks: Marks) -> VideoResult:
    """Run a video's decoded clips through a setting's other stages. ``marks`` are of the video; there may be none."""
    reasons = [clip.reason for clip in decoded.clips] + ([decoded.error.reason] if decoded.error else [])
    kept = seen_frames = person_frames = 0
    marked = MarkedPeople(wanted=sum(min(len(places_N2), chosen.filtering.people) for places_N2 in marks.values()))
    for clip in decoded.outputs:
        posed = execute(chosen.posing, clip)
        for person in posed.outputs:
            _, confident_MT = chosen.filtering.confident(person.joints_MTJ3)
            seen_frames += int(confident_MT.any(0).sum())
            person_frames += int(confident_MT.sum())
            filtered = execute([chosen.filtering], person)
            kept += len(filtered.outputs)
            marked += at_marks(person, filtered.outputs[0] if filtered.outputs else None, marks, chosen.filtering)
            reasons += [outcome.reason for outcome in filtered.clips]
        reasons += [outcome.reason for outcome in posed.clips]
    frames = sum(clip.frame_count for clip in decoded.outputs)
    return VideoResult(len(decoded.outputs), kept, tuple(reasons), frames, seen_frames, person_frames, marked)


def at_marks(found: PosedClip, kept: PosedClip | None, marks: Marks, filtering: FilterPeople) -> MarkedPeople:
    """Who of the people found and kept in a clip is marked; ``wanted`` stays 0.

    ``kept`` is the clip with the people whom ``filtering`` keeps, None where it rejects the clip. Marks outside the
    clip's span are another clip's.
    """
    total = MarkedPeople()
    picture_2 = np.array(found.frames_THW3.shape[2:0:-1]) * found.source_per_working
    for seconds, shares_N2 in marks.items():
        if not found.span.start_seconds <= seconds < found.span.end_seconds:
            continue
        t, places_N2 = int(np.abs(found.pts_T - seconds).argmin()), shares_N2 * picture_2
        seen, _ = _marked_in(found, t, places_N2, filtering)
        chosen, others = (0, 0) if kept is None else _marked_in(kept, t, places_N2, filtering)
        total += MarkedPeople(found=min(seen, filtering.people), kept=chosen, others=others)
    return total


def _marked_in(clip: PosedClip, t: int, places_N2: NDArray[np.float64], filtering: FilterPeople) -> tuple[int, int]:
    """How many people who are confident in frame ``t`` are marked, and how many are not. ``places_N2`` are marks in
    pixels of the source."""
    joints_MTJ3: Floats = convert(clip.joints_MTJ3[:, t : t + 1], source=clip.layout, target="coco17")
    counted_MTJ, confident_MT = filtering.confident(joints_MTJ3)
    people = np.flatnonzero(confident_MT[:, 0])
    if not people.size:
        return 0, 0
    joints_MTJ3 = np.where(counted_MTJ[..., None], joints_MTJ3, np.float32(0))[people]
    trunk_MJ3 = joints_MTJ3[:, 0, TRUNK].astype(np.float64)
    seen_MJ1 = trunk_MJ3[..., 2:] > 0
    middle_M2 = (trunk_MJ3[..., :2] * seen_MJ1).sum(1) / np.maximum(seen_MJ1.sum(1), 1)
    apart_MN = np.linalg.norm(middle_M2[:, None] - places_N2, axis=-1) / body_sizes(joints_MTJ3)[:, None]
    apart_MN[~seen_MJ1.any((1, 2))] = np.inf
    marked = 0
    while apart_MN.min(initial=np.inf) <= NEAR:
        person, place = np.unravel_index(apart_MN.argmin(), apart_MN.shape)
        apart_MN[person], apart_MN[:, place] = np.inf, np.inf
        marked += 1
    return marked, len(people) - marked


def best_scores(chosen: Setting, clip: Clip, marks: Marks) -> list[float]:
    """The best score of anybody at each mark of a clip, in the whole frame and in squares around the mark; 0 for a mark
    where nobody is found. Beyond the frame's border a square is black."""
    scores = []
    size_2 = np.array(clip.frames_THW3.shape[2:0:-1])
    for seconds, shares_N2 in marks.items():
        if not clip.span.start_seconds <= seconds < clip.span.end_seconds:
            continue
        frame = Image.fromarray(clip.frames_THW3[int(np.abs(clip.pts_T - seconds).argmin())])
        for place_2 in shares_N2 * size_2:
            views = [(frame, np.zeros(2), 1.0)]
            for share, pixels in itertools.product(CUT_OUTS, CUT_OUT_PIXELS):
                side = round(share * size_2[0])
                corner_2 = (place_2 - side / 2).round()
                cut = frame.crop((*corner_2.tolist(), *(corner_2 + side).tolist()))
                views.append((cut.resize((pixels, pixels), Image.Resampling.BILINEAR), corner_2, pixels / side))
            best = 0.0
            for view, corner_2, scale in views:
                (people,) = chosen.timed.detector.detect(np.asarray(view)[None])
                trunk_N43 = people.joints_NJ3[:, TRUNK].astype(np.float64)
                middle_N2 = trunk_N43[..., :2].mean(1) / scale + corner_2
                sizes_N = np.linalg.norm(people.boxes_N4[:, 2:] - people.boxes_N4[:, :2], axis=-1) / scale
                near_N = np.linalg.norm(middle_N2 - place_2, axis=-1) <= NEAR * sizes_N
                # A box as large as the frame holds every mark, and one of a few pixels nobody whose joints count. Both
                # bounds, shares of the frame's width, are our choice.
                usual_N = (sizes_N > size_2[0] / 10) & (sizes_N < 0.9 * size_2[0])
                best = max(best, float(people.scores_N[near_N & usual_N].max(initial=0.0)))
            scores.append(best)
    return scores


def cut_outs(chosen: Setting, paths: Sequence[Path], marks: Mapping[str, Marks]) -> str:
    """What ``--cut-out`` prints about the marked videos among ``paths``."""
    lines, every = [], list[float]()
    for path in paths:
        clips = execute(chosen.decoding, video_of(path)).outputs if path.stem in marks else ()
        scores = [score for clip in clips for score in best_scores(chosen, clip, marks[path.stem])]
        every += scores
        if scores:
            lines.append(f"    {path.name} ({half_of(path)})   {' '.join(f'{score:.2f}' for score in scores)}")
    counts = ", ".join(f"{sum(score >= least for score in every)} with {least:g}" for least in SCORES)
    return "\n".join([f"  {chosen.name}: of {len(every)} marks, best score at least: {counts}", *lines])


def compare(
    settings: Sequence[Setting], paths: Sequence[Path], marks: Mapping[str, Marks]
) -> dict[str, dict[Path, VideoResult]]:
    """What each setting finds in each video; one video's frames are in memory at a time."""
    found: dict[str, dict[Path, VideoResult]] = {each.name: {} for each in settings}
    for number, path in enumerate(paths, 1):
        decoded: dict[Any, ItemResult] = {}
        for each in settings:
            if each.decoding not in decoded:
                decoded[each.decoding] = execute(each.decoding, video_of(path))
            found[each.name][path] = finish(each, decoded[each.decoding], marks.get(path.stem, {}))
        if sys.stderr.isatty():
            print(f"\r{number} of {len(paths)} {path.name}\033[K", end="", file=sys.stderr, flush=True)
    return found


def line(name: str, founds: Sequence[VideoResult]) -> str:
    """What a setting found in several videos, in one line."""
    frames = sum(found.frames for found in founds)
    seen, persons = (sum(getattr(found, what) for found in founds) for what in ("seen_frames", "person_frames"))
    videos, kept = sum(found.kept > 0 for found in founds), sum(found.kept for found in founds)
    clips = sum(found.clips for found in founds)
    return (
        f"  {name:<44} {videos:3} of {len(founds):3} videos, {kept:3} of {clips:3} clips kept; "
        f"a person in {100 * seen / max(frames, 1):5.1f} % of {frames} frames; {persons} person-frames"
    )


def tables(title: str, found: dict[str, dict[Path, VideoResult]], halves: Sequence[str]) -> str:
    """Lines of one folder: each half, both together, and the videos that settings disagree on."""
    lines = []
    for half in (*halves, *(["both"] if len(halves) > 1 else [])):
        lines.append(f"{title}, {half}")
        for name, founds in found.items():
            of_half = [each for path, each in founds.items() if half in ("both", half_of(path))]
            lines.append(line(name, of_half))
            marked = sum((each.marked for each in of_half), MarkedPeople())
            if marked.wanted:
                lines.append(f"  {'':<44} {marked}")
    for path in next(iter(found.values())):
        if len({founds[path].kept for founds in found.values()}) > 1:
            cells = "   ".join(f"{name}: {founds[path]}" for name, founds in found.items())
            lines.append(f"  differs: {path.name} ({half_of(path)})   {cells}")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("settings", nargs="+", metavar="SETTING")
    for folder in FOLDERS:
        parser.add_argument(f"--{folder}", type=Path, default=DATA / "videos" / folder, metavar="DIR")
    parser.add_argument("--half", choices=(*HALVES, "all"), default="all", help="of the videos (default: %(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N videos of each folder and half")
    parser.add_argument("--pipeline", type=Path, default=DEFAULT, help="whose stages are used (default: %(default)s)")
    parser.add_argument("--long-side", type=int, help="of decoded frames, pixels, instead of the pipeline's")
    parser.add_argument("--marks", type=Path, default=MARKS, metavar="CSV", help="people whom the videos are about")
    parser.add_argument(
        "--cut-out", action="store_true", help="only print what the detectors find at the marks at best"
    )
    options = parser.parse_args()
    marks = read_marks(options.marks)
    logging.disable(logging.WARNING)
    try:
        import torch

        torch.set_num_threads(1)
    except ModuleNotFoundError:
        pass
    settings = [setting(name, pipeline=options.pipeline, long_side=options.long_side) for name in options.settings]
    halves = HALVES if options.half == "all" else (options.half,)
    for each in settings:
        each.load()
    for folder in FOLDERS:
        videos = videos_in(getattr(options, folder))
        if not videos:
            print(f"{folder}: no videos in {getattr(options, folder)}")
            continue
        chosen = [path for half in halves for path in [p for p in videos if half_of(p) == half][: options.limit]]
        if options.cut_out:
            print(folder, *(cut_outs(each, sorted(chosen), marks) for each in settings), sep="\n", flush=True)
        else:
            print(tables(folder, compare(settings, sorted(chosen), marks), halves), flush=True)
    if options.cut_out:
        return
    print("milliseconds a frame of the detector, one thread, median over the clips: wall, CPU")
    for each in settings:
        wall, cpu = each.timed.milliseconds
        print(f"  {each.name:<44} {wall:6.1f} {cpu:6.1f}")


if __name__ == "__main__":
    main()
