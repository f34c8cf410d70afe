"""What may be written of a URI: without user and password, tokens, signatures and keys.

The public URI is the identity of a video in a dataset, in messages and in logs; the URI as the manifest has it is used
for fetching alone, and a build keeps it, where it differs, in :class:`PrivateUris` while it runs. A URI without secrets
is its own public URI, to the byte. What is left out:

* user and password before the host (in ``abfs://CONTAINER@ACCOUNT`` and its like, where the name before ``@`` is part
  of the address, only a password), also where an unquoted ``/`` or ``?`` in them makes the URI malformed;
* parameters that are secrets by their name, such as ``token``, ``sig``, ``X-Amz-Signature`` or ``api_key``, in query
  and fragment, and with them those that only say what the secret is good for, such as ``Expires``;
* session ids in the path (``;jsessionid=``), and all of these in a URI that is the value of a parameter.

A secret that is a folder or file name of the path is not recognized.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import weakref
from array import array
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, unquote, unquote_plus

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


SCHEME = r"^[A-Za-z][A-Za-z0-9+.-]+:"
"""The beginning of a URI, also for Arrow: two characters or more before the colon, as ``C:`` begins a path."""

CANDIDATE = (
    r"(?i)^[a-z][a-z0-9+.-]+:[^#]*@|;jsessionid=|=[a-z][a-z0-9+.-]+(://|%3a)"
    r"|[?&;#][^=&]*(sig|token|key|secret|pass|pwd|auth|cred|jwt|hmac|session|sessid|hdn|bearer|accessid|x[-_]|q-|gda|%)"
    r"[^=&]*="
)
"""A regular expression, also for Arrow, that every URI with a secret matches, and few others."""

_USER_AND_PASSWORD = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:[/\\]+)([^/?#\\]*)@")
# A password with / or ? in it, up to the next @; digits alone before a slash or the end are a port. The lengths bound
# the time that hostile text takes.
_MALFORMED_PASSWORD = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]+:[/\\]+)([^/?#@\[\\]{0,200}:(?!\d*(?:[/?#\\]|$))[^@\s]{0,1000})@"
)
_CONTAINER_SCHEMES = frozenset({"abfs", "abfss", "wasb", "wasbs", "adl"})
"""Azure's, with ``CONTAINER@ACCOUNT``."""
_PATH_SESSION = re.compile(r";jsessionid=([^/?#;]*)", re.IGNORECASE)
# Names of parameters, as _plain writes them: secrets by their whole name, by its end, and by its beginning.
_SECRETS = frozenset(
    {
        *("sig", "signature", "hmac", "token", "bearer", "jwt", "auth", "authorization", "key", "api_key", "apikey"),
        *("access_key", "accesskey", "secret", "secret_key", "private_key", "password", "passwd", "pwd", "pass"),
        *("passphrase", "credential", "credentials", "sessionid", "session_id", "phpsessid", "jsessionid"),
        *("awsaccesskeyid", "googleaccessid", "ossaccesskeyid", "hdnea", "hdnts", "hdntl", "gda"),
    }
)
_SECRET_ENDINGS = ("_token", "_signature", "_secret", "_password", "_apikey", "_api_key", "_access_key", "_secret_key")
_SIGNING_PREFIXES = ("x_amz_", "x_goog_", "x_oss_", "x_cos_", "q_sign", "q_ak", "q_key_time", "q_header_list", "q_url_")
_COMPANIONS = frozenset(
    {"expires", "expiry", "expiration", "exp", "policy", "key_pair_id", "nonce", "user", "username", "login"}
)
"""Left out beside a secret: they say until when or for whom it is good."""
_AZURE_COMPANIONS = frozenset(
    {
        *("se", "sp", "sv", "sr", "st", "spr", "sip", "ss", "srt", "si"),
        *("skoid", "sktid", "skt", "ske", "sks", "skv"),
    }
)
"""Left out beside ``sig``: the rest of a shared access signature."""
_OBJECT_NAME = re.compile(r".*\.[A-Za-z0-9]{2,5}")
"""A file's name, by its ending."""
_NESTED = re.compile(SCHEME + "//")
"""The beginning of a parameter's value that is a URI."""
_URI_IN_TEXT = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]{1,30}:(?:\\?[/\\]){2}[^\s'"<>]*""")
_SHORTEST_HIDDEN = 4
"""Secrets of fewer characters are not looked for in messages: our choice, as they are in ordinary words
too, and guessed at once."""
_DEEPEST = 4
"""A URI that is the value of a parameter of a URI that is … so often is left out as a whole. Our choice: pages that
pass on a video's address nest once or twice."""

_SEPARATOR = "\x1f"  # checked cells hold no control characters
_BLOCK_BYTES = 1 << 12
"""Read at a time of the file of :class:`PrivateUris`, whose lines are shorter but for odd ones: a cell of 4096
characters may take 16 kB, and a public URI several times as much where it is quoted once more than the cell was."""


def public_uri(uri: str) -> str:
    """The URI without secrets; a path as it is."""
    return _parted(uri)[0]


def secrets_of(uri: str) -> list[str]:
    """What :func:`public_uri` leaves out, longest first: users, passwords and values, as written and unquoted."""
    found = _parted(uri)[1]
    return sorted({form for secret in found for form in (secret, unquote(secret))} - {""}, key=len, reverse=True)


def public_text(text: str) -> str:
    """A text for messages: each URI in it is replaced by its public one."""
    if ":" not in text:
        return text
    return _URI_IN_TEXT.sub(lambda match: public_uri(match[0].replace("\\/", "/")), text)


def hide_secrets(text: str, uri: str) -> str:
    """A message about ``uri`` without its secrets: in any URI, and by themselves as ``uri`` has them or unquoted."""
    public = public_uri(uri)
    if public == uri:
        return text
    text = public_text(text.replace(uri, public))
    for secret in secrets_of(uri):
        if len(secret) >= _SHORTEST_HIDDEN:
            text = text.replace(secret, "…")
    return text


def _parted(uri: str, depth: int = 0) -> tuple[str, list[str]]:
    """The public URI and the secrets. Hostile text of any length takes time in proportion to it."""
    if not re.match(SCHEME, uri):
        return uri, []
    if depth > _DEEPEST:
        return "", [uri]
    found: list[str] = []

    def without_user(match: re.Match[str]) -> str:
        user, colon, password = match[2].partition(":")
        if match[1].partition(":")[0].lower() in _CONTAINER_SCHEMES:
            found.append(password)
            return f"{match[1]}{user}@"
        found.extend((match[2], user, password) if colon else (user,))
        return match[1]

    for pattern in (_MALFORMED_PASSWORD, _USER_AND_PASSWORD):
        if match := pattern.match(uri):
            uri = without_user(match) + uri[match.end() :]
    before_fragment, hash_sign, fragment = uri.partition("#")
    base, question, query = before_fragment.partition("?")
    found += _PATH_SESSION.findall(base)
    base = _PATH_SESSION.sub("", base)
    parameters = _parameters(question, query, found, depth) + _parameters(hash_sign, fragment, found, depth)
    return base + parameters, found


def _parameters(mark: str, written: str, found: list[str], depth: int) -> str:
    """A query or fragment, with the mark before it, without parameters that are secrets; those go to ``found``."""
    parts = [piece for part in written.split("&") for piece in _pieces(part)]
    kept, secrets = list[str](), list[str]()
    for part in parts:
        name, _, value = part.partition("=")
        (secrets if _is_secret(_plain(name), value) else kept).append(part)
    if secrets:
        is_azure = any(_plain(part.partition("=")[0]) == "sig" for part in secrets)
        words = _COMPANIONS | _AZURE_COMPANIONS if is_azure else _COMPANIONS
        companions = [part for part in kept if _plain(part.partition("=")[0]) in words]
        kept = [part for part in kept if _plain(part.partition("=")[0]) not in words]
        found += [part.partition("=")[2] for part in (*secrets, *companions)]
        written = "&".join(kept)
    written = "&".join(_with_public_value(part, found, depth) for part in written.split("&"))
    return mark + written if written or not secrets else ""


def _pieces(part: str) -> list[str]:
    """A parameter, or those that it consists of where ``;`` separates them and one is a secret."""
    pieces = part.split(";")
    named = [_plain(piece.partition("=")[0]) for piece in pieces if "=" in piece]
    return pieces if len(named) > 1 and any(_is_secret(name, "") for name in named) else [part]


def _plain(name: str) -> str:
    """A parameter's name unquoted, in lower case, with _ for -."""
    return unquote_plus(name).strip().lower().replace("-", "_").strip("_")


def _is_secret(name: str, value: str) -> bool:
    """Whether a parameter, its name as :func:`_plain` writes it, is a secret."""
    if name == "key" and _OBJECT_NAME.fullmatch(unquote(value)):  # a file's name in a store, as key=a/b.mp4
        return False
    return name in _SECRETS or name.endswith(_SECRET_ENDINGS) or name.startswith(_SIGNING_PREFIXES)


def _with_public_value(part: str, found: list[str], depth: int) -> str:
    """A parameter whose value may be a URI with secrets of its own."""
    name, equals, value = part.partition("=")
    plain = unquote(value)
    if not _NESTED.match(plain):
        return part
    public, secrets = _parted(plain, depth + 1)
    found += secrets
    if public == plain:
        return part
    return f"{name}{equals}{public if plain == value else quote(public, safe='')}"


class PrivateUris:
    """The URIs to fetch of those rows whose public URI (:mod:`posecap.uris`) lacks something.

    They are in an unnamed temporary file of this machine, which the system deletes with the process, however it ends;
    16 bytes a row are in memory, and 32 once one is looked for. :meth:`add` is for planning, :meth:`find` may be called
    by several threads afterwards.
    """

    def __init__(self) -> None:
        self._opened: IO[bytes] | None = None
        self._hashes, self._offsets = array("Q"), array("q")
        self._sorted: tuple[NDArray[np.uint64], NDArray[np.int64]] | None = None

    @property
    def _file(self) -> IO[bytes]:
        """Made when it is first asked for."""
        if self._opened is None:  # most manifests have no secrets
            self._opened = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - for as long as the plan is used
            weakref.finalize(self, self._opened.close)
        return self._opened

    def add(self, table: str, numbers: NDArray[np.int64], *, public: pa.Array, whole: pa.Array) -> None:
        """Keep those of N rows whose ``whole`` URI is not the ``public`` one.

        A row's name is its table, its number in it and its public URI: two tables whose addresses differ in secrets
        alone have one name, and :meth:`find` must not give a row the URI of another video.

        Args:
            table: as messages name it.
            numbers: of the N rows, int64.
        """
        for number, shown, uri in zip(numbers.tolist(), public.to_pylist(), whole.to_pylist(), strict=True):
            if shown != uri:
                name = _name(table, number, shown)
                self._hashes.append(_hash(name))
                self._offsets.append(self._file.tell())
                self._file.write(f"{name}{_SEPARATOR}{uri}\n".encode())
        self._sorted = None

    def find(self, table: str, number: int, *, public: str) -> str | None:
        """The URI to fetch of a row; None where :meth:`add` was given no other one than the public one, or no row of
        this table, number and public URI.

        Of several rows with all three in common, it is the first one's.
        """
        if not self._hashes:
            return None
        if self._sorted is None:
            self._file.flush()
            hashes = np.array(self._hashes, np.uint64)
            order = np.argsort(hashes, kind="stable")
            self._sorted = hashes[order], np.array(self._offsets, np.int64)[order]
        hashes, offsets = self._sorted
        name = _name(table, number, public)
        wanted = np.uint64(_hash(name))
        for at in range(int(np.searchsorted(hashes, wanted)), len(hashes)):
            if hashes[at] != wanted:
                break
            found, _, uri = self._line(int(offsets[at])).rpartition(_SEPARATOR)
            if found == name:
                return uri
        return None

    def _line(self, offset: int) -> str:
        """The line at a position of the file, read without moving the file's own position, which threads share."""
        line = b""
        while b"\n" not in line and (block := os.pread(self._file.fileno(), _BLOCK_BYTES, offset + len(line))):
            line += block
        return line.partition(b"\n")[0].decode()


def _name(table: str, number: int, public: str) -> str:
    """By which a row is found; see :meth:`PrivateUris.add`."""
    return _SEPARATOR.join((table, str(number), public))


def _hash(name: str) -> int:
    """64 bits; names that share one are told apart by the names in the file."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
