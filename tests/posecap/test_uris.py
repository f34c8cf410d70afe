from __future__ import annotations

import re
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecap import uris
from posecap.uris import CANDIDATE, PrivateUris, hide_secrets, public_text, public_uri, secrets_of

S3 = (
    "https://b.s3.amazonaws.com/v/a.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20261129%2Fus&"
    "X-Amz-Date=20261129T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host%3Brange&X-Amz-Signature=5ec4e7"
)


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("https://me:5ec4e7@host.org/a.mp4", "https://host.org/a.mp4"),
        ("HTTPS://5ec4e7@host.org:8443/a.mp4#t=1", "HTTPS://host.org:8443/a.mp4#t=1"),
        ("http://me:5ec4e7@[::1]:80/a@b.mp4", "http://[::1]:80/a@b.mp4"),
        ("https://me:5ec%2F4e7@host.org/", "https://host.org/"),
        ("https://me:p@5ec4e7@host.org/", "https://host.org/"),
        ("https://me:p/5ec4e7@host.org/a", "https://host.org/a"),
        ("https://me:p?5ec4e7@host.org/a", "https://host.org/a"),
        ("http:/me:5ec4e7@host.org/a", "http:/host.org/a"),
        ("s3://AKIA:5ec4e7@bucket/a.mp4", "s3://bucket/a.mp4"),
        ("abfs://box@account.dfs.core.windows.net/a.mp4", None),
        ("abfss://box:5ec4e7@account.dfs.core.windows.net/a.mp4", "abfss://box@account.dfs.core.windows.net/a.mp4"),
        (S3, "https://b.s3.amazonaws.com/v/a.mp4"),
        ("https://h/a?AWSAccessKeyId=AKIA&Signature=5ec4e7%3D&Expires=1", "https://h/a"),
        ("https://h/a?v=2&GoogleAccessId=me&Expires=1&Signature=5ec4e7", "https://h/a?v=2"),
        ("https://h/a?Policy=5ec4e7&Signature=5ec4e7~&Key-Pair-Id=K1", "https://h/a"),
        ("https://a.blob.core.windows.net/b/c.mp4?sv=2024&st=x&se=y&sr=b&sp=r&sig=5ec4e7", None),
        ("https://h/get?id=7&token=5ec4e7", "https://h/get?id=7"),
        ("https://h/get?token=5ec4e7&id=7#x", "https://h/get?id=7#x"),
        ("https://h/get?%74oken=5ec4e7", "https://h/get"),
        ("https://h/get?id=7;token=5ec4e7", "https://h/get?id=7"),
        ("https://h/get?access_token=5ec4e7&api-key=5ec4e7&user=me", "https://h/get"),
        ("https://h/get?key=5ec4e7", "https://h/get"),
        ("https://h/get?st=1&si=2&token=5ec4e7", "https://h/get?st=1&si=2"),
        ("https://h/a?q-sign-algorithm=sha1&q-ak=5ec4e7&q-sign-time=1;2&q-signature=5ec4e7", "https://h/a"),
        ("https://h/get?key=some/where/a.mp4", "https://h/get?key=some/where/a.mp4"),
        ("https://h/a.mp4;jsessionid=5ec4e7?x=1", "https://h/a.mp4?x=1"),
        ("https://h/a#access_token=5ec4e7&t=3", "https://h/a#t=3"),
        ("https://h/get?url=https%3A%2F%2Fme%3A5ec4e7%40i%2Fa", "https://h/get?url=https%3A%2F%2Fi%2Fa"),
        ("https://h/get?url=https://i/a?sig=5ec4e7", "https://h/get?url=https://i/a"),
        ("https://cdn/a.mp4?__token__=exp=1~hmac=5ec4e7", "https://cdn/a.mp4"),
        ("http://me:5ec4e7@[bad/a", "http://[bad/a"),
    ],
)
def test_secrets_are_left_out(uri: str, public: str | None) -> None:
    if public is None:
        public = uri.partition("?")[0]
    assert public_uri(uri) == public
    assert "5ec4e7" not in public
    assert public_uri(public) == public
    assert bool(secrets_of(uri)) == (public != uri)


