"""Compares the parts on disk with those that manifest and pipeline now describe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posecap.pipeline import Pipeline
from posecap.planning.plan_file import Plan
from posecap.shards import ShardError, committed, damage, read_sidecar
from posecap.types import PartName

_SHOWN = 8


@dataclass(frozen=True)
class Change:
    """How parts on disk differ from the planned ones.

    ``built`` are fingerprints of the parts on disk that are still planned; ``changed`` are those of them whose
    fingerprint is different now; ``gone`` are parts on disk that are no longer planned.
    """

    built: Mapping[PartName, str]
    changed: tuple[PartName, ...]
    gone: tuple[PartName, ...]
    reasons: tuple[str, ...]

    @property
    def needs_consent(self) -> bool:
        """Whether continuing would replace or remove built parts."""
        return bool(self.changed or self.gone)


def compare(root: Path, plan: Plan, fingerprints: Mapping[PartName, str], pipeline: Pipeline) -> Change:
    """Compare the sidecars on disk with the fingerprints of the plan's parts.

    A part with a damaged sidecar or missing files counts as not built.
    """
    built: dict[PartName, str] = {}
    changed: list[PartName] = []
    gone: list[PartName] = []
    reasons: dict[str, None] = {}
    for part in committed(root):
        written = _sound(root, part)
        if written is None:
            continue
        if part not in fingerprints:
            gone.append(part)
            reasons["the manifest has fewer rows: some parts are no longer planned"] = None
            continue
        built[part] = written["fingerprint"]
        if written["fingerprint"] != fingerprints[part]:
            changed.append(part)
            reasons.update(dict.fromkeys(_why(written, pipeline)))
    return Change(built, tuple(changed), tuple(gone), tuple(reasons))


def explain(change: Change, root: Path) -> str:
    """A message for the user: what changed, parameter by parameter, and the two options."""
    shown = list(change.reasons[:_SHOWN])
    if len(change.reasons) > _SHOWN:
        shown.append(f"… and {len(change.reasons) - _SHOWN} more")
    parts = [str(part) for part in (*change.changed, *change.gone)]
    names = ", ".join(parts[:_SHOWN]) + (" …" if len(parts) > _SHOWN else "")
    lines = "\n".join(f"  - {reason}" for reason in shown)
    return (
        f"{root} was built from something else: {len(parts)} of its parts ({names}) no longer fit.\n{lines}\n"
        "Add --update to rebuild exactly these parts, or name another --output to keep what is there."
    )


def _sound(root: Path, part: PartName) -> dict[str, Any] | None:
    """The part's sidecar; None if it is unreadable or files that it names are missing: the part is built again."""
    try:
        written = read_sidecar(root, part)
    except ShardError:
        return None
    return None if damage(root, written) else written


def _why(written: Mapping[str, Any], pipeline: Pipeline) -> Iterator[str]:
    """Differences in configuration and lineage; if there are none, the rows differ."""
    before = {"pipeline": _by_name(written["pipeline"]), **written["lineage"]}
    now = {"pipeline": _by_name(pipeline.configuration()), **pipeline.lineage()}
    found = list(_differences(before, now, ""))
    yield from found
    if not found:
        yield "the manifest's rows changed (added, removed, edited or reordered)"


def _by_name(stages: list[dict[str, Any]]) -> dict[str, Any]:
    return {stage["name"]: stage for stage in stages}


def _differences(before: Any, now: Any, path: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            inner = f"{path}.{key}" if path else key
            if key not in now:
                yield f"{inner} is gone (was {_short(before[key])})"
            elif key not in before:
                yield f"{inner} is new: {_short(now[key])}"
            else:
                yield from _differences(before[key], now[key], inner)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _differences(one, other, f"{path}[{i}]")
    elif before != now:
        yield f"{path}: {_short(before)} → {_short(now)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
