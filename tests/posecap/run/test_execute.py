"""Outcomes of one item that passes through stages."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from posecap.download.retry import RetryAfter
from posecap.run.execute import execute
from posecap.stage import PermanentError, Reject, Rejected, Stage, TransientError
from posecap.types import Clip, CutVideo, Row, Sample, Span, Video
from tests import building


@dataclass(frozen=True)
class Yields(Stage):
    """Yields the given results, then raises the given error."""

    name: ClassVar[str] = "yields"
    takes: ClassVar[type] = Row
    gives: ClassVar[type] = Row

    results: tuple[Any, ...] = ()
    error: Exception | None = None

    def __call__(self, item: Any) -> Iterator[Any]:
        yield from self.results or (item,)
        if self.error is not None:
            raise self.error


ROW = Row(row_id="r1", uri="a.mp4")


@pytest.mark.parametrize(
    ("error", "status", "reason", "retryable"),
    [
        (Reject("no_person_found", "nobody"), "rejected", "no_person_found", False),
        (PermanentError("broken"), "failed", "broken", False),
        (TransientError("http_503"), "failed", "http_503", True),
        (ValueError("odd"), "failed", "error", False),
        (OSError("disk"), "failed", "error", True),
        (MemoryError(), "failed", "out_of_memory", True),
        (Reject("not_found", machine_dependent=True), "rejected", "not_found", False),
        (TransientError("host_paused", machine_dependent=False), "failed", "host_paused", True),
        (RetryAfter("http_429", seconds=3600), "failed", "http_429", True),
    ],
)
def test_an_error_before_any_clip_is_the_items_error(error, status, reason, retryable):
    class Raises(Yields):
        def __call__(self, item: Any) -> Iterator[Any]:
            raise error
            yield

    result = execute([Raises()], ROW)
    assert result.error is not None
    assert (result.error.status, result.error.reason, result.error.retryable) == (status, reason, retryable)
    assert result.error.stage == "yields"
    assert result.outputs == []
    believed = reason in ("no_person_found", "host_paused", "http_429")
    assert (result.machine_dependent, result.reason) == ((False, "") if believed else (True, reason))


def test_a_refusing_stage_costs_its_clip_only():
    one, two = building.clip(clip_id="a" * 24), building.clip(clip_id="b" * 24)

    class RejectsA(Yields):
        def __call__(self, item: Clip) -> Iterator[Clip]:
            if item.clip_id == "a" * 24:
                raise Reject("no_person_found", "nobody")
            yield item

    result = execute([Yields(results=(one, two)), RejectsA()], ROW)
    assert [clip.clip_id for clip in result.outputs] == ["b" * 24]
    assert [(c.status, c.clip_id, c.reason) for c in result.clips] == [("rejected", "a" * 24, "no_person_found")]
    assert result.error is None
    assert result.frames == one.frame_count + two.frame_count


def test_samples_are_kept_and_short_stretches_accounted_for():
    sample = building.sample()
    short = Rejected(Span(0.0, 0.2), "too_short", "0.2 s")
    result = execute([Yields(results=(short, sample))], ROW)
    assert [type(item) for item in result.outputs] == [Sample]
    assert [(c.status, c.reason) for c in result.clips] == [("rejected", "too_short"), ("kept", "")]


def temporary_video(path: Path) -> Video:
    path.write_bytes(b"x")
    return Video(row=ROW, path=path, source_id="0" * 64, size_bytes=1, keeping="temporary")


def test_temporary_files_go_and_their_paths_never_reach_the_record(tmp_path: Path):
    path = tmp_path / "scratch.mp4"
    video = temporary_video(path)

    class Complains(Yields):
        def __call__(self, item: CutVideo) -> Iterator[Any]:
            raise ValueError(f"cannot read {path}")
            yield

    result = execute([Complains()], video)
    assert not path.exists()
    assert result.error is not None
    assert result.error.detail == "ValueError: cannot read a.mp4"


def test_temporary_files_stay_for_a_later_segment_and_go_after_the_last_stage_that_reads_them(tmp_path: Path):
    path = tmp_path / "scratch.mp4"
    video = temporary_video(path)

    class Reads(Yields):
        def __call__(self, item: Video) -> Iterator[Any]:
            yield item.path.read_bytes()

    assert execute([Yields(results=(video,))], ROW).outputs == [video]
    assert execute([Yields()], video).outputs == [video]
    assert path.exists()
    assert execute([Yields(results=(video,)), Reads()], ROW).outputs == [b"x"]
    assert not path.exists()


def test_borrowed_files_stay(tmp_path: Path):
    path = tmp_path / "mine.mp4"
    path.write_bytes(b"x")
    execute([Yields()], Video(row=ROW, path=path, source_id="0" * 64, size_bytes=1))
    assert path.exists()


def test_stages_run_depth_first_so_that_one_clip_is_held_at_a_time():
    alive: list[str] = []

    class Makes(Yields):
        def __call__(self, item: Any) -> Iterator[Any]:
            for name in "abc":
                alive.append(f"made {name}")
                yield name

    class Uses(Yields):
        def __call__(self, item: str) -> Iterator[str]:
            alive.append(f"used {item}")
            yield item

    execute([Makes(), Uses()], ROW)
    assert alive == ["made a", "used a", "made b", "used b", "made c", "used c"]
