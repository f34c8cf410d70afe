"""What of a benchmark an encoder may have seen before a zero-shot measurement, by its checkpoint's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def seen_before(benchmark: str, folder: str | None, config: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Notes to be said beside a zero-shot metric.

    Args:
        folder: where the benchmark's files lie.
        config: of the run that the encoder is from, as JSON values; None where it is not known.
    """
    if config is None:
        return ("not known what the encoder was trained on",)
    data, objective = config["data"], config["objective"]
    captions = "clips and captions" if objective["w_mt"] else "clips"
    notes = []
    for named in data["sets"]:
        name, _, parts = named.partition(":")
        if name == benchmark:
            what = f"{captions} of its {parts.replace('+', ' and ')} part" if parts else f"all its {captions}"
            notes.append(f"not strictly zero-shot: {what} were pre-trained on")
    here = None if folder is None else Path(folder).resolve()
    for location in data["shards"]:
        if "://" not in location and here is not None and Path(location).resolve() == here:
            part = f"its {data['split']} part" if data["split"] else "the whole of it"
            notes.append(f"not strictly zero-shot: {captions} of {part} were pre-trained on")
    if not notes:
        sets = [*data["sets"], *(Path(location.rstrip("/")).name for location in data["shards"])]
        notes.append(f"pre-trained on {', '.join(sets) or 'no data that is named'}, not on {benchmark} by name")
    if config["loop"]["start"] == "checkpoint":
        began = Path(str(config["loop"]["start_from"])).name
        notes.append(f"it began with the weights of {began}, whose data are not known here")
    return tuple(notes)


__all__ = ["seen_before"]
