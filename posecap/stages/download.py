"""Fetches a row's video to local disk, checks and hashes it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from posecap.download.file_type import check_video
from posecap.download.youtube import video_id
from posecap.files import file_sha256, scratch_folder
from posecap.interfaces import Fetcher, Limits
from posecap.stage import Reject, Resources, Stage
from posecap.types import Row, Span, Video


@dataclass(frozen=True)
class Download(Stage):
    """Fetches with the first of ``fetchers`` that accepts the row's URI.

    Args:
        fetchers: asked in this order; the first that accepts a URI is the only one tried. LocalFile
            accepts everything without ``://``, ``youtube:ID`` too, so YtDlp goes before it.
        limits: of each row's download.
        content: what is checked before a decoder opens the file: ``magic`` rejects web pages, text, images and
            archives by their first bytes, ``none`` leaves everything to the decoder.
        concurrency: rows that are fetched at once on each node; with threads, in all. Their videos are on the node's
            disk at the same time. With more than 1 every fetcher must be thread-safe. It changes no sample, so it is
            not part of the fingerprint.

    Raises:
        ValueError: there is no fetcher, or ``concurrency`` is below 1.
    """

    fetchers: tuple[Fetcher, ...]
    limits: Limits = field(default_factory=Limits)
    content: Literal["magic", "none"] = "magic"
    concurrency: int = 1

    name: ClassVar[str] = "download"
    takes: ClassVar[type] = Row
    gives: ClassVar[type] = Video
    runtime_fields: ClassVar[tuple[str, ...]] = ("concurrency",)

    @property
    def resources(self) -> Resources:
        """No CPUs: it mostly waits for the network, so it shares cores with the stages that compute."""
        return Resources(cpus=0, concurrency=self.concurrency)

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError(f"download: concurrency is {self.concurrency}, expected at least 1")
        if not self.fetchers:
            raise ValueError("download: fetchers is empty; name at least one, as LocalFile()")

    def __call__(self, row: Row) -> Iterator[Video]:
        """Yield the one video.

        Raises:
            Reject: ``no_fetcher``, ``empty_file``, ``not_a_video``, or whatever the fetcher rejects.
            TransientError: whatever the fetcher could not do this time.
        """
        location = row.location or row.uri  # the former may hold secrets; messages and records have the latter
        fetcher, span = self._fetcher_for(location), _wanted(row)
        fetched = fetcher.fetch(location, scratch_folder(), limits=self.limits, span=span)
        try:
            if self.content == "magic":
                check_video(fetched.path, uri=row.uri)
            video = Video(
                row=row,
                path=fetched.path,
                source_id=file_sha256(fetched.path),
                size_bytes=fetched.path.stat().st_size,
                keeping=fetched.keeping,
                begins_seconds=fetched.begins_seconds,
            )
        except BaseException:
            if fetched.keeping == "temporary":
                fetched.path.unlink(missing_ok=True)
            raise
        yield video

    def check_row(self, row: Row) -> None:
        """
        Raises:
            Reject: ``no_fetcher``.
        """
        self._fetcher_for(row.location or row.uri)

    def _fetcher_for(self, uri: str) -> Fetcher:
        """The first fetcher that accepts a URI; rejects ``no_fetcher``."""
        for fetcher in self.fetchers:
            if fetcher.accepts(uri):
                return fetcher
        if video_id(uri) is not None:
            add = "add YtDlp() to its Download stage, or build with the pipeline posecap_1m, which has it"
            raise Reject("no_fetcher", f"no fetcher of this pipeline takes YouTube's addresses; {add}")
        scheme, separator, _ = uri.partition("://")
        what = f"{scheme}:// URIs" if separator else "plain paths"
        raise Reject("no_fetcher", f"no fetcher of this pipeline takes {what}; add one that does to its Download stage")


def _wanted(row: Row) -> Span | None:
    """The row's span, None for the whole video. An invalid span gives None too: the split stage rejects it."""
    start = row.start_seconds or 0.0
    end = math.inf if row.end_seconds is None else row.end_seconds
    whole = row.start_seconds is None and row.end_seconds is None
    return None if whole or not 0 <= start < end else Span(start, end)
