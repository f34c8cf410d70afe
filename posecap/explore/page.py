"""Writes a page of a dataset: one HTML file that holds all it needs, or the same page for a server on this machine."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from posecap.explore.contents import Choice, Contents, packed, read_contents, read_moves
from posecap.files import Existing, atomic_path, canonical_json
from posecap.storage import Location

Source = Literal["file", "server"]
"""Where the page has its tables from: itself, or the server that it comes from."""


def write_page(location: Location, output: Path, choice: Choice, *, existing: Existing = "refuse") -> Contents:
    """Write the page of a dataset as one file, which no other file or address is needed for; returns what it shows.

    Raises:
        OutputExistsError: the file exists and ``existing`` is ``"refuse"``, or it is a folder.
        ShardError, PlanError, WhereError, MapPackageError: as :func:`posecap.explore.contents.read_contents` and
            :func:`posecap.explore.contents.read_moves`.
    """
    with atomic_path(output, existing=existing) as partial:
        contents, moves = read_moves(location, read_contents(location, choice), choice.projection)
        tables = {"document": document(contents), "clips": packed(contents.clips), "losses": packed(contents.losses)}
        data = (_element(name, content) for name, content in tables.items())
        blocks = (_element(f"moves-{number}", content) for number, content in enumerate(moves))
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(_page(contents.title, source="file", data=data, blocks=blocks))
    return contents


def served_page(title: str) -> bytes:
    """The page that asks its server for the tables."""
    return "".join(_page(title, source="server", data=(), blocks=())).encode()


def document(contents: Contents) -> bytes:
    """The document of a page, as JSON, compressed with gzip."""
    return gzip.compress(canonical_json(contents.document), mtime=0)


def _element(name: str, content: bytes) -> str:
    """An element of the page that holds bytes and does nothing; base64 has no character that could end it."""
    return f'<script type="text/plain" id="{name}">{base64.b64encode(content).decode()}</script>\n'


def policy(source: Source) -> str:
    """The page's Content-Security-Policy: its own program and style run and no other, and nothing is loaded but, from a
    server, what that server has."""
    script, style = (_hash(part) for part in (_script(), _style()))
    own = "'self'" if source == "server" else "'none'"
    images = "data: blob: 'self'" if source == "server" else "data: blob:"
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src {images}; media-src blob:; "
        f"connect-src {own}; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _part(name: str) -> str:
    """A file of the page, read once: the server sends the hashes of its program with each answer."""
    return files("posecap.explore").joinpath(name).read_text(encoding="utf-8")


def _script() -> str:
    return f"{_part('arrow.js')}\n{_part('page.js')}"


def _style() -> str:
    return _part("page.css")


def _page(title: str, *, source: Source, data: Iterable[str], blocks: Iterable[str]) -> Iterable[str]:
    """The pieces of the page. Of what comes from a dataset only the title is not base64."""
    known: dict[str, Any] = {
        "policy": [html.escape(policy(source))],
        "title": [html.escape(title)],
        "source": [source],
        "style": [_style()],
        "script": [_script()],
        "data": data,
        "blocks": blocks,
    }
    # One pass over the frame: what is put in is not looked at again.
    for number, piece in enumerate(re.split(r"@(\w+)@", _part("page.html"))):
        if number % 2:
            yield from known[piece]
        else:
            yield piece
