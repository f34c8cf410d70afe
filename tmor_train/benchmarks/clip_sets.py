"""Benchmarks that need little more than a reader: any posecap dataset, Penn Action, UTD-MHAD, MSR Action3D and SBU.

Each clip shows one action and has one class. Splits:

* A posecap dataset is split by its own splits: ``train``, ``test``, and for validation ``val``, ``valid``,
  ``validation`` or ``dev``. Clips of other splits and clips without a label are left out.
* Penn Action: the files' own flag, 1,258 to train on and 1,068 to test; all 2,326 sequences are read (UNIK's script
  leaves out the last). Joints are the annotators'.
* UTD-MHAD: subjects with odd numbers train, those with even numbers test (Chen et al., 2015).
* MSR Action3D: subjects 1, 3, 5, 7 and 9 train, the others test (Wang et al., 2012).
* SBU: the authors' five folds of pairs of subjects (Yun et al., 2012). The protocol ``foldN`` tests on fold N and
  trains on the other four; the reported figure is their mean.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tmor_train.benchmarks.base import Benchmark, Missing, Parts, check_for
from tmor_train.data import MotionSet, read_shards
from tmor_train.data.dataset import NOT_KNOWN
from tmor_train.data.datasets import msr_action3d, penn_action, sbu, utd_mhad
from tmor_train.data.datasets.files import DamagedFileError


def _missing(folder: Path, protocol: str) -> tuple[Missing, ...]:
    """As :attr:`Benchmark.missing`: a folder without anything in it."""
    return () if folder.is_dir() and any(folder.iterdir()) else (Missing("a dataset", "`posecap build`", folder),)


def _read(folder: Path, protocol: str) -> Parts:
    """As :attr:`Benchmark.read`; DamagedFileError where there is no labelled clip to train on or to test."""
    motions = read_shards(folder)
    if not {"train", "test"} <= set(motions.splits):
        raise DamagedFileError(f"{folder} has the splits {', '.join(motions.splits)}; a benchmark needs train and test")
    parts = Parts.by_split(motions.select(motions.clips.label_N != NOT_KNOWN))
    if not len(parts.train) or not len(parts.test):
        raise DamagedFileError(
            f"{folder}: its split train or test has no labelled clip; build it with labels in the manifest"
        )
    return parts


SHARDS = Benchmark(
    name="shards",
    about="any posecap dataset with labels",
    protocols=("own",),
    clips=0,
    classes=0,
    missing=_missing,
    read=_read,
)


def _by_split(read: Callable[[Path], MotionSet]) -> Callable[[Path, str], Parts]:
    return lambda folder, protocol: Parts.by_split(read(folder))


def _fold(folder: Path, protocol: str) -> Parts:
    """The fold that ``protocol`` names as the test part."""
    motions = sbu.read(folder)
    tested_N = motions.clips.split_N == protocol
    return Parts(train=motions.select(~tested_N), test=motions.select(tested_N))


PENN_ACTION = Benchmark(
    name="penn_action",
    about="Penn Action, sports in 2D, annotated joints",
    protocols=("official",),
    clips=2326,
    classes=15,
    missing=check_for(penn_action.SOURCE, "labels/*.mat"),
    read=_by_split(penn_action.read),
)
UTD_MHAD = Benchmark(
    name="utd_mhad",
    about="UTD-MHAD, single actions in 3D",
    protocols=("cross_subject",),
    clips=861,
    classes=27,
    missing=check_for(utd_mhad.SOURCE, "a*_skeleton.mat"),
    read=_by_split(utd_mhad.read),
)
MSR_ACTION3D = Benchmark(
    name="msr_action3d",
    about="MSR Action3D, game-like actions in 3D",
    protocols=("cross_subject",),
    clips=567,
    classes=20,
    missing=check_for(msr_action3d.SOURCE, "a*_skeleton3D.txt"),
    read=_by_split(msr_action3d.read),
)
SBU = Benchmark(
    name="sbu",
    about="SBU Kinect Interaction, two people in 3D",
    protocols=tuple(f"fold{number}" for number in range(1, len(sbu.FOLDS) + 1)),
    clips=282,
    classes=len(sbu.CLASSES),
    missing=check_for(sbu.SOURCE, "s*s*/*/*/skeleton_pos.txt"),
    read=_fold,
)
