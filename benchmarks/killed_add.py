"""``posecap add`` that is killed at random moments, compared byte by byte with one left alone.

Builds the dataset of ``fault_tolerance.py`` once, with the embedded models and threads. To copies of it a command adds
captions, vectors of texts, which cover these captions, and vectors of frames, five parts each. It is killed (SIGKILL)
one to three times, at moments drawn over the time that it takes or right after a file has appeared, and given again
until it ends by itself. Then every file of the dataset must be that of a copy to which the same was added undisturbed.
Run from the repository's root::

    python benchmarks/killed_add.py                                # 30 times into a folder
    python benchmarks/killed_add.py --store --times 10 --seed 7    # into an S3 server (moto)
    python benchmarks/killed_add.py --manifest FILE --engines PIPELINE    # what that has, to another dataset

Ends with status 1 if any file differs, or if the command does not end by itself.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from fault_tolerance import FINISHED, JUST_AFTER_SECONDS, LONGEST_BUILD_SECONDS, posecap, write_input
from measuring import object_store, parser_of

from posecap.storage import Storage, open_storage
from posecap.verify import verify

CAPTIONER = """
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from posecap.stage import Engine


@dataclass(frozen=True)
class Brightness(Engine):
    name: ClassVar[str] = "brightness"

    def write(self, clip):
        people, frames = clip.joints_MTJ3.shape[:2]
        mean = np.asarray(clip.frames_THW3).mean()
        return [f"{people} people in {frames} frames.", f"A picture of brightness {mean:.0f}."]


"""
WITH_CAPTIONER = """
captioned = replace(stage["caption"], captioners=(Brightness(),))
pipeline = replace(pipeline, stages=tuple(captioned if s.name == "caption" else s for s in pipeline.stages))
"""


def contents(storage: Storage) -> dict[str, bytes]:
    """Every file of a dataset but its lock and ledger, hidden ones too: none may be left behind."""
    found = [file.name for file in storage.list() if not file.name.startswith("ledger.sqlite")]
    return {name: storage.read(name, limit=1 << 30) for name in found if name.split("/")[0] != ".lease"}


def copy(source: Storage, to: Storage) -> None:
    for name, content in contents(source).items():
        to.write(name, content)


@dataclass
class Trial:
    """Adds what the pipeline file ``engines`` has to copies of the dataset in ``base``, of ``manifest``; ``folder``
    takes logs, ``seconds`` and ``files`` are what an undisturbed run takes and makes."""

    base: Storage
    folder: Path
    engines: Path
    manifest: Path
    seconds: float = 0.0
    files: int = 0

    def start(self, storage: Storage) -> subprocess.Popen[bytes]:
        asked = [word for kind in ("captions", "texts", "video") for word in (f"--{kind}", str(self.engines))]
        more = ("--manifest", str(self.manifest), "--runner", "local", "--progress", "none")
        return posecap("add", storage.location, *asked, *more, log=self.folder / "add.log")

    def undisturbed(self, storage: Storage) -> dict[str, bytes]:
        """What is there when nothing was killed."""
        copy(self.base, storage)
        since = time.monotonic()
        code = self.start(storage).wait()
        if code not in FINISHED:
            sys.exit(f"the undisturbed run ended with status {code}; see {self.folder / 'add.log'}")
        self.seconds = time.monotonic() - since
        found = contents(storage)
        self.files = len(found) - len(contents(self.base))
        return found

    def disturbed(self, storage: Storage, chance: random.Random) -> Iterator[str]:
        """Kill one to three times; gives what was killed when, and raises where the command fails by itself."""
        copy(self.base, storage)
        for _ in range(chance.randint(1, 3)):
            process, since = self.start(storage), time.monotonic()
            if self._wait(process, storage, chance) and process.poll() is None:
                process.kill()
                process.wait()
                made = sum(1 for file in storage.list("extra") if file.name.endswith(".json"))
                yield f"{time.monotonic() - since:.1f} s ({made} parts)"
                continue
            if process.wait() not in FINISHED:
                raise RuntimeError(f"it ended with status {process.returncode}")
        code = self.start(storage).wait(timeout=LONGEST_BUILD_SECONDS)
        if code not in FINISHED:
            raise RuntimeError(f"it ended with status {code}")

    def _wait(self, process: subprocess.Popen[bytes], storage: Storage, chance: random.Random) -> bool:
        """Wait for the moment of a kill: half of them are drawn over the time, half follow on a new file."""
        if chance.random() < 0.5:
            try:
                process.wait(timeout=chance.uniform(0, self.seconds))
            except subprocess.TimeoutExpired:
                return True
            return False
        wanted = sum(1 for _ in storage.list("extra")) + chance.randint(1, max(1, self.files))
        while process.poll() is None:
            if sum(1 for _ in storage.list("extra")) >= wanted:
                time.sleep(chance.uniform(0, JUST_AFTER_SECONDS))
                return True
            time.sleep(0.003)
        return False


def differences(found: dict[str, bytes], expected: dict[str, bytes]) -> Iterator[str]:
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            yield f"{name} is missing"
        elif name not in expected:
            yield f"{name} should not be there"
        elif found[name] != expected[name]:
            yield f"{name} differs"


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--times", type=int, default=30, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed when")
    parser.add_argument("--store", action="store_true", help="in an S3 server (moto) instead of a folder")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="default: that of fault_tolerance.py")
    parser.add_argument("--engines", type=Path, metavar="PIPELINE", help="what is added (default: the embedded models)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="posecap-killed-add-"))
    with object_store() if options.store else nullcontext(str(folder)) as root:
        code = _run(options, folder, root)
    if not code:
        shutil.rmtree(folder)
    return code


def _run(options: argparse.Namespace, folder: Path, root: str) -> int:
    manifest: Path = options.manifest or write_input(folder)
    engines: Path | None = options.engines
    if engines is None:
        engines = folder / "engines.py"
        text = manifest.with_name("pipeline.py").read_text(encoding="utf-8")
        engines.write_text(CAPTIONER + text + WITH_CAPTIONER, encoding="utf-8")
    base = open_storage(f"{root}/base")
    arguments = ("build", "--manifest", str(manifest), "--output", base.location, "--runner", "local")
    code = posecap(*arguments, log=folder / "build.log").wait()
    if code not in FINISHED:
        sys.exit(f"the build ended with status {code}; see {folder / 'build.log'}")
    trial = Trial(base, folder, engines, manifest)
    expected = trial.undisturbed(open_storage(f"{root}/undisturbed"))
    print(f"undisturbed: {trial.seconds:.1f} s, {trial.files} new files", flush=True)
    kills = wrong = 0
    for number in range(options.times):
        storage = open_storage(f"{root}/add-{number:03d}")
        killed: list[str] = []
        try:
            killed.extend(trial.disturbed(storage, random.Random(f"{options.seed}/{number}")))
            found = [*differences(contents(storage), expected), *map(str, verify(storage).problems)]
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            found = [str(error)]
        kills, wrong = kills + len(killed), wrong + bool(found)
        print(
            f"{number + 1:3d}  killed at {', '.join(killed) or 'no time'}: {'; '.join(found) or 'identical'}",
            flush=True,
        )
        if not found:
            storage.remove_folder("")
    print(f"{options.times} times, {kills} kills, {options.times - wrong} byte-identical, {wrong} not")
    if wrong:
        print(f"what they left is in {root}, logs in {folder}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
