"""Seconds of an update after one change, against building everything again, and whether both leave the same bytes.

    python benchmarks/update.py [VIDEOS] [--clips 1000] [--changes captions,layout,…] [--check]

VIDEOS is a folder of videos in folders by label; by default ``videos/exercise`` of ``$POSECAP_TEST_DATA``. It is built
once with the default pipeline, one worker on threads, which is what building everything again takes. For each change
the dataset is copied, and updated by a process of its own. Seconds are CPU seconds of that process from its start to
its end (user and system), so that imports and loading of models count, and what else runs on the machine hardly does;
modules are compiled before, as where posecap has run once, also where PYTHONDONTWRITEBYTECODE is set.
``ratio`` is the first build's ÷ the update's. With ``--check`` the same is also built anew with each change, and every
file of the parts, stored results and previews are compared; that takes as long as the first build, each time.

The changed pose model is given every frame and gives the detector's joints, so it takes no time: what is left is
decoding, and all behind it.

Printed first: bytes of stored results a clip, beside those of the clip's samples.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import cpu_seconds, parser_of

from posecap.manifest.importers import from_folder
from posecap.shards import Dataset
from posecap.terminal import ALARM, COMPLETE, PARTIAL

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("POSECAP_TEST_DATA", ROOT.parent / "shared" / "data"))
PIPELINE = f"""\
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from posecap.engines.movenet import MoveNet
from posecap.pipeline import load_pipeline
from posecap.stage import Engine
from posecap.stages.smooth import Smooth

pipeline = load_pipeline(Path({str(ROOT / "pipelines" / "default.py")!r}))
stage = {{one.name: one for one in pipeline.stages}}


def changed(name, **changes):
    global pipeline
    stages = tuple(replace(one, **changes) if one.name == name else one for one in pipeline.stages)
    pipeline = replace(pipeline, stages=stages)


"""
CHANGES = {
    "captions": 'changed("caption", templates=("somebody is {}",))',
    "layout": 'changed("skeleton", layout="h36m17")',
    "threshold": 'changed("filter_people", person_presence=0.4)',
    "smoothing": """\
stages = [one for before in pipeline.stages for one in ((before, Smooth()) if before.name == "skeleton" else (before,))]
pipeline = replace(pipeline, stages=tuple(stages))""",
    "text model": 'changed("embed", text=replace(stage["embed"].text, longest_tokens=64))',
    "video model": 'changed("embed", video=replace(stage["embed"].video, frames=4))',
    "pose model": """\
@dataclass(frozen=True)
class Same(Engine):
    name: ClassVar[str] = "same"
    layout: str = "coco17"

    def estimate(self, frames_THW3, tracks):
        return tracks.joints_MTJ3


changed("pose", estimator=Same())""",
    "detector": 'changed("track", detector=MoveNet(imgsz=256, conf=0.15))',
}
"""Lines behind the default pipeline, by what they change."""


def built(manifest: Path, output: Path, *more: str) -> float:
    """CPU seconds of a build in a process of its own, with compiled modules beside the manifest."""
    command = [sys.executable, "-m", "posecap", "build", "--manifest", str(manifest), "--output", str(output)]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = {**kept, "PYTHONPYCACHEPREFIX": str(manifest.with_name("bytecode"))}
    if not Path(environment["PYTHONPYCACHEPREFIX"]).exists():
        subprocess.run([*command[:3], "plan", *command[4:]], check=True, stdout=subprocess.DEVNULL, env=environment)
    since = cpu_seconds(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        [*command, "--runner", "local", "--workers", "1", "--quiet", *more], check=False, env=environment
    )
    if ended.returncode not in (COMPLETE, PARTIAL, ALARM):
        sys.exit(f"{' '.join(command)} ended with {ended.returncode}")
    return cpu_seconds(resource.RUSAGE_CHILDREN) - since


def files(root: Path) -> dict[str, bytes]:
    """What an update and a fresh build must both leave."""
    paths = [path for top in ("data", "index", "results", "preview") for path in (root / top).rglob("*")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def size(root: Path, folder: str) -> int:
    return sum(path.stat().st_size for path in (root / folder).rglob("*") if path.is_file())


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("videos", type=Path, nargs="?", default=DATA / "videos" / "exercise", metavar="VIDEOS")
    parser.add_argument("--clips", type=int, default=1000, help="videos of the folder that are taken, evenly")
    parser.add_argument("--changes", default=",".join(CHANGES), help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="compare with a fresh build after each change")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="posecap-bench-") as name:
        folder = Path(name)
        videos = sorted(path for path in options.videos.rglob("*") if path.is_file())
        count = min(options.clips, len(videos))
        for path in (videos[number * len(videos) // count] for number in range(count)):
            target = folder / "videos" / path.relative_to(options.videos)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        pipeline, manifest = folder / "pipeline.py", folder / "manifest.yaml"
        pipeline.write_text(PIPELINE)
        from_folder(folder / "videos", manifest, pipeline=str(pipeline))
        first = folder / "first"
        whole = built(manifest, first)
        clips = sum(len(rows) for _, rows in Dataset(first).parts())
        print(f"{count} videos, {clips} clips kept, built in {whole:.1f} CPU seconds")
        stored, samples = size(first, "results") / max(1, clips), size(first, "data") / max(1, clips)
        print(f"stored results: {stored:,.0f} bytes for each kept clip; its samples: {samples:,.0f}")
        print(f"{'change':<12} {'CPU s':>7} {'ratio':>7}  bytes of a fresh build")
        for change in options.changes.split(","):
            pipeline.write_text(f"{PIPELINE}{CHANGES[change]}\n")
            updated, fresh = folder / "updated", folder / "fresh"
            shutil.copytree(first, updated)
            seconds = built(manifest, updated, "--update")
            same = "not compared"
            if options.check:
                built(manifest, fresh)
                same = "equal" if files(updated) == files(fresh) else "DIFFERENT"
                shutil.rmtree(fresh)
            shutil.rmtree(updated)
            print(f"{change:<12} {seconds:>7.2f} {whole / seconds:>7.1f}  {same}", flush=True)


if __name__ == "__main__":
    main()
