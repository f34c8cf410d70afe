"""Pieces of an HTML page. Every word that comes from outside goes through :func:`escaped`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --line: #d1d9e0; --page: #ffffff; --band: #f6f8fa;
  --here: #0a6640; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9198a1; --line: #3d444d; --page: #0d1117;
  --band: #151b23; --here: #56d364; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 0.5rem; }
nav a { margin-right: 1rem; } a { color: inherit; }
p.soft, li.soft, caption { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--line); text-align: left; }
td.number, th.number { text-align: right; } td.number { white-space: nowrap; }
thead th { background: var(--band); } tr.part td { background: var(--band); font-weight: 600; }
tr.here td { color: var(--here); font-weight: 600; }
figure { margin: 1rem 0; } figcaption { color: var(--soft); }
svg { max-width: 100%; height: auto; }
details { margin: 0.5rem 0; } summary { cursor: pointer; }
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its ``name`` in links, its title, and its HTML."""

    name: str
    title: str
    body: str


def plain(words: object, *, most: int = 2000) -> str:
    """Words without anything that cannot be printed, on one line, cut at ``most`` characters."""
    found = " ".join("".join(c if c.isprintable() else " " for c in str(words)).split())
    return found if len(found) <= most else found[: most - 1] + "…"


def escaped(words: object) -> str:
    """Words as text of an HTML page or an attribute's value."""
    return escape(plain(words), quote=True)


def paragraph(words: object) -> str:
    return f'<p class="soft">{escaped(words)}</p>\n'


def bullets(entries: Iterable[object]) -> str:
    lines = "".join(f'<li class="soft">{escaped(entry)}</li>\n' for entry in entries)
    return f"<ul>\n{lines}</ul>\n" if lines else ""


def row(cells: Sequence[object], *, words: int) -> str:
    """A line of a table, of which the first ``words`` cells are words and the others numbers."""
    number = ' class="number"'
    inner = "".join(f"<td{number if at >= words else ''}>{escaped(cell)}</td>" for at, cell in enumerate(cells))
    return f"<tr>{inner}</tr>\n"


def wide_row(words: object, numbers: Sequence[object], *, columns: int, kind: str) -> str:
    """A line whose words take the place of ``columns`` cells; ``kind`` is a class of the page's style."""
    inner = "".join(f'<td class="number">{escaped(cell)}</td>' for cell in numbers)
    return f'<tr class="{escaped(kind)}"><td colspan="{columns}">{escaped(words)}</td>{inner}</tr>\n'


def table(heads: Sequence[object], rows: Iterable[str], *, words: int) -> str:
    """A table of lines that :func:`row` made, with as many headings of words and numbers."""
    number = ' class="number"'
    inner = "".join(f"<th{number if at >= words else ''}>{escaped(head)}</th>" for at, head in enumerate(heads))
    body = "".join(rows)
    return f'<div class="wide"><table>\n<thead><tr>{inner}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n'


def figure(picture: str, caption: object) -> str:
    """A picture, which is HTML already, with words below it."""
    return f"<figure>{picture}<figcaption>{escaped(caption)}</figcaption></figure>\n"


def folded(summary: object, body: str, *, state: str = "") -> str:
    """HTML that is shown when it is asked for, or at once with ``state`` ``open``."""
    return f"<details{' open' if state == 'open' else ''}><summary>{escaped(summary)}</summary>\n{body}</details>\n"


def page(title: object, about: Iterable[object], sections: Sequence[Section]) -> str:
    """The whole document. It asks for nothing outside of itself, and browsers are told to let it not."""
    links = "".join(f'<a href="#{escaped(one.name)}">{escaped(one.title)}</a>' for one in sections)
    parts = "".join(
        f'<section id="{escaped(one.name)}">\n<h2>{escaped(one.title)}</h2>\n{one.body}</section>\n' for one in sections
    )
    lines = "".join(paragraph(words) for words in about)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escaped(title)}</h1>\n"
        f"{lines}<nav>{links}</nav>\n{parts}</body>\n</html>\n"
    )


__all__ = [
    "STYLE",
    "Section",
    "bullets",
    "escaped",
    "figure",
    "folded",
    "page",
    "paragraph",
    "plain",
    "row",
    "table",
    "wide_row",
]
