from __future__ import annotations

import os
from pathlib import Path

import pytest

from posecap.engines.local_file import LocalFile
from posecap.interfaces import Fetched, Limits
from posecap.stage import Reject

ENGINE = LocalFile()


def refusal(uri: str, folder: Path, *, limits: Limits | None = None) -> Reject:
    with pytest.raises(Reject) as caught:
        ENGINE.fetch(uri, folder, limits=limits or Limits())
    assert type(caught.value) is Reject
    return caught.value


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}", "FILE://{}"])
def test_points_at_the_file_itself(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    uri = form.format(path)
    assert ENGINE.accepts(uri)
    assert ENGINE.fetch(uri, tmp_path, limits=Limits(size_bytes=1)) == Fetched(path, "borrowed")


def test_quoted_names_in_uris_and_plain_ones_in_paths(tmp_path: Path) -> None:
    for name, uri in (("a b.mp4", "file://{}/a%20b.mp4"), ("c%20d.mp4", "{}/c%20d.mp4")):
        (tmp_path / name).write_bytes(b"x")
        assert ENGINE.fetch(uri.format(tmp_path), tmp_path, limits=Limits()).path == tmp_path / name


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert ENGINE.fetch("a.mp4", tmp_path, limits=Limits()).path.read_bytes() == b"x"


@pytest.mark.parametrize("uri", ["http://h/a.mp4", "s3://b/a.mp4", "pypi://a/1/b", "filex://a"])
def test_leaves_other_schemes(uri: str) -> None:
    assert not ENGINE.accepts(uri)


def test_refusals(tmp_path: Path) -> None:
    full, empty = tmp_path / "full.mp4", tmp_path / "empty.mp4"
    full.write_bytes(b"xyz")
    empty.touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refusal(f"{tmp_path}/none.mp4", tmp_path).reason == "not_found"
    assert refusal(f"{full}/inside.mp4", tmp_path).reason == "not_found"
    assert refusal("bad\0name.mp4", tmp_path).reason == "not_found"
    assert refusal(f"{tmp_path}/none.mp4", tmp_path).machine_dependent
    assert not refusal(str(empty), tmp_path).machine_dependent
    assert refusal(str(tmp_path), tmp_path).reason == "not_a_file"
    assert refusal(f"{tmp_path}/pipe.mp4", tmp_path).reason == "not_a_file"
    assert refusal(str(empty), tmp_path).reason == "empty_file"
    large = refusal(str(full), tmp_path, limits=Limits(size_bytes=2))
    assert (large.reason, large.detail) == (
        "too_large",
        f"{full} has 3 bytes, more than 2; raise limits.size_bytes, or cut the video",
    )
    assert refusal(f"file://elsewhere{full}", tmp_path).reason == "bad_uri"
    assert refusal("file://[/a.mp4", tmp_path).reason == "bad_uri"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    assert refusal(str(path), tmp_path).reason == "forbidden"
