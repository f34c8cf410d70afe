from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from posecap.manifest import private_uris
from posecap.manifest.private_uris import PrivateUris


def added(private: PrivateUris, table: str, rows: dict[int, tuple[str, str]]) -> None:
    public, whole = zip(*rows.values(), strict=True)
    private.add(table, np.array([*rows]), public=pa.array(public), whole=pa.array(whole))


def test_only_rows_that_lack_something_are_kept() -> None:
    private = PrivateUris()
    added(private, "a.csv", {2: ("https://h/a", "https://h/a?sig=1"), 3: ("b.mp4", "b.mp4")})
    added(private, "b.csv", {2: ("https://h/ü", "https://me:ü@h/ü")})
    assert private.find("a.csv", 2, public="https://h/a") == "https://h/a?sig=1"
    assert private.find("b.csv", 2, public="https://h/ü") == "https://me:ü@h/ü"
    assert private.find("a.csv", 3, public="b.mp4") is None
    assert private.find("b.csv", 3, public="https://h/a") is None
    assert private.find("a.csv", 2, public="https://h/other") is None


def test_lines_of_any_length_are_read_as_a_whole() -> None:
    private = PrivateUris()
    rows = {at: (f"https://h/{at}?" + "€" * 30_000, f"https://h/{at}?sig=1&" + "€" * 30_000) for at in range(3)}
    added(private, "a.csv", rows)
    assert [private.find("a.csv", at, public=public) for at, (public, _) in rows.items()] == [
        whole for _, whole in rows.values()
    ]


def test_without_any_there_is_no_file() -> None:
    private = PrivateUris()
    added(private, "a.csv", {2: ("b.mp4", "b.mp4")})
    assert private.find("a.csv", 2, public="b.mp4") is None
    assert private._opened is None


def test_equal_hashes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_uris, "_hash", lambda name: 7)
    private = PrivateUris()
    added(private, "a.csv", {number: ("https://h/", f"https://{number}:x@h/") for number in range(9)})
    assert [private.find("a.csv", number, public="https://h/") for number in (0, 8)] == [
        "https://0:x@h/",
        "https://8:x@h/",
    ]
