"""Fetches videos from web servers, with resumed transfers and retries, bounded in time and size."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from posecap.download.retry import HostLimits, HostSlot, RetryPolicy, host_of, retry, with_timeout
from posecap.download.youtube import video_id
from posecap.files import atomic_file, unused_path
from posecap.interfaces import Fetched, Limits
from posecap.stage import Engine
from posecap.types import Span


@dataclass(frozen=True)
class Http(Engine):
    """Downloads over http and https with ``requests``; not from YouTube, whose addresses are pages and not videos.

    An interrupted transfer is resumed when the server names the version of the file (a strong ETag or Last-Modified),
    and starts again when it does not. ``connect_seconds``, ``read_seconds`` and ``redirects`` are those of
    :class:`posecap.download.http.HttpOptions`; the stage's limits bound the whole download, attempts and waits
    included. Whole files are fetched, whatever the span. ``retry_policy`` is for every
    :class:`~posecap.stage.TransientError`; what is rejected is not tried again.

    Args:
        per_host: what one worker process asks of one host at most. A host that asks for a wait (``Retry-After``) is
            left alone by all its downloads; one that asks for more than ``retry_policy.longest_wait_seconds`` fails
            them at once, until that time is over.
        private_addresses: ``refuse`` rejects addresses of this machine and of local networks, after each redirect too,
            as ``private_address``: for lists of URLs that others have written.
    """

    name: ClassVar[str] = "http"
    extra: ClassVar[str] = "build"
    modules: ClassVar[tuple[str, ...]] = ("requests",)
    thread_safe: ClassVar[bool] = True  # every download has a session of its own
    runtime_fields: ClassVar[tuple[str, ...]] = ("per_host", "private_addresses")

    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    redirects: int = 5
    per_host: HostLimits = field(default_factory=HostLimits)
    private_addresses: Literal["allow", "refuse"] = "allow"

    def accepts(self, uri: str) -> bool:
        return uri.lower().startswith(("http://", "https://")) and video_id(uri) is None

    def fetch(self, uri: str, folder: Path, *, limits: Limits, span: Span | None = None) -> Fetched:
        """Download into ``folder``. Raises what :meth:`posecap.download.http.HttpDownload.attempt` does."""
        # A tenth of a second, which builds from local files and updates do without.
        from posecap.download.http import HttpDownload, HttpOptions, Session

        target = unused_path(folder, uri)
        options = HttpOptions(
            connect_seconds=self.connect_seconds, read_seconds=self.read_seconds, redirects=self.redirects
        )
        with (
            HostSlot(self.per_host, longest_pause_seconds=self.retry_policy.longest_wait_seconds) as slot,
            atomic_file(target) as file,
            Session(private_addresses=self.private_addresses) as session,
        ):
            slot.take(host_of(uri))
            until = time.monotonic() + limits.seconds
            download = HttpDownload(session, uri, file, limits, until, options, slot=slot)
            with_timeout(
                limits.seconds,
                lambda: retry(download.attempt, policy=self.retry_policy, until=until),
                what=download.shown,
            )
        return Fetched(target, "temporary")
