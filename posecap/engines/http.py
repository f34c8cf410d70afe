"""Videos on web servers: resumed, retried, bounded in time and size."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from posecap.download.atomic_file import landing, unused_path
from posecap.download.http import SCHEMES, Manners, Session, Transfer, without_secrets
from posecap.download.retry import Patience, persist, within
from posecap.interfaces import Fetched, Limits
from posecap.stage import Engine
from posecap.types import Span


@dataclass(frozen=True)
class Http(Engine):
    """Downloads over http and https with ``requests``.

    A broken transfer goes on where it stopped when the server names the version of the file (a strong
    ETag or Last-Modified), and starts again when it does not. ``connect_seconds`` and ``read_seconds``
    bound each silence; the stage's limits bound the whole download, attempts and waits included.
    """

    name: ClassVar[str] = "http"
    patience: Patience = field(default_factory=Patience)
    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    redirects: int = 5

    def accepts(self, uri: str) -> bool:
        return uri.lower().startswith(SCHEMES)

    def fetch(self, uri: str, folder: Path, *, limits: Limits, span: Span | None = None) -> Fetched:
        """Download into ``folder``. Raises what :meth:`posecap.download.http.Transfer.attempt` does."""
        until = time.monotonic() + limits.seconds
        target = unused_path(folder, uri)
        manners = Manners(
            connect_seconds=self.connect_seconds, read_seconds=self.read_seconds, redirects=self.redirects
        )
        with landing(target) as file, Session() as session:
            transfer = Transfer(session, uri, file, limits, until, manners)
            within(
                limits.seconds,
                lambda: persist(transfer.attempt, patience=self.patience, until=until),
                what=transfer.shown,
            )
        return Fetched(target, "scratch")


__all__ = ["Http", "without_secrets"]
