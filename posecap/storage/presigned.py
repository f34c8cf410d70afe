"""Ranges of files in S3, read by presigned URLs in a quarter of the processor time that s3fs takes.

s3fs takes the bytes of all requests of a process in one thread, with aiohttp; urllib3 takes those of each request in
the thread that asked, at 0.3 ms of a core for a megabyte in place of 1.4 (docs/results/stream.md). What cannot be read
in this way is left to s3fs, which knows how to repeat and to redirect, and says what is wrong.
"""

from __future__ import annotations

import os
import time
import urllib.request
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

_CONNECTIONS = 16
"""Kept open, as many as :mod:`posecap.storage.remote` makes requests at a time."""
_SIGNED_SECONDS = 300
"""For how long a URL is used. Our choice: botocore renews temporary credentials ten minutes before they end."""
_VALID_SECONDS = 2 * _SIGNED_SECONDS
"""Until when the store takes a URL: a request may be waiting when the next one is signed. Whoever sees a URL, as in
what urllib3 logs at the level DEBUG, can read its file until then."""
_MOST_SIGNED = 4096
"""URLs that are kept, of about 500 bytes each."""
_PAUSE_SECONDS = 60.0
"""After a request that failed, s3fs alone is asked. Our choice: a store that refuses these URLs is asked in vain once
a minute, and one that was down is soon read fast again."""
_CONNECT_SECONDS, _READ_SECONDS = 5.0, 60.0
"""Waits for a connection, and for the next bytes. Our choices; s3fs is asked afterwards."""
_ENDS_BEFORE, _NOT_THERE, _PART = 416, 404, 206
"""Statuses of HTTP: the file ends before the range, there is no such file, and the range itself."""


class PresignedReader:
    """Reads ranges by URLs that s3fs signs, in any number of threads of the process that made it.

    Args:
        files: the file system of s3fs that knows the store and the credentials.
    """

    def __init__(self, files: Any) -> None:
        import urllib3

        # By default some regions' URLs get the signature of version 2, which newer buckets and other stores refuse.
        config = {**files.config_kwargs, "signature_version": "s3v4"}
        self._files = type(files)(**{**files.storage_options, "config_kwargs": config})
        bundle = os.environ.get("AWS_CA_BUNDLE")  # of certificates, as botocore takes it
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS)
        self._pool = urllib3.PoolManager(maxsize=_CONNECTIONS, timeout=timeout, retries=False, ca_certs=bundle)
        self._signed = lru_cache(_MOST_SIGNED)(self._sign)
        self._not_before = 0.0

    def read(self, path: str, start: int, size: int) -> bytes | None:
        """``size`` bytes from ``start``, fewer where the file ends before; None where s3fs is to be asked."""
        if size <= 0 or time.monotonic() < self._not_before:
            return None
        status, content = self._asked(path, start, size)
        if content is None and status not in (_NOT_THERE, _ENDS_BEFORE):
            self._not_before = time.monotonic() + _PAUSE_SECONDS
        return content

    def _asked(self, path: str, start: int, size: int) -> tuple[int, bytes | None]:
        """Status of the answer, 0 where there was none, and the range's bytes. Errors go no further: those of urllib3
        hold the URL, with its signature."""
        try:
            url = self._signed(path, int(time.monotonic()) // _SIGNED_SECONDS)
            if _needs_proxy(url):
                return 0, None
            headers = {"Range": f"bytes={start}-{start + size - 1}", "Accept-Encoding": "identity"}
            answer = self._pool.request("GET", url, headers=headers, redirect=False, preload_content=False)
            if answer.status == _PART and 0 < (answer.length_remaining or 0) <= size:
                content: bytes = answer.read(decode_content=False)
                answer.release_conn()
                return _PART, content
            answer.close()
            return int(answer.status), None
        except Exception:  # of urllib3, or of botocore, which signs
            return 0, None

    def _sign(self, path: str, _period: int) -> str:
        """The URL of a file; another period, another URL."""
        return str(self._files.url(path, expires=_VALID_SECONDS, **self._files.req_kw))


def _needs_proxy(url: str) -> bool:
    """Whether the environment has a proxy for a URL, which botocore knows how to use."""
    parts = urlsplit(url)
    return parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.netloc)


_READERS: dict[tuple[str, int], PresignedReader] = {}
"""By address and process: one that was forked must not use its parent's connections."""


def presigned_reader(address: str, files: Any) -> PresignedReader:
    """This process's reader for an address. Signing takes a client, which takes 50 ms to make, so that threads share it
    and its connections.

    Args:
        files: as for :class:`PresignedReader`.
    """
    known = address, os.getpid()
    if known not in _READERS:
        _READERS.setdefault(known, PresignedReader(files))  # of several threads one wins
    return _READERS[known]
