"""Where a video's URI leads from here."""

from __future__ import annotations

import re

SCHEME = r"^[A-Za-z][A-Za-z0-9+.-]+:"


def located(uri: str, media_root: str) -> str:
    """An absolute path or URL for ``uri``: relative ones start at ``media_root``, a directory or a URL."""
    if not media_root or uri.startswith("/") or re.match(SCHEME, uri):
        return uri
    return f"{media_root.rstrip('/')}/{uri.removeprefix('./')}"
