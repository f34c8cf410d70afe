"""One item's walk through the stages of one worker: where outcomes are made and time is kept."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from posecap.stage import Drop, Fail, Refused, Retry, Stage
from posecap.status.outcome import ClipOutcome
from posecap.types import Clip, CutVideo, Row, Sample, Video

_LONGEST_DETAIL = 500


@dataclass
class Trouble:
    """What ended an item before it was a clip."""

    status: str
    stage: str
    reason: str
    detail: str
    retryable: bool


@dataclass
class Walked:
    """What came of one item: what goes on, what became of its clips, where the time went."""

    gone_on: list[Any] = field(default_factory=list)
    clips: list[ClipOutcome] = field(default_factory=list)
    trouble: Trouble | None = None
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    frames: int = 0


def walk(stages: Sequence[Stage], item: Any) -> Walked:
    """Take ``item`` through ``stages``, depth first, so that one clip's frames are in memory at a time.

    Never raises for what an item holds: an unexpected error in a stage is that item's failure. Scratch files
    are deleted once no later worker needs them.
    """
    walked = Walked()
    _go(stages, item, walked)
    if isinstance(item, Video) and item.keeping == "scratch":
        with contextlib.suppress(FileNotFoundError):
            item.path.unlink()
    return walked


def _go(stages: Sequence[Stage], item: Any, walked: Walked) -> None:
    if not stages:
        walked.gone_on.append(item)
        if isinstance(item, Sample):
            walked.clips.append(
                ClipOutcome(
                    status="kept",
                    clip_id=item.key,
                    start_seconds=item.facts["start_seconds"],
                    end_seconds=item.facts["end_seconds"],
                )
            )
        return
    stage, *later = stages
    for result in _outputs(stage, item, walked):
        if isinstance(result, Refused):
            walked.clips.append(
                ClipOutcome(
                    status="refused",
                    start_seconds=result.span.start_seconds,
                    end_seconds=result.span.end_seconds,
                    stage=stage.name,
                    reason=result.reason,
                    detail=result.detail,
                )
            )
            continue
        if isinstance(result, Clip) and not isinstance(item, Clip):
            walked.frames += result.frame_count
        _go(later, result, walked)
        del result  # a clip's frames, before the next clip is decoded


def _outputs(stage: Stage, item: Any, walked: Walked) -> Iterator[Any]:
    """What a stage yields for an item, timed, its exceptions turned into outcomes."""
    steps: Iterator[Any] = iter(())
    started = False
    while True:
        since = perf_counter()
        try:
            if not started:
                steps, started = stage(item), True
            result = next(steps)
        except StopIteration:
            return
        except Exception as error:
            _record(error, stage, item, walked)
            return
        finally:
            walked.seconds[stage.name] += perf_counter() - since
        yield result
        del result


def _record(error: Exception, stage: Stage, item: Any, walked: Walked) -> None:
    reason, detail = (
        (error.reason, error.detail) if isinstance(error, Drop) else ("error", f"{type(error).__name__}: {error}")
    )
    if isinstance(error, MemoryError):
        reason = "out_of_memory"
    status = "failed" if isinstance(error, Fail) or not isinstance(error, Drop) else "refused"
    detail = _without_paths(detail, item)[:_LONGEST_DETAIL]
    retryable = isinstance(error, Retry | MemoryError | OSError)
    if isinstance(item, Clip):
        walked.clips.append(
            ClipOutcome(
                status="failed" if status == "failed" else "refused",
                clip_id=item.clip_id,
                start_seconds=item.span.start_seconds,
                end_seconds=item.span.end_seconds,
                stage=stage.name,
                reason=reason,
                detail=detail,
            )
        )
    else:
        walked.trouble = Trouble(status, stage.name, reason, detail, retryable)


def _without_paths(detail: str, item: Any) -> str:
    """Where a file lies differs from machine to machine; the row's URI does not, and says more."""
    video = item.video if isinstance(item, Clip | CutVideo) else item
    if isinstance(video, Video):
        detail = detail.replace(str(video.path), video.row.uri)
    row = video.row if isinstance(video, Video) else video
    if isinstance(row, Row) and row.location:
        detail = detail.replace(row.location, row.uri)
    return detail
