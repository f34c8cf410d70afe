"""Hashes of values, files and clips. Identifiers are hashes of content, never of a path or a row number."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from posecap.types import Span


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces: equal values give equal bytes. NaN raises ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of a JSON-able value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clip_id(source_id: str, row_id: str, span: Span) -> str:
    """24 hex digits for one span of one row of one source; times are taken to the microsecond.

    The row is part of it, so that two rows with the same footage (two labels of one span, a copy of a file under
    another name) are two samples in whatever order they finish; ``source_id`` in the index shows such duplicates.
    """
    start, end = round(span.start_seconds * 1e6), round(span.end_seconds * 1e6)
    return digest([source_id, row_id, start, end])[:24]
