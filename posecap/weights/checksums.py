"""Which file is the right one: its SHA-256 as published, or as recorded when the first file arrived.

Where the makers published only the beginning of the hash, or none, the hash of the first file that arrives is recorded
beside the file, and every later file must have it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from posecap.download.atomic_file import atomic_file
from posecap.download.package_index import cache_folder
from posecap.hashing import file_sha256
from posecap.stage import Reject, TransientError
from posecap.weights.registry import Weights

SHA256_DIGITS = 64


class HashMismatchError(Reject):
    """A file has another SHA-256 than the weights of that name."""


def known_sha256(weights: Weights) -> str | None:
    """The full SHA-256, as published or as recorded of the first file; None when no file arrived yet."""
    if len(weights.sha256) == SHA256_DIGITS:
        return weights.sha256
    try:
        return sha256_file(weights).read_text("ascii").strip()
    except FileNotFoundError:
        return None


def sha256_file(weights: Weights) -> Path:
    """Where the hash of the first file is recorded when no full one is published."""
    return cache_folder() / "weights" / weights.name / f"{weights.path.name}.sha256"


def check(weights: Weights, path: Path) -> str:
    """The SHA-256 of ``path``, which is recorded where no full one is known yet.

    Raises:
        HashMismatchError: it is not the expected one.
        TransientError: ``cache_trouble``.
    """
    return _check(weights, path, f"{path} is another file, or damaged; delete it, or correct POSECAP_WEIGHTS")


def check_arrival(weights: Weights, path: Path, *, source: Path | str) -> None:
    """As :func:`check`, for a file that the caller does not keep when it is the wrong one."""
    _check(weights, path, f"what came from {source} is another file and was not kept")


def _check(weights: Weights, path: Path, problem: str) -> str:
    with cache_errors_named(weights):
        found, expected = file_sha256(path), known_sha256(weights)
        if found != expected and (expected is not None or not found.startswith(weights.sha256)):
            recorded = expected not in (None, weights.sha256)
            first = f", pinned by the first one, in {sha256_file(weights)}" if recorded else ""
            known = expected or f"{weights.sha256}…"
            raise HashMismatchError("wrong_hash", f"{problem} (expected SHA-256 {known}{first}; found {found})")
        if expected is None:
            with atomic_file(sha256_file(weights)) as file:
                file.write(f"{found}\n".encode("ascii"))
        return found


@contextlib.contextmanager
def cache_errors_named(weights: Weights) -> Iterator[None]:
    """Turn an OSError (disk full, read-only) into :class:`~posecap.stage.TransientError` with the remedy."""
    try:
        yield
    except OSError as error:
        remedy = "correct that, or name a folder that can be written in POSECAP_CACHE"
        raise TransientError(
            "cache_trouble", f"{weights.name}: {error.strerror}: {error.filename}; {remedy}"
        ) from error
