"""All benchmarks by name. Each is defined in a file of its own; a new one is its file and an entry in
``BENCHMARKS``."""

from __future__ import annotations

from tmor_train.benchmarks import charades, clip_sets, ntu, pku_mmd, smarthome, tsu, uav_human, utkinect
from tmor_train.benchmarks.base import Benchmark, Events, FrameParts, Missing, Parts, Recordings, Timelines
from tmor_train.configuration import nearest


class UnknownBenchmarkError(LookupError):
    """There is no benchmark of that name; the message suggests the nearest one."""


BENCHMARKS: dict[str, Benchmark] = {
    entry.name: entry
    for entry in (
        smarthome.SMARTHOME,
        uav_human.UAV_HUMAN,
        clip_sets.PENN_ACTION,
        tsu.TSU,
        tsu.SAMPLE,
        charades.CHARADES,
        pku_mmd.PKU_MMD,
        ntu.NTU60,
        ntu.NTU120,
        clip_sets.UTD_MHAD,
        clip_sets.MSR_ACTION3D,
        clip_sets.SBU,
        utkinect.UTKINECT,
        clip_sets.SHARDS,
    )
}


def benchmark(name: str) -> Benchmark:
    """The benchmark called ``name``.

    Raises:
        UnknownBenchmarkError: there is none of that name.
    """
    if name not in BENCHMARKS:
        raise UnknownBenchmarkError(f"no benchmark {name!r}; {nearest(name, BENCHMARKS)}")
    return BENCHMARKS[name]


__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Events",
    "FrameParts",
    "Missing",
    "Parts",
    "Recordings",
    "Timelines",
    "UnknownBenchmarkError",
    "benchmark",
]
