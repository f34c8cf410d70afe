"""Fetches a table from a web server into an unnamed temporary file, bounded in bytes and time.

Bytes are counted as they arrive and asked for without compression, so that neither an endless answer nor a small one
that unpacks to gigabytes fills memory. It needs nothing that reading a dataset does not.
"""

from __future__ import annotations

import base64
import tempfile
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from typing import IO
from urllib.parse import unquote, urlsplit

from posecap.manifest.manifest_file import ManifestError, Table
from posecap.uris import hide_secrets

MOST_TABLE_BYTES = 8 << 30
"""Of one table; a hundred million rows, or more, in each."""
_MOST_SECONDS = 3600.0
"""For one table: the largest at 2.4 MB/s."""
_READ_SECONDS = 60.0
"""Without a byte from the server; a free choice, as one that makes the table first may take its time."""
_BLOCK = 1 << 18
"""Bytes that are read at once, at most; time and size are checked after each."""


def fetch_table(table: Table) -> IO[bytes]:
    """The table's bytes, read from the beginning.

    Raises:
        ManifestError: no such table, another answer than its bytes, more of them than ``MOST_TABLE_BYTES``, or the
            connection failed.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        _fetch(table, file)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _fetch(table: Table, file: IO[bytes]) -> None:
    try:
        with urllib.request.urlopen(_request(table.location), timeout=_READ_SECONDS) as response:  # noqa: S310 - a scheme of the web, _open says
            _receive(response, file, table)
    except urllib.error.HTTPError as error:
        error.close()
        what = "no such table" if error.code in (404, 410) else f"the server answered {error.code}"
        raise ManifestError(f"{table.written}: {what}; check 'path' in 'tables'") from None
    except ManifestError:  # a ValueError, too
        raise
    except (OSError, HTTPException, ValueError) as error:
        words = hide_secrets(str(error), table.location)
        raise ManifestError(f"{table.written}: cannot be fetched: {words}; check address and network") from None


def _request(location: str) -> urllib.request.Request:
    split = urlsplit(location)
    user, at, host = split.netloc.rpartition("@")
    url = split._replace(netloc=host).geturl()
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "posecap"})  # noqa: S310
    if at:
        basic = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {basic}")
    return request


def _receive(response: HTTPResponse, file: IO[bytes], table: Table) -> None:
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise ManifestError(f"{table.written}: came encoded as {encoding} though plain bytes were requested")
    announced, until = response.length, time.monotonic() + _MOST_SECONDS
    while block := response.read1(_BLOCK):
        if file.tell() + len(block) > MOST_TABLE_BYTES:
            raise ManifestError(f"{table.written}: has more than {MOST_TABLE_BYTES:,} bytes; divide it into several")
        if time.monotonic() > until:
            raise ManifestError(f"{table.written}: not fetched within {_MOST_SECONDS:g} s; name a local copy")
        file.write(block)
    if announced is not None and file.tell() < announced:
        raise ManifestError(f"{table.written}: the server sent less than it announced; run again")