@pytest.mark.parametrize(
    "uri",
    [
        "a.mp4",
        "folder/me@home/a?token=1.mp4",  # a path
        "/videos/a.mp4",
        "youtube:abcdefghijk",
        "https://www.youtube.com/watch?v=abcdefghijk&t=3",
        "https://www.youtube.com/@channel/videos",
        "https://H.org:443/a b?x=1&&y=#",
        "https://h/a?expires=1&keyword=x&tokens=2&session=3&design=4",
        "https://h/a?",
        f"pypi://name/1.0/a.mp4?sha256={'0' * 64}",
        "hf://datasets/name/set@main/a.mp4",
        "s3://bucket/a;b=c@d.mp4",
    ],
)
def test_a_uri_without_secrets_is_its_own_to_the_byte(uri: str) -> None:
    assert public_uri(uri) == uri
    assert secrets_of(uri) == []


@given(st.text(alphabet="ab:/?#@&=;%[]._-~tokensig", max_size=40), st.sampled_from(["https://", "s3://", "x:", ""]))
def test_nothing_breaks_it(text: str, scheme: str) -> None:
    public = public_uri(scheme + text)
    assert public_uri(public) == public or "@" in public or "=" in public
    assert public_uri(f"https://me:5ec4e7@host/{text}").find("5ec4e7") == -1


@pytest.mark.parametrize("name", sorted(uris._SECRETS) + [f"a{ending}" for ending in uris._SECRET_ENDINGS])
def test_arrow_finds_every_candidate(name: str) -> None:
    for uri in (f"https://h/a?{name}=1", f"https://h/a?b=1&{name.upper().replace('_', '-')}=1"):
        assert public_uri(uri) != uri
        assert pc.match_substring_regex(pa.array([uri]), CANDIDATE).to_pylist() == [True]


def test_text_with_uris() -> None:
    text = 'cannot read \'https://me:5ec4e7@h/a?sig=5ec4e7\': {"video": "https:\\/\\/me:5ec4e7@h\\/b"} at /x@y'
    assert public_text(text) == 'cannot read \'https://h/a\': {"video": "https://h/b"} at /x@y'


def test_a_message_about_a_uri_has_its_secrets_in_no_form() -> None:
    uri = "https://me:pass%2Fword@h/a.mp4?v=1&X-Amz-Signature=5ec4e7%3D&X-Amz-Date=2026"
    said = f"{uri} failed: GET /a.mp4?v=1&X-Amz-Signature=5ec4e7= as me:pass%2Fword, pass/word of h"
    hidden = hide_secrets(said, uri)
    assert hidden.startswith("https://h/a.mp4?v=1 failed: GET /a.mp4?v=1")
    assert not re.search("5ec4e7|pass", hidden)
    assert hide_secrets("as it is: https://me:5ec4e7@h/", "https://h/a") == "as it is: https://me:5ec4e7@h/"


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "a:" * 300_000,
        "https://" + "a:" * 300_000,
        "https://h/?" + "key?" * 200_000,
        "https://h/?" + "exp=1&" * 100_000 + "sig=5ec4e7",
        "https://h/?u=" * 50_000,
        "https://h/" + "?token=1;sig=2" * 50_000,
        "https:////" + "@" * 500_000,
        "https://" * 100_000,
    ],
)
def test_hostile_text_takes_no_longer_than_other_text(text: str) -> None:
    since = time.process_time()
    public_uri(text)
    public_text(text)
    hide_secrets(text[:10_000], text[:5_000])
    assert time.process_time() - since < 5


def test_uris_within_uris_end() -> None:
    assert public_uri("https://a/?u=" * 4 + "https://me:5ec4e7@h/") == "https://a/?u=" * 4 + "https://h/"
    assert "5ec4e7" not in public_uri("https://a/?u=" * 500 + "https://me:5ec4e7@h/")


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
    monkeypatch.setattr(uris, "_hash", lambda name: 7)
    private = PrivateUris()
    added(private, "a.csv", {number: ("https://h/", f"https://{number}:x@h/") for number in range(9)})
    assert [private.find("a.csv", number, public="https://h/") for number in (0, 8)] == [
        "https://0:x@h/",
        "https://8:x@h/",
    ]
