"""One file out of a zip, or out of a zip within a zip, without trusting either."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from posecap.fetching.landing import landing
from posecap.stage import Drop

_BLOCK = 1 << 20
# The other methods unpack without a bound on what one read gives back.
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


def take(archive: Path, steps: Sequence[str], target: Path, *, size_bytes: int, inner_bytes: int, name: str) -> None:
    """Write one member of ``archive`` to ``target``, which appears whole or not at all.

    ``steps`` are exact member names: all but the last name inner zips. Members are found by name and
    written where the caller says, so no name inside an archive ever becomes a path. Bytes are counted
    while they are unpacked: at most ``size_bytes`` for the member, ``inner_bytes`` for each inner zip.

    Args:
        name: what messages call the archive.

    Raises:
        Drop: ``not_found`` (no such member), ``too_large``, ``bad_archive`` (broken, encrypted, unknown method).
    """
    if not steps:
        raise ValueError("take: steps is empty, expected at least one member name")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unzip-", dir=target.parent) as folder:
        for depth, step in enumerate(steps[:-1]):
            inner = Path(folder) / f"{depth}.zip"
            _take_one(archive, step, inner, size_bytes=inner_bytes, name=name)
            archive, name = inner, f"{name}!/{step}"
        _take_one(archive, steps[-1], target, size_bytes=size_bytes, name=name)


def _take_one(archive: Path, member: str, target: Path, *, size_bytes: int, name: str) -> None:
    with landing(target) as file:
        written = 0
        for block in _unpacked(archive, member, name=name):
            written += len(block)
            if written > size_bytes:
                raise Drop("too_large", f"{member!r} in {name} unpacks to more than {size_bytes} bytes")
            file.write(block)


def _unpacked(archive: Path, member: str, *, name: str) -> Iterator[bytes]:
    """Blocks of a member's bytes; the CRC is checked with the last one."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            info = zipped.NameToInfo.get(member)
            if info is None or info.is_dir():
                raise Drop("not_found", f"{name} holds no file {member!r}; check the path inside the archive")
            if info.compress_type not in _METHODS:
                raise Drop("bad_archive", f"{member!r} in {name} is packed with method {info.compress_type}")
            with zipped.open(info) as packed:
                while block := packed.read(_BLOCK):
                    yield block
    except Drop:
        raise
    except Exception as error:  # a hostile zip makes zipfile raise nearly anything
        raise Drop("bad_archive", f"{member!r} in {name} cannot be unpacked ({type(error).__name__})") from error
