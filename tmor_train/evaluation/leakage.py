"""What of a benchmark an encoder was pre-trained on, as sentences that are printed beside every metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tmor_train.benchmarks import Recordings
from tmor_train.data import MotionSet
from tmor_train.data.seen import SeenClips
from tmor_train.evaluation.encoders import Source
from tmor_train.evaluation.task import FrameTask, Task


def seen_notes(task: Task | FrameTask, source: Source | None, folder: str | None) -> tuple[str, ...]:
    """Notes on the clips of a task that an encoder was pre-trained on; none where it saw none of them, was never
    trained, or takes no part (``source`` None).

    Clips are compared where its checkpoint recorded those that it was trained on; else the names of its data with the
    benchmark's, whose files lie in ``folder``.
    """
    if source is None or source.sha256 is None:
        return ()
    parts = (("measured", _motions(task.test)), ("train", _motions(task.train)))
    if source.seen is not None:
        return tuple(note for part, motions in parts for note in _overlap(part, motions, source.seen))
    known = [] if source.config is None else trained_names(task.benchmark.name, folder, source.config)
    return tuple(f"the encoder was pre-trained: {what}" for what in known) or (
        "which clips the encoder was pre-trained on, its checkpoint does not record",
    )


def _motions(part: MotionSet | Recordings) -> MotionSet:
    return part if isinstance(part, MotionSet) else part.motions


def _overlap(part: str, motions: MotionSet, seen: SeenClips) -> Iterator[str]:
    count, named = seen.count(motions)
    if count:
        captions = f", {named:,} of them with captions that say their class" if named else ""
        yield f"the encoder was pre-trained on {count:,} of the {len(motions):,} {part} clips{captions}"


def trained_names(benchmark: str, folder: str | None, config: Mapping[str, Any]) -> list[str]:
    """What of a benchmark a run was given to train on, by the names of its data, such as ``clips and captions of its
    train part``.

    Args:
        folder: where the benchmark's files lie.
        config: of the run, as JSON values.
    """
    data, objective = config["data"], config["objective"]
    captions = "clips and captions" if objective["w_mt"] else "clips"
    found = []
    for entry in data["sets"]:
        name, _, parts = entry.partition(":")
        if name == benchmark:
            found.append(f"{captions} of its {parts.replace('+', ' and ')} part" if parts else f"all its {captions}")
    here = None if folder is None else Path(folder).resolve()
    for location in data["shards"]:
        if "://" not in location and here is not None and Path(location).resolve() == here:
            part = f"its {data['split']} part" if data["split"] else "the whole of it"
            found.append(f"{captions} of {part}")
    return found


def leakage_notes(benchmark: str, folder: str | None, config: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Notes for a zero-shot metric: what of the benchmark the encoder was pre-trained on, by names.

    Args:
        folder: where the benchmark's files lie.
        config: of the run that the encoder is from, as JSON values; None where it is not known.
    """
    if config is None:
        return ("not known what the encoder was trained on",)
    notes = [f"not strictly zero-shot: {what} were pre-trained on" for what in trained_names(benchmark, folder, config)]
    if not notes:
        data = config["data"]
        sets = [*data["sets"], *(Path(location.rstrip("/")).name for location in data["shards"])]
        notes.append(f"pre-trained on {', '.join(sets) or 'no data that is named'}, not on {benchmark} by name")
    if config["loop"]["start"] == "checkpoint":
        began = Path(str(config["loop"]["start_from"])).name
        notes.append(f"it began with the weights of {began}, whose data are not known here")
    return tuple(notes)
