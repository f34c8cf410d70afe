"""Weights of the models: where they come from, their licence, their hash, and where they lie once they are here."""

from __future__ import annotations

import functools
import os
from difflib import get_close_matches
from pathlib import Path

from posecap.download.package_index import cache_folder
from posecap.hashing import file_sha256
from posecap.stage import Drop
from posecap.weights.catalogue import CATALOGUE, Weights
from posecap.weights.files import Told, download, find, in_folder, take_in
from posecap.weights.pins import address, check, pinned, place

_OFFLINE = "POSECAP_OFFLINE"


class MissingWeights(RuntimeError):
    """Weights are not here and could not be fetched, or are not the ones pinned; the message holds the remedy."""


def locate(name_or_path: str) -> Path:
    """The verified file of the weights of that name in :data:`CATALOGUE`; or the user's own file, named by its path.

    It is looked for in the cache, then in the folders of ``POSECAP_WEIGHTS``, then downloaded, unless
    ``POSECAP_OFFLINE`` is set. Its hash is checked on the first call in each process. A user's own file is taken as it
    is: whatever has a ``/`` in it, or is the name of a file here, is a path.

    Raises:
        MissingWeights: unknown name, no such file, not here and not to be had, or another hash than the one pinned.
    """
    if name_or_path in CATALOGUE:
        return _verified(CATALOGUE[name_or_path], cache_folder())
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path.absolute()
    if "/" in name_or_path:
        raise MissingWeights(f"no weights at {path}; name a file that is there, or a name of `posecap models list`")
    near = get_close_matches(name_or_path, CATALOGUE, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise MissingWeights(f"no weights named {name_or_path!r}; {hint}`posecap models list` names them all")


def identity(name_or_path: str) -> str:
    """The SHA-256 of the weights, 64 hex digits; known without the file where it is pinned in full.

    Raises:
        MissingWeights: as :func:`locate`.
    """
    known = pinned(CATALOGUE[name_or_path]) if name_or_path in CATALOGUE else None
    if known:
        return known
    path = locate(name_or_path)
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


def pull(name: str, *, source: Path | None = None, told: Told | None = None) -> Path:
    """The file of the weights ``name``, verified now, brought here when it is not.

    Args:
        source: a file, or a folder that holds it under its own or the catalogue's name, instead of a download; it
            goes into the cache.
        told: hears of the download.

    Raises:
        MissingWeights: unknown name, not to be had, or another hash than the one pinned.
    """
    if name not in CATALOGUE:
        return locate(name)
    weights = CATALOGUE[name]
    try:
        if source is not None:
            return _taken(weights, source)
        return find(weights) or _downloaded(weights, told)
    except Drop as trouble:
        raise missing(weights, str(trouble)) from trouble


def missing(weights: Weights, why: str) -> MissingWeights:
    """The error that says why ``weights`` are not here, and every way to get them."""
    known = {0: "unknown, the first file is pinned", 64: weights.sha256}
    sha256 = known.get(len(weights.sha256), f"{weights.sha256}…, as far as its makers publish it")
    return MissingWeights(
        f"weights {weights.name!r} ({weights.size_bytes / 1e6:,.1f} MB, {weights.licence}): {why.rstrip('.')}. "
        f"Fetch {address(weights)} on any machine, then run `posecap models pull {weights.name} --from DIR` with the "
        f"folder it is in, or put it at {place(weights)} (SHA-256 {sha256})"
    )


@functools.cache
def _verified(weights: Weights, cache: Path) -> Path:
    """``cache`` is a parameter so that another cache folder is another answer."""
    try:
        return find(weights) or _downloaded(weights, None)
    except Drop as trouble:
        raise missing(weights, str(trouble)) from trouble


@functools.cache
def _sha256(path: Path, size_bytes: int, changed_ns: int) -> str:
    """The last two are parameters so that a changed file is another answer."""
    return file_sha256(path)


def _downloaded(weights: Weights, told: Told | None) -> Path:
    if os.environ.get(_OFFLINE, "") not in ("", "0"):
        raise missing(weights, f"not here, and {_OFFLINE} forbids to download")
    return download(weights, told=told)


def _taken(weights: Weights, source: Path) -> Path:
    path = in_folder(weights, source) if source.is_dir() else source
    if path is None or not path.is_file():
        raise missing(weights, f"no file of theirs in {source}" if source.is_dir() else f"no file at {source}")
    return take_in(weights, path, keep="in_cache")


__all__ = [
    "CATALOGUE",
    "MissingWeights",
    "Weights",
    "address",
    "check",
    "identity",
    "locate",
    "missing",
    "pinned",
    "place",
    "pull",
]
