"""Text description of a sample: arrays with axes, units and dtype, quality, and captions with origins.

The names of facts are those that :mod:`posecap.stages.pack` writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from posecap.files import ShardError
from posecap.joints import LAYOUTS
from posecap.skeletons import MEASURES
from posecap.types import Sample


def describe(sample: Sample, extra: Mapping[str, Any] | None = None) -> str:
    """Several lines about one sample, for people; the same for the same sample.

    Args:
        extra: its extra members by name: arrays, and lists of sentences.

    Raises:
        ShardError: its facts have another form than posecap writes, as in a dataset of somebody else's making.
    """
    try:
        return "\n".join([*_lines(sample), *_extra_lines(extra or {})]) + "\n"
    except (AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ShardError(
            f"sample {sample.key}: its facts have another form than posecap writes ({error}); run `posecap verify`"
        ) from error


def _lines(sample: Sample) -> Iterator[str]:
    facts = sample.facts
    yield f"sample {sample.key}"
    yield f"  from      row {facts.get('row_id')}, {facts.get('uri')}"
    yield f"  span      {_seconds(facts.get('start_seconds'))} to {_seconds(facts.get('end_seconds'))} of the video"
    yield (
        f"  video     {facts.get('width')} x {facts.get('height')} px, {_rates(facts)}, "
        f"{facts.get('codec') or 'codec unknown'}" + (", mp4 stored" if sample.video_mp4 is not None else "")
    )
    yield from _treatment(facts)
    yield f"  terms     license {facts.get('license') or 'not stated'}, source {facts.get('source') or 'not stated'}"
    yield f"  label     {facts.get('label') or 'none'}"
    yield "arrays"
    yield from _arrays(sample)
    yield "quality"
    for name, value in (facts.get("quality") or {}).items():
        yield f"  {name:<17} {_number(value):<9} {MEASURES.get(name, '')}".rstrip()
    if choice := facts.get("people_choice"):
        yield f"people ({choice.get('found')} found, {choice.get('candidates')} of them long, clear and lively enough)"
        chosen = [*(("kept", terms) for terms in choice.get("kept") or ()), ("next", choice.get("next"))]
        yield from (f"  {name:<17} {_terms(terms)}" for name, terms in chosen if terms)
        yield f"  {'presence':<17} counts frames in which the person's joints are confident, coverage any with a joint"
    if smoothing := facts.get("smoothing"):
        yield "smoothing (quality is that of the joints before)"
        yield from (f"  {name:<17} {_setting(value)}" for name, value in smoothing.items())
    yield "models"
    yield from (f"  {name:<17} {model}" for name, model in sorted((facts.get("models") or {}).items()) if model)
    yield f"captions ({len(sample.captions)})"
    yield from (f"  [{caption.origin}] {caption.text}" for caption in sample.captions)


def _extra_lines(extra: Mapping[str, Any]) -> Iterator[str]:
    """What `posecap add` added."""
    if extra:
        yield "extra members"
    for name, value in extra.items():
        if isinstance(value, list):
            yield f"  {name} ({len(value)})"
            yield from (f"    {sentence}" for sentence in value)
        else:
            meaning = "one vector of frames" if value.ndim == 1 else "one vector for each caption"
            yield f"  {name}  {value.dtype} {tuple(value.shape)}  {meaning if value.size else 'none'}"


def _rates(facts: Mapping[str, Any]) -> str:
    stored, source = _number(facts.get("fps")), _number(facts.get("source_fps", facts.get("fps")))
    return f"{stored} frames/s" + ("" if stored == source else f" of the source's {source}")


def _treatment(facts: Mapping[str, Any]) -> Iterator[str]:
    """How the file's pictures became those of a player (docs/format.md, "Frames, times and sizes")."""
    shape = facts.get("sample_aspect_ratio")
    yield f"  pixels    displayed ones, square; stored ones are {f'{shape} (width:height)' if shape else 'square too'}"
    unnoted = []
    if (count := facts.get("video_streams")) is not None:
        yield f"  stream    number {facts.get('stream')} of the file, the best of {count} with video"
    else:
        unnoted.append("no other video stream")
    if fields := facts.get("deinterlaced_frames"):
        yield f"  fields    of {fields} interlaced frames the one shown first, scaled to the whole frame"
    else:
        unnoted.append("no interlaced frames")
    if damaged := facts.get("damaged_frames"):
        yield f"  damaged   {damaged} frames of the source, left out"
    else:
        unnoted.append("no damaged ones")
    if joins := facts.get("clock_restarts"):
        yield f"  joined    recordings with clocks of their own meet at {', '.join(_seconds(join) for join in joins)}"
    else:
        unnoted.append("no restart of the clock")
    if unnoted:
        yield f"  noted     {', '.join(unnoted)}"


def _arrays(sample: Sample) -> Iterator[str]:
    people, frames, joints, _ = sample.joints_MTJ3.shape
    layout = str(sample.facts.get("layout"))
    seen = sample.joints_MTJ3[..., 2] > 0
    yield _array("joints", sample.joints_MTJ3, f"M={people} people, T={frames} frames, J={joints} joints ({layout})")
    yield "            x, y in pixels of the source video (right, down), score 0 to 1; (0, 0, 0) where not seen"
    if seen.any():
        xy = sample.joints_MTJ3[..., :2][seen]
        (x0, y0), (x1, y1) = xy.min(0), xy.max(0)
        yield f"            seen {seen.mean():.0%} of joints, within x {x0:.0f} to {x1:.0f}, y {y0:.0f} to {y1:.0f} px"
    if layout in LAYOUTS:
        yield f"            {', '.join(LAYOUTS[layout].names)}"
    yield _array("pts", sample.pts_T, "T presentation times, seconds on the player's clock")
    if sample.pts_T.size:
        yield f"            {_seconds(sample.pts_T[0])} to {_seconds(sample.pts_T[-1])}"
    first, last = sample.facts.get("video_span") or (None, None)
    yield _array("video", sample.video_D, f"one vector of the frames from {_seconds(first)} to {_seconds(last)}")
    yield f"            length {np.linalg.norm(sample.video_D):.4f}"
    yield _array("text", sample.text_CD, "one vector for each caption")


def _array(name: str, array: Any, meaning: str) -> str:
    return f"  {name:<9} {array.dtype} {tuple(array.shape)}  {meaning}"


def _number(value: Any) -> str:
    """A number of a sample's facts, with four digits."""
    return "unknown" if value is None else f"{value:.4g}"


def _terms(terms: Mapping[str, float]) -> str:
    """What a person was chosen by, each with its number (:class:`posecap.stages.filter_people.FilterPeople`)."""
    return ", ".join(f"{name} {_number(value)}" for name, value in terms.items())


def _setting(value: Any) -> str:
    """A value of the facts about smoothing; of one with parameters its name and these."""
    if isinstance(value, dict):
        return ", ".join(str(v) if k == "name" else f"{k}={v}" for k, v in value.items())
    return "none" if value is None else str(value)


def _seconds(value: Any) -> str:
    return "unknown" if value is None else f"{value:.3f} s"
