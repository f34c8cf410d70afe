"""A web server as a file system of fsspec, of which no more is read than was asked for.

fsspec's own reads an answer whole, and unpacked, whatever its size: a compressed one of 3 MB became gigabytes.
"""

from __future__ import annotations

from typing import Any

from fsspec.implementations.http import HTTPFileSystem

from posecap.storage.base import StorageError
from posecap.uris import public_uri

_BLOCK_BYTES = 1 << 20
"""Taken from an answer at once, at most."""


class HttpFiles(HTTPFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Reads plain bytes, counted as they arrive. For ``cat_file`` and ``info``; nothing is written."""

    def __init__(self, **options: Any) -> None:
        super().__init__(client_kwargs={"auto_decompress": False}, **options)

    async def _cat_file(self, url: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Bytes ``start`` up to, but not including, ``end``; fewer where the file ends before.

        Raises:
            FileNotFoundError: there is no such file.
            aiohttp.ClientError: the server cannot be reached, or refuses.
            StorageError: the answer is encoded though plain bytes were asked for.
        """
        first = start or 0
        headers = {**self.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
        if end is not None:
            if first >= end:
                return b""
            headers["Range"] = f"bytes={first}-{end - 1}"
        elif first:
            headers["Range"] = f"bytes={first}-"
        session = await self.set_session()
        async with session.get(self.encode_url(url), **{**self.kwargs, "headers": headers}) as response:
            if response.status == 416:  # the file ends before
                return b""
            self._raise_not_found_for_status(response, url)
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding.lower() not in ("identity", ""):
                raise StorageError(
                    f"{public_uri(url)}: the server sent {encoding} though plain bytes were asked for: switch its "
                    "compression off for this address"
                )
            to_skip = first if response.status == 200 else 0  # a server without ranges sends the file from its start
            content = bytearray()
            wanted = None if end is None else end - first
            while wanted is None or len(content) < wanted:
                block = await response.content.read(_BLOCK_BYTES)
                if not block:
                    break
                skipped = min(to_skip, len(block))
                to_skip -= skipped
                content += memoryview(block)[skipped:]
        return bytes(content if wanted is None or len(content) <= wanted else content[:wanted])
